//! From gradients to the rows of a finished map.

use serde::{Deserialize, Serialize};

use super::Operate;
use super::scalars::FIRST_TOKEN;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::gpu::shaders::Shader;
use crate::engine::native::context::Context;
use crate::engine::native::real::{Real, max};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, TensorId};

/// How the columns of a gradient become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// They do not: the map keeps its columns.
    None,
    /// Euclidean norm.
    L2,
    /// Signed sum.
    Sum,
    /// Largest absolute value.
    Max,
}

/// Factor x - baseline that turns a gradient into an attribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contrast {
    /// (1, R, C)
    pub x: TensorId,
    /// (1, R, C)
    pub baseline: TensorId,
}

/// `map[first + k]` = reduction over columns of `gradient[k] · contrast`
///
/// Tokens count from [`FIRST_TOKEN`]; those past the map's end are left
/// out.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// (K, R, C)
    pub gradient: TensorId,
    pub contrast: Option<Contrast>,
    pub reduction: Reduction,
    /// (all tokens, R, 1), or (all tokens, R, C) without reduction; persistent
    pub map: TensorId,
}

impl Operate for Reduce {
    const NAME: &'static str = "reduce";

    fn inputs(&self) -> Vec<TensorId> {
        let contrast = self.contrast.into_iter();
        let contrast = contrast.flat_map(|contrast| [contrast.x, contrast.baseline]);
        [self.gradient].into_iter().chain(contrast).collect()
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.map]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_TOKEN]
    }

    fn needs_all_leads(&self) -> bool {
        true
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut map = context.take(self.map);
        let gradient = context.read(self.gradient);
        let contrast = self
            .contrast
            .map(|c| (context.read(c.x).all(), context.read(c.baseline).all()));
        let cols = gradient.shape.cols;
        let rows = gradient.shape.rows;
        let first = context.scalar(FIRST_TOKEN);
        let row_out = context.shape(self.map).cols;
        let out = map.chunks_mut(rows * row_out).skip(first);
        let mut product = vec![T::default(); cols];
        for (out, k) in out.zip(0..gradient.shape.lead) {
            let gradient = gradient.at(k);
            for (r, out) in out.chunks_mut(row_out).enumerate() {
                let range = r * cols..(r + 1) * cols;
                product.copy_from_slice(&gradient[range.clone()]);
                if let Some((x, baseline)) = contrast {
                    let difference = x[range.clone()].iter().zip(&baseline[range]);
                    for (product, (&x, &base)) in product.iter_mut().zip(difference) {
                        *product = *product * (x - base);
                    }
                }
                match self.reduction {
                    Reduction::None => out.copy_from_slice(&product),
                    Reduction::L2 => out[0] = T::dot(&product, &product).sqrt(),
                    Reduction::Sum => out[0] = product.iter().copied().sum(),
                    Reduction::Max => {
                        out[0] = product.iter().map(|g| g.abs()).fold(T::default(), max);
                    }
                }
            }
        }
        context.give(self.map, map);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (shape, map) = (recording.shape(self.gradient), recording.shape(self.map));
        let operand = |of: fn(Contrast) -> TensorId| self.contrast.map(of).into();
        let mut overrides = vec![("HAS_CONTRAST", f64::from(self.contrast.is_some()))];
        let name = match self.reduction {
            Reduction::None => None,
            Reduction::L2 => Some("L2"),
            Reduction::Sum => Some("SUM"),
            Reduction::Max => Some("MAX"),
        };
        let number = name.map(|name| Shader::load(Self::NAME).constant(name));
        overrides.extend(number.map(|number| ("REDUCTION", number.into())));
        let (entry, extent) = match number {
            None => ("keep", Extent::Invocations(shape.len())),
            Some(_) => ("forward", Extent::rows(shape.lead * shape.rows)),
        };
        vec![Launch {
            shader: "reduce",
            entry,
            overrides,
            params: vec![
                ("lead", shape.lead.into()),
                ("rows", shape.rows.into()),
                ("cols", shape.cols.into()),
                ("tokens", map.lead.into()),
            ],
            bindings: vec![
                ("gradient", self.gradient.into()),
                ("x", operand(|contrast| contrast.x)),
                ("baseline", operand(|contrast| contrast.baseline)),
                ("scalars", Binding::Scalars),
                ("map", self.map.into()),
            ],
            extent,
        }]
    }
}
