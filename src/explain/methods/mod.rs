//! One file for each method: what it needs, queues and finishes.
//!
//! The driver in `explain` takes all works of an explanation through the same
//! steps, so that they share transfers and passes: `Work::place` before the
//! one upload, `Work::ask` for the one forward and reverse pass,
//! `Work::run` for passes of its own, `Work::want` before the one
//! readback, `Work::finish` with the values.

pub mod attention;
pub mod attention_norm;
pub mod attention_x_gradient;
pub mod gradient;
pub mod input_x_gradient;
pub mod integrated_gradients;
mod quadrature;
pub mod smoothgrad;
pub mod spes;

use serde::Serialize;
use serde_json::{Map, Value};

use self::attention::AttentionWork;
use self::attention_norm::AttentionNormWork;
use self::attention_x_gradient::AttentionXGradientWork;
use self::integrated_gradients::IntegratedGradientsWork;
use self::smoothgrad::SmoothGradWork;
use self::spes::SpesWork;
use super::explanation::MapInfo;
use super::method::{Method, Site, map_name};
use super::options::ExplainOptions;
use super::passes::{DeviceMap, ForwardPass, Gradients, Utterance};
use super::progress::Progress;
use super::readback::{Arrived, Batch};
use super::subject::{Forced, Subject};
use crate::engine::executor::{Executor, Inputs};
use crate::model::Model;
use crate::{Error, Result};

/// What all works of an explanation share.
pub(super) struct Shared<'a> {
    pub model: &'a Model,
    pub subject: &'a Subject<'a>,
    pub forced: &'a Forced,
    pub utterance: &'a Utterance,
    pub options: &'a ExplainOptions,
}

/// Values that every explanation reads, whatever its methods.
pub(super) struct Read {
    /// (K,): natural logarithm of every explained token's probability
    pub log_probs: Vec<f32>,
    /// (L, H, K, T')
    pub attention: Vec<f32>,
}

/// A map that is finished.
pub(super) struct Finished {
    pub info: MapInfo,
    /// Row-major, of the shape in `info`.
    pub data: Vec<f32>,
}

/// A method at work at one site.
pub(super) trait Work {
    /// Adds what the method needs to what will be uploaded.
    fn place(
        &mut self,
        _shared: &Shared,
        _executor: &mut dyn Executor,
        _uploads: &mut Inputs,
    ) -> Result<()> {
        Ok(())
    }

    /// Asks for gradients of the pass that all share.
    fn ask(&mut self, _wanted: &mut Gradients) {}

    /// Makes passes of its own.
    fn run(
        &mut self,
        _shared: &Shared,
        _pass: &ForwardPass,
        _executor: &mut dyn Executor,
        _progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<()> {
        Ok(())
    }

    /// Queues what it wants to read.
    fn want(&mut self, _pass: &ForwardPass, _batch: &mut Batch) {}

    /// Makes the map.
    fn finish(
        self: Box<Self>,
        shared: &Shared,
        read: &Read,
        arrived: &mut Arrived,
    ) -> Result<Finished>;
}

/// The works of an explanation, in the order of its maps: attention, then
/// what the shared pass makes, then averages, then occlusion; within each in
/// the order of the options.
pub(super) fn works(options: &ExplainOptions) -> Vec<Box<dyn Work>> {
    let attention = [
        Method::Attention,
        Method::AttentionNorm,
        Method::AttentionXGradient,
    ];
    let attention = attention.into_iter();
    let attention = attention.filter(|method| options.methods.contains(method));
    let mut wanted: Vec<(Method, Site)> = attention.map(|own| (own, Site::Decoder)).collect();
    let group = |&(method, _): &(Method, Site)| match method {
        Method::IntegratedGradients | Method::SmoothGrad => 1,
        Method::Spes => 2,
        _ => 0,
    };
    let mut pairs: Vec<(Method, Site)> = options.pairs().collect();
    // A stable sort: the order of the options stays within a group.
    pairs.sort_by_key(group);
    wanted.extend(pairs);
    let works = wanted.into_iter();
    works.map(|(method, site)| work(method, site)).collect()
}

fn work(method: Method, site: Site) -> Box<dyn Work> {
    match method {
        Method::Attention => Box::new(AttentionWork),
        Method::AttentionNorm => Box::new(AttentionNormWork::default()),
        Method::AttentionXGradient => Box::new(AttentionXGradientWork::default()),
        Method::Gradient => Box::new(gradient::gradient(site)),
        Method::InputXGradient => Box::new(input_x_gradient::input_x_gradient(site)),
        Method::IntegratedGradients => Box::new(IntegratedGradientsWork::new(site)),
        Method::SmoothGrad => Box::new(SmoothGradWork::new(site)),
        Method::Spes => Box::new(SpesWork::new(site)),
    }
}

impl Shared<'_> {
    /// A map over one of the sites, from a map on the device.
    fn at_site(
        &self,
        (method, site): (Method, Site),
        map: DeviceMap,
        data: Vec<f32>,
        made: &impl Serialize,
    ) -> Result<Finished> {
        let mut shape = vec![map.shape.lead, map.shape.rows];
        if site == Site::Input {
            shape.push(map.shape.cols);
        }
        finished((method, site), shape, data, made)
    }

    /// A map over the attention's heads.
    fn at_decoder(&self, method: Method, data: Vec<f32>) -> Result<Finished> {
        let decoder = &self.model.decoder.config;
        let shape = vec![
            decoder.layers,
            decoder.heads,
            self.utterance.explained,
            self.utterance.encoder_frames,
        ];
        finished((method, Site::Decoder), shape, data, &NothingSaid {})
    }
}

/// For methods that have no options.
#[derive(Serialize)]
struct NothingSaid {}

fn finished(
    (method, site): (Method, Site),
    shape: Vec<usize>,
    data: Vec<f32>,
    made: &impl Serialize,
) -> Result<Finished> {
    let info = MapInfo {
        name: map_name(method, site),
        method,
        site,
        shape,
        reduction: method.reduction(site),
        options: described(made)?,
    };
    Ok(Finished { info, data })
}

/// How a map was made, as `explanation.json` has it.
fn described(made: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(made) {
        Ok(Value::Object(made)) => Ok(made),
        Ok(other) => Err(Error::Model(format!("{other} is no description of a map"))),
        Err(problem) => Err(Error::Model(problem.to_string())),
    }
}
