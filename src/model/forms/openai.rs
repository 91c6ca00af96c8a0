//! OpenAI's `.pt` files: Whisper's sizes (`dims`) and tensors
//! (`model_state_dict`) in one file of `torch.save`, without a vocabulary.

use std::path::Path;

use super::stored::Stored;
use super::torch::TorchFile;
use super::whisper::Sizes;
use crate::{Error, Result};

/// The entries of such a file.
const DIMS: &str = "dims";
const STATE: &str = "model_state_dict";

/// Whether a file of `torch.save` is one of OpenAI's.
pub fn is_model(file: &TorchFile) -> bool {
    let pickle = file.pickle();
    let has = |key| pickle.entry(file.root(), key).is_some();
    has(DIMS) && has(STATE)
}

/// The model's sizes.
///
/// # Errors
/// If one is missing, or encoder and decoder have different widths.
pub fn sizes(path: &Path, file: &TorchFile) -> Result<Sizes> {
    let pickle = file.pickle();
    let dims = pickle.entry(file.root(), DIMS);
    let dims = dims.ok_or_else(|| Error::file(path, "has no dims: it is not OpenAI's"))?;
    let size = |key: &str| {
        let size = pickle.entry(dims, key).and_then(|id| pickle.size(id));
        size.ok_or_else(|| Error::file(path, format!("has no size {key} among its dims")))
    };
    let width = size("n_audio_state")?;
    if size("n_text_state")? != width {
        return Err(Error::file(
            path,
            "has n_text_state other than n_audio_state",
        ));
    }
    // The width between the products of a feed-forward is no size of its own.
    let inner = width.saturating_mul(4);
    Ok(Sizes {
        mel_bins: size("n_mels")?,
        width,
        layers: [size("n_audio_layer")?, size("n_text_layer")?],
        heads: [size("n_audio_head")?, size("n_text_head")?],
        feed_forward: [inner, inner],
        positions: [size("n_audio_ctx")?, size("n_text_ctx")?],
        vocabulary: size("n_vocab")?,
    })
}

/// The tensors by Hugging Face's names.
///
/// # Errors
/// If the file has none.
pub fn tensors(path: &Path, file: &TorchFile) -> Result<Vec<Stored>> {
    let state = file.pickle().entry(file.root(), STATE);
    let state = state.ok_or_else(|| Error::file(path, format!("has no {STATE}")))?;
    let tensors = file
        .tensors(state)
        .map_err(|problem| Error::file(path, problem))?;
    let kept = tensors
        .into_iter()
        .filter(|tensor| !is_buffer(&tensor.name));
    let renamed = kept.map(|tensor| Stored {
        name: renamed(&tensor.name),
        ..tensor
    });
    Ok(renamed.collect())
}

/// Tensors that some versions of OpenAI's program saved and no model learns.
fn is_buffer(name: &str) -> bool {
    matches!(name, "decoder.mask" | "alignment_heads")
}

/// Hugging Face's name of a tensor; one that is not known keeps its own, and
/// is found out when all are checked.
fn renamed(name: &str) -> String {
    let known = || {
        let (part, rest) = name.split_once('.')?;
        let rest = match (part, rest) {
            (_, "positional_embedding") => "embed_positions.weight".to_owned(),
            ("decoder", "token_embedding.weight") => "embed_tokens.weight".to_owned(),
            ("encoder", "ln_post.weight" | "ln_post.bias")
            | ("decoder", "ln.weight" | "ln.bias") => {
                format!("layer_norm.{}", rest.split_once('.')?.1)
            }
            ("encoder", _) if rest.starts_with("conv") => rest.to_owned(),
            _ => {
                let (layer, rest) = rest.strip_prefix("blocks.")?.split_once('.')?;
                let (module, field) = rest.rsplit_once('.')?;
                format!("layers.{layer}.{}.{field}", module_name(module)?)
            }
        };
        Some(format!("model.{part}.{rest}"))
    };
    known().unwrap_or_else(|| name.to_owned())
}

/// Of a module within a layer.
fn module_name(module: &str) -> Option<String> {
    let whole = match module {
        "attn_ln" => "self_attn_layer_norm",
        "cross_attn_ln" => "encoder_attn_layer_norm",
        "mlp_ln" => "final_layer_norm",
        "mlp.0" => "fc1",
        "mlp.2" => "fc2",
        _ => {
            let (attention, projection) = module.split_once('.')?;
            let attention = match attention {
                "attn" => "self_attn",
                "cross_attn" => "encoder_attn",
                _ => return None,
            };
            let projection = match projection {
                "query" => "q_proj",
                "key" => "k_proj",
                "value" => "v_proj",
                "out" => "out_proj",
                _ => return None,
            };
            return Some(format!("{attention}.{projection}"));
        }
    };
    Some(whole.to_owned())
}
