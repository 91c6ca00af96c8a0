//! Comparison of a model with reference values made by other people's code.
//!
//! The file holds inputs and expected outputs (`docs/reference-format.md`);
//! what it holds is compared, what it lacks is listed as absent.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::audio::Waveform;
use crate::engine::executor::{Executor, Inputs};
use crate::engine::precision::Precision;
use crate::explain::passes::{MapSpec, Site, Utterance, forward_and_gradients};
use crate::explain::profile::MAPS;
use crate::explain::spes::{GivenMasks, Occluded, Segmentation, SpesOptions, spes};
use crate::features::{Features, FrontEnd};
use crate::model::Model;
use crate::ops::Reduction;
use crate::{Error, Result};

/// Bytes the reverse pass may take.
const MEMORY: usize = 1 << 30;

/// One compared tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The tensor's name in the file.
    pub name: String,
    #[serde(skip)]
    pub shape: Vec<usize>,
    /// Largest absolute difference; not a number if an output is not.
    pub max_abs_error: f64,
    /// ‖output - reference‖ / ‖reference‖
    pub relative_l2_error: f64,
    pub tolerance: f64,
    pub pass: bool,
}

/// Everything a validation found.
#[derive(Clone, Debug, Serialize)]
pub struct Validation {
    pub checks: Vec<Check>,
    /// Tensors that were not compared.
    pub absent: Vec<String>,
}

impl Validation {
    /// Whether something was compared and all of it passed.
    pub fn pass(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.pass)
    }
}

/// The largest relative errors that pass.
struct Bounds {
    forward: f64,
    reverse: f64,
    occlusion: f64,
}

impl Bounds {
    /// Of a precision. Where weights are rounded to f16, each product is off
    /// by about 2^-11/sqrt(3), or 2.8e-4, and the errors of some ten to forty
    /// products in a row add like a random walk; gradients take them twice.
    fn of(precision: Precision) -> Self {
        let (forward, reverse, occlusion) = match precision {
            Precision::F64 => (1e-6, 1e-6, 1e-6),
            Precision::F32 => (5e-6, 2e-5, 5e-5),
            Precision::F16Weights | Precision::Mixed => (5e-3, 1e-2, 1e-2),
        };
        Self {
            forward,
            reverse,
            occlusion,
        }
    }
}

/// Compares an output with its reference; passes if the relative error is at
/// most `tolerance`. Anything not finite fails.
pub fn compare(
    name: &str,
    shape: &[usize],
    output: &[f32],
    reference: &[f32],
    tolerance: f64,
) -> Check {
    let (mut square, mut norm, mut worst) = (0.0f64, 0.0f64, 0.0f64);
    let mut finite = output.len() == reference.len();
    for (&output, &reference) in output.iter().zip(reference) {
        let (output, reference) = (f64::from(output), f64::from(reference));
        let error = output - reference;
        finite &= error.is_finite();
        square += error * error;
        norm += reference * reference;
        worst = worst.max(error.abs());
    }
    let nan = |x: f64| if finite { x } else { f64::NAN };
    let relative = if square == 0.0 {
        0.0
    } else {
        (square / norm).sqrt()
    };
    Check {
        name: name.to_owned(),
        shape: shape.to_vec(),
        max_abs_error: nan(worst),
        relative_l2_error: nan(relative),
        tolerance,
        pass: finite && relative <= tolerance,
    }
}

/// A reference file.
pub(crate) struct Reference {
    path: std::path::PathBuf,
    bytes: Vec<u8>,
}

impl Reference {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|problem| Error::file(path, problem))?;
        let reference = Self {
            path: path.to_owned(),
            bytes,
        };
        reference.parse()?;
        let (_, metadata) = SafeTensors::read_metadata(&reference.bytes)
            .map_err(|problem| reference.problem(problem))?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let field = |name: &str| metadata.get(name).map(String::as_str);
        if field("format") != Some("saliency-reference") || field("version") != Some("1") {
            return Err(reference.problem(
                "is no reference file: its metadata lacks format saliency-reference, version 1",
            ));
        }
        Ok(reference)
    }

    fn parse(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|problem| {
            Error::file(
                &self.path,
                format!("not a whole safetensors file: {problem}"),
            )
        })
    }

    pub(crate) fn problem(&self, what: impl ToString) -> Error {
        Error::file(&self.path, what)
    }

    /// Shape and values of a tensor of `rank` dimensions, if it is there.
    pub(crate) fn real(&self, name: &str, rank: usize) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        let tensors = self.parse()?;
        let Ok(tensor) = tensors.tensor(name) else {
            return Ok(None);
        };
        if tensor.dtype() != Dtype::F32 || tensor.shape().len() != rank {
            return Err(self.problem(format!(
                "{name} is {:?} {:?} where F32 of {rank} dimensions is right",
                tensor.dtype(),
                tensor.shape()
            )));
        }
        let (chunks, _) = tensor.data().as_chunks::<4>();
        let values = chunks.iter().map(|&bytes| f32::from_le_bytes(bytes));
        Ok(Some((tensor.shape().to_vec(), values.collect())))
    }

    /// Values of a mask tensor, if it is there.
    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let tensors = self.parse()?;
        let Ok(tensor) = tensors.tensor(name) else {
            return Ok(None);
        };
        if tensor.dtype() != Dtype::U8 {
            return Err(self.problem(format!("{name} is {:?}, not U8", tensor.dtype())));
        }
        Ok(Some(tensor.data().to_vec()))
    }

    /// Token ids, if they are there.
    pub(crate) fn ids(&self, name: &str) -> Result<Option<Vec<u32>>> {
        let tensors = self.parse()?;
        let Ok(tensor) = tensors.tensor(name) else {
            return Ok(None);
        };
        if tensor.dtype() != Dtype::I64 || tensor.shape().len() != 1 {
            return Err(self.problem(format!(
                "{name} is {:?} {:?} where I64 of one dimension is right",
                tensor.dtype(),
                tensor.shape()
            )));
        }
        let (chunks, _) = tensor.data().as_chunks::<8>();
        let ids = chunks.iter().map(|&bytes| {
            let id = i64::from_le_bytes(bytes);
            u32::try_from(id).map_err(|_| self.problem(format!("{name} holds {id}")))
        });
        ids.collect::<Result<_>>().map(Some)
    }
}

/// Runs the model on the reference's inputs and compares what it holds.
///
/// # Errors
/// If the file is broken or its inputs do not fit the model, or the device
/// fails.
pub fn validate(
    executor: &mut dyn Executor,
    model: &Model,
    front_end: &FrontEnd,
    path: &Path,
) -> Result<Validation> {
    let reference = Reference::read(path)?;
    let mark = executor.mark();
    let validation = compare_all(executor, model, front_end, &reference);
    executor.unwind(mark);
    validation
}

fn compare_all(
    executor: &mut dyn Executor,
    model: &Model,
    front_end: &FrontEnd,
    reference: &Reference,
) -> Result<Validation> {
    let required = |name: &str| reference.problem(format!("has no {name}"));
    let (shape, features) = reference
        .real("features", 2)?
        .ok_or_else(|| required("features"))?;
    let ids = reference
        .ids("decoder_input_ids")?
        .ok_or_else(|| required("decoder_input_ids"))?;
    // Without labels nothing is explained: the forward pass needs some.
    let labels = reference.ids("labels")?;
    let has_labels = labels.is_some();
    let labels = labels.unwrap_or_else(|| ids.clone());
    if labels.len() != ids.len() {
        return Err(reference.problem(format!(
            "has {} labels for {} decoder_input_ids",
            labels.len(),
            ids.len()
        )));
    }

    let mut validation = Validation {
        checks: Vec::new(),
        absent: Vec::new(),
    };
    match reference.real("waveform", 1)? {
        None => validation.absent.push("waveform".into()),
        Some((_, samples)) => {
            let computed = front_end.features(&Waveform { samples })?;
            let check = compare("features", &shape, &computed.data, &features, 1e-4);
            validation.checks.push(check);
        }
    }

    let features = Features::new(features, shape[0], shape[1])?;
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let utterance = Utterance::upload(executor, model, &features, &ids, &positions, &labels)?;
    let specs = [Site::Input, Site::Encoder].map(|site| MapSpec {
        site,
        times_input: false,
        reduction: Reduction::None,
    });
    let specs: &[MapSpec] = if has_labels { &specs } else { &[] };
    let pass = forward_and_gradients(executor, model, &utterance, specs, MEMORY)?;
    let layers = pass.forward.cross_attention.len();
    let mut wanted = vec![pass.forward.encoder_output.sound, pass.forward.logits];
    wanted.extend(&pass.forward.cross_attention);
    wanted.extend(pass.maps.iter().map(|map| map.id));
    let mut results = executor.read(&wanted, MAPS)?.into_iter();
    let mut next = || results.next().expect("as many as were asked for");
    let (encoder_output, logits) = (next(), next());
    let attention: Vec<f32> = (0..layers).flat_map(|_| next()).collect();

    let bounds = Bounds::of(executor.precision());
    let (forward, reverse) = (bounds.forward, bounds.reverse);
    let mut check = |name: &str, rank, output, tolerance| {
        check_one(reference, &mut validation, name, rank, output, tolerance)
    };
    check("encoder_output", 2, Some(encoder_output), forward)?;
    check("cross_attention", 4, Some(attention), forward)?;
    check("logits", 2, Some(logits), forward)?;
    check("input_gradient", 3, has_labels.then(&mut next), reverse)?;
    check(
        "encoder_output_gradient",
        3,
        has_labels.then(&mut next),
        reverse,
    )?;
    for (name, occluded, shape) in [
        (
            "input",
            Occluded::Input,
            [utterance.frames, utterance.mel_bins],
        ),
        (
            "encoder_output",
            Occluded::Encoder,
            [utterance.encoder_frames, 1],
        ),
        ("token", Occluded::Tokens, [utterance.inputs, 1]),
    ] {
        let names = ["scores", "saliency"].map(|part| format!("{name}_{part}"));
        let masks = reference.bytes(&format!("{name}_masks"))?;
        let (Some(masks), true) = (masks, has_labels) else {
            validation.absent.extend(names);
            continue;
        };
        let each = shape[0] * shape[1];
        if masks.is_empty() || masks.len() % each != 0 {
            let what = format!("{name}_masks has {} values for {each} parts", masks.len());
            return Err(reference.problem(what));
        }
        let hidden: Vec<bool> = masks.iter().map(|&keep| keep == 0).collect();
        let mut inputs = Inputs::default();
        let given = GivenMasks::place(executor, &mut inputs, &hidden, each)?;
        let segments = Segmentation::elements(shape[0], shape[1]);
        let segments = segments.place(executor, &mut inputs)?;
        inputs.send(executor, MAPS)?;
        let occlusion = spes(
            executor,
            model,
            &utterance,
            pass.forward.encoder_output,
            occluded,
            segments,
            Some(given),
            &SpesOptions::default(),
            &mut |_| true,
        )?;
        let scores = occlusion.scores.expect("given masks keep their scores");
        let mut results = executor.read(&[scores, occlusion.map.id], MAPS)?;
        for id in [scores, occlusion.map.id, occlusion.clamped] {
            executor.free(id);
        }
        let map = results.pop().expect("two were asked for");
        for (name, rank, output) in [
            (&names[0], 2, results.pop().expect("two were asked for")),
            (&names[1], if name == "input" { 3 } else { 2 }, map),
        ] {
            check_one(
                reference,
                &mut validation,
                name,
                rank,
                Some(output),
                bounds.occlusion,
            )?;
        }
    }
    Ok(validation)
}

/// Compares one output with the tensor of its name, if the file has it.
fn check_one(
    reference: &Reference,
    validation: &mut Validation,
    name: &str,
    rank: usize,
    output: Option<Vec<f32>>,
    tolerance: f64,
) -> Result<()> {
    match (reference.real(name, rank)?, output) {
        (Some((shape, expected)), Some(output)) => {
            if output.len() != expected.len() {
                return Err(reference.problem(format!(
                    "{name} is {shape:?} where the model gives {} values",
                    output.len()
                )));
            }
            let check = compare(name, &shape, &output, &expected, tolerance);
            validation.checks.push(check);
        }
        _ => validation.absent.push(name.to_owned()),
    }
    Ok(())
}
