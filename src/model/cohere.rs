//! Cohere Transcribe: a FastConformer, and a decoder with learned positions that
//! takes the encoder's output to its own width first.

use super::Parts;
use super::checkpoint::{Checkpoint, PROJECTION, TensorList, standard_name};
use super::config::Config;
use super::decoder::{Decoder, DecoderConfig, Names, Positions};
use super::family::{
    Capabilities, ControlList, Controls, Family, LanguageName, Prompting, languages,
};
use super::fastconformer::{FastConformerSizes, Usual};
use super::files::ModelFiles;
use super::loader::Loader;
use crate::Result;
use crate::engine::weights::{Part, WeightTable};
use crate::features::Kind;

/// The name in `architectures[0]`.
pub const ARCHITECTURE: &str = "CohereAsrForConditionalGeneration";

/// What this file offers.
pub(super) const FAMILY: Family = Family {
    architecture: ARCHITECTURE,
    model_type: "cohere_asr",
    tied: false,
    tensors,
    read,
};

const NAMES: Names = Names {
    memory: Some("decoder.proj"),
    ..super::canary::NAMES
};

/// `CohereAsrConfig` completes given settings by its own.
const USUAL: Usual = Usual {
    mel_bins: 128,
    scaled: false,
};

const POSITIONS: &str = "decoder.pos_emb.weight";

const LANGUAGES: [LanguageName; 14] = languages([
    ("ar", "Arabic"),
    ("de", "German"),
    ("el", "Greek"),
    ("en", "English"),
    ("es", "Spanish"),
    ("fr", "French"),
    ("it", "Italian"),
    ("ja", "Japanese"),
    ("ko", "Korean"),
    ("nl", "Dutch"),
    ("pl", "Polish"),
    ("pt", "Portuguese"),
    ("vi", "Vietnamese"),
    ("zh", "Chinese"),
]);

/// The prompt that the reference's processor makes where punctuation is wanted.
/// One tag is of the language that is spoken, one of the language to write, and
/// the model does not translate.
const CONTROLS: Controls = Controls {
    languages: &LANGUAGES,
    spoken: None,
    translates: false,
    spaceless: &["ja", "zh"],
    list: ControlList::Tokens(&[
        Some("▁"),
        Some("<|startofcontext|>"),
        Some("<|startoftranscript|>"),
        Some("<|emo:undefined|>"),
        None,
        None,
        Some("<|pnc|>"),
        Some("<|noitn|>"),
        Some("<|notimestamp|>"),
        Some("<|nodiarize|>"),
    ]),
};

/// Parts of names as NeMo has them, in which transformers saves such a model,
/// and as it has them in memory.
const RENAMED: [(&str, &str); 27] = [
    ("encoder.pre_encode.conv.", "encoder.subsampling.layers."),
    ("encoder.pre_encode.out.", "encoder.subsampling.linear."),
    ("encoder_decoder_proj.", "decoder.proj."),
    (
        "transf_decoder._embedding.position_embedding.pos_enc",
        POSITIONS,
    ),
    (
        "transf_decoder._embedding.token_embedding.",
        "decoder.embed_tokens.",
    ),
    (
        "transf_decoder._embedding.layer_norm.",
        "decoder.embedding_layernorm.",
    ),
    ("transf_decoder._decoder.final_layer_norm.", "decoder.norm."),
    ("transf_decoder._decoder.layers.", "decoder.layers."),
    ("log_softmax.mlp.layer0.", "proj_out."),
    (".conv.batch_norm.", ".conv.norm."),
    (".self_attn.linear_q.", ".self_attn.q_proj."),
    (".self_attn.linear_k.", ".self_attn.k_proj."),
    (".self_attn.linear_v.", ".self_attn.v_proj."),
    (".self_attn.linear_out.", ".self_attn.o_proj."),
    (".self_attn.linear_pos.", ".self_attn.relative_k_proj."),
    (".self_attn.pos_bias_", ".self_attn.bias_"),
    (".first_sub_layer.", ".self_attn."),
    (".second_sub_layer.", ".encoder_attn."),
    (".query_net.", ".q_proj."),
    (".key_net.", ".k_proj."),
    (".value_net.", ".v_proj."),
    (".out_projection.", ".o_proj."),
    (".third_sub_layer.dense_in.", ".mlp.fc1."),
    (".third_sub_layer.dense_out.", ".mlp.fc2."),
    (".layer_norm_1.", ".input_layernorm."),
    (".layer_norm_2.", ".post_attention_layernorm."),
    (".layer_norm_3.", ".final_layernorm."),
];

/// A file's tensor name as the model knows it.
fn rename(name: &str) -> String {
    let name = RENAMED
        .iter()
        .fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
    standard_name(&name)
}

/// Tensors that such files carry and inference does not use.
fn ignored(name: &str) -> bool {
    name.ends_with(".num_batches_tracked") || name.starts_with("preprocessor.featurizer.")
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
        let decoder = DecoderConfig::behind_fastconformer(config, own_projection, width, &NAMES)?;
        Ok(Self { encoder, decoder })
    }

    fn list(&self) -> TensorList {
        let mut list = TensorList::default();
        self.encoder.list(&mut list);
        list.weight(POSITIONS, &[self.decoder.max_tokens, self.decoder.width]);
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
    let mut checkpoint = Checkpoint::open(files, config, rename)?;
    let sizes = Sizes::read(config, checkpoint.contains(PROJECTION))?;
    checkpoint.check(&sizes.list(), ignored)?;

    let mut table = WeightTable::default();
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Encoder);
    let encoder = sizes.encoder.load(&mut loader, Kind::DitheredLogMel)?;
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Decoder);
    let positions = Positions::Learned(loader.read(POSITIONS)?);
    let decoder = Decoder::read(&mut loader, sizes.decoder, positions)?;
    Ok(Parts {
        capabilities: Capabilities {
            prompting: Prompting::Controls(CONTROLS),
            ..Capabilities::plain("Cohere Transcribe")
        },
        encoder: Box::new(encoder),
        decoder,
        weights: table,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nemo_and_of_transformers_are_the_same() {
        for (file, known) in [
            (
                "model.encoder.layers.0.self_attn.pos_bias_u",
                "encoder.layers.0.self_attn.bias_u",
            ),
            (
                "encoder.layers.11.conv.batch_norm.running_var",
                "encoder.layers.11.conv.norm.running_var",
            ),
            (
                "transf_decoder._decoder.layers.1.second_sub_layer.out_projection.weight",
                "decoder.layers.1.encoder_attn.o_proj.weight",
            ),
            (
                "transf_decoder._decoder.layers.1.third_sub_layer.dense_out.bias",
                "decoder.layers.1.mlp.fc2.bias",
            ),
            (
                "model.decoder.layers.1.mlp.fc2.bias",
                "decoder.layers.1.mlp.fc2.bias",
            ),
            (
                "transf_decoder._embedding.position_embedding.pos_enc",
                POSITIONS,
            ),
            ("log_softmax.mlp.layer0.weight", PROJECTION),
            ("proj_out.weight", PROJECTION),
        ] {
            assert_eq!(rename(file), known);
        }
    }
}
