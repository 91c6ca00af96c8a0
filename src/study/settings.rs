//! What shapes the numbers of a study, as its logs hold it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::agreement::{Normalisation, Pooling};
use super::record::Comparison;
use super::truth::TrueOnsets;
use crate::align::Rule;
use crate::engine::precision::Precision;
use crate::explain::spes::{SpesOptions, Stop};
use crate::explain::{ExplainOptions, Method, Site};

/// Everything that shapes the numbers of a log but the model and the program.
/// A log with another setting than these is refused: what it did to the
/// numbers is not known.
///
/// Fields stand in the order of their names, as in logs of all versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Hypotheses kept in the search; the model's if absent.
    pub beams: Option<usize>,
    /// Utterances of each direction, the first ones, on which the maps
    /// themselves are checked.
    pub checks: usize,
    /// Of SPES' superpixels.
    pub compactness: f64,
    /// Whether curves of deletion and insertion are made, and infidelity and
    /// sensitivity measured.
    pub faithfulness: bool,
    /// Attention first, then what it is compared with.
    pub methods: Vec<Method>,
    pub normalisation: Normalisation,
    /// What is known of true onsets, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onsets: Option<KnownOnsets>,
    pub pooling: Pooling,
    #[serde(default, skip_serializing_if = "is_usual")]
    pub precision: Precision,
    /// Of everything random.
    pub seed: u64,
    /// Nominal numbers of SPES' superpixels for 500 frames.
    pub segments: Vec<usize>,
    /// Smoothing before SPES' superpixels are found.
    pub sigma: f64,
    /// Whether the end of sentence and other special tokens count.
    pub special_tokens: bool,
    pub stop: Stop,
}

/// What most logs have not is not written.
fn is_usual(precision: &Precision) -> bool {
    *precision == Precision::default()
}

/// How much is known of true onsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownOnsets {
    /// How words are found, as in `align --rule`; absent in logs of versions
    /// that warped maps as Whisper does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    pub utterances: usize,
    pub words: usize,
}

impl KnownOnsets {
    /// Absent where nothing is known.
    pub fn of(onsets: &TrueOnsets) -> Option<Self> {
        let (utterances, words) = (onsets.utterances(), onsets.words());
        (utterances > 0).then_some(Self {
            rule: Some(Rule::default()),
            utterances,
            words,
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        let SpesOptions {
            stop,
            segments,
            compactness,
            sigma,
            ..
        } = SpesOptions::default();
        let Comparison {
            pooling,
            normalisation,
            special,
        } = Comparison::default();
        Self {
            beams: None,
            checks: 0,
            compactness,
            faithfulness: false,
            methods: vec![
                Method::Attention,
                Method::Spes,
                Method::Gradient,
                Method::AttentionNorm,
                Method::AttentionXGradient,
            ],
            normalisation,
            onsets: None,
            pooling,
            precision: Precision::default(),
            seed: ExplainOptions::default().seed,
            segments,
            sigma,
            special_tokens: special,
            stop,
        }
    }
}

impl Settings {
    /// How utterances are explained, with so many bytes for a pass.
    pub fn explain_options(&self, memory: usize) -> ExplainOptions {
        ExplainOptions {
            methods: self.methods.clone(),
            sites: vec![Site::Input, Site::Encoder],
            timed: false,
            memory,
            seed: self.seed,
            spes: SpesOptions {
                stop: self.stop,
                segments: self.segments.clone(),
                compactness: self.compactness,
                sigma: self.sigma,
                ..SpesOptions::default()
            },
            ..ExplainOptions::default()
        }
    }

    /// How maps are compared.
    pub fn comparison(&self) -> Comparison {
        Comparison {
            pooling: self.pooling,
            normalisation: self.normalisation,
            special: self.special_tokens,
        }
    }

    /// Name and value of every setting, as a log has them.
    pub fn entries(&self) -> Map<String, Value> {
        // A structure is an object, whatever is in it.
        match serde_json::to_value(self) {
            Ok(Value::Object(entries)) => entries,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 0.1.0 wrote it.
    const LOGGED: &str = r#"{"beams":null,"checks":1,"compactness":0.1,"faithfulness":true,"methods":["attention","spes","gradient","attention-norm","attention-x-gradient"],"normalisation":"token","onsets":{"utterances":202,"words":1716},"pooling":"max","seed":0,"segments":[2000,2500,3000],"sigma":0.0,"special_tokens":false,"stop":{"reliability":0.9}}"#;

    #[test]
    fn what_a_log_holds_is_read_and_written_as_it_is() {
        let settings: Settings = serde_json::from_str(LOGGED).unwrap();
        let wanted = Settings {
            checks: 1,
            faithfulness: true,
            onsets: Some(KnownOnsets {
                rule: None,
                utterances: 202,
                words: 1716,
            }),
            ..Settings::default()
        };
        assert_eq!(settings, wanted);
        assert_eq!(serde_json::to_string(&settings).unwrap(), LOGGED);
        let other = Settings {
            beams: Some(3),
            methods: Method::ALL.to_vec(),
            normalisation: Normalisation::Map,
            onsets: None,
            pooling: Pooling::MaxMean,
            precision: Precision::F64,
            stop: Stop::Masks(960),
            ..settings
        };
        let text = serde_json::to_string(&other).unwrap();
        for part in [
            r#""precision":"f64""#,
            r#""stop":{"masks":960}"#,
            r#""pooling":"max-mean""#,
            r#""beams":3"#,
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("onsets"));
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), other);
        let keys: Vec<String> = other.entries().keys().cloned().collect();
        assert!(keys.is_sorted());
        // The order of the fields is that of the names.
        let places = keys.iter().map(|key| text.find(&format!("\"{key}\":")));
        assert!(places.is_sorted());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (from, to, words) in [
            ("\"seed\":0", "\"seed\":0,\"colour\":1", "colour"),
            ("\"spes\"", "\"shap\"", "shap"),
            ("\"max\"", "\"least\"", "least"),
            ("\"reliability\"", "\"hours\"", "hours"),
            ("\"checks\":1,", "", "checks"),
        ] {
            let text = LOGGED.replace(from, to);
            let message = serde_json::from_str::<Settings>(&text).unwrap_err();
            assert!(message.to_string().contains(words), "{message}");
        }
    }
}
