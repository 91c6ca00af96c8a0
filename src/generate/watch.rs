//! What is told of a recording while it is listened to.

use super::windows::Window;
use crate::model::Model;

/// A moment of listening to a recording. Who is told returns whether to go on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Moment<'a> {
    /// The search in a window chose another token. Stopped here, the transcript
    /// ends with the window before; if there is none, the work ends with an
    /// error.
    Searched(Searched),
    /// A window came to its end. Stopped here, the transcript ends with it.
    Window(&'a Window),
    /// Another window follows. Stopped here, the transcript ends here.
    Listened(Listened),
}

/// Is told of each moment.
pub type Watch<'a> = &'a mut dyn FnMut(Moment) -> bool;

/// How far the search in a window is; with fallback it may begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Searched {
    /// Chosen so far.
    pub tokens: usize,
    /// With how many it ends, at the latest.
    pub most: usize,
}

/// How much of a recording was listened to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Listened {
    pub seconds: f64,
    /// The recording's length.
    pub of_seconds: f64,
}

impl Listened {
    /// So many feature frames of all.
    pub(crate) fn of(model: &Model, frames: usize, all: usize) -> Self {
        let step = model.encoder.frame_seconds();
        Self {
            seconds: frames as f64 * step,
            of_seconds: all as f64 * step,
        }
    }
}
