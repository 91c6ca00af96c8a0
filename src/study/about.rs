//! What a study's log is about: the model, by its weights and files, and the
//! true onsets.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::engine::weights::{Weight, WeightTable};
use crate::fingerprint::Fingerprint;
use crate::model::Model;
use crate::tokenizer::Tokenizer;

/// Numbers of a weight that are looked at by themselves, so that threads can
/// share out a weight; part of what a fingerprint is.
const PART: usize = 1 << 18;

/// Files that say how a model hears and writes, beside those of its vocabulary.
const FILES: [&str; 4] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
];

/// Of all weights as they are computed with, with their names and shapes; what
/// follows from the config alone is left out.
fn of_weights(weights: &WeightTable) -> Fingerprint {
    let mut whole = Vec::new();
    for weight in weights.iter().filter(|weight| !weight.computed) {
        let Weight {
            name, rows, cols, ..
        } = weight;
        whole.extend(format!("{name}\0{rows}\0{cols}\0").into_bytes());
        let parts = weight.data.par_chunks(PART);
        let parts: Vec<Fingerprint> = parts.map(Fingerprint::of_numbers).collect();
        whole.extend(parts.into_iter().flat_map(Fingerprint::to_bytes));
    }
    Fingerprint::of(&whole)
}

/// What a log's numbers are about. Sounds and texts are not among it: they
/// stand with each utterance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub weights: Fingerprint,
    /// By name: the model's files that say how it hears and writes.
    pub files: BTreeMap<String, Fingerprint>,
    /// True onsets, if any are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onsets: Option<Fingerprint>,
}

impl About {
    /// What a study of a model with its vocabulary is about.
    ///
    /// # Errors
    /// If one of its files cannot be read.
    pub fn new(model: &Model, tokenizer: &Tokenizer, onsets: Option<Fingerprint>) -> Result<Self> {
        // The vocabulary knows which files it took.
        let mut files = tokenizer.files().clone();
        for name in FILES {
            if let Some(bytes) = model.files.read_if_present(name)? {
                files.insert(name.to_owned(), Fingerprint::of(&bytes));
            }
        }
        Ok(Self {
            weights: of_weights(&model.weights),
            files,
            onsets,
        })
    }

    /// What is another in `now` than here, in words.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut all = Vec::new();
        if self.weights != now.weights {
            all.push("other weights of the model".to_owned());
        }
        let names: BTreeSet<&String> = self.files.keys().chain(now.files.keys()).collect();
        for name in names {
            match (self.files.get(name), now.files.get(name)) {
                (Some(then), Some(now)) if then == now => {}
                (Some(_), Some(_)) => all.push(format!("another {name} of the model")),
                (Some(_), None) => all.push(format!("a {name} of the model, which is gone")),
                (None, _) => all.push(format!("no {name} of the model, which is there now")),
            }
        }
        match (self.onsets, now.onsets) {
            (Some(then), Some(now)) if then != now => {
                all.push("other true onsets (--onsets)".into())
            }
            _ => {}
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::weights::{Form, Role};

    fn table(change: Option<(usize, usize)>) -> WeightTable {
        let mut table = WeightTable::default();
        // One is larger than a part, and one has a share of one number.
        for (n, (rows, cols)) in [(3, 5), (1, PART + 1), (700, 401)].into_iter().enumerate() {
            let mut values: Vec<f32> = (0..rows * cols).map(|x| x as f32).collect();
            if let Some((own, at)) = change
                && own == n
            {
                values[at] = f32::from_bits(values[at].to_bits() ^ 1);
            }
            table.add(
                Role::encoder(Form::Matrix),
                format!("w{n}"),
                rows,
                cols,
                values,
            );
        }
        table
    }

    #[test]
    fn every_weight_counts_and_threads_do_not() {
        let of = |change| of_weights(&table(change));
        let whole = of(None);
        let last = 700 * 401 - 1;
        let changes = [
            (0, 0),
            (0, 14),
            (1, 0),
            (1, PART - 1),
            (1, PART),
            (2, 7),
            (2, last),
        ];
        let mut all: Vec<Fingerprint> = changes.map(|own| of(Some(own))).into();
        all.push(whole);
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            assert_eq!(pool.install(|| of(None)), whole);
        }
        // The same on every platform: a number that is written down.
        assert_eq!(whole.to_string(), "883634f8f8c1532d93dac13cedb77aac");
        // Names and shapes count; what is computed from the config does not.
        let mut other = table(None);
        let more = other.add(Role::decoder(Form::Positions), "p", 2, 1, vec![0.5, 1.0]);
        assert_ne!(of_weights(&other), whole);
        other.set_computed(more);
        assert_eq!(of_weights(&other), whole);
    }
}
