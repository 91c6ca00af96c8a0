//! What is not as whoever gave a sound may think.

use std::fmt;

/// Something to know about a sound that was read all the same.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The file does not say how long its sound is: it was written to a pipe,
    /// its recorder never came to the end, or its format has no place for it.
    /// All that is there was read.
    LengthUnknown,
    /// The file does not say how much silence its encoder put before the sound.
    DelayUnknown,
    /// Several sounds stand in the file one behind the other; all were read.
    Several {
        /// How many.
        count: usize,
    },
    /// Behind the sound's stated end stand bytes that are no known part of the
    /// file.
    Surplus {
        /// How many.
        bytes: usize,
    },
    /// What the file's own checksum says is not what is there: frames were
    /// damaged, or changed by a program that let the sum stand.
    Changed,
    /// The channels cancel each other in their mean.
    Cancelling,
    /// Samples lie far above full scale.
    Loud {
        /// The largest magnitude; full scale is 1.
        peak: f64,
    },
    /// All samples are the same, or nearly.
    Silent,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LengthUnknown => f.write_str(
                "the file does not state the sound's length; it was read to its end, and whether \
                 some is missing cannot be seen",
            ),
            Self::DelayUnknown => f.write_str(
                "the file does not state how much silence its encoder put before the sound; \
                 times may be up to 0.1 s late",
            ),
            Self::Several { count } => {
                write!(f, "{count} sounds one behind the other were read as one")
            }
            Self::Surplus { bytes } => {
                write!(
                    f,
                    "{bytes} bytes behind the sound's stated end were not read"
                )
            }
            Self::Changed => f.write_str(
                "the checksum of the sound does not fit: it was damaged, or changed after it was \
                 made",
            ),
            Self::Cancelling => f.write_str(
                "the channels cancel each other in their mean, which the model hears; give one \
                 of them",
            ),
            Self::Loud { peak } => write!(
                f,
                "samples of up to {peak:.4e} are far above full scale, which is 1; divide \
                 floats that were integers by their full scale"
            ),
            Self::Silent => f.write_str("the sound is silent: all of its samples are the same"),
        }
    }
}

impl Warning {
    /// Whether it is about times alone.
    pub fn concerns_times(&self) -> bool {
        matches!(self, Self::DelayUnknown)
    }
}
