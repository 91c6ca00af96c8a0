//! Moonshine Streaming: the waveform in frames of 5 ms, two causal convolutions, an
//! encoder without positions whose queries hear what is near, and Moonshine's decoder,
//! which adds positions to what was heard.

use super::checkpoint::{Checkpoint, PROJECTION, TensorList, standard_name};
use super::config::Config;
use super::decoder::{Biases, Decoder, DecoderConfig, MemoryPositions, Positions};
use super::family::{Capabilities, Family};
use super::files::ModelFiles;
use super::layers::{Convolution, Linear};
use super::loader::Loader;
use super::moonshine::{BEHIND_PROJECTION, DECODER_NAMES, Rotary, UsualRotary};
use super::transformer::{EncoderNames, Norms, Transformer, TransformerSizes};
use super::{Encoder, Parts};
use crate::Result;
use crate::audio::SAMPLE_RATE;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId};
use crate::engine::weights::{Part, WeightTable};
use crate::features::Kind;
use crate::ops::{Activation, Mask, Windows};

/// The name in `architectures[0]`.
pub const ARCHITECTURE: &str = "MoonshineStreamingForConditionalGeneration";

/// What this file offers.
pub(super) const FAMILY: Family = Family {
    architecture: ARCHITECTURE,
    model_type: "moonshine_streaming",
    tied: false,
    tensors,
    read,
};

const ENCODER_NAMES: EncoderNames = EncoderNames {
    attention_norm: "input_layernorm",
    attention_out: "o_proj",
    feed_norm: "post_attention_layernorm",
    feed_forward: ["mlp.fc1", "mlp.fc2"],
    norm: "encoder.final_norm",
};

const LOG_FACTOR: &str = "encoder.embedder.comp.log_k";
const LINEAR: &str = "encoder.embedder.linear";
/// Name, inputs and outputs in multiples of D.
const CONVOLUTIONS: [(&str, usize, usize); 2] = [
    ("encoder.embedder.conv1", 1, 2),
    ("encoder.embedder.conv2", 2, 1),
];
const KERNEL: usize = 5;
const STRIDE: usize = 2;
/// What is added to a frame's variance before its root divides.
const FRAME_EPS: f32 = 1e-6;

/// What stands for missing settings, as the configurations of transformers have it.
const ROTARY: UsualRotary = UsualRotary {
    share: 1.0,
    alone: Some(0.8),
};
const FRAME_MS: f64 = 5.0;
const USUAL_WINDOWS: [[usize; 2]; 6] = [[16, 4], [16, 4], [16, 0], [16, 0], [16, 4], [16, 4]];

struct MoonshineStreaming {
    /// Samples of a frame.
    frame: usize,
    /// Of asinh.
    factor: f32,
    linear: Linear,
    convolutions: [Convolution; 2],
    transformer: Transformer,
    /// T' at most: what there are positions for.
    most: usize,
}

/// Sizes from `config.json`.
struct Sizes {
    frame: usize,
    rotary: Rotary,
    transformer: TransformerSizes,
    decoder: DecoderConfig,
}

/// Which keys the queries of each layer see, from `sliding_windows`: pairs of how many
/// there are from the own one back, and how many from the own one on.
fn masks(config: &Config, layers: usize) -> Result<Vec<Mask>> {
    let value = &config.value()["sliding_windows"];
    let pairs = match value.is_null() {
        true => USUAL_WINDOWS.to_vec(),
        false => serde_json::from_value::<Vec<[usize; 2]>>(value.clone()).unwrap_or_default(),
    };
    if pairs.len() < layers || pairs.iter().any(|[back, _]| *back == 0) {
        let right = format!("{layers} pairs of whole numbers, the first of each above 0,");
        return Err(config.wrong("sliding_windows", &right));
    }
    let near = |[back, on]: [usize; 2]| Mask::Near {
        before: back - 1,
        behind: on.saturating_sub(1),
    };
    Ok(pairs.into_iter().take(layers).map(near).collect())
}

/// Samples of a frame.
fn frame(config: &Config) -> Result<usize> {
    config.only("sample_rate", SAMPLE_RATE)?;
    let value = &config.value()["frame_ms"];
    let seconds = match value.is_null() {
        true => Some(FRAME_MS),
        false => value.as_f64().filter(|own| (0.1..=1000.0).contains(own)),
    };
    let right = "a number of milliseconds from 0.1 to 1000";
    let seconds = seconds.ok_or_else(|| config.wrong("frame_ms", right))? / 1000.0;
    Ok((seconds * f64::from(SAMPLE_RATE)).round_ties_even() as usize)
}

impl Sizes {
    fn read(config: &Config, own_projection: bool) -> Result<Self> {
        config.check_projection(own_projection)?;
        let nested = config.nested("encoder_config")?;
        let own = nested.size("hidden_size")?;
        let heads = nested.heads("num_attention_heads", own)?;
        nested.own_keys("num_key_value_heads", heads)?;
        nested.only("head_dim", own / heads)?;
        let layers = nested.layers("num_hidden_layers")?;
        let biases = |config: &Config, some: Biases| -> Result<Biases> {
            Ok(match config.flag("attention_bias", false)? {
                true => some,
                false => Biases::None,
            })
        };
        let transformer = TransformerSizes {
            width: own,
            layers,
            heads,
            feed_forward: nested.size("intermediate_size")?,
            activation: nested.activation("hidden_act", Activation::Gelu)?,
            biases: biases(&nested, Biases::All)?,
            norms: Norms::Offset,
            masks: masks(&nested, layers)?,
            names: &ENCODER_NAMES,
        };

        let width = config.size("hidden_size")?;
        let heads = config.size("num_attention_heads")?;
        config.own_keys("num_key_value_heads", heads)?;
        let depth = match config.value()["head_dim"].is_null() {
            true => width / config.heads("num_attention_heads", width)?,
            false => config.size("head_dim")?,
        };
        config.only("hidden_act", "silu")?;
        let rotary = Rotary::read(config, depth, ROTARY)?;
        let max_tokens = config.size("max_position_embeddings")?;
        Ok(Self {
            frame: frame(&nested)?,
            rotary,
            transformer,
            decoder: DecoderConfig {
                layers: config.layers("num_hidden_layers")?,
                heads,
                width,
                depth,
                encoder_width: own,
                feed_forward: config.size("intermediate_size")?,
                vocabulary: config.size("vocab_size")?,
                activation: Activation::Silu,
                embedding_scale: 1.0,
                max_tokens,
                biases: biases(config, Biases::NoOut)?,
                norm_biases: false,
                gated: true,
                memory_bias: false,
                memory_positions: Some(MemoryPositions {
                    name: "decoder.pos_emb.weight",
                    count: max_tokens,
                }),
                own_projection,
                projection_bias: false,
                names: match own == width {
                    true => &DECODER_NAMES,
                    false => &BEHIND_PROJECTION,
                },
            },
        })
    }

    fn list(&self) -> TensorList {
        let mut list = TensorList::default();
        let width = self.transformer.width;
        list.bias(LOG_FACTOR, &[]);
        list.weight(format!("{LINEAR}.weight"), &[width, self.frame]);
        for (name, inputs, outputs) in CONVOLUTIONS {
            Convolution::list(&mut list, name, outputs * width, inputs * width, KERNEL);
        }
        self.transformer.list(&mut list);
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
    checkpoint.check(&sizes.list(), |_| false)?;
    let width = sizes.transformer.width;

    let mut table = WeightTable::default();
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Encoder);
    let loader = &mut loader;
    let factor = loader.read(LOG_FACTOR)?.first().copied();
    let linear = Linear::read(loader, &[LINEAR], sizes.frame)?;
    let [first, second] = CONVOLUTIONS.map(|(name, inputs, _)| {
        let own = Convolution::read(loader, name, inputs * width, KERNEL, STRIDE);
        own.map(Convolution::causal)
    });
    let encoder = MoonshineStreaming {
        frame: sizes.frame,
        factor: f64::from(factor.unwrap_or_default()).exp() as f32,
        linear,
        convolutions: [first?, second?],
        transformer: sizes.transformer.load(loader)?,
        most: sizes.decoder.max_tokens,
    };
    let angles = sizes.rotary.angles(sizes.decoder.max_tokens);
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Decoder);
    let decoder = Decoder::read(&mut loader, sizes.decoder, Positions::Rotary(angles))?;
    Ok(Parts {
        capabilities: Capabilities::plain("Moonshine Streaming"),
        encoder: Box::new(encoder),
        decoder,
        weights: table,
    })
}

impl MoonshineStreaming {
    /// The convolutions for so many samples. What is left behind the last whole frame is
    /// a frame of zeros to the first.
    fn convolutions(&self, samples: usize) -> [Convolution; 2] {
        let [first, second] = self.convolutions;
        let rest = usize::from(!samples.is_multiple_of(self.frame));
        [first.followed_by(rest), second]
    }
}

impl Encoder for MoonshineStreaming {
    fn mel_bins(&self) -> usize {
        1
    }

    fn max_frames(&self) -> usize {
        self.most * self.subsampling()
    }

    fn hears_by(&self) -> Kind {
        Kind::Waveform
    }

    fn encoder_frames(&self, frames: usize) -> usize {
        let whole = frames / self.frame;
        if whole == 0 {
            return 0;
        }
        let convolutions = self.convolutions(frames).into_iter();
        convolutions.fold(whole, |frames, layer| layer.frames(frames))
    }

    fn subsampling(&self) -> usize {
        self.frame * STRIDE * STRIDE
    }

    fn record(&self, recording: &mut Recording, features: TensorId) -> Result<TensorId> {
        let samples = recording.shape(features).rows;
        let frames = Windows::padded(self.frame, self.frame, 0);
        let x = recording.unfold(features, frames)?;
        // Mean 0 and variance 1 in each frame.
        let row = Shape::new(1, 1, self.frame);
        let one = recording.constant(row, vec![1.0; self.frame]);
        let zero = recording.constant(row, vec![0.0; self.frame]);
        let x = recording.layer_norm(x, one, zero, FRAME_EPS)?;
        let x = recording.asinh(x, self.factor);
        let x = self.linear.record(recording, x, Activation::Silu)?;
        let [first, second] = self.convolutions(samples);
        let x = first.record(recording, x, Activation::Silu)?;
        let x = second.record(recording, x, Activation::None)?;
        self.transformer.record(recording, x, None)
    }
}
