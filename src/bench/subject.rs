//! What is measured on: features, the decoder's tokens, superpixels.

use std::path::Path;

use crate::audio::Sound;
use crate::engine::random::{Domain, Key};
use crate::explain::spes::{Segmentation, SpesOptions};
use crate::features::Features;
use crate::listener::Listener;
use crate::model::Model;
use crate::validate::Reference;
use crate::{Error, Result};

/// One utterance under forced decoding.
pub struct Subject {
    /// (T, F), or a whole window
    pub features: Features,
    /// (I): the decoder's input
    pub ids: Vec<u32>,
    /// (K): where tokens are explained
    pub positions: Vec<u32>,
    /// (K): what is explained there
    pub labels: Vec<u32>,
}

impl Subject {
    /// Random features of `seconds` and random tokens; a window's rest is
    /// zero.
    ///
    /// # Errors
    /// If the model does not take as much.
    pub fn random(model: &Model, seconds: f64, tokens: usize, seed: u64) -> Result<Self> {
        let (bins, most) = (model.encoder.mel_bins(), model.encoder.max_frames());
        let step = model.encoder.frame_seconds();
        let sound = ((seconds / step).round() as usize).max(1);
        if sound > most {
            let limit = most as f64 * step;
            return Err(Error::Input(format!(
                "{seconds} s are more than the {limit} s that {} takes",
                model.name
            )));
        }
        let frames = model.capabilities.window_frames.unwrap_or(sound);
        let key = Key::from(seed);
        let draw = |variant: u32, count: usize| {
            let blocks = 0..count.div_ceil(4) as u32;
            let words = blocks.flat_map(move |block| key.block(Domain::Noise, [block, variant, 0]));
            words.take(count)
        };
        // Uniform, of mean 0 and variance 1, as normalised features.
        let number = |word: u32| (f64::from(word) / 2f64.powi(31) - 1.0) * 3f64.sqrt();
        let mut data: Vec<f32> = draw(0, sound * bins)
            .map(|word| number(word) as f32)
            .collect();
        data.resize(frames * bins, 0.0);
        let vocabulary = model.decoder.config.vocabulary as u32;
        let labels: Vec<u32> = draw(1, tokens).map(|word| word % vocabulary).collect();
        let before = labels.iter().take(tokens.saturating_sub(1));
        let ids = [model.tokens.start].into_iter().chain(before.copied());
        let features = Features::new(data, frames, bins)?.with_sound_frames(sound);
        Ok(Self::new(features, ids.collect(), labels))
    }

    /// Features and tokens of a reference file.
    ///
    /// # Errors
    /// If it is broken, has none, or they do not fit the model.
    pub fn reference(model: &Model, path: &Path) -> Result<Self> {
        let reference = Reference::read(path)?;
        let missing = |name: &str| reference.problem(format!("has no {name}"));
        let features = reference.real("features", 2)?;
        let (shape, data) = features.ok_or_else(|| missing("features"))?;
        let ids = reference.ids("decoder_input_ids")?;
        let ids = ids.ok_or_else(|| missing("decoder_input_ids"))?;
        let labels = reference.ids("labels")?.unwrap_or_else(|| ids.clone());
        if labels.len() != ids.len() {
            return Err(missing("label for each of decoder_input_ids"));
        }
        let mut features = Features::new(data, shape[0], shape[1])?;
        // What only fills a window is not hidden by masks.
        if let Some((samples, _)) = reference.real("waveform", 1)?
            && model.capabilities.window_frames.is_some()
        {
            features = features.with_samples(samples[0]);
        }
        let fits = model.check_features(&features);
        fits.map_err(|problem| reference.problem(problem))?;
        Ok(Self::new(features, ids, labels))
    }

    /// A sound and the tokens that a model writes of it, the end included.
    ///
    /// # Errors
    /// If the sound is more than the model explains at once, or the device
    /// fails.
    pub fn heard(listener: &mut Listener, sound: &Sound) -> Result<Self> {
        let heard = listener.transcribe(sound)?;
        let (prompt, tokens) = listener.said(&heard)?;
        let (mut ids, labels) = ([prompt, tokens].concat(), tokens.to_vec());
        ids.pop();
        let positions = prompt.len().saturating_sub(1) as u32..ids.len() as u32;
        Ok(Self {
            positions: positions.collect(),
            features: listener.features(sound)?.clone(),
            ids,
            labels,
        })
    }

    fn new(features: Features, ids: Vec<u32>, labels: Vec<u32>) -> Self {
        Self {
            positions: (0..ids.len() as u32).collect(),
            features,
            ids,
            labels,
        }
    }

    /// The pieces of the features that masks hide.
    ///
    /// # Errors
    /// If the features cannot be segmented.
    pub fn segmentation(&self, model: &Model) -> Result<Segmentation> {
        let kind = model.encoder.hears_by();
        Segmentation::of_features(kind, &self.features, &SpesOptions::default())
    }
}
