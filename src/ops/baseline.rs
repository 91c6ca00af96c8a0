//! The sound that stands for no sound.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::gpu::shaders::Shader;
use crate::engine::native::context::Context;
use crate::engine::native::real::{Real, max};
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;
use crate::{Error, Result};

/// How a baseline is made of what it replaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaselineKind {
    /// 0 everywhere: the mean of features normalised by utterance.
    #[default]
    Zero,
    /// Every column's mean over time.
    Mean,
    /// Every column's minimum over time.
    Min,
}

impl BaselineKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Zero, Self::Mean, Self::Min];

    /// Its name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Mean => "mean",
            Self::Min => "min",
        }
    }
}

impl FromStr for BaselineKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| Error::unknown("baseline", text, &Self::ALL.map(Self::name)))
    }
}

/// y[0, t, c] = 0, or the mean or minimum over s of x[0, s, c]
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// (1, R, C)
    pub x: TensorId,
    pub kind: BaselineKind,
    /// (1, R, C)
    pub y: TensorId,
}

impl Operate for Baseline {
    const NAME: &'static str = "baseline";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let (rows, cols) = (x.shape.rows, x.shape.cols);
        let (first, rest) = y.split_at_mut(cols);
        first.fill(T::default());
        match self.kind {
            BaselineKind::Zero => {}
            BaselineKind::Mean => {
                let share = T::from_f64(1.0 / rows as f64);
                for row in x.all().chunks(cols) {
                    T::axpy(share, row, first);
                }
            }
            BaselineKind::Min => {
                first.copy_from_slice(&x.all()[..cols]);
                for row in x.all().chunks(cols) {
                    for (least, &x) in first.iter_mut().zip(row) {
                        *least = -max(-*least, -x);
                    }
                }
            }
        }
        for row in rest.chunks_mut(cols) {
            row.copy_from_slice(first);
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let shape = recording.shape(self.x);
        let name = match self.kind {
            BaselineKind::Zero => "ZERO",
            BaselineKind::Mean => "MEAN",
            BaselineKind::Min => "MIN",
        };
        vec![Launch {
            shader: "baseline",
            entry: "forward",
            overrides: vec![("KIND", Shader::load(Self::NAME).constant(name).into())],
            params: vec![("rows", shape.rows.into()), ("cols", shape.cols.into())],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::rows(shape.cols),
        }]
    }
}
