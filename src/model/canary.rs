//! Canary: a FastConformer, and a decoder of the same width whose positions are
//! sines and cosines.

use super::Parts;
use super::checkpoint::{Checkpoint, PROJECTION, TensorList, standard_name};
use super::config::Config;
use super::decoder::{Decoder, DecoderConfig, Names, Positions};
use super::family::{
    Capabilities, ControlList, Controls, Family, LanguageName, Prompting, languages,
};
use super::fastconformer::{FastConformerSizes, Usual};
use super::files::ModelFiles;
use super::layers::scaled_positions;
use super::loader::Loader;
use crate::Result;
use crate::engine::weights::{Part, WeightTable};
use crate::features::Kind;

/// The name in `architectures[0]`.
pub const ARCHITECTURE: &str = "CanaryForConditionalGeneration";

/// What this file offers.
pub(super) const FAMILY: Family = Family {
    architecture: ARCHITECTURE,
    model_type: "canary",
    tied: true,
    tensors,
    read,
};

/// Names of the decoder's tensors in transformers.
pub(super) const NAMES: Names = Names {
    self_norm: "input_layernorm",
    cross_norm: "post_attention_layernorm",
    feed_norm: "final_layernorm",
    attention_out: "o_proj",
    feed_forward: ["mlp.fc1", "mlp.fc2"],
    norm: "decoder.norm",
    embedding_norm: Some("decoder.embedding_layernorm"),
    memory: None,
};

/// That of `ParakeetEncoderConfig`: given settings are not completed by Canary's.
const USUAL: Usual = Usual {
    mel_bins: 80,
    scaled: true,
};

const LANGUAGES: [LanguageName; 25] = languages([
    ("bg", "Bulgarian"),
    ("cs", "Czech"),
    ("da", "Danish"),
    ("de", "German"),
    ("el", "Greek"),
    ("en", "English"),
    ("es", "Spanish"),
    ("et", "Estonian"),
    ("fi", "Finnish"),
    ("fr", "French"),
    ("hr", "Croatian"),
    ("hu", "Hungarian"),
    ("it", "Italian"),
    ("lt", "Lithuanian"),
    ("lv", "Latvian"),
    ("mt", "Maltese"),
    ("nl", "Dutch"),
    ("pl", "Polish"),
    ("pt", "Portuguese"),
    ("ro", "Romanian"),
    ("ru", "Russian"),
    ("sk", "Slovak"),
    ("sl", "Slovenian"),
    ("sv", "Swedish"),
    ("uk", "Ukrainian"),
]);

const CONTROLS: Controls = Controls {
    languages: &LANGUAGES,
    // As the reference's processor has it.
    spoken: Some("en"),
    translates: true,
    spaceless: &[],
    list: ControlList::Template,
};

/// Tensors that such files carry and inference does not use.
fn ignored(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

/// Sizes from `config.json`.
struct Sizes {
    encoder: FastConformerSizes,
    decoder: DecoderConfig,
}

impl Sizes {
    fn read(config: &Config, own_projection: bool) -> Result<Self> {
        config.check_projection(own_projection)?;
        let encoder = FastConformerSizes::read(&config.nested("encoder_config")?, USUAL)?;
        let width = encoder.width();
        let nested = config.nested("decoder_config")?;
        nested.only("model_type", "canary_decoder")?;
        let decoder = DecoderConfig::behind_fastconformer(&nested, own_projection, width, &NAMES)?;
        config.only("vocab_size", decoder.vocabulary)?;
        // Half of the columns are sines of at least two rates.
        if !decoder.width.is_multiple_of(2) || decoder.width < 4 {
            return Err(nested.wrong("hidden_size", "an even number from 4 on"));
        }
        Ok(Self { encoder, decoder })
    }

    fn list(&self) -> TensorList {
        let mut list = TensorList::default();
        self.encoder.list(&mut list);
        Decoder::list(&mut list, &self.decoder);
        list
    }
}

/// The tensors that such a model consists of.
///
/// # Errors
/// If the config does not make sense.
fn tensors(config: &Config, own_projection: bool) -> Result<TensorList> {
    Ok(Sizes::read(config, own_projection)?.list())
}

/// Reads such a model.
///
/// # Errors
/// If the config does not make sense or the weights do not fit it.
fn read(files: &ModelFiles, config: &Config) -> Result<Parts> {
    let mut checkpoint = Checkpoint::open(files, config, standard_name)?;
    let sizes = Sizes::read(config, checkpoint.contains(PROJECTION))?;
    checkpoint.check(&sizes.list(), ignored)?;

    let mut table = WeightTable::default();
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Encoder);
    let encoder = sizes.encoder.load(&mut loader, Kind::NormalisedLogMel)?;
    let width = sizes.decoder.width;
    let slowest = 10_000f64.powf((width as f64 - 2.0) / width as f64);
    let positions = scaled_positions(sizes.decoder.max_tokens, width, slowest);
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Decoder);
    let decoder = Decoder::read(&mut loader, sizes.decoder, Positions::Computed(positions))?;
    Ok(Parts {
        capabilities: Capabilities {
            prompting: Prompting::Controls(CONTROLS),
            ..Capabilities::plain("Canary")
        },
        encoder: Box::new(encoder),
        decoder,
        weights: table,
    })
}
