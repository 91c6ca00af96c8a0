//! Sums of scores over the masks that hide each segment: the product of the
//! 0/1 matrix (masks, segments) with the scores (masks, tokens).

use super::{MaskSource, Operate};
use super::scalars::{FIRST_VARIANT, MASK_END};
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::gpu::shaders::Shader;
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, TensorId};

/// sums[half·G + g, s, k] += score of token k, for every mask m of
/// segmentation g = m % G that hides segment s; half = (m / G) % 2
///
/// Column K counts the masks. Masks count from [`FIRST_VARIANT`] to
/// [`MASK_END`]; where the first is 0, the sums start anew. A negative
/// score can only be rounding: it counts as 0, and `clamped` counts it.
#[derive(Clone, Debug, PartialEq)]
pub struct AccumulateScores {
    /// (N, K, 1)
    pub scores: TensorId,
    pub source: MaskSource,
    /// G: segmentations that the masks take turns with
    pub groups: usize,
    /// (2·G, S, K + 1), persistent
    pub sums: TensorId,
    /// (1, K, 1), persistent: negative scores met, by token
    pub clamped: TensorId,
}

impl Operate for AccumulateScores {
    const NAME: &'static str = "accumulate_scores";

    fn inputs(&self) -> Vec<TensorId> {
        [self.scores].into_iter().chain(self.source.operand()).collect()
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.sums, self.clamped]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_VARIANT, MASK_END]
    }

    fn needs_all_leads(&self) -> bool {
        true
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut sums = context.take(self.sums);
        let mut clamped = context.take(self.clamped);
        let shape = context.shape(self.sums);
        let (segments, cols) = (shape.rows, shape.cols);
        let scores = context.read(self.scores);
        let first = context.scalar(FIRST_VARIANT);
        let end = context.scalar(MASK_END);
        let (zero, one) = (T::default(), T::from_f32(1.0));
        if first == 0 {
            sums.fill(zero);
            clamped.fill(zero);
        }
        let mut hidden = vec![false; segments];
        let mut row = vec![one; cols];
        for m in first..end.min(first + scores.shape.lead) {
            for (k, &score) in scores.at(m - first).iter().enumerate() {
                row[k] = if score < zero { zero } else { score };
                if score < zero {
                    clamped[k] += one;
                }
            }
            self.source.draw(context, m, &mut hidden);
            let half = m / self.groups % 2;
            let own = half * self.groups + m % self.groups;
            let sums = &mut sums[own * shape.inner()..(own + 1) * shape.inner()];
            for (sums, _) in sums.chunks_mut(cols).zip(&hidden).filter(|(_, hidden)| **hidden) {
                T::axpy(one, &row, sums);
            }
        }
        context.give(self.sums, sums);
        context.give(self.clamped, clamped);
    }

    fn launches(&self, recording: &Recording, live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (scores, sums) = (recording.shape(self.scores), recording.shape(self.sums));
        let mut params = vec![
            ("lead", scores.lead.into()),
            ("tokens", scores.rows.into()),
            ("groups", self.groups.into()),
            ("segments", sums.rows.into()),
        ];
        params.extend(self.source.params(recording));
        let mut launches = Vec::new();
        if live(self.sums) {
            let tile = Shader::load(Self::NAME).constant("SEGMENTS") as usize;
            launches.push(Launch {
                shader: "accumulate_scores",
                entry: "forward",
                overrides: vec![self.source.choice()],
                params: params.clone(),
                bindings: vec![
                    ("scores", self.scores.into()),
                    ("bits", self.source.operand().into()),
                    ("scalars", Binding::Scalars),
                    ("sums", self.sums.into()),
                ],
                extent: Extent::rows(self.groups * sums.rows.div_ceil(tile)),
            });
        }
        if live(self.clamped) {
            launches.push(Launch {
                shader: "accumulate_scores",
                entry: "count_clamped",
                overrides: vec![self.source.choice()],
                params,
                bindings: vec![
                    ("scores", self.scores.into()),
                    ("scalars", Binding::Scalars),
                    ("clamped", self.clamped.into()),
                ],
                extent: Extent::Invocations(scores.rows),
            });
        }
        launches
    }
}
