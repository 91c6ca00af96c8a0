//! SmoothGrad: the mean gradient over noisy copies of x (Smilkov et al.,
//! "SmoothGrad: removing noise by adding noise", arXiv 1706.03825).

use serde::{Deserialize, Serialize};

use super::{Finished, Read, Shared, Work};
use crate::engine::executor::Executor;
use crate::explain::method::{Method, Site};
use crate::explain::passes::{AveragedGradients, DeviceMap, ForwardPass, Variants};
use crate::explain::progress::Progress;
use crate::explain::readback::{Arrived, Batch, Ticket};
use crate::{Error, Result};

/// How many copies, and how noisy. The seed is that of the explanation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SmoothGradOptions {
    /// Noisy copies.
    pub samples: usize,
    /// Standard deviation of the noise as a share of x's range.
    pub noise: f32,
}

impl Default for SmoothGradOptions {
    fn default() -> Self {
        Self {
            samples: 32,
            noise: 0.1,
        }
    }
}

impl SmoothGradOptions {
    /// Most noisy copies.
    pub const MOST_SAMPLES: usize = 65_536;

    /// # Errors
    /// If there are no samples or too many, or the noise is no positive
    /// number.
    pub(in crate::explain) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Input(format!("smoothgrad: {what}")));
        match (self.samples, self.noise) {
            (0, _) => wrong("samples is 0".into()),
            (samples, _) if samples > Self::MOST_SAMPLES => wrong(format!(
                "{samples} samples are more than {}",
                Self::MOST_SAMPLES
            )),
            (_, noise) if noise.is_finite() && noise > 0.0 => Ok(()),
            (_, noise) => wrong(format!("noise is {noise}; a number above 0 is wanted")),
        }
    }
}

/// How a map was made, as `explanation.json` has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SmoothGradMade {
    #[serde(flatten)]
    pub options: SmoothGradOptions,
    pub seed: u64,
}

pub(super) struct SmoothGradWork {
    site: Site,
    map: Option<DeviceMap>,
    ticket: Option<Ticket>,
}

impl SmoothGradWork {
    pub fn new(site: Site) -> Self {
        Self {
            site,
            map: None,
            ticket: None,
        }
    }
}

impl Work for SmoothGradWork {
    fn run(
        &mut self,
        shared: &Shared,
        pass: &ForwardPass,
        executor: &mut dyn Executor,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<()> {
        let SmoothGradOptions { samples, noise } = shared.options.smoothgrad;
        let averaged = AveragedGradients {
            model: shared.model,
            utterance: shared.utterance,
            encoder_output: pass.forward.encoder_output,
            site: self.site,
            variants: &Variants::Noise {
                level: noise,
                samples,
                seed: shared.options.seed,
            },
            reduction: Method::SmoothGrad.reduction(self.site),
            memory: shared.options.memory,
        };
        self.map = Some(averaged.run(executor, progress)?.map);
        Ok(())
    }

    fn want(&mut self, _: &ForwardPass, batch: &mut Batch) {
        let map = self.map.expect("run before it is read");
        self.ticket = Some(batch.want(map.id));
    }

    fn finish(
        self: Box<Self>,
        shared: &Shared,
        _: &Read,
        arrived: &mut Arrived,
    ) -> Result<Finished> {
        let (map, ticket) = self.map.zip(self.ticket).expect("queued before");
        let made = SmoothGradMade {
            options: shared.options.smoothgrad,
            seed: shared.options.seed,
        };
        let data = arrived.take(ticket);
        shared.at_site((Method::SmoothGrad, self.site), map, data, &made)
    }
}
