//! Tensors where they lie in their files, whatever form these have.

use std::ops::Range;
use std::path::PathBuf;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::Problem;
use crate::model::files::WeightBytes;
use crate::{Error, Result};

/// What a tensor's elements are, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    F64,
    F32,
    F16,
    BF16,
    /// Eight bits that a scale divides.
    I8,
    /// Sixteen bits that a scale divides.
    I16,
    /// One that is not read; its name.
    Other(String),
}

impl Number {
    /// Bytes of an element; nothing where it is not known.
    pub fn bytes(&self) -> Option<usize> {
        match self {
            Self::F64 => Some(8),
            Self::F32 => Some(4),
            Self::F16 | Self::BF16 | Self::I16 => Some(2),
            Self::I8 => Some(1),
            Self::Other(_) => None,
        }
    }

    /// Why weights of these numbers are not read, and what to do about it;
    /// nothing where they are read. `scaled`: whether they come with scales.
    pub fn refused(&self, scaled: bool) -> Option<String> {
        match self {
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 => None,
            Self::I8 | Self::I16 if scaled => None,
            Self::I8 | Self::I16 => Some(format!(
                "is {self:?} without a scale, where F64, F32, F16 or BF16 is read"
            )),
            Self::Other(name) => {
                let eight = name.starts_with("F8") || name.starts_with("Float8");
                let advice = match eight {
                    true => "; 8-bit floats need their own scales: save the model in F16 or BF16",
                    false => "",
                };
                Some(format!(
                    "is {name} where F64, F32, F16 or BF16 is read{advice}"
                ))
            }
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Other(name) => f.write_str(name),
            known => write!(f, "{known:?}"),
        }
    }
}

/// The weight files of a model, with their paths.
pub type Files = Vec<(PathBuf, WeightBytes)>;

/// A tensor in its file. Whoever makes one has checked that all of its bytes
/// are there.
#[derive(Clone, Debug)]
pub struct Stored {
    /// As the file names it.
    pub name: String,
    /// Place in the list of files.
    pub file: usize,
    pub number: Number,
    pub shape: Vec<usize>,
    /// Bytes of the file, from the first element to the last.
    pub range: Range<usize>,
    /// Elements from one index of each axis to the next; absent where they lie
    /// row-major without gaps.
    pub strides: Option<Vec<usize>>,
    /// What whole numbers are divided by: for each row, or one for all.
    pub scale: Option<Box<Stored>>,
}

impl Stored {
    /// A tensor whose elements lie row-major from byte `start` on.
    ///
    /// # Errors
    /// If the file of `length` bytes ends before it does.
    pub fn dense(
        name: impl Into<String>,
        (file, length): (usize, usize),
        number: Number,
        shape: Vec<usize>,
        start: usize,
    ) -> Result<Self, Problem> {
        let name = name.into();
        let size = number
            .bytes()
            .and_then(|bytes| elements(&shape)?.checked_mul(bytes));
        let end = size.and_then(|size| start.checked_add(size));
        match end.filter(|&end| end <= length) {
            Some(end) => Ok(Self {
                name,
                file,
                number,
                shape,
                range: start..end,
                strides: None,
                scale: None,
            }),
            None => Err(format!("{name} {shape:?} of {number} does not fit the file").into()),
        }
    }

    /// Some of its rows (the first axis), under another name. Only of tensors
    /// that lie row-major.
    pub fn rows(&self, name: String, rows: Range<usize>) -> Option<Self> {
        let count = *self.shape.first()?;
        let row = self.range.len().checked_div(count)?;
        if rows.start > rows.end || rows.end > count || self.strides.is_some() {
            return None;
        }
        let scale = match &self.scale {
            Some(scale) if scale.shape == [count] => {
                Some(Box::new(scale.rows(scale.name.clone(), rows.clone())?))
            }
            scale => scale.clone(),
        };
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let start = self.range.start;
        Some(Self {
            name,
            range: start + rows.start * row..start + rows.end * row,
            shape,
            scale,
            ..self.clone()
        })
    }

    /// The values, row-major.
    ///
    /// # Errors
    /// If they are of a kind that is not read, or one is not finite.
    pub fn read(&self, files: &Files) -> Result<Vec<f32>> {
        let Some((path, bytes)) = files.get(self.file) else {
            return Err(Error::Model(format!("{} is in no file", self.name)));
        };
        let fail = |what: String| Error::file(path, format!("{} {what}", self.name));
        let Some(data) = bytes.get(self.range.clone()) else {
            return Err(fail("does not fit the file".into()));
        };
        let values = numbers(&self.number, data);
        let mut values = values.ok_or_else(|| fail(format!("is {}", self.number)))?;
        if let Some(strides) = &self.strides {
            values = gathered(&values, &self.shape, strides)
                .ok_or_else(|| fail("has strides beyond its storage".into()))?;
        }
        if let Some(scale) = &self.scale {
            let scale = scale.read(files)?;
            let rows = scale.len().max(1);
            let row = values.len().div_ceil(rows).max(1);
            for (row, scale) in values.chunks_mut(row).zip(&scale) {
                row.iter_mut().for_each(|value| *value /= scale);
            }
        }
        match values.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(fail(format!("holds {} at element {at}", values[at]))),
            None => Ok(values),
        }
    }
}

/// Numbers of a tensor; nothing where there are more than can be counted.
pub fn elements(shape: &[usize]) -> Option<usize> {
    let mut sides = shape.iter();
    sides.try_fold(1usize, |size, &side| size.checked_mul(side))
}

/// Bytes as numbers.
fn numbers(number: &Number, data: &[u8]) -> Option<Vec<f32>> {
    let pairs = || data.as_chunks::<2>().0.iter();
    Some(match number {
        Number::F64 => {
            let all = data.as_chunks::<8>().0.iter();
            all.map(|&bytes| f64::from_le_bytes(bytes) as f32).collect()
        }
        Number::F32 => {
            let all = data.as_chunks::<4>().0.iter();
            all.map(|&bytes| f32::from_le_bytes(bytes)).collect()
        }
        Number::F16 => halves(data),
        Number::BF16 => pairs().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        Number::I8 => data.iter().map(|&b| f32::from(b as i8)).collect(),
        Number::I16 => pairs().map(|&b| f32::from(i16::from_le_bytes(b))).collect(),
        Number::Other(_) => return None,
    })
}

/// Bytes of f16 as numbers, many at a time, which processors have instructions
/// for.
fn halves(data: &[u8]) -> Vec<f32> {
    const MANY: usize = 1024;
    let pairs = data.as_chunks::<2>().0;
    let mut all = vec![0.0; pairs.len()];
    let mut own = [f16::ZERO; MANY];
    for (values, pairs) in all.chunks_mut(MANY).zip(pairs.chunks(MANY)) {
        let own = &mut own[..pairs.len()];
        for (own, &pair) in own.iter_mut().zip(pairs) {
            *own = f16::from_le_bytes(pair);
        }
        own.convert_to_f32_slice(values);
    }
    all
}

/// The elements of `shape` that lie `strides` apart, row-major.
fn gathered(values: &[f32], shape: &[usize], strides: &[usize]) -> Option<Vec<f32>> {
    let count = elements(shape)?;
    let mut all = Vec::with_capacity(count);
    let mut index = vec![0; shape.len()];
    for _ in 0..count {
        let at: usize = index
            .iter()
            .zip(strides)
            .map(|(i, stride)| i * stride)
            .sum();
        all.push(*values.get(at)?);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(number: Number, shape: &[usize], bytes: usize) -> Stored {
        Stored::dense("t", (0, bytes), number, shape.to_vec(), 0).unwrap()
    }

    fn files(bytes: Vec<u8>) -> Files {
        vec![("f".into(), WeightBytes::Embedded(bytes.leak()))]
    }

    #[test]
    fn numbers_of_every_kind_are_read() {
        let whole = [1.5f64, -0.25, 3.0];
        let wide = whole.iter().flat_map(|x| x.to_le_bytes()).collect();
        let half = whole.iter().flat_map(|&x| f16::from_f64(x).to_le_bytes());
        let brain = whole.iter().flat_map(|&x| bf16::from_f64(x).to_le_bytes());
        for (number, bytes) in [
            (Number::F64, wide),
            (Number::F16, half.collect()),
            (Number::BF16, brain.collect::<Vec<u8>>()),
        ] {
            let tensor = stored(number, &[3], bytes.len());
            assert_eq!(tensor.read(&files(bytes)).unwrap(), [1.5, -0.25, 3.0]);
        }
        let short = Stored::dense("t", (0, 11), Number::F32, vec![3], 0);
        assert_eq!(
            short.unwrap_err().to_string(),
            "t [3] of F32 does not fit the file"
        );
        let huge = Stored::dense("t", (0, 11), Number::F32, vec![usize::MAX, 9], 0);
        assert!(huge.is_err());
    }

    #[test]
    fn scales_are_those_of_the_rows() {
        let mut bytes = vec![2u8, 254, 9, 3];
        bytes.extend([2.0f32, 3.0].iter().flat_map(|x| x.to_le_bytes()));
        let length = bytes.len();
        let mut tensor = stored(Number::I8, &[2, 2], length);
        assert!(tensor.number.refused(false).is_some());
        let scale = Stored::dense("s", (0, length), Number::F32, vec![2], 4).unwrap();
        tensor.scale = Some(Box::new(scale));
        let files = files(bytes);
        assert_eq!(tensor.read(&files).unwrap(), [1.0, -1.0, 3.0, 1.0]);
        let second = tensor.rows("u".into(), 1..2).unwrap();
        assert_eq!(second.read(&files).unwrap(), [3.0, 1.0]);
        assert!(tensor.rows("u".into(), 1..3).is_none());
    }

    #[test]
    fn strides_are_followed_and_bounded() {
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let turned = gathered(&values, &[3, 2], &[1, 3]).unwrap();
        assert_eq!(turned, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert!(gathered(&values, &[3, 3], &[1, 3]).is_none());
        assert_eq!(gathered(&values, &[], &[]).unwrap(), [0.0]);
    }
}
