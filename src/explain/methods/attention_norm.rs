//! Cross-attention weighted by what it carries: |alpha| times the norm of the
//! value that the output projection makes of a frame (Kobayashi et al.,
//! "Attention is Not Only a Weight", EMNLP 2020).

use super::{Finished, Read, Shared, Work};
use crate::Result;
use crate::engine::executor::Executor;
use crate::engine::tensor::PersistentId;
use crate::explain::method::Method;
use crate::explain::passes::{ForwardPass, memories};
use crate::explain::progress::Progress;
use crate::explain::readback::{Arrived, Batch, Ticket};

/// Keys and values are computed on the device, norms after they are read.
#[derive(Default)]
pub(super) struct AttentionNormWork {
    /// By layer: (1, T', 2D)
    memories: Vec<PersistentId>,
    tickets: Vec<Ticket>,
}

impl Work for AttentionNormWork {
    fn run(
        &mut self,
        shared: &Shared,
        pass: &ForwardPass,
        executor: &mut dyn Executor,
        _: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<()> {
        let output = pass.forward.encoder_output;
        self.memories = memories(executor, shared.model, shared.utterance, output)?;
        Ok(())
    }

    fn want(&mut self, _: &ForwardPass, batch: &mut Batch) {
        self.tickets = batch.want_all(&self.memories);
    }

    fn finish(
        self: Box<Self>,
        shared: &Shared,
        read: &Read,
        arrived: &mut Arrived,
    ) -> Result<Finished> {
        let model = shared.model;
        let decoder = &model.decoder.config;
        let each = read.attention.len() / decoder.layers;
        let layers = self.tickets.into_iter().zip(read.attention.chunks(each));
        let weighted = layers.enumerate().map(|(number, (ticket, weights))| {
            let layer = Layer {
                heads: decoder.heads,
                width: decoder.attention_width(),
                memory: &arrived.take(ticket),
                output: &model.weights.get(model.decoder.cross_output(number)).data,
            };
            layer.weighted(weights)
        });
        let weighted = weighted.collect::<Vec<_>>().concat();
        shared.at_decoder(Method::AttentionNorm, weighted)
    }
}

/// One layer's projections.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// H
    pub heads: usize,
    /// A: columns of all heads
    pub width: usize,
    /// (T', 2A): keys, then values of every encoder frame
    pub memory: &'a [f32],
    /// (D, A): rows are outputs
    pub output: &'a [f32],
}

impl Layer<'_> {
    /// The length of every frame's value behind the output projection, by
    /// head: (H, T').
    ///
    /// Not the (T', D) vectors themselves but, with G = WᵀW of a head's
    /// columns, sqrt(vᵀGv): about A/H times less work for long sounds.
    pub fn value_norms(&self) -> Vec<f64> {
        let (width, depth) = (self.width, self.width / self.heads);
        let mut norms = Vec::new();
        for h in 0..self.heads {
            let columns = h * depth..(h + 1) * depth;
            let mut gram = vec![0.0f64; depth * depth];
            for row in self.output.chunks(width) {
                let row = &row[columns.clone()];
                for (gram, &a) in gram.chunks_mut(depth).zip(row) {
                    for (sum, &b) in gram.iter_mut().zip(row) {
                        *sum += f64::from(a) * f64::from(b);
                    }
                }
            }
            for frame in self.memory.chunks(2 * width) {
                let value = &frame[width..][columns.clone()];
                let rows = gram.chunks(depth).zip(value);
                let square: f64 = rows
                    .map(|(gram, &a)| {
                        let products = gram.iter().zip(value);
                        let sum: f64 = products.map(|(g, &b)| g * f64::from(b)).sum();
                        f64::from(a) * sum
                    })
                    .sum();
                // Rounding can make the square of nothing negative.
                norms.push(square.max(0.0).sqrt());
            }
        }
        norms
    }

    /// Weights (H, K, T') times the norms of the values.
    pub fn weighted(&self, weights: &[f32]) -> Vec<f32> {
        let norms = self.value_norms();
        let frames = norms.len() / self.heads;
        let each = weights.len() / self.heads;
        let heads = weights.chunks(each).zip(norms.chunks(frames));
        heads
            .flat_map(|(weights, norms)| {
                let all = weights.iter().zip(norms.iter().cycle());
                all.map(|(&weight, norm)| (f64::from(weight.abs()) * norm) as f32)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::philox::philox4x32;

    fn numbers(stream: u32, count: usize) -> Vec<f32> {
        let blocks =
            (0..count.div_ceil(4) as u32).flat_map(|b| philox4x32([b, stream, 0, 0], [1, 2]));
        let words = blocks.take(count);
        words
            .map(|word| word as f32 / 2_147_483_648.0 - 1.0)
            .collect()
    }

    #[test]
    fn norms_are_those_of_the_projected_values() {
        let (heads, width, outputs, frames, tokens) = (3, 12, 7, 5, 2);
        let depth = width / heads;
        let (memory, output) = (numbers(1, frames * 2 * width), numbers(2, outputs * width));
        let weights = numbers(3, heads * tokens * frames);
        let layer = Layer {
            heads,
            width,
            memory: &memory,
            output: &output,
        };
        let got = layer.weighted(&weights);
        for h in 0..heads {
            for j in 0..frames {
                let value = &memory[j * 2 * width + width..][h * depth..(h + 1) * depth];
                let norm: f64 = (0..outputs)
                    .map(|out| {
                        let row = &output[out * width + h * depth..][..depth];
                        let product = row.iter().zip(value);
                        product
                            .map(|(&w, &v)| f64::from(w) * f64::from(v))
                            .sum::<f64>()
                    })
                    .map(|x| x * x)
                    .sum::<f64>()
                    .sqrt();
                for k in 0..tokens {
                    let at = (h * tokens + k) * frames + j;
                    let want = f64::from(weights[at].abs()) * norm;
                    assert!((f64::from(got[at]) - want).abs() <= 1e-6, "{h} {j} {k}");
                }
            }
        }
    }
}
