//! What long work tells of itself while it runs.

use super::method::Site;
use crate::generate::Listened;

/// A moment of work on one recording. Who is told returns whether to go on.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Another window was transcribed. Stopped here, the transcript ends here.
    Listened(Listened),
    /// Maps are being made.
    Explained(Progress),
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
}
