//! Cross-attention itself: (L, H, K, T'). Every explanation reads it, since
//! words are timed by it; here it becomes a map.

use super::{Finished, Read, Shared, Work};
use crate::Result;
use crate::explain::method::Method;
use crate::explain::passes::ForwardPass;
use crate::explain::readback::{Arrived, Batch, Ticket};

/// Cross-attention that is being read, layer by layer.
pub(in crate::explain) struct Reading {
    layers: Vec<Ticket>,
}

impl Reading {
    pub fn want(pass: &ForwardPass, batch: &mut Batch) -> Self {
        Self {
            layers: batch.want_all(&pass.forward.cross_attention),
        }
    }

    /// (L, H, K, T'): rows of the explained positions, cut to the sound.
    pub fn take(self, shared: &Shared, arrived: &mut Arrived) -> Vec<f32> {
        let layers = self.layers.into_iter();
        let rows = layers.map(|ticket| select_rows(&arrived.take(ticket), shared));
        rows.collect::<Vec<_>>().concat()
    }
}

/// (H·I, W') to (H, K, T').
fn select_rows(probabilities: &[f32], shared: &Shared) -> Vec<f32> {
    let (utterance, positions) = (shared.utterance, &shared.forced.positions);
    let heads = shared.model.decoder.config.heads;
    let frames = utterance.encoder_frames;
    let mut rows = Vec::with_capacity(heads * positions.len() * frames);
    for h in 0..heads {
        for &position in positions {
            let begin = (h * utterance.inputs + position as usize) * utterance.encoder_window;
            rows.extend_from_slice(&probabilities[begin..begin + frames]);
        }
    }
    rows
}

pub(super) struct AttentionWork;

impl Work for AttentionWork {
    fn finish(self: Box<Self>, shared: &Shared, read: &Read, _: &mut Arrived) -> Result<Finished> {
        shared.at_decoder(Method::Attention, read.attention.clone())
    }
}
