//! What long work tells of itself while it runs.

use super::method::Site;
use crate::generate::{Listened, Searched, Segment};

/// A moment of work on one recording. Who is told returns whether to go on.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The search in a window chose another token. Stopped here, the transcript
    /// ends with the window before; if there is none, the work ends with an
    /// error.
    Searched(Searched),
    /// What was heard in a window, the last one among them, where a sound is
    /// transcribed. Stopped here, the transcript ends with it.
    Written(Written<'a>),
    /// Another window follows. Stopped here, the transcript ends here.
    Listened(Listened),
    /// Words of another window were found, up to here, where words are aligned.
    /// Stopped here, they end here.
    Aligned(Listened),
    /// Maps are being made.
    Explained(Progress),
}

/// What a window was heard as.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Written<'a> {
    /// Without space around it; empty where nobody speaks.
    pub text: &'a str,
    pub segments: &'a [Segment],
}

/// How far the work at one site has come. Who is told returns whether to go
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    pub step: Step,
    pub site: Site,
    /// What was done so far.
    pub done: usize,
    /// At which `done` it ends, at the latest.
    pub most: usize,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Masks scored. Stopped here, a map is made of those that were.
    Masks,
    /// Gradients of variants: interpolated or noisy copies, for each token
    /// group. Stopped here, there is no map and the work ends with an error.
    Gradients,
    /// Tokens whose plain gradients were taken, at all sites in one pass; the
    /// site is the decoder, from which it comes. Stopped here, the work ends
    /// with an error.
    Tokens,
}
