//! Tensors of safetensors files.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::stored::{Number, Stored};
use crate::error::Problem;
use crate::outside::guarded;
use crate::{Error, Result};

/// The tensors of the file at `path`, whose contents are `bytes`; `file` is its
/// place in the list of files.
///
/// # Errors
/// If it is not a whole safetensors file.
pub fn tensors(path: &Path, bytes: &[u8], file: usize) -> Result<Vec<Stored>> {
    let whole = guarded("safetensors", || SafeTensors::deserialize(bytes));
    let whole = whole
        .map_err(|problem| Error::file(path, problem))?
        .map_err(|problem| Error::file(path, Problem::safetensors(problem)))?;
    let views = whole.iter().map(|(name, view)| {
        let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        Stored {
            name: name.to_owned(),
            file,
            number: match view.dtype() {
                Dtype::F64 => Number::F64,
                Dtype::F32 => Number::F32,
                Dtype::F16 => Number::F16,
                Dtype::BF16 => Number::BF16,
                other => Number::Other(format!("{other:?}")),
            },
            shape: view.shape().to_vec(),
            range: start..start + view.data().len(),
            strides: None,
            scale: None,
        }
    });
    Ok(views.collect())
}
