//! What a study keeps of one utterance: correlations of cross-attention with
//! every other map, by head, layer and average.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::agreement::{Normalisation, Pooling, TokenMap};
use super::checks::Checked;
use super::error_rate::{BleuCounts, WordErrors};
use super::faithfulness::{Curves, Written};
use super::manifest::Item;
use super::map_name::MapName;
use super::onsets::Onsets;
use super::perturbation::Foretelling;
use super::sounds::Given;
use super::statistics::Correlation;
use crate::explain::methods::spes::SpesMade;
use crate::explain::spes::median;
use crate::explain::{Map, Maps, Method, Site};
use crate::{Error, Result};

/// How maps are compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Comparison {
    pub pooling: Pooling,
    pub normalisation: Normalisation,
    /// Whether the end of sentence and other special tokens count.
    pub special: bool,
}

/// One line of a study's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    /// `en-it`
    pub direction: String,
    /// Absent in logs of versions that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
    /// What is not as whoever gave the sound may think, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Record {
    /// The name of counts that no utterance has, as a log that was edited may
    /// hold: parts larger than their whole, or more than sums have room for.
    pub(super) fn impossible(&self) -> Option<&'static str> {
        let Outcome::Done(own) = &self.outcome else {
            return None;
        };
        let curves = own.faithfulness.values();
        let steps = curves.flat_map(|own| own.deletion.iter().chain(&own.insertion));
        let mut written = steps.chain([&own.written]);
        if !written.all(Written::is_possible) {
            return Some("words and n-grams");
        }
        let onsets = own.onsets.iter();
        let mut onsets = onsets.filter(|own| !own.is_possible());
        onsets.next().map(|_| "words with onsets")
    }

    /// Layers, and heads of a layer, wherever the record has a list of them.
    pub(super) fn attention_shapes(&self) -> Vec<[usize; 2]> {
        let Outcome::Done(own) = &self.outcome else {
            return Vec::new();
        };
        let maps = [&own.maps, &own.maps_of_norms, &own.maps_of_gradients];
        let kinds = maps.into_iter().flat_map(BTreeMap::values);
        let kinds = kinds.flat_map(|map| map.correlations.values());
        let mut shapes: Vec<[usize; 2]> = kinds.flat_map(Correlations::shapes).collect();
        if let Some(onsets) = &own.onsets {
            let rows = onsets.heads.iter();
            shapes.extend(rows.map(|row| [onsets.layers.len(), row.len()]));
            shapes.extend(
                onsets
                    .heads
                    .first()
                    .map(|row| [onsets.heads.len(), row.len()]),
            );
        }
        shapes
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    Failed { error: String },
    Done(Box<Utterance>),
}

impl Outcome {
    /// Why it could not be done.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Failed { error } => Some(error),
            Self::Done(_) => None,
        }
    }
}

/// An utterance that was explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Utterance {
    /// What should have been written.
    pub reference: String,
    /// What the model wrote, and what was explained.
    pub hypothesis: String,
    /// Tokens that were compared.
    pub tokens: usize,
    pub frames: usize,
    pub encoder_frames: usize,
    /// By map: `spes.input`, `gradient.encoder`, ...
    pub maps: BTreeMap<MapName, MapResult>,
    /// The same of attention weighted by the norm of what it carries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub maps_of_norms: BTreeMap<MapName, MapResult>,
    /// The same of attention times its gradient.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub maps_of_gradients: BTreeMap<MapName, MapResult>,
    /// What was written, against the reference.
    pub written: Written,
    /// By map, where it was asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faithfulness: BTreeMap<MapName, Curves>,
    /// By map, where faithfulness was asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub perturbation: BTreeMap<MapName, Foretelling>,
    /// Of the first utterances of each direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checked>,
    /// Maps against true onsets, where these are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onsets: Option<Onsets>,
}

impl Utterance {
    /// Whether it is known what should have been written.
    pub(super) fn has_reference(&self) -> bool {
        !self.reference.trim().is_empty()
    }
}

/// Cross-attention against one map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapResult {
    /// Masks behind it, for SPES.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<u64>,
    /// Reliability of the map as it was compared, the median over the tokens
    /// compared; for SPES pooled by maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reliability: Option<f64>,
    /// By kind of correlation.
    pub correlations: BTreeMap<Correlation, Correlations>,
}

/// Correlations of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlations {
    /// By layer and head.
    pub heads: Vec<Vec<Option<f64>>>,
    /// By layer: attention averaged over its heads.
    pub layers: Vec<Option<f64>>,
    /// By head: attention averaged over the layers.
    pub across_layers: Vec<Option<f64>>,
    /// Attention averaged over all heads and layers.
    pub all: Option<f64>,
}

impl Correlations {
    fn shapes(&self) -> Vec<[usize; 2]> {
        let averaged = [self.layers.len(), self.across_layers.len()];
        let rows = self.heads.iter().map(|row| [self.heads.len(), row.len()]);
        rows.chain([averaged]).collect()
    }
}

/// Cross-attention of all heads, and its averages.
struct Attention {
    /// By layer and head: (K, T')
    heads: Vec<Vec<TokenMap>>,
    layers: Vec<TokenMap>,
    across_layers: Vec<TokenMap>,
    all: TokenMap,
}

impl Attention {
    /// From a map (L, H, K, T'), with some tokens only.
    fn new(map: Map, tokens: &[usize]) -> Result<Self> {
        let &[layers, heads, count, frames] = map.shape() else {
            return Err(Error::Model(format!("{} is no attention", map.name())));
        };
        let values = widened(map.data());
        let one = |l: usize, h: usize| {
            let begin = (l * heads + h) * count * frames;
            let own = values[begin..begin + count * frames].to_vec();
            TokenMap::new(own, frames).select(tokens)
        };
        let heads: Vec<Vec<TokenMap>> = (0..layers)
            .map(|l| (0..heads).map(|h| one(l, h)).collect())
            .collect();
        let average = |maps: Vec<&TokenMap>| {
            let average = TokenMap::average(maps.into_iter());
            average.ok_or_else(|| Error::Model("there is no attention".into()))
        };
        let layers = heads.iter().map(|layer| average(layer.iter().collect()));
        let across = (0..heads[0].len()).map(|h| average(heads.iter().map(|l| &l[h]).collect()));
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            across_layers: across.collect::<Result<_>>()?,
            all: average(heads.iter().flatten().collect())?,
            heads,
        })
    }

    fn against(&self, map: &TokenMap, kind: Correlation, by: Normalisation) -> Correlations {
        let rho = |own: &TokenMap| own.agreement(map, kind, by);
        Correlations {
            heads: self
                .heads
                .iter()
                .map(|layer| layer.iter().map(rho).collect())
                .collect(),
            layers: self.layers.iter().map(rho).collect(),
            across_layers: self.across_layers.iter().map(rho).collect(),
            all: rho(&self.all),
        }
    }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// The tokens that count, of an explanation's.
///
/// # Errors
/// If there are none.
pub(super) fn compared_tokens(explained: &Maps, by: &Comparison) -> Result<Vec<usize>> {
    let kept = explained.explanation().tokens.iter();
    let kept = kept.filter(|token| by.special || !token.special);
    let tokens: Vec<usize> = kept.map(|token| token.index).collect();
    match tokens.is_empty() {
        true => Err(Error::Input("the model wrote no words".into())),
        false => Ok(tokens),
    }
}

/// Compares an explanation's attention with its other maps.
///
/// # Errors
/// If there is no attention or no token to compare.
pub fn utterance(item: &Item, explained: &Maps, by: &Comparison) -> Result<Utterance> {
    let explanation = explained.explanation();
    let tokens = compared_tokens(explained, by)?;
    let compared = |attention: Map| compared(explained, attention, &tokens, by);
    let beside = |method| {
        let map = explained.get(method, Site::Decoder).ok();
        map.map(compared).transpose().map(Option::unwrap_or_default)
    };
    let attention = explained.get(Method::Attention, Site::Decoder)?;
    let model = &explanation.model;
    Ok(Utterance {
        reference: item.text.clone(),
        hypothesis: explanation.text.clone(),
        tokens: tokens.len(),
        frames: model.frames,
        encoder_frames: model.encoder_frames,
        maps: compared(attention)?,
        maps_of_norms: beside(Method::AttentionNorm)?,
        maps_of_gradients: beside(Method::AttentionXGradient)?,
        written: Written {
            words: WordErrors::of(&item.text, &explanation.text),
            bleu: BleuCounts::of(&item.text, &explanation.text),
        },
        faithfulness: BTreeMap::new(),
        perturbation: BTreeMap::new(),
        checks: None,
        onsets: None,
    })
}

/// One attention against every map that is none, by the maps' names.
fn compared(
    explained: &Maps,
    attention: Map,
    tokens: &[usize],
    by: &Comparison,
) -> Result<BTreeMap<MapName, MapResult>> {
    let attention = Attention::new(attention, tokens)?;
    let mut maps = BTreeMap::new();
    for map in explained.iter() {
        if !matches!(map.site(), Site::Input | Site::Encoder) {
            continue;
        }
        let pooled = map.pooled(by.pooling)?.select(tokens);
        let correlations = Correlation::ALL.map(|kind| {
            let result = attention.against(&pooled, kind, by.normalisation);
            (kind, result)
        });
        let spes: Option<SpesMade> = match map.method() {
            Method::Spes => Some(map.made()?),
            _ => None,
        };
        let reliability = spes.as_ref();
        let reliability = reliability.and_then(|made| made.token_reliability_pooled.as_ref());
        let result = MapResult {
            masks: spes.as_ref().map(|made| made.masks as u64),
            reliability: reliability.and_then(|values| {
                let own = tokens.iter().map(|&k| values.get(k).copied().flatten());
                median(own)
            }),
            correlations: correlations.into_iter().collect(),
        };
        maps.insert(MapName::of(&map), result);
    }
    Ok(maps)
}
