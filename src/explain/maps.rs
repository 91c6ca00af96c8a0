//! Maps as they are looked up and read: by method and site, with shape, axes
//! and values.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::explanation::{Explanation, MapInfo};
use super::method::{Method, Site, map_name};
use crate::align::{Pooling, TokenMap};
use crate::audio::{Sound, Waveform};
use crate::features::MelScale;
use crate::fingerprint::Fingerprint;
use crate::{Error, Result};

/// An explanation with its maps and the features that they speak of.
#[derive(Clone, Debug, PartialEq)]
pub struct Maps {
    pub(super) explanation: Explanation,
    /// (T, F): what the model heard.
    pub(super) features: Vec<f32>,
    /// Values of the maps in `explanation.maps`, in their order.
    pub(super) values: Vec<Vec<f32>>,
    /// What the model heard, if it goes along.
    sound: Option<Arc<Waveform>>,
}

/// One axis of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Axis {
    /// `layer`, `head`, `token`, `time`, `mel bin`, `channel` (of a waveform) or
    /// `decoder input`.
    pub name: &'static str,
    /// What the coordinates are counted in: `s` for time, absent for indices.
    pub unit: Option<&'static str>,
    pub length: usize,
    /// From one element to the next, in `unit`; 1 for indices.
    pub step: f64,
}

impl Axis {
    fn index(name: &'static str, length: usize) -> Self {
        Self {
            name,
            unit: None,
            length,
            step: 1.0,
        }
    }

    fn time(length: usize, step: f64) -> Self {
        Self {
            name: "time",
            unit: Some("s"),
            length,
            step,
        }
    }
}

/// One map of an explanation.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a> {
    info: &'a MapInfo,
    explanation: &'a Explanation,
    data: &'a [f32],
}

impl Maps {
    /// Puts an explanation and the values of its maps together.
    ///
    /// # Errors
    /// If a map has not as many values as its shape says, not the shape that
    /// its site has in this explanation, another name than its method and site
    /// give, or one that another has, if something has no elements, or if
    /// tokens are not counted from 0 or words have others than these, in order.
    pub fn new(
        explanation: Explanation,
        features: Vec<f32>,
        values: Vec<Vec<f32>>,
    ) -> Result<Self> {
        let model = &explanation.model;
        let wrong = |name: &str| Error::Model(format!("{name} has another shape than it should"));
        if elements(&[model.frames, model.mel_bins]) != Some(features.len()) {
            return Err(wrong("features"));
        }
        let tokens = &explanation.tokens;
        if !tokens
            .iter()
            .enumerate()
            .all(|(at, token)| token.index == at)
        {
            return Err(Error::Model("tokens are not counted from 0".into()));
        }
        for word in &explanation.words {
            let follows = |pair: &[usize]| pair[0].checked_add(1) == Some(pair[1]);
            let known = word.tokens.iter().all(|&token| token < tokens.len());
            if !known || !word.tokens.windows(2).all(follows) {
                let problem = "has tokens that do not follow each other or are not there";
                return Err(Error::Model(format!("the word {:?} {problem}", word.text)));
            }
        }
        if values.len() != explanation.maps.len() {
            return Err(Error::Model("there are not as many maps as named".into()));
        }
        for (info, values) in explanation.maps.iter().zip(&values) {
            let axes = axes(info.site, &explanation, &info.shape);
            let lengths = axes.iter().map(|axis| axis.length);
            let size = elements(&info.shape);
            if !lengths.eq(info.shape.iter().copied()) || size != Some(values.len()) {
                return Err(wrong(&info.name));
            }
            let known = explanation.maps.iter();
            let known = known.filter(|other| other.name == info.name).count();
            let name = map_name(info.method, info.site);
            if info.name != name || !info.method.works_at(info.site) || known != 1 {
                let problem = "is no name of one map by this method at this site";
                return Err(Error::Model(format!("{} {problem}", info.name)));
            }
        }
        Ok(Self {
            explanation,
            features,
            values,
            sound: None,
        })
    }

    /// The same with the sound, which then stands in the folder, and its page
    /// plays it.
    ///
    /// # Errors
    /// If it is known to be another sound than the one explained.
    pub fn with_sound(self, sound: &Sound) -> Result<Self> {
        self.with_waveform(sound.shared())
    }

    pub(crate) fn with_waveform(mut self, sound: Arc<Waveform>) -> Result<Self> {
        let known = self.explanation.audio.fingerprint;
        let own = Fingerprint::of_numbers(&sound.samples);
        let broken = sound.samples.iter().any(|x| !x.is_finite());
        if broken || sound.samples.is_empty() || known.is_some_and(|known| known != own) {
            return Err(Error::Model("the sound is not the one explained".into()));
        }
        self.sound = Some(sound);
        Ok(self)
    }

    /// The same without the sound: a folder that may be passed on where the
    /// recording may not.
    #[must_use]
    pub fn without_sound(mut self) -> Self {
        self.sound = None;
        self
    }

    /// What the model heard, if it goes along.
    pub fn sound(&self) -> Option<&Waveform> {
        self.sound.as_deref()
    }

    /// Says where the features' bins lie.
    pub(crate) fn with_mel_scale(mut self, scale: Option<MelScale>) -> Self {
        self.explanation.model.mel_scale = scale;
        self
    }

    /// The text, its tokens and words, and how the maps were made.
    pub fn explanation(&self) -> &Explanation {
        &self.explanation
    }

    /// Adds counters and times to what is said of the maps.
    pub fn set_profile(&mut self, profile: serde_json::Value) {
        self.explanation.profile = Some(profile);
    }

    /// A method's map at a site; attention's own are at [`Site::Decoder`].
    ///
    /// # Errors
    /// If it was not made; the message names those that were.
    pub fn get(&self, method: Method, site: Site) -> Result<Map<'_>> {
        let mut maps = self.iter();
        let found = maps.find(|map| map.method() == method && map.site() == site);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.iter().map(|map| map.name()).collect();
            let wanted = map_name(method, site);
            Error::Input(format!(
                "there is no map {wanted}; there {} {}",
                if known.len() == 1 { "is" } else { "are" },
                match known.as_slice() {
                    [] => "none".to_owned(),
                    known => known.join(", "),
                }
            ))
        })
    }

    /// All maps, in the order of the explanation.
    pub fn iter(&self) -> impl Iterator<Item = Map<'_>> {
        let maps = self.explanation.maps.iter().zip(&self.values);
        maps.map(|(info, data)| Map {
            info,
            explanation: &self.explanation,
            data,
        })
    }

    /// (T, F), row-major: the features of the sound.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// T and F.
    pub fn features_shape(&self) -> [usize; 2] {
        let model = &self.explanation.model;
        [model.frames, model.mel_bins]
    }

    /// The text that was explained.
    pub fn text(&self) -> &str {
        &self.explanation.text
    }
}

impl<'a> Map<'a> {
    pub fn name(&self) -> &'a str {
        &self.info.name
    }

    pub fn method(&self) -> Method {
        self.info.method
    }

    pub fn site(&self) -> Site {
        self.info.site
    }

    /// What the explanation says of it: shape, reduction, and how it was made.
    pub fn info(&self) -> &'a MapInfo {
        self.info
    }

    /// (L, H, K, T') at the decoder, (K, T, F) at the input, (K, T') at the
    /// encoder's output, (K, I) at the tokens.
    pub fn shape(&self) -> &'a [usize] {
        &self.info.shape
    }

    /// Name, unit and step of each axis, as many as the shape has.
    pub fn axes(&self) -> Vec<Axis> {
        axes(self.site(), self.explanation, self.shape())
    }

    /// All values, row-major.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// What a token, counted from 0 among those explained, has: (T, F), (T',)
    /// or (I,), row-major. Maps of the attention have several rows for a
    /// token, one for each head; see [`head`](Self::head).
    ///
    /// # Errors
    /// If there is no such token, or the map is one of the attention.
    pub fn row(&self, token: usize) -> Result<&'a [f32]> {
        let tokens = self.explanation.tokens.len();
        if self.site() == Site::Decoder {
            let problem = "has rows by layer and head, not one for each token";
            return Err(Error::Input(format!("{} {problem}", self.name())));
        }
        let mut rows = self.data.chunks(self.data.len() / tokens);
        rows.nth(token).ok_or_else(|| {
            Error::Input(format!(
                "there is no token {token}: the {tokens} tokens count from 0"
            ))
        })
    }

    /// A head's rows in a map of the attention: (K, T').
    ///
    /// # Errors
    /// If there is no such head, or the map is not one of the attention.
    pub fn head(&self, layer: usize, head: usize) -> Result<&'a [f32]> {
        let &[layers, heads, tokens, frames] = self.shape() else {
            return Err(Error::Input(format!("{} has no heads", self.name())));
        };
        if layer >= layers || head >= heads {
            return Err(Error::Input(format!(
                "there is no head {layer}.{head}; layers are 0 to {}, heads 0 to {}",
                layers - 1,
                heads - 1
            )));
        }
        let (own, each) = (layer * heads + head, tokens * frames);
        Ok(&self.data[own * each..(own + 1) * each])
    }

    /// How the map was made, in its method's own type.
    ///
    /// # Errors
    /// If the explanation's text does not fit the type.
    pub fn made<T: DeserializeOwned>(&self) -> Result<T> {
        let options = serde_json::Value::Object(self.info.options.clone());
        serde_json::from_value(options)
            .map_err(|problem| Error::Model(format!("{}: {problem}", self.name())))
    }

    /// The values as they are compared with other maps: plain gradients count
    /// by their absolute value, since their sign says only in which direction
    /// a feature would have to move; attributions keep their sign.
    pub fn compared_values(&self) -> Vec<f64> {
        let values = self.data.iter().map(|&x| f64::from(x));
        match self.method() {
            Method::Gradient | Method::SmoothGrad => values.map(f64::abs).collect(),
            _ => values.collect(),
        }
    }

    /// The map over the encoder's frames, (K, T'): (T, F) pooled, heads
    /// averaged.
    ///
    /// # Errors
    /// If it has no tokens by frames.
    pub fn pooled(&self, by: Pooling) -> Result<TokenMap> {
        let values = self.compared_values();
        let wrong = || Error::Model(format!("{} is no map of tokens by frames", self.name()));
        if self.site() == Site::Tokens {
            return Err(wrong());
        }
        match *self.shape() {
            [_, _, tokens, frames] => {
                let heads = values.chunks(tokens * frames);
                let heads: Vec<TokenMap> = heads
                    .map(|head| TokenMap::new(head.to_vec(), frames))
                    .collect();
                TokenMap::average(heads.iter()).ok_or_else(wrong)
            }
            [_, rows, bins] => {
                let frames = self.explanation.model.encoder_frames;
                Ok(TokenMap::pooled(&values, [rows, bins], frames, by))
            }
            [_, frames] => Ok(TokenMap::new(values, frames)),
            _ => Err(wrong()),
        }
    }
}

/// How many elements a shape has: some, and no more than can be counted.
fn elements(shape: &[usize]) -> Option<usize> {
    let mut lengths = shape.iter();
    let size = lengths.try_fold(1usize, |size, &length| size.checked_mul(length));
    size.filter(|&size| size > 0)
}

/// What the axes of a site's maps should be in an explanation. The decoder's
/// inputs are not written down there: `shape` says how many there are.
fn axes(site: Site, explanation: &Explanation, shape: &[usize]) -> Vec<Axis> {
    let model = &explanation.model;
    let token = Axis::index("token", explanation.tokens.len());
    let encoder = Axis::time(model.encoder_frames, model.encoder_frame_seconds);
    // Of a waveform there is one.
    let bins = match model.mel_bins {
        1 => "channel",
        _ => "mel bin",
    };
    match site {
        Site::Decoder => vec![
            Axis::index("layer", model.decoder_layers),
            Axis::index("head", model.decoder_heads),
            token,
            encoder,
        ],
        Site::Input => vec![
            token,
            Axis::time(model.frames, model.frame_seconds),
            Axis::index(bins, model.mel_bins),
        ],
        Site::Encoder => vec![token, encoder],
        Site::Tokens => vec![
            token,
            Axis::index("decoder input", shape.last().copied().unwrap_or(0)),
        ],
    }
}
