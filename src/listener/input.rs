//! What a listener hears: a sound, or features that were made of one elsewhere.

use std::sync::Arc;

use crate::audio::{Sound, Warning};
use crate::features::Features;
use crate::fingerprint::Fingerprint;

/// A sound, or the features of one whose samples are not known. Copies share
/// samples and values.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// Features are made of it as the model asks for.
    Sound(Sound),
    /// (T, F), as the model's own feature extractor makes them: they are taken
    /// as they are. Of silence nothing is known then, and maps have no sound.
    Features(Arc<Features>),
}

impl From<&Sound> for Input {
    fn from(sound: &Sound) -> Self {
        Self::Sound(sound.clone())
    }
}

impl From<Features> for Input {
    fn from(features: Features) -> Self {
        Self::Features(Arc::new(features))
    }
}

impl From<&Input> for Input {
    fn from(input: &Input) -> Self {
        input.clone()
    }
}

impl Input {
    /// The sound's name, or `features`.
    pub fn name(&self) -> &str {
        match self {
            Self::Sound(sound) => sound.name(),
            Self::Features(_) => "features",
        }
    }

    /// Length in seconds; of features that of the frames that are sound, each of so
    /// many seconds.
    pub fn seconds(&self, frame_seconds: f64) -> f64 {
        match self {
            Self::Sound(sound) => sound.seconds(),
            Self::Features(features) => features.sound_frames as f64 * frame_seconds,
        }
    }

    /// What is not as whoever gave the sound may think.
    pub fn warnings(&self) -> &[Warning] {
        match self {
            Self::Sound(sound) => sound.warnings(),
            Self::Features(_) => &[],
        }
    }

    /// The sound, if it is known.
    pub fn sound(&self) -> Option<&Sound> {
        match self {
            Self::Sound(sound) => Some(sound),
            Self::Features(_) => None,
        }
    }

    /// Of the samples, if they are known.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.sound().map(Sound::fingerprint)
    }

    /// Whether this is the other one, or a copy of it.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sound(own), Self::Sound(other)) => own.is(other),
            (Self::Features(own), Self::Features(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}
