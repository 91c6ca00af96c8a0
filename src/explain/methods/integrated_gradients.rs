//! Integrated gradients: the mean gradient on the straight way from a
//! baseline to x, times the way (Sundararajan et al., "Axiomatic Attribution
//! for Deep Networks", ICML 2017). The mean is a Gauss-Legendre quadrature.

use serde::{Deserialize, Serialize};

use super::quadrature::gauss_legendre;
use super::{Finished, Read, Shared, Work};
use crate::engine::executor::Executor;
use crate::engine::tensor::PersistentId;
use crate::explain::method::{Method, Site};
use crate::explain::passes::{AveragedGradients, AveragedPass, DeviceMap, ForwardPass, Variants};
use crate::explain::progress::Progress;
use crate::explain::readback::{Arrived, Batch, Ticket};
use crate::ops::BaselineKind;
use crate::{Error, Result};

/// How the way is chosen and cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IntegratedGradientsOptions {
    /// Points on the way.
    pub steps: usize,
    /// Where it begins.
    pub baseline: BaselineKind,
}

impl Default for IntegratedGradientsOptions {
    fn default() -> Self {
        Self {
            steps: 32,
            baseline: BaselineKind::Zero,
        }
    }
}

impl IntegratedGradientsOptions {
    /// Most points on the way.
    pub const MOST_STEPS: usize = 4_096;

    /// # Errors
    /// If there are no steps or too many.
    pub(in crate::explain) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Input(format!("integrated-gradients: {what}")));
        match self.steps {
            0 => wrong("steps is 0".into()),
            steps if steps > Self::MOST_STEPS => {
                wrong(format!("{steps} steps are more than {}", Self::MOST_STEPS))
            }
            _ => Ok(()),
        }
    }

    fn variants(&self) -> Variants {
        let (fractions, weights) = gauss_legendre(self.steps);
        Variants::Path {
            baseline: self.baseline,
            fractions: fractions.iter().map(|&x| x as f32).collect(),
            weights: weights.iter().map(|&x| x as f32).collect(),
        }
    }
}

/// How a map was made, as `explanation.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IntegratedGradientsMade {
    #[serde(flatten)]
    pub options: IntegratedGradientsOptions,
    /// `gauss-legendre`
    pub quadrature: String,
    /// By token: sum of its attributions less the change of its
    /// log-probability from baseline to x; 0 if the integral were exact.
    pub completeness_gap: Vec<f64>,
}

pub(super) struct IntegratedGradientsWork {
    site: Site,
    pass: Option<AveragedPass>,
    queued: Option<Queued>,
}

struct Queued {
    map: DeviceMap,
    data: Ticket,
    /// (1, K, 1): log-probabilities at the baseline
    baseline: Ticket,
}

impl IntegratedGradientsWork {
    pub fn new(site: Site) -> Self {
        Self {
            site,
            pass: None,
            queued: None,
        }
    }
}

impl Work for IntegratedGradientsWork {
    fn run(
        &mut self,
        shared: &Shared,
        pass: &ForwardPass,
        executor: &mut dyn Executor,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<()> {
        let averaged = AveragedGradients {
            model: shared.model,
            utterance: shared.utterance,
            encoder_output: pass.forward.encoder_output,
            site: self.site,
            variants: &shared.options.integrated_gradients.variants(),
            reduction: Method::IntegratedGradients.reduction(self.site),
            memory: shared.options.memory,
        };
        self.pass = Some(averaged.run(executor, progress)?);
        Ok(())
    }

    fn want(&mut self, _: &ForwardPass, batch: &mut Batch) {
        let pass = self.pass.as_ref().expect("run before it is read");
        let path: Option<PersistentId> = pass.baseline_log_probs;
        self.queued = Some(Queued {
            map: pass.map,
            data: batch.want(pass.map.id),
            baseline: batch.want(path.expect("variants of a path have a baseline")),
        });
    }

    fn finish(
        self: Box<Self>,
        shared: &Shared,
        read: &Read,
        arrived: &mut Arrived,
    ) -> Result<Finished> {
        let queued = self.queued.expect("queued before it is finished");
        let data = arrived.take(queued.data);
        let baseline = arrived.take(queued.baseline);
        let made = IntegratedGradientsMade {
            options: shared.options.integrated_gradients,
            quadrature: "gauss-legendre".into(),
            completeness_gap: completeness_gaps(&data, &read.log_probs, &baseline),
        };
        let what = (Method::IntegratedGradients, self.site);
        shared.at_site(what, queued.map, data, &made)
    }
}

fn completeness_gaps(map: &[f32], log_probs: &[f32], baseline: &[f32]) -> Vec<f64> {
    let each = map.len() / log_probs.len();
    map.chunks(each)
        .zip(log_probs.iter().zip(baseline))
        .map(|(row, (&here, &there))| {
            let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
            sum - (f64::from(here) - f64::from(there))
        })
        .collect()
}
