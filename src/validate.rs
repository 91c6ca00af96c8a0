//! Comparison of a model with reference values made by other people's code.
//!
//! The file holds inputs and expected outputs (`docs/reference-format.md`);
//! what it holds is compared, what it lacks is listed as absent.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::audio::Waveform;
use crate::engine::executor::{Executor, Inputs};
use crate::engine::precision::Precision;
use crate::error::{ErrorKind, Problem};
use crate::explain::Site;
use crate::explain::passes::{ForwardPass, MapSpec, Utterance, forward_and_gradients};
use crate::explain::profile::MAPS;
use crate::explain::readback::{Batch, Ticket};
use crate::explain::spes::{GivenMasks, Masks, Occluded, Occlusion, Segmentation, SpesOptions};
use crate::features::{Features, FrontEnd};
use crate::model::Model;
use crate::ops::Reduction;
use crate::outside::guarded;
use crate::{Error, Result};

/// Bytes the reverse pass may take.
const MEMORY: usize = 1 << 30;

/// One compared tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The tensor's name in the file.
    pub name: String,
    /// That of the reference.
    #[serde(skip)]
    pub shape: Vec<usize>,
    /// Largest absolute difference; not a number if an output is not.
    pub max_abs_error: f64,
    /// ‖output - reference‖ / ‖reference‖
    pub relative_l2_error: f64,
    /// The largest relative error that passes.
    pub tolerance: f64,
    /// Whether it does.
    pub pass: bool,
}

/// Everything a validation found.
#[derive(Clone, Debug, Serialize)]
pub struct Validation {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
    /// Tensors that were not compared.
    pub absent: Vec<String>,
    /// What the file has under names that mean nothing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
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
    /// Names that were asked for.
    asked: RefCell<BTreeSet<String>>,
}

impl Reference {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = crate::plain::read(path).map_err(|problem| Error::file(path, problem))?;
        let reference = Self {
            path: path.to_owned(),
            bytes,
            asked: RefCell::default(),
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
        guarded("safetensors", || SafeTensors::deserialize(&self.bytes))
            .map_err(|problem| self.problem(problem))?
            .map_err(|problem| Error::file(&self.path, Problem::safetensors(problem)))
    }

    pub(crate) fn problem(&self, what: impl Into<Problem>) -> Error {
        Error::file(&self.path, what)
    }

    /// A tensor, if it is there.
    fn tensor(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        self.asked.borrow_mut().insert(name.to_owned());
        Ok(self.parse()?.tensor(name).ok())
    }

    /// Names of tensors that nobody asked for and that are not `absent`, in
    /// order: they mean nothing here.
    fn unknown(&self, absent: &[String]) -> Result<Vec<String>> {
        let tensors = self.parse()?;
        let asked = self.asked.borrow();
        let names = tensors.names().into_iter().map(str::to_owned);
        let names = names.filter(|name| !asked.contains(name) && !absent.contains(name));
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Shape and values of a tensor of `rank` dimensions, F32 or F16, if it is there.
    pub(crate) fn real(&self, name: &str, rank: usize) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        let Some(tensor) = self.tensor(name)? else {
            return Ok(None);
        };
        let is_half = tensor.dtype() == Dtype::F16;
        if (tensor.dtype() != Dtype::F32 && !is_half) || tensor.shape().len() != rank {
            return Err(self.problem(format!(
                "{name} is {:?} {:?} where F32 or F16 of {rank} dimensions is right",
                tensor.dtype(),
                tensor.shape()
            )));
        }
        let values: Vec<f32> = if is_half {
            let (chunks, _) = tensor.data().as_chunks::<2>();
            let values = chunks
                .iter()
                .map(|&bytes| f16::from_le_bytes(bytes).to_f32());
            values.collect()
        } else {
            let (chunks, _) = tensor.data().as_chunks::<4>();
            chunks.iter().map(|&b| f32::from_le_bytes(b)).collect()
        };
        Ok(Some((tensor.shape().to_vec(), values)))
    }

    /// Values of a mask tensor, if it is there.
    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(tensor) = self.tensor(name)? else {
            return Ok(None);
        };
        if tensor.dtype() != Dtype::U8 {
            return Err(self.problem(format!("{name} is {:?}, not U8", tensor.dtype())));
        }
        Ok(Some(tensor.data().to_vec()))
    }

    /// Token ids, if they are there.
    pub(crate) fn ids(&self, name: &str) -> Result<Option<Vec<u32>>> {
        let Some(tensor) = self.tensor(name)? else {
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
    // What does not fit the model is the file's.
    validation.map_err(|problem| match problem.kind() {
        ErrorKind::Input | ErrorKind::Shape => Error::file(path, problem),
        _ => problem,
    })
}

fn compare_all(
    executor: &mut dyn Executor,
    model: &Model,
    front_end: &FrontEnd,
    reference: &Reference,
) -> Result<Validation> {
    let Given {
        features,
        ids,
        labels,
    } = reference.given()?;
    let mut comparison = Comparison {
        reference,
        has_labels: labels.is_some(),
        bounds: Bounds::of(executor.precision()),
        validation: Validation {
            checks: Vec::new(),
            absent: Vec::new(),
            unknown: Vec::new(),
        },
    };
    comparison.features(front_end, &features)?;

    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    // Without labels nothing is explained: the forward pass needs some.
    let labels = labels.as_ref().unwrap_or(&ids);
    let utterance = Utterance::upload(executor, model, &features, &ids, &positions, labels)?;
    let specs = [Site::Input, Site::Encoder].map(|site| MapSpec {
        site,
        times_input: false,
        reduction: Reduction::None,
    });
    let specs: &[MapSpec] = match comparison.has_labels {
        true => &specs,
        false => &[],
    };
    let pass = forward_and_gradients(executor, model, &utterance, specs, MEMORY)?;
    comparison.passes(executor, &pass)?;
    for occluded in [Occluded::Input, Occluded::Encoder, Occluded::Tokens] {
        comparison.occlusion(executor, model, &utterance, &pass, occluded)?;
    }
    let mut validation = comparison.validation;
    validation.unknown = reference.unknown(&validation.absent)?;
    Ok(validation)
}

/// What a reference file gives to a model.
struct Given {
    /// (T, F)
    features: Features,
    /// (I): the decoder's input
    ids: Vec<u32>,
    /// (I): what is explained at each position
    labels: Option<Vec<u32>>,
}

impl Reference {
    fn given(&self) -> Result<Given> {
        let required = |name: &str| self.problem(format!("has no {name}"));
        let features = self.real("features", 2)?;
        let (shape, features) = features.ok_or_else(|| required("features"))?;
        let ids = self.ids("decoder_input_ids")?;
        let ids = ids.ok_or_else(|| required("decoder_input_ids"))?;
        let labels = self.ids("labels")?;
        let count = labels.as_ref().map_or(ids.len(), Vec::len);
        if count != ids.len() {
            let what = format!("has {count} labels for {} decoder_input_ids", ids.len());
            return Err(self.problem(what));
        }
        Ok(Given {
            features: Features::new(features, shape[0], shape[1])?,
            ids,
            labels,
        })
    }
}

/// A comparison while it goes on.
struct Comparison<'a> {
    reference: &'a Reference,
    /// Whether tokens are explained at all.
    has_labels: bool,
    bounds: Bounds,
    validation: Validation,
}

impl Comparison<'_> {
    /// Compares the features that the front end makes of the waveform.
    fn features(&mut self, front_end: &FrontEnd, features: &Features) -> Result<()> {
        match self.reference.real("waveform", 1)? {
            None => self.validation.absent.push("waveform".into()),
            Some((_, samples)) => {
                let computed = front_end.features(&Waveform { samples })?;
                let shape = [features.frames, features.bins];
                let check = compare("features", &shape, &computed.data, &features.data, 1e-4);
                self.validation.checks.push(check);
            }
        }
        Ok(())
    }

    /// Compares what the forward and the reverse pass gave.
    fn passes(&mut self, executor: &mut dyn Executor, pass: &ForwardPass) -> Result<()> {
        let mut batch = Batch::default();
        let encoder_output = batch.want(pass.forward.encoder_output.sound);
        let logits = batch.want(pass.forward.logits);
        let attention = batch.want_all(&pass.forward.cross_attention);
        let gradients: Vec<Ticket> = pass.maps.iter().map(|map| batch.want(map.id)).collect();
        let mut arrived = batch.read(executor)?;
        let [encoder_output, logits] = [encoder_output, logits].map(|own| arrived.take(own));
        let attention = arrived.take_all(attention);
        let mut gradients = gradients.into_iter().map(|own| arrived.take(own));

        let Bounds {
            forward, reverse, ..
        } = self.bounds;
        self.check("encoder_output", 2, Some(encoder_output), forward)?;
        self.check("cross_attention", 4, Some(attention), forward)?;
        self.check("logits", 2, Some(logits), forward)?;
        let names = ["input_gradient", "encoder_output_gradient"];
        for name in names {
            self.check(name, 3, gradients.next(), reverse)?;
        }
        Ok(())
    }

    /// Compares the scores of the file's masks and the map made of them.
    fn occlusion(
        &mut self,
        executor: &mut dyn Executor,
        model: &Model,
        utterance: &Utterance,
        pass: &ForwardPass,
        occluded: Occluded,
    ) -> Result<()> {
        // By the name in the file: rows and columns of a mask, rank of the map.
        let (name, [rows, cols], rank) = match occluded {
            Occluded::Input => ("input", [utterance.frames, utterance.mel_bins], 3),
            Occluded::Encoder => ("encoder_output", [utterance.encoder_frames, 1], 2),
            Occluded::Tokens => ("token", [utterance.inputs, 1], 2),
        };
        let names = ["scores", "saliency"].map(|part| format!("{name}_{part}"));
        let masks = self.reference.bytes(&format!("{name}_masks"))?;
        let (Some(masks), true) = (masks, self.has_labels) else {
            self.validation.absent.extend(names);
            return Ok(());
        };
        let each = rows * cols;
        if masks.is_empty() || masks.len() % each != 0 {
            let what = format!("{name}_masks has {} values for {each} parts", masks.len());
            return Err(self.reference.problem(what));
        }
        let hidden: Vec<bool> = masks.iter().map(|&keep| keep == 0).collect();
        let mut inputs = Inputs::default();
        let given = GivenMasks::place(executor, &mut inputs, &hidden, each)?;
        let segments = Segmentation::elements(rows, cols);
        let segments = segments.place(executor, &mut inputs)?;
        inputs.send(executor, MAPS)?;
        let occlusion = Occlusion {
            model,
            utterance,
            encoder_output: Some(pass.forward.encoder_output),
            occluded,
            segments,
            masks: Masks::Given(given),
            options: &SpesOptions::default(),
            memory: MEMORY,
        };
        let occlusion = occlusion.run(executor, &mut |_| true)?;
        let scores = occlusion.scores.expect("given masks keep their scores");
        let mut batch = Batch::default();
        let wanted = [scores, occlusion.map.id].map(|id| batch.want(id));
        let mut arrived = batch.read(executor)?;
        let [found, map] = wanted.map(|ticket| arrived.take(ticket));
        for id in [scores, occlusion.map.id, occlusion.clamped] {
            executor.free(id);
        }
        let [scores_name, map_name] = names;
        let bound = self.bounds.occlusion;
        self.check(&scores_name, 2, Some(found), bound)?;
        self.check(&map_name, rank, Some(map), bound)
    }

    /// Compares one output with the tensor of its name, if the file has it.
    fn check(
        &mut self,
        name: &str,
        rank: usize,
        output: Option<Vec<f32>>,
        tolerance: f64,
    ) -> Result<()> {
        match (self.reference.real(name, rank)?, output) {
            (Some((shape, expected)), Some(output)) => {
                if output.len() != expected.len() {
                    return Err(self.reference.problem(format!(
                        "{name} is {shape:?} where the model gives {} values",
                        output.len()
                    )));
                }
                let check = compare(name, &shape, &output, &expected, tolerance);
                self.validation.checks.push(check);
            }
            _ => self.validation.absent.push(name.to_owned()),
        }
        Ok(())
    }
}
