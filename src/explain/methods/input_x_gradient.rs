//! Gradient times x: what a linear model of the same slope would credit each
//! feature with. It is a map of the same pass as the gradient, multiplied on
//! the device.

use super::gradient::GradientWork;
use crate::explain::method::{Method, Site};

/// The gradient, multiplied by its input.
pub(super) fn input_x_gradient(site: Site) -> GradientWork {
    GradientWork::new(Method::InputXGradient, site, true)
}
