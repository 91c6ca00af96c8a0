//! The operators a recording is made of: shape rule, reverse rule, native
//! code and kernel launches, all of one operator in one file.

mod attention_native;
mod matmul_native;
mod matmul_variants;
pub mod scalars;

use crate::Result;
use crate::engine::gpu::extras::Extras;
use crate::engine::gpu::launch::Launch;
use crate::engine::gpu::variants::{Choice, Trial};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Scalar, TensorId};

/// What the engine asks of every operator.
pub trait Operate {
    /// The operator's name, in profiles and messages.
    const NAME: &'static str;

    fn inputs(&self) -> Vec<TensorId>;

    /// All outputs, those that may turn out not to be needed included.
    fn outputs(&self) -> Vec<TensorId>;

    /// Runtime scalars it reads.
    fn scalars(&self) -> &'static [Scalar] {
        &[]
    }

    /// Whether an output row needs other lead rows of an operand than its
    /// own, or a persistent tensor is updated in place; such an operator is
    /// not cut along the lead axis.
    fn needs_all_leads(&self) -> bool {
        false
    }

    /// Whether a call for several lead rows is so much cheaper than one for each
    /// that it is worth more than passing them on in the cache.
    fn shares_work(&self, _recording: &Recording) -> bool {
        false
    }

    /// Floating-point operations, where there are more than a few for each
    /// element that is read or written; a multiplication and an addition are
    /// two.
    fn flops(&self, _recording: &Recording) -> u64 {
        0
    }

    /// How many rows of its outputs, from the first on, change with the first
    /// `reach` rows of its operands: all, unless it says otherwise.
    fn reach(&self, reach: &dyn Fn(TensorId) -> usize) -> usize {
        let mut inputs = self.inputs().into_iter();
        match inputs.any(|id| reach(id) > 0) {
            true => usize::MAX,
            false => 0,
        }
    }

    /// Records the reverse.
    ///
    /// # Errors
    /// If the operator has none.
    fn reverse(&self, _walk: &mut Reverse) -> Result<()> {
        Err(crate::Error::shape(
            Self::NAME,
            "lies between the explained sound and the output but has no reverse",
        ))
    }

    /// A weight whose transpose `native` multiplies by: it is made a factor where
    /// there is memory for that.
    fn transposed_factor(&self) -> Option<TensorId> {
        None
    }

    /// Computes the outputs' lead rows `context.leads`.
    fn native<T: Real>(&self, context: &mut Context<T>);

    /// The kernels that compute all outputs for which `live` holds, in order.
    /// Other outputs are not written: nobody reads them and they may have no
    /// memory.
    fn launches(&self, recording: &Recording, live: &dyn Fn(TensorId) -> bool) -> Vec<Launch>;

    /// The same kernels with those that could take their place on a device with
    /// these extras; `launches` has the first of each.
    fn choices(
        &self,
        recording: &Recording,
        live: &dyn Fn(TensorId) -> bool,
        _extras: Extras,
    ) -> Vec<Choice> {
        let launches = self.launches(recording, live).into_iter();
        launches.map(Choice::from).collect()
    }

    /// Works on which variants that need extras are compared with plain ones
    /// before any is used; an operator with such variants has some.
    fn trials() -> Vec<Trial> {
        Vec::new()
    }
}

macro_rules! operators {
    ($($module:ident::{$($name:ident),*};)*) => {
        $(mod $module;)*
        $(pub use $module::{$($name),*};)*

        /// Any operator.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Operator {
            $($($name($name),)*)*
        }

        $($(impl From<$name> for Operator {
            fn from(operator: $name) -> Self {
                Self::$name(operator)
            }
        })*)*

        impl Operator {
            /// The names of all operators.
            pub const NAMES: &[&str] = &[$($(<$name as Operate>::NAME),*),*];

            pub fn name(&self) -> &'static str {
                match self {
                    $($(Self::$name(_) => <$name as Operate>::NAME,)*)*
                }
            }

            pub fn inputs(&self) -> Vec<TensorId> {
                match self {
                    $($(Self::$name(operator) => operator.inputs(),)*)*
                }
            }

            pub fn outputs(&self) -> Vec<TensorId> {
                match self {
                    $($(Self::$name(operator) => operator.outputs(),)*)*
                }
            }

            pub fn scalars(&self) -> &'static [Scalar] {
                match self {
                    $($(Self::$name(operator) => operator.scalars(),)*)*
                }
            }

            pub fn needs_all_leads(&self) -> bool {
                match self {
                    $($(Self::$name(operator) => operator.needs_all_leads(),)*)*
                }
            }

            pub fn shares_work(&self, recording: &Recording) -> bool {
                match self {
                    $($(Self::$name(operator) => operator.shares_work(recording),)*)*
                }
            }

            pub fn flops(&self, recording: &Recording) -> u64 {
                match self {
                    $($(Self::$name(operator) => operator.flops(recording),)*)*
                }
            }

            pub fn transposed_factor(&self) -> Option<TensorId> {
                match self {
                    $($(Self::$name(operator) => operator.transposed_factor(),)*)*
                }
            }

            /// Lead rows of its outputs.
            pub fn lead(&self, recording: &Recording) -> usize {
                recording.shape(self.outputs()[0]).lead
            }

            /// How many rows of its outputs change with those of its operands.
            pub fn reach(&self, reach: &dyn Fn(TensorId) -> usize) -> usize {
                match self {
                    $($(Self::$name(operator) => operator.reach(reach),)*)*
                }
            }

            pub(crate) fn reverse(&self, walk: &mut Reverse) -> Result<()> {
                match self {
                    $($(Self::$name(operator) => operator.reverse(walk),)*)*
                }
            }

            pub(crate) fn native<T: Real>(&self, context: &mut Context<T>) {
                match self {
                    $($(Self::$name(operator) => operator.native(context),)*)*
                }
            }

            /// The kernels that compute its outputs on a GPU, those for which
            /// `live` does not hold left out.
            pub fn launches(
                &self,
                recording: &Recording,
                live: &dyn Fn(TensorId) -> bool,
            ) -> Vec<Launch> {
                match self {
                    $($(Self::$name(operator) => operator.launches(recording, live),)*)*
                }
            }

            /// The same kernels with those that could take their place on a
            /// device with these extras.
            pub fn choices(
                &self,
                recording: &Recording,
                live: &dyn Fn(TensorId) -> bool,
                extras: Extras,
            ) -> Vec<Choice> {
                match self {
                    $($(Self::$name(operator) => operator.choices(recording, live, extras),)*)*
                }
            }

            /// What the variants of all operators are compared on.
            pub fn trials() -> Vec<Trial> {
                let mut trials = Vec::new();
                $($(trials.extend(<$name as Operate>::trials());)*)*
                trials
            }
        }
    };
}

operators! {
    accumulate::{Accumulate};
    activation::{ActivationReverse};
    add::{Add};
    asinh::{Asinh, AsinhReverse};
    attention::{Attention, AttentionReverse, AttentionTerms};
    attention_x_gradient::{AttentionXGradient};
    baseline::{Baseline};
    blend::{Blend};
    cache::{CacheAppend, CachedAttention};
    candidates::{Candidates};
    convolution_2d::{Convolution2d};
    correlate::{Correlate};
    depthwise::{Depthwise, DepthwiseReverse};
    depthwise_2d::{Depthwise2d, Depthwise2dReverse};
    embedding::{Embedding};
    expand_scores::{ExpandScores};
    glu::{Glu, GluReverse};
    group_norm::{
        GroupMeans, GroupNorm, GroupNormReverse, GroupNormSums, GroupStatistics, RowMoments
    };
    kl_divergence::{KlDivergence};
    layer_norm::{LayerNorm, LayerNormReverse};
    log_softmax::{LogSoftmax};
    mask::{ApplyMask};
    mask_scores::{AccumulateScores};
    matmul::{Matmul};
    noise::{AddNoise, Spread};
    pool_max::{PoolMax};
    reduce::{Reduce};
    rotary::{Rotary};
    rows::{JoinRows, TakeRows};
    scatter::{ScatterRows};
    sum_batch::{SumBatch};
    token_log_prob::{TokenLogProb};
    token_seed::{TokenSeed};
    windows::{Fold, Unfold};
    windows_2d::{Fold2d};
}

pub use activation::Activation;
pub use attention::{AttentionSpec, Mask, Relative};
pub use baseline::BaselineKind;
pub use candidates::{Draw, NO_TOKEN};
pub use expand_scores::Half;
pub use glu::Gate;
pub use mask::MaskSource;
pub use matmul::Layout;
pub use matmul_variants::ProductClass;
pub use pool_max::pooled_frames;
pub use reduce::{Contrast, Reduction};
pub use windows::Windows;
pub use windows_2d::Plane;
