//! SPES: saliency by occlusion with superpixels, for all tokens at once.
//!
//! Thousands of masked forward passes under forced decoding; each token's
//! score for a mask is how far the mask moves its prediction (KL divergence),
//! and an element's saliency is the mean score of the masks that hide it
//! (Fucci et al., "SPES: Spectrogram Perturbation for Explainable
//! Speech-to-Text Generation", arXiv 2411.01710). Everything between the
//! upload of the sound and the finished map stays on the device; only a few
//! bytes per token come back at checkpoints, for the stopping rule.

mod options;
mod recording;
mod reliability;
mod run;
mod segmentation;
mod slic;

pub use self::options::{SpesOptions, Stop};
pub use self::reliability::{Checkpoint, median, spearman_brown};
pub use self::run::{Occlusion, SpesPass};
pub use self::segmentation::{GivenMasks, Segmentation, Segments};
pub use self::slic::{SlicOptions, gaussian_smooth, scaled_segments, slic};

use super::method::Site;

/// Numbers of masks at which reliability is looked at.
pub const CHECKPOINTS: [usize; 7] = [240, 480, 960, 1_920, 3_840, 7_680, 15_360];

/// Fewest masks on whose reliability a run may end: that of fewer is itself
/// too uncertain.
const FEWEST_MASKS: usize = 960;

/// Most masks when stopping by reliability.
pub const MOST_MASKS: usize = 20_000;

/// Masks that one run of the plan scores, unless memory wants fewer. All
/// checkpoints are multiples of it, so that no run is partly for nothing.
const BATCH: usize = 60;

/// What a run occludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occluded {
    /// Superpixels of the features.
    Input,
    /// Frames of the encoder's output.
    Encoder,
    /// Embeddings of the decoder's input tokens.
    Tokens,
}

impl Occluded {
    /// What is occluded at a site, where something is.
    pub fn at(site: Site) -> Option<Self> {
        match site {
            Site::Input => Some(Self::Input),
            Site::Encoder => Some(Self::Encoder),
            Site::Tokens => Some(Self::Tokens),
            Site::Decoder => None,
        }
    }

    pub fn site(self) -> Site {
        match self {
            Self::Input => Site::Input,
            Self::Encoder => Site::Encoder,
            Self::Tokens => Site::Tokens,
        }
    }

    /// Share of segments that a mask hides, as published.
    pub fn default_probability(self) -> f64 {
        match self {
            Self::Tokens => 0.4,
            _ => 0.5,
        }
    }
}

/// Where a run's masks come from.
#[derive(Clone, Copy, Debug)]
pub enum Masks {
    /// Drawn on the device, from this seed.
    Random { seed: u64 },
    /// All that there are, scored at once.
    Given(GivenMasks),
}
