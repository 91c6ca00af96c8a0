//! Passes over one utterance: forward under forced decoding, and the reverse
//! passes of the gradient family. They know of sites and reductions, not of
//! methods.

mod averaged;
mod encode;
mod fitting;
mod forward;
mod utterance;

pub use self::averaged::{AveragedGradients, AveragedPass, Variants};
pub use self::encode::encode;
pub use self::forward::{
    DeviceMap, Forward, ForwardPass, Gradients, MapSpec, forward_and_gradients,
    forward_and_reverse, memories,
};
pub use self::utterance::{EncoderOutput, Utterance};

pub(super) use self::fitting::fitting;

use crate::engine::executor::Executor;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, PersistentId, TensorId};
use crate::{Error, Result};

/// Why there is no gradient at the decoder's tokens.
fn no_gradients() -> Error {
    Error::Input("gradients are taken at input and encoder; tokens are for spes".into())
}

/// Lets a tensor live in new persistent storage.
fn kept(
    executor: &mut dyn Executor,
    recording: &mut Recording,
    tensor: TensorId,
) -> Result<PersistentId> {
    let id = executor.allocate(Kind::Real, recording.shape(tensor))?;
    recording.keep(tensor, id);
    Ok(id)
}
