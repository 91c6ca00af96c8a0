//! d log p(token) / d x, and what gradient and gradient times input share: a
//! map of the one reverse pass that all such maps are made in.

use super::{Finished, NothingSaid, Read, Shared, Work};
use crate::Result;
use crate::explain::method::{Method, Site};
use crate::explain::passes::{DeviceMap, ForwardPass, Gradients, MapSpec};
use crate::explain::readback::{Arrived, Batch, Ticket};

/// The gradient itself.
pub(super) fn gradient(site: Site) -> GradientWork {
    GradientWork::new(Method::Gradient, site, false)
}

/// A map of the shared reverse pass.
pub(super) struct GradientWork {
    method: Method,
    spec: MapSpec,
    /// The map's place among those of the pass.
    place: usize,
    queued: Option<(DeviceMap, Ticket)>,
}

impl GradientWork {
    pub fn new(method: Method, site: Site, times_input: bool) -> Self {
        Self {
            method,
            spec: MapSpec {
                site,
                times_input,
                reduction: method.reduction(site),
            },
            place: 0,
            queued: None,
        }
    }
}

impl Work for GradientWork {
    fn ask(&mut self, wanted: &mut Gradients) {
        self.place = wanted.maps.len();
        wanted.maps.push(self.spec);
    }

    fn want(&mut self, pass: &ForwardPass, batch: &mut Batch) {
        let map = pass.maps[self.place];
        self.queued = Some((map, batch.want(map.id)));
    }

    fn finish(
        self: Box<Self>,
        shared: &Shared,
        _: &Read,
        arrived: &mut Arrived,
    ) -> Result<Finished> {
        let (map, ticket) = self.queued.expect("queued before it is finished");
        let data = arrived.take(ticket);
        shared.at_site((self.method, self.spec.site), map, data, &NothingSaid {})
    }
}
