//! Cross-attention times the slope of a token's log-probability with respect
//! to it; made in the shared reverse pass.

use super::{Finished, Read, Shared, Work};
use crate::Result;
use crate::explain::method::Method;
use crate::explain::passes::{ForwardPass, Gradients};
use crate::explain::readback::{Arrived, Batch, Ticket};

#[derive(Default)]
pub(super) struct AttentionXGradientWork {
    /// By layer: (H, K, T')
    tickets: Vec<Ticket>,
}

impl Work for AttentionXGradientWork {
    fn ask(&mut self, wanted: &mut Gradients) {
        wanted.attention = true;
    }

    fn want(&mut self, pass: &ForwardPass, batch: &mut Batch) {
        self.tickets = batch.want_all(&pass.attention_x_gradient);
    }

    fn finish(
        self: Box<Self>,
        shared: &Shared,
        _: &Read,
        arrived: &mut Arrived,
    ) -> Result<Finished> {
        let layers = arrived.take_all(self.tickets);
        shared.at_decoder(Method::AttentionXGradient, layers)
    }
}
