//! Occlusion: parts of a tensor are replaced by what stands for nothing.

use super::Operate;
use super::scalars::{FIRST_VARIANT, MASKING};
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::gpu::shaders::Param;
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::random::{Domain, Key};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, TensorId};

/// Which segments mask m hides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaskSource {
    /// Segment s if word `s % 4` of the block (s / 4, m, stream) of
    /// [`Domain::Masks`] under the seed is below `limit`: masks depend neither on the batch
    /// size nor on the executor.
    Random { seed: u64, stream: u32, limit: u32 },
    /// Segment s if bit `s % 32` of word s / 32 of row m is set.
    Given {
        /// (1, M, words) indices
        bits: TensorId,
    },
}

impl MaskSource {
    /// Hides every segment with this probability.
    pub fn random(seed: u64, stream: u32, probability: f64) -> Self {
        let limit = (probability * 4_294_967_296.0).floor().min(f64::from(u32::MAX)) as u32;
        Self::Random {
            seed,
            stream,
            limit,
        }
    }

    pub(super) fn operand(&self) -> Option<TensorId> {
        match self {
            Self::Random { .. } => None,
            Self::Given { bits } => Some(*bits),
        }
    }

    /// The shaders' choice between drawn and given masks.
    pub(super) fn choice(&self) -> (&'static str, f64) {
        ("GIVEN", f64::from(self.operand().is_some()))
    }

    /// What the shaders that draw masks need to know.
    pub(super) fn params(&self, recording: &Recording) -> [(&'static str, Param); 6] {
        let (seed, stream, limit) = match *self {
            Self::Random {
                seed,
                stream,
                limit,
            } => (seed, stream, limit),
            Self::Given { .. } => (0, 0, 0),
        };
        let key = Key::from(seed);
        let given = self.operand().map(|bits| recording.shape(bits));
        [
            ("stream", stream.into()),
            ("seed_low", key.low.into()),
            ("seed_high", key.high.into()),
            ("limit", limit.into()),
            ("mask_rows", given.map_or(1, |bits| bits.rows).into()),
            ("mask_words", given.map_or(1, |bits| bits.cols).into()),
        ]
    }

    /// Writes for each segment whether mask `m` hides it.
    pub(super) fn draw<T: Real>(&self, context: &Context<T>, m: usize, hidden: &mut [bool]) {
        match *self {
            Self::Random {
                seed,
                stream,
                limit,
            } => {
                let key = Key::from(seed);
                for (block, hidden) in hidden.chunks_mut(4).enumerate() {
                    let words = key.block(Domain::Masks, [block as u32, m as u32, stream]);
                    for (hidden, word) in hidden.iter_mut().zip(words) {
                        *hidden = word < limit;
                    }
                }
            }
            Self::Given { bits } => {
                let words = context.shape(bits).cols;
                let rows = context.shape(bits).rows;
                let row = m.min(rows - 1) * words;
                let row = &context.read_indices(bits)[row..row + words];
                for (segment, hidden) in hidden.iter_mut().enumerate() {
                    *hidden = row[segment / 32] >> (segment % 32) & 1 == 1;
                }
            }
        }
    }
}

/// `y[n]` = x where mask m = first + n keeps it, else `fill`
///
/// Mask m uses segmentation `m % G`. Masks count from [`FIRST_VARIANT`];
/// where [`MASKING`] is 0, everything is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyMask {
    /// (1, R, C)
    pub x: TensorId,
    /// (G, R, C) indices: the segment of each element, or (G, R, 1) of each
    /// row
    pub labels: TensorId,
    /// Segments of the largest segmentation.
    pub segments: usize,
    pub source: MaskSource,
    /// (1, R, C), or (1, 1, C) for all rows
    pub fill: TensorId,
    /// (N, R, C)
    pub y: TensorId,
}

impl Recording {
    /// Records `lead` masked copies of x (1, R, C).
    pub fn apply_mask(
        &mut self,
        x: TensorId,
        labels: TensorId,
        segments: usize,
        source: MaskSource,
        fill: TensorId,
        lead: usize,
    ) -> TensorId {
        let y = self.computed(self.shape(x).with_lead(lead));
        self.push(ApplyMask {
            x,
            labels,
            segments,
            source,
            fill,
            y,
        });
        y
    }
}

impl Operate for ApplyMask {
    const NAME: &'static str = "apply_mask";

    fn inputs(&self) -> Vec<TensorId> {
        let all = [self.x, self.labels, self.fill];
        all.into_iter().chain(self.source.operand()).collect()
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_VARIANT, MASKING]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let fill = context.read(self.fill);
        let labels = context.read_indices(self.labels);
        let shape = context.shape(self.labels);
        let first = context.scalar(FIRST_VARIANT);
        let masking = context.scalar(MASKING) != 0;
        let (cols, by_row) = (x.shape.cols, shape.cols == 1);
        let mut hidden = vec![false; self.segments];
        for (y, n) in y.chunks_mut(x.shape.inner()).zip(context.leads.clone()) {
            if !masking {
                y.copy_from_slice(x.all());
                continue;
            }
            let m = first + n;
            self.source.draw(context, m, &mut hidden);
            let labels = &labels[m % shape.lead * shape.inner()..][..shape.inner()];
            for (r, y) in y.chunks_mut(cols).enumerate() {
                let x = &x.all()[r * cols..(r + 1) * cols];
                let fill = &fill.all()[r % fill.shape.rows * cols..][..cols];
                if by_row {
                    y.copy_from_slice(if hidden[labels[r] as usize] { fill } else { x });
                    continue;
                }
                let labels = &labels[r * cols..(r + 1) * cols];
                for (c, (y, &label)) in y.iter_mut().zip(labels).enumerate() {
                    *y = if hidden[label as usize] { fill[c] } else { x[c] };
                }
            }
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (x, y) = (recording.shape(self.x), recording.shape(self.y));
        let (labels, fill) = (recording.shape(self.labels), recording.shape(self.fill));
        let mut params = vec![
            ("count", y.len().into()),
            ("inner", x.inner().into()),
            ("cols", x.cols.into()),
            ("groups", labels.lead.into()),
            ("label_cols", labels.cols.into()),
            ("fill_inner", fill.inner().into()),
        ];
        params.extend(self.source.params(recording));
        vec![Launch {
            shader: "apply_mask",
            entry: "forward",
            overrides: vec![self.source.choice()],
            params,
            bindings: vec![
                ("x", self.x.into()),
                ("labels", self.labels.into()),
                ("fill", self.fill.into()),
                ("bits", self.source.operand().into()),
                ("scalars", Binding::Scalars),
                ("y", self.y.into()),
            ],
            extent: Extent::Invocations(y.len()),
        }]
    }
}
