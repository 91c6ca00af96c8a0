//! A log's first line: what all of its utterances were done with.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::about::About;
use super::super::settings::Settings;
use super::{FORMAT, VERSION};
use crate::engine::precision::Precision;

/// The first line: what all utterances of the file were done with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub format: String,
    pub version: u32,
    /// Version of the program.
    pub sonograd: String,
    pub model: String,
    /// The model's commit, where it is the hub's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What the numbers are about; absent in logs of versions that did not note
    /// it, and in tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// What shaped the numbers.
    pub settings: Settings,
}

impl Header {
    /// The model as `--model` takes it again.
    pub fn model_again(&self) -> String {
        match &self.revision {
            Some(revision) => format!("{}@{revision}", self.model),
            None => self.model.clone(),
        }
    }

    /// Of a model's log that this program begins.
    pub fn new(model: &str, settings: &Settings) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            sonograd: env!("CARGO_PKG_VERSION").into(),
            model: model.into(),
            revision: None,
            about: None,
            settings: settings.clone(),
        }
    }

    /// Why utterances done with `now` do not belong to those of this header:
    /// what it was made with that differs, in words. Absent if nothing does.
    pub fn differences(&self, now: &Self) -> Option<String> {
        let mut all = Vec::new();
        if self.model != now.model {
            all.push(format!("model {}, here {}", self.model, now.model));
        }
        if self.revision != now.revision {
            let name = |own: &Option<String>| own.clone().unwrap_or_else(|| "none".into());
            let [then, now] = [&self.revision, &now.revision].map(name);
            all.push(format!(
                "commit {then} of the model, where {now} is here (--model NAME@COMMIT)"
            ));
        }
        if self.sonograd != now.sonograd {
            let (then, now) = (&self.sonograd, &now.sonograd);
            all.push(format!("version {then} of sonograd, here {now}"));
        }
        let settings = self.changed_settings(now);
        if !settings.is_empty() {
            all.push(format!("other settings: {}", settings.join(", ")));
        }
        match (&self.about, &now.about) {
            (None, None) => {}
            (Some(then), Some(now)) => all.extend(then.differences(now)),
            _ => all.push(
                "no note of the model's weights (by an earlier version), so that whether they \
                 are the same cannot be known"
                    .into(),
            ),
        }
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Name, old and new value, and option of every setting that differs.
    fn changed_settings(&self, now: &Self) -> Vec<String> {
        let (then, now) = (self.settings.entries(), now.settings.entries());
        let names: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
        let changed = names.into_iter().filter_map(|name| {
            let [then, now] = [&then, &now].map(|own| own.get(name));
            if then == now {
                return None;
            }
            let value = |own: Option<&Value>| match own {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => unsaid(name),
                Some(own) => own.to_string(),
            };
            let option = option(name).map(|own| format!(" ({own})"));
            let (then, now) = (value(then), value(now));
            Some(format!(
                "{name} {then}, here {now}{}",
                option.unwrap_or_default()
            ))
        });
        changed.collect()
    }
}

/// The value of a setting that is not written.
fn unsaid(name: &str) -> String {
    match name {
        "beams" => "as the model has it".into(),
        "precision" => Precision::default().to_string(),
        _ => "none".into(),
    }
}

/// The option that makes a setting.
fn option(name: &str) -> Option<&'static str> {
    Some(match name {
        "beams" => "--beam",
        "checks" => "--checks",
        "faithfulness" => "--faithfulness",
        "methods" => "--method",
        "normalisation" => "--normalise",
        "onsets" => "--onsets",
        "pooling" => "--pooling",
        "precision" => "--precision",
        "seed" => "--seed",
        "special_tokens" => "--special",
        "stop" => "--masks or --reliability",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::explain::spes::Stop;
    use crate::fingerprint::Fingerprint;

    #[test]
    fn every_difference_is_named() {
        let print = |text: &str| Fingerprint::of(text.as_bytes());
        let mut then = Header::new("m", &Settings::default());
        then.about = Some(About {
            weights: print("w"),
            files: BTreeMap::from([("config.json".into(), print("c"))]),
            onsets: None,
        });
        assert_eq!(then.differences(&then), None);
        type Change<'a> = &'a dyn Fn(&mut Header);
        let changes: [(Change, &str); 10] = [
            (
                &|own| own.settings.seed = 7,
                "other settings: seed 0, here 7 (--seed)",
            ),
            (
                &|own| own.settings.stop = Stop::Masks(9),
                "stop {\"reliability\":0.9}, here {\"masks\":9} (--masks or --reliability)",
            ),
            (
                &|own| own.settings.precision = Precision::F64,
                "precision f32, here f64 (--precision)",
            ),
            (
                &|own| own.settings.beams = Some(2),
                "beams as the model has it, here 2 (--beam)",
            ),
            (
                &|own| own.revision = Some("abc".into()),
                "commit none of the model, where abc",
            ),
            (&|own| own.sonograd = "9".into(), "of sonograd, here 9"),
            (&|own| own.about = None, "no note of the model's weights"),
            (
                &|own| own.about.as_mut().unwrap().weights = print("v"),
                "other weights of the model",
            ),
            (
                &|own| {
                    let files = &mut own.about.as_mut().unwrap().files;
                    files.insert("config.json".into(), print("d"));
                },
                "another config.json of the model",
            ),
            (
                &|own| {
                    let files = &mut own.about.as_mut().unwrap().files;
                    files.insert("vocab.json".into(), print("d"));
                },
                "no vocab.json of the model, which is there now",
            ),
        ];
        for (change, words) in changes {
            let mut now = then.clone();
            change(&mut now);
            let found = then.differences(&now).unwrap();
            assert!(found.contains(words), "{found}");
            assert!(!found.contains('\n'));
        }
    }

    /// Every setting has an option, but for those that the program fixes.
    #[test]
    fn settings_name_their_options() {
        let entries = Settings::default().entries();
        let without: Vec<&String> = entries
            .keys()
            .filter(|name| option(name).is_none())
            .collect();
        assert_eq!(without, ["compactness", "segments", "sigma"]);
    }
}
