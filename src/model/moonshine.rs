//! Moonshine: three convolutions over the waveform, and a transformer on both sides
//! whose positions are rotary.

use super::checkpoint::{Checkpoint, PROJECTION, TensorList, standard_name};
use super::config::Config;
use super::decoder::{Biases, Decoder, DecoderConfig, Names, Positions};
use super::family::{Capabilities, Family};
use super::files::ModelFiles;
use super::layers::{Convolution, EPS, LastPositions, rotary_angles};
use super::loader::Loader;
use super::transformer::{EncoderNames, Norms, Transformer, TransformerSizes};
use super::{Encoder, Parts};
use crate::Result;
use crate::audio::{MOST_SECONDS, SAMPLE_RATE};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId, WeightId};
use crate::engine::weights::{Form, Part, WeightTable};
use crate::features::Kind;
use crate::ops::Activation;

/// The name in `architectures[0]`.
pub const ARCHITECTURE: &str = "MoonshineForConditionalGeneration";

/// What this file offers.
pub(super) const FAMILY: Family = Family {
    architecture: ARCHITECTURE,
    model_type: "moonshine",
    tied: true,
    tensors,
    read,
};

const ENCODER_NAMES: EncoderNames = EncoderNames {
    attention_norm: "input_layernorm",
    attention_out: "o_proj",
    feed_norm: "post_attention_layernorm",
    feed_forward: ["mlp.fc1", "mlp.fc2"],
    norm: "encoder.layer_norm",
};

/// As Moonshine Streaming has them, too.
pub(super) const DECODER_NAMES: Names = Names {
    self_norm: "input_layernorm",
    cross_norm: "post_attention_layernorm",
    feed_norm: "final_layernorm",
    attention_out: "o_proj",
    feed_forward: ["mlp.fc1", "mlp.fc2"],
    norm: "decoder.norm",
    embedding_norm: None,
    memory: None,
};

/// The same behind an encoder of another width.
pub(super) const BEHIND_PROJECTION: Names = Names {
    memory: Some("decoder.proj"),
    ..DECODER_NAMES
};

/// A convolution: name, inputs and outputs in multiples of D (0 inputs: the one of the
/// waveform), kernel and stride. None pads.
const CONVOLUTIONS: [(&str, usize, usize, usize, usize); 3] = [
    ("encoder.conv1", 0, 1, 127, 64),
    ("encoder.conv2", 1, 2, 7, 3),
    ("encoder.conv3", 2, 1, 3, 2),
];
/// Behind the first convolution.
const GROUP_NORM: &str = "encoder.groupnorm";

/// What stands for a missing setting, as `MoonshineConfig` of transformers has it.
const ROTARY: UsualRotary = UsualRotary {
    share: 0.9,
    alone: None,
};
const THETA: f64 = 10_000.0;

/// Columns of a head that positions turn.
#[derive(Clone, Copy)]
pub(super) struct Rotary {
    /// As the config has it; the last pair is whole where that is an odd number.
    columns: usize,
    theta: f64,
}

struct Moonshine {
    convolutions: [Convolution; 3],
    /// Weight and bias, (1, D) each.
    group_norm: [WeightId; 2],
    transformer: Transformer,
    rotary: Rotary,
    last_angles: LastPositions,
}

/// Sizes from `config.json`.
struct Sizes {
    rotary: Rotary,
    transformer: TransformerSizes,
    decoder: DecoderConfig,
}

/// What stands for missing settings of rotary positions.
#[derive(Clone, Copy)]
pub(super) struct UsualRotary {
    /// How many columns of a head are turned, where there is an object of settings
    /// without that.
    pub share: f64,
    /// What counts where there is no such object: what stands beside it, or nothing but
    /// this share.
    pub alone: Option<f64>,
}

impl Rotary {
    /// Reads the settings of heads of `depth` columns: in `rope_scaling`, as older files call
    /// it, else in `rope_parameters`, and what is missing there beside it.
    pub fn read(config: &Config, depth: usize, usual: UsualRotary) -> Result<Self> {
        let names = ["rope_scaling", "rope_parameters"];
        let given = names.into_iter().find(|own| !config.value()[own].is_null());
        let nested = given.map(|own| config.nested(own)).transpose()?;
        if let Some(nested) = &nested {
            nested.only("rope_type", "default")?;
            nested.only("type", "default")?;
        }
        let number = |field: &str, usual: f64, most: f64| {
            let nested = nested.as_ref().filter(|own| !own.value()[field].is_null());
            let within = nested.unwrap_or(config);
            let value = &within.value()[field];
            if value.is_null() {
                return Ok(usual);
            }
            let fits = |own: &f64| *own > 0.0 && *own <= most;
            value.as_f64().filter(fits).ok_or_else(|| {
                let right = match most.is_finite() {
                    true => format!("a number above 0, at most {most}"),
                    false => "a number above 0".to_owned(),
                };
                within.wrong(field, &right)
            })
        };
        let (theta, share) = match usual.alone.filter(|_| nested.is_none()) {
            Some(share) => (THETA, share),
            None => (
                number("rope_theta", THETA, f64::INFINITY)?,
                number("partial_rotary_factor", usual.share, 1.0)?,
            ),
        };
        let columns = (depth as f64 * share) as usize;
        let rotary = Self { columns, theta };
        if columns == 0 || 2 * rotary.pairs() > depth {
            return Err(config.problem(format!(
                "partial_rotary_factor {share} of {depth} columns of a head leaves no whole pairs"
            )));
        }
        Ok(rotary)
    }

    fn pairs(self) -> usize {
        self.columns.div_ceil(2)
    }

    /// The table for so many positions.
    pub fn angles(self, positions: usize) -> Vec<f32> {
        rotary_angles(positions, self.columns, self.theta)
    }
}

impl Sizes {
    fn read(config: &Config, own_projection: bool) -> Result<Self> {
        config.check_projection(own_projection)?;
        let width = config.size("hidden_size")?;
        let heads = config.heads("encoder_num_attention_heads", width)?;
        // Transformers gives the decoder as many heads as the encoder, whatever it is told.
        config.only("decoder_num_attention_heads", heads)?;
        config.own_keys("encoder_num_key_value_heads", heads)?;
        config.own_keys("decoder_num_key_value_heads", heads)?;
        let depth = width / heads;
        config.only("head_dim", depth)?;
        let rotary = Rotary::read(config, depth, ROTARY)?;
        config.only("decoder_hidden_act", "silu")?;
        // Other names that transformers takes for the decoder's.
        config.only("hidden_act", "silu")?;
        config.only("num_attention_heads", heads)?;
        config.only("num_key_value_heads", heads)?;
        config.only(
            "num_hidden_layers",
            config.layers("decoder_num_hidden_layers")?,
        )?;
        let biases = match config.flag("attention_bias", false)? {
            true => Biases::NoOut,
            false => Biases::None,
        };
        let feed_forward = config.size("intermediate_size")?;
        Ok(Self {
            rotary,
            transformer: TransformerSizes {
                width,
                layers: config.layers("encoder_num_hidden_layers")?,
                heads,
                feed_forward,
                activation: config.activation("encoder_hidden_act", Activation::Gelu)?,
                biases,
                norms: Norms::Weight,
                masks: Vec::new(),
                names: &ENCODER_NAMES,
            },
            decoder: DecoderConfig {
                layers: config.layers("decoder_num_hidden_layers")?,
                heads,
                width,
                depth,
                encoder_width: width,
                feed_forward,
                vocabulary: config.size("vocab_size")?,
                activation: Activation::Silu,
                embedding_scale: 1.0,
                max_tokens: config.size("max_position_embeddings")?,
                biases,
                norm_biases: false,
                gated: true,
                memory_bias: false,
                memory_positions: None,
                own_projection,
                projection_bias: false,
                names: &DECODER_NAMES,
            },
        })
    }

    fn list(&self) -> TensorList {
        let mut list = TensorList::default();
        let width = self.transformer.width;
        for (name, inputs, outputs, kernel, _) in CONVOLUTIONS {
            let shape = [outputs * width, (inputs * width).max(1), kernel];
            list.weight(format!("{name}.weight"), &shape);
            if inputs > 0 {
                list.bias(format!("{name}.bias"), &shape[..1]);
            }
        }
        list.norm(GROUP_NORM, width);
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
    let [first, second, third] = CONVOLUTIONS.map(|(name, inputs, _, kernel, stride)| {
        let inputs = (inputs * width).max(1);
        let own = Convolution::read(&mut loader, name, inputs, kernel, stride);
        own.map(Convolution::unpadded)
    });
    let mut norm = |part: &str| {
        let name = format!("{GROUP_NORM}.{part}");
        loader.load(Form::Norm, &name, 1, width)
    };
    let encoder = Moonshine {
        convolutions: [first?, second?, third?],
        group_norm: [norm("weight")?, norm("bias")?],
        transformer: sizes.transformer.load(&mut loader)?,
        rotary: sizes.rotary,
        last_angles: LastPositions::default(),
    };
    let angles = sizes.rotary.angles(sizes.decoder.max_tokens);
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Decoder);
    let decoder = Decoder::read(&mut loader, sizes.decoder, Positions::Rotary(angles))?;
    Ok(Parts {
        capabilities: Capabilities::plain("Moonshine"),
        encoder: Box::new(encoder),
        decoder,
        weights: table,
    })
}

impl Encoder for Moonshine {
    fn mel_bins(&self) -> usize {
        1
    }

    /// Rotary positions do not end: the longest sound that is read.
    fn max_frames(&self) -> usize {
        MOST_SECONDS * SAMPLE_RATE as usize
    }

    fn hears_by(&self) -> Kind {
        Kind::Waveform
    }

    fn encoder_frames(&self, frames: usize) -> usize {
        let convolutions = self.convolutions.iter();
        convolutions.fold(frames, |frames, layer| layer.frames(frames))
    }

    fn subsampling(&self) -> usize {
        let convolutions = self.convolutions.iter();
        convolutions.map(|layer| layer.windows.stride).product()
    }

    fn record(&self, recording: &mut Recording, features: TensorId) -> Result<TensorId> {
        let [first, second, third] = &self.convolutions;
        let x = first.record(recording, features, Activation::Tanh)?;
        let [weight, bias] = self.group_norm.map(|id| recording.weight(id));
        let x = recording.group_norm(x, weight, bias, EPS)?;
        let x = second.record(recording, x, Activation::Gelu)?;
        let x = third.record(recording, x, Activation::Gelu)?;
        let frames = recording.shape(x).rows;
        let angles = self.last_angles.get(frames, || self.rotary.angles(frames));
        let shape = Shape::new(1, frames, 2 * self.rotary.pairs());
        let angles = recording.constant(shape, angles);
        self.transformer.record(recording, x, Some(angles))
    }
}
