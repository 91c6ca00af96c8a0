//! Model folders of any size with seeded random weights.

#![allow(dead_code, reason = "every test uses its own part")]

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use sonograd::engine::philox::philox4x32;

/// Sizes of a conformer.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub width: usize,
    pub heads: usize,
    pub encoder_layers: usize,
    pub decoder_layers: usize,
    pub kernel: usize,
    pub channels: usize,
    pub subsampling: [usize; 2],
    pub mel_bins: usize,
    pub vocabulary: usize,
    pub tied: bool,
}

pub const SMALL: Sizes = Sizes {
    width: 12,
    heads: 3,
    encoder_layers: 2,
    decoder_layers: 2,
    kernel: 7,
    channels: 10,
    subsampling: [5, 3],
    mel_bins: 9,
    vocabulary: 23,
    tied: false,
};

/// Uniform numbers in -1..1 that are multiples of 2^-12: exact in f16 and in
/// sums with small steps.
pub fn numbers(stream: u32, count: usize) -> Vec<f32> {
    (0..count.div_ceil(4))
        .flat_map(|block| philox4x32([block as u32, stream, 0, 0], [1, 2]))
        .take(count)
        .map(|word| (f64::from(word >> 19) / 4096.0 - 1.0) as f32)
        .collect()
}

/// A tensor of the folder.
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// All tensors of a conformer.
pub fn tensors(sizes: Sizes) -> Vec<Tensor> {
    let mut all: Vec<Tensor> = Vec::new();
    let mut add = |name: String, shape: &[usize], base: f32, spread: f32| {
        let count = shape.iter().product();
        let data = numbers(all.len() as u32, count);
        all.push(Tensor {
            name,
            shape: shape.to_vec(),
            data: data.iter().map(|x| base + spread * x).collect(),
        });
    };
    let d = sizes.width;
    let spread = 1.5 / (d as f32).sqrt();
    let (c, [k0, k1]) = (sizes.channels, sizes.subsampling);
    let subsample = "encoder.subsample.conv_layers";
    add(
        format!("{subsample}.0.weight"),
        &[c, sizes.mel_bins, k0],
        0.0,
        0.3,
    );
    add(format!("{subsample}.0.bias"), &[c], 0.0, 0.3);
    add(
        format!("{subsample}.1.weight"),
        &[2 * d, c / 2, k1],
        0.0,
        0.3,
    );
    add(format!("{subsample}.1.bias"), &[2 * d], 0.0, 0.3);
    for l in 0..sizes.encoder_layers {
        let block = format!("encoder.conformer_layers.{l}");
        let mut linear = |name: &str, out: usize, input: usize| {
            add(format!("{block}.{name}.weight"), &[out, input], 0.0, spread);
            add(format!("{block}.{name}.bias"), &[out], 0.0, 0.2);
        };
        for feed in ["first_feed_forward", "second_feed_forward"] {
            linear(&format!("{feed}.first_linear"), 4 * d, d);
            linear(&format!("{feed}.second_linear"), d, 4 * d);
        }
        for projection in ["query", "key", "value", "out"] {
            linear(&format!("attention.attention.{projection}_proj"), d, d);
        }
        for norm in [
            "first_feed_forward.layernorm",
            "second_feed_forward.layernorm",
            "attention.layer_norm",
            "conv_module.layernorm",
            "layernorm",
        ] {
            add(format!("{block}.{norm}.weight"), &[d], 1.0, 0.3);
            add(format!("{block}.{norm}.bias"), &[d], 0.0, 0.2);
        }
        let attention = format!("{block}.attention.attention");
        add(format!("{attention}.pos_proj.weight"), &[d, d], 0.0, spread);
        let heads = [sizes.heads, d / sizes.heads];
        add(format!("{attention}.u_bias"), &heads, 0.0, 0.5);
        add(format!("{attention}.v_bias"), &heads, 0.0, 0.5);
        let module = format!("{block}.conv_module");
        for (name, out) in [
            ("first_pointwise_conv1d", 2 * d),
            ("second_pointwise_conv1d", d),
        ] {
            add(format!("{module}.{name}.weight"), &[out, d, 1], 0.0, spread);
            add(format!("{module}.{name}.bias"), &[out], 0.0, 0.2);
        }
        add(
            format!("{module}.depthwise_conv1d.weight"),
            &[d, 1, sizes.kernel],
            0.0,
            0.4,
        );
        add(format!("{module}.batchnorm.weight"), &[d], 1.0, 0.3);
        add(format!("{module}.batchnorm.bias"), &[d], 0.0, 0.2);
        add(format!("{module}.batchnorm.running_mean"), &[d], 0.0, 0.2);
        add(format!("{module}.batchnorm.running_var"), &[d], 1.2, 0.5);
    }
    let embedding = [sizes.vocabulary, d];
    add("decoder.embed_tokens.weight".into(), &embedding, 0.0, 0.5);
    for l in 0..sizes.decoder_layers {
        let layer = format!("decoder.layers.{l}");
        for attention in ["self_attn", "encoder_attn"] {
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                let name = format!("{layer}.{attention}.{projection}");
                add(format!("{name}.weight"), &[d, d], 0.0, spread);
                add(format!("{name}.bias"), &[d], 0.0, 0.2);
            }
        }
        for norm in [
            "self_attn_layer_norm",
            "encoder_attn_layer_norm",
            "final_layer_norm",
        ] {
            add(format!("{layer}.{norm}.weight"), &[d], 1.0, 0.3);
            add(format!("{layer}.{norm}.bias"), &[d], 0.0, 0.2);
        }
        let hidden = 3 * d;
        add(format!("{layer}.fc1.weight"), &[hidden, d], 0.0, spread);
        add(format!("{layer}.fc1.bias"), &[hidden], 0.0, 0.2);
        add(format!("{layer}.fc2.weight"), &[d, hidden], 0.0, spread);
        add(format!("{layer}.fc2.bias"), &[d], 0.0, 0.2);
    }
    add("decoder.layer_norm.weight".into(), &[d], 1.0, 0.3);
    add("decoder.layer_norm.bias".into(), &[d], 0.0, 0.2);
    if !sizes.tied {
        add(
            "decoder.output_projection.weight".into(),
            &embedding,
            0.0,
            spread,
        );
    }
    all
}

/// `config.json` of a conformer.
pub fn config(sizes: Sizes) -> serde_json::Value {
    json!({
        "architectures": ["ConformerEncoderDecoderForConditionalGeneration"],
        "d_model": sizes.width,
        "encoder_layers": sizes.encoder_layers,
        "decoder_layers": sizes.decoder_layers,
        "encoder_attention_heads": sizes.heads,
        "decoder_attention_heads": sizes.heads,
        "decoder_ffn_dim": 3 * sizes.width,
        "feed_forward_expansion_factor": 4,
        "conv_expansion_factor": 2,
        "conformer_conv_kernel_size": sizes.kernel,
        "conformer_half_step_residual": true,
        "conv_kernel_sizes": sizes.subsampling,
        "conv_channels": sizes.channels,
        "input_feat_per_channel": sizes.mel_bins,
        "activation_function": "relu",
        "max_source_positions": 200,
        "max_target_positions": 40,
        "vocab_size": sizes.vocabulary,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "scale_embedding": true,
        "tie_word_embeddings": sizes.tied,
    })
}

/// Writes tensors as safetensors of one type.
pub fn write_tensors(path: &Path, tensors: &[Tensor], dtype: Dtype) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|tensor| match dtype {
            Dtype::F32 => tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Dtype::F16 => {
                let values = tensor.data.iter().map(|&x| f16::from_f32(x));
                values.flat_map(f16::to_le_bytes).collect()
            }
            _ => {
                let values = tensor.data.iter().map(|&x| bf16::from_f32(x));
                values.flat_map(bf16::to_le_bytes).collect()
            }
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        let view = TensorView::new(dtype, tensor.shape.clone(), bytes).unwrap();
        (tensor.name.clone(), view)
    });
    let metadata = Some(HashMap::from([("format".to_owned(), "pt".to_owned())]));
    std::fs::write(path, safetensors::serialize(views, metadata).unwrap()).unwrap();
}

/// Writes a whole folder.
pub fn write(folder: &Path, sizes: Sizes) {
    std::fs::write(folder.join("config.json"), config(sizes).to_string()).unwrap();
    write_tensors(
        &folder.join("model.safetensors"),
        &tensors(sizes),
        Dtype::F32,
    );
}

/// A conformer that hears sounds without settings of a front end.
pub const HEARING: Sizes = Sizes {
    mel_bins: 80,
    vocabulary: 24,
    ..SMALL
};

/// A new folder with such a model in `model`.
pub fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_folder(&folder.path().join("model"), HEARING);
    folder
}

/// Makes a folder with such a model and its tokenizer.
pub fn write_folder(folder: &Path, sizes: Sizes) {
    std::fs::create_dir_all(folder).unwrap();
    write(folder, sizes);
    let tokenizer = tokenizer(sizes.vocabulary);
    std::fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
}

/// A tokenizer of `size` tokens; two of them look like HTML.
pub fn tokenizer(size: usize) -> String {
    let mut vocabulary = vec![
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "\u{2581}",
        "<b>",
        "</script>",
    ];
    let letters: Vec<String> = ('a'..='z').map(String::from).collect();
    vocabulary.extend(letters.iter().map(String::as_str));
    let pieces: Vec<Value> = vocabulary[..size]
        .iter()
        .enumerate()
        .map(|(id, piece)| json!([piece, -1.0 - 0.01 * id as f64]))
        .collect();
    let special: Vec<Value> = vocabulary[..4]
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let spaces = json!({"type": "Metaspace", "replacement": "\u{2581}",
        "prepend_scheme": "always", "split": true});
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": special,
        "normalizer": null, "pre_tokenizer": spaces, "post_processor": null, "decoder": spaces,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": false},
    });
    whole.to_string()
}

pub fn tone(samples: usize) -> Vec<f32> {
    let sample = |i| 0.3 * (i as f32 * 0.1).sin() + 0.1 * (i as f32 * 0.013).sin();
    (0..samples).map(sample).collect()
}

pub fn write_wav(path: &Path, samples: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for &sample in samples {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
}
