//! The encoder alone, for tokens and explanations of one sound.

use super::Gradients;
use super::utterance::Utterance;
use crate::engine::executor::{Executor, Inputs};
use crate::engine::recording::Recording;
use crate::engine::reverse::reverse;
use crate::engine::tensor::Scalars;
use crate::explain::method::Site;
use crate::features::Features;
use crate::generate::GENERATION;
use crate::model::Model;
use crate::model::encoded::Encoded;
use crate::{Error, Result};

/// Runs the encoder and keeps what the `wanted` gradients will need of it.
///
/// # Errors
/// If the features do not fit the model or the device fails.
pub fn encode(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    wanted: &Gradients,
) -> Result<Encoded> {
    // What is asked for any tokens reads the same of the encoder.
    let (ids, positions, labels) = ([model.tokens.start], [0], [model.tokens.end]);
    let mut inputs = Inputs::default();
    let utterance = Utterance::place(
        executor,
        &mut inputs,
        model,
        features,
        &ids,
        &positions,
        &labels,
    )?;
    inputs.send(executor, GENERATION)?;
    let reversible = wanted.at(Site::Input);
    let encoded = allocate(executor, model, features, &utterance, reversible)?;
    let mut recording = Recording::new(model.weights.clone());
    let own = utterance.features(&mut recording);
    utterance.encode(model, &mut recording, own)?;
    encoded.keep(&mut recording);
    let plan = executor.prepare(recording)?;
    let done = executor.run(plan, 0, &Scalars::ZERO);
    executor.release(plan);
    utterance.free(executor);
    done.map(|()| encoded)
}

fn allocate(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    utterance: &Utterance,
    reversible: bool,
) -> Result<Encoded> {
    let mut trial = Recording::new(model.weights.clone());
    let source = utterance.features(&mut trial);
    let output = utterance.encode(model, &mut trial, source)?;
    let encoder = trial.operators().len();
    let decoded = utterance.decode(model, &mut trial, output)?;
    if reversible {
        let seed = utterance.seed(&mut trial, decoded.logits, 1);
        reverse(&mut trial, seed, &[source])?;
    }
    let read = trial.read_behind(encoder);
    let place = read.iter().position(|&own| trial.made(own) == output);
    let place = place.ok_or_else(|| Error::Model("its decoder does not listen".into()))?;
    let made = read.iter().map(|&own| (own, trial.shape(trial.made(own))));
    let made: Vec<_> = made.collect();
    Encoded::allocate(executor, features, &made, place, reversible)
}
