//! Checks of the maps themselves: whether other masks give the same map, and
//! whether a model whose weights mean nothing gives another one.
//!
//! The second is the model-randomisation check of Adebayo et al., "Sanity
//! Checks for Saliency Maps" (NeurIPS 2018): a map that stays the same when
//! the weights are shuffled explains the sound, not the model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::agreement::{Normalisation, TokenMap};
use super::map_name::MapName;
use super::record::{Comparison, compared_tokens};
use super::statistics::Correlation;
use crate::Result;
use crate::engine::executor::Executor;
use crate::engine::weights::{Form, Part, Role};
use crate::explain::{ExplainOptions, Map, Maps, Method, Progress, Subject, explain};
use crate::model::Model;
use crate::tokenizer::Tokenizer;

/// What the checks found for one utterance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// By map with random masks: agreement with the same map from another
    /// seed.
    pub seeds: BTreeMap<MapName, SeedAgreement>,
    /// By what was shuffled, then by map: Spearman's correlation with the map
    /// of the shuffled model, for each token by itself; absent where that map
    /// is constant.
    pub randomised: BTreeMap<Shuffled, BTreeMap<MapName, Option<f64>>>,
}

/// Pearson's correlation of the maps from two seeds, for each token by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedAgreement {
    /// Pooled to the encoder's frames.
    pub pooled: Option<f64>,
    /// At the map's own resolution.
    pub full: Option<f64>,
}

/// Which weights lose their meaning. Sorted as the names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Shuffled {
    #[serde(rename = "all weights")]
    All,
    /// The decoder's, its embedding with them.
    #[serde(rename = "decoder")]
    Decoder,
}

impl Shuffled {
    pub const EVERY: [Self; 2] = [Self::Decoder, Self::All];

    /// The name in logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decoder => "decoder",
            Self::All => "all weights",
        }
    }

    /// Shuffles a model's weights within each tensor, which leaves their
    /// distributions as they are; tables of positions stay.
    pub fn apply(self, model: &mut Model, seed: u64) {
        let shuffled = model.weights.shuffled(seed, |role| self.takes(role));
        model.weights = shuffled.into();
    }

    /// Whether weights of a role are shuffled.
    pub fn takes(self, role: Role) -> bool {
        role.form != Form::Positions && (self == Self::All || role.part == Part::Decoder)
    }
}

/// A model with shuffled weights, ready to run.
pub struct ShuffledModel {
    pub level: Shuffled,
    pub model: Model,
    pub executor: Box<dyn Executor>,
}

/// What the checks are made with.
pub struct Checking<'a> {
    pub model: &'a Model,
    pub tokenizer: &'a Tokenizer,
    pub subject: &'a Subject<'a>,
    pub options: &'a ExplainOptions,
    pub comparison: &'a Comparison,
}

impl Checking<'_> {
    /// Compares an utterance's maps with those of another seed and of the
    /// shuffled models, which are to say the same tokens.
    ///
    /// # Errors
    /// If a device fails.
    pub fn check(
        &self,
        executor: &mut dyn Executor,
        shuffled: &mut [ShuffledModel],
        explained: &Maps,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Checked> {
        let mut again = |executor: &mut dyn Executor, model, options: &ExplainOptions| {
            explain(
                executor,
                model,
                self.tokenizer,
                self.subject,
                options,
                progress,
            )
        };
        let tokens = compared_tokens(explained, self.comparison)?;
        let mut methods = self.options.methods.clone();
        methods.retain(|method| matches!(method, Method::Spes | Method::SmoothGrad));
        let mut seeds = BTreeMap::new();
        if !methods.is_empty() {
            let options = ExplainOptions {
                methods,
                seed: self.options.seed.wrapping_add(1),
                ..self.options.clone()
            };
            let other = again(executor, self.model, &options)?;
            for map in other.iter() {
                let own = self.both(explained.get(map.method(), map.site())?, &tokens)?;
                let other = self.both(map, &tokens)?;
                let rho = |a: &TokenMap, b: &TokenMap| {
                    a.agreement(b, Correlation::Pearson, Normalisation::Token)
                };
                let agreement = SeedAgreement {
                    pooled: rho(&own.pooled, &other.pooled),
                    full: rho(&own.full, &other.full),
                };
                seeds.insert(MapName::of(&map), agreement);
            }
        }
        let mut randomised = BTreeMap::new();
        for ShuffledModel {
            level,
            model,
            executor,
        } in shuffled
        {
            let other = again(executor.as_mut(), model, self.options)?;
            let mut all = BTreeMap::new();
            for map in explained.iter() {
                let own = self.both(map, &tokens)?;
                let other = self.both(other.get(map.method(), map.site())?, &tokens)?;
                let kind = Correlation::Spearman;
                let rho = own
                    .pooled
                    .agreement(&other.pooled, kind, Normalisation::Token);
                all.insert(MapName::of(&map), rho);
            }
            randomised.insert(*level, all);
        }
        Ok(Checked { seeds, randomised })
    }

    fn both(&self, map: Map, tokens: &[usize]) -> Result<Both> {
        let pooled = map.pooled(self.comparison.pooling)?;
        let full = match *map.shape() {
            [_, rows, bins] => TokenMap::new(map.compared_values(), rows * bins),
            _ => pooled.clone(),
        };
        Ok(Both {
            pooled: pooled.select(tokens),
            full: full.select(tokens),
        })
    }
}

/// A map of some tokens at both resolutions.
struct Both {
    pooled: TokenMap,
    full: TokenMap,
}
