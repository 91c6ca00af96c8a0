//! The runtime scalars that operators read. A shader declares those that it
//! reads, under these names, as members of its `Scalars`.

use crate::engine::tensor::Scalar;

/// First of this run's variants: interpolation steps, noise samples, masks,
/// or the window and attempt whose tokens are drawn.
pub const FIRST_VARIANT: Scalar = Scalar("first_variant");

/// First of this run's explained tokens.
pub const FIRST_TOKEN: Scalar = Scalar("first_token");

/// Decoding step: the position that is written now.
pub const STEP: Scalar = Scalar("step");

/// Whether masks are applied: 0 keeps everything.
pub const MASKING: Scalar = Scalar("masking");

/// First mask that no longer counts.
pub const MASK_END: Scalar = Scalar("mask_end");
