//! Files of PyTorch's `torch.save`: `pytorch_model.bin`, OpenAI's `.pt`. Their
//! pickle is read by [`Pickle`], which runs nothing.
//!
//! Two containers exist. Since PyTorch 1.6 it is a zip of uncompressed files:
//! the pickle and one file for each storage. Before, it was a row of pickles
//! with the storages behind them. A tensor is a storage, an offset, sizes and
//! strides, so that several may share one storage (tied weights, views).

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Id, Pickle, Value};
use super::stored::{Number, Stored, elements};
use crate::error::Problem;
use crate::outside::guarded;
use crate::{Error, Result};

/// Whose panics are caught.
const LIBRARY: &str = "zip";

/// How the first pickle of the older container begins and ends: a magic number.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// How a zip begins.
const ZIP: &[u8] = b"PK\x03\x04";

/// A tensor may be wrapped so many times: as a parameter, with attributes.
const WRAPPINGS: usize = 4;

/// Most axes of a tensor, as in PyTorch's own loops.
const AXES: usize = 64;

/// A file that `torch.save` wrote.
#[derive(Debug)]
pub struct TorchFile<'a> {
    pickle: Pickle<'a>,
    /// Bytes of each storage.
    storages: HashMap<&'a str, Range<usize>>,
    file: usize,
    length: usize,
}

/// Where a tensor's elements are.
struct Storage {
    number: Number,
    element: usize,
    range: Range<usize>,
}

/// Names that a state dict may have in its pickle.
fn known(module: &str, name: &str) -> bool {
    match module {
        "collections" => name == "OrderedDict",
        "torch._utils" => matches!(
            name,
            "_rebuild_tensor"
                | "_rebuild_tensor_v2"
                | "_rebuild_tensor_v3"
                | "_rebuild_parameter"
                | "_rebuild_parameter_with_state"
        ),
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch.nn.parameter" => name == "Parameter",
        "torch.storage" => matches!(name, "UntypedStorage" | "TypedStorage"),
        "torch" => matches!(name, "Size" | "Tensor" | "device") || kind(name).is_some(),
        _ => false,
    }
}

/// The numbers that a storage's class or a dtype stands for, and their bytes.
fn kind(name: &str) -> Option<(Number, usize)> {
    let other = |bytes| {
        Some((
            Number::Other(name.trim_end_matches("Storage").into()),
            bytes,
        ))
    };
    match name {
        "DoubleStorage" | "float64" => Some((Number::F64, 8)),
        "FloatStorage" | "float32" => Some((Number::F32, 4)),
        "HalfStorage" | "float16" => Some((Number::F16, 2)),
        "BFloat16Storage" | "bfloat16" => Some((Number::BF16, 2)),
        "LongStorage" | "int64" | "uint64" | "ComplexFloatStorage" | "complex64" => other(8),
        "IntStorage" | "int32" | "uint32" | "QInt32Storage" => other(4),
        "ShortStorage" | "int16" | "uint16" => other(2),
        "CharStorage" | "ByteStorage" | "BoolStorage" | "QInt8Storage" | "QUInt8Storage"
        | "int8" | "uint8" | "bool" => other(1),
        "ComplexDoubleStorage" | "complex128" => other(16),
        _ if name.starts_with("float8_") => Some((Number::Other(name.replacen('f', "F", 1)), 1)),
        _ => None,
    }
}

impl<'a> TorchFile<'a> {
    /// Opens the file at `path`, whose contents are `bytes`; `file` is its
    /// place in the list of files.
    ///
    /// # Errors
    /// If it is not such a file, is of a big-endian machine, is TorchScript, or
    /// its pickle asks for anything that weights have no need of.
    pub fn open(path: &Path, bytes: &'a [u8], file: usize) -> Result<Self> {
        let opened = if bytes.starts_with(ZIP) {
            Self::zipped(bytes, file)
        } else if bytes.starts_with(MAGIC) {
            Self::rowed(bytes, file)
        } else {
            let what = match bytes {
                [0x80, ..] => "is a pickle, but not one that torch.save wrote",
                _ if bytes.get(257..262) == Some(b"ustar") => {
                    "is of PyTorch's first form (a tar, before 0.1.10): load it and save it again \
                     with a newer PyTorch"
                }
                _ => "is not a file that torch.save wrote",
            };
            Err(what.into())
        };
        opened.map_err(|problem| Error::file(path, problem))
    }

    fn zipped(bytes: &'a [u8], file: usize) -> Result<Self, Problem> {
        let broken = |e: zip::result::ZipError| Problem::new(format!("not a whole zip: {e}"), e);
        let archive = guarded(LIBRARY, || ZipArchive::new(Cursor::new(bytes)))?;
        let mut archive = archive.map_err(broken)?;
        let mut parts: BTreeMap<String, Range<usize>> = BTreeMap::new();
        for index in 0..archive.len() {
            let part = guarded(LIBRARY, || archive.by_index_raw(index))?.map_err(broken)?;
            let name = part.name().map_err(broken)?.into_owned();
            if part.compression() != CompressionMethod::Stored || part.encrypted() {
                return Err(format!(
                    "holds {name} compressed or encrypted, which torch.save does not do"
                )
                .into());
            }
            let start = part
                .data_start()
                .and_then(|start| usize::try_from(start).ok());
            let end = usize::try_from(part.compressed_size()).ok();
            let range = start
                .zip(end)
                .and_then(|(start, size)| Some(start..start.checked_add(size)?));
            let range = range.filter(|range| range.end <= bytes.len());
            let range = range.ok_or_else(|| format!("ends before its part {name} does"))?;
            parts.insert(name, range);
        }
        if parts.keys().any(|name| name.ends_with("/constants.pkl")) {
            return Err(
                "is a TorchScript program, not a state dict; save model.state_dict() \
                        or use save_pretrained"
                    .into(),
            );
        }
        let root = parts.keys().find_map(|name| name.strip_suffix("data.pkl"));
        let root = root.ok_or("is a zip without data.pkl: not a file that torch.save wrote")?;
        let part = |name: &str| -> Option<&'a [u8]> {
            bytes.get(parts.get(&format!("{root}{name}"))?.clone())
        };
        if part("byteorder").is_some_and(|order| order != b"little") {
            return Err("was written on a big-endian machine; save it again on another".into());
        }
        let pickle = Pickle::read(part("data.pkl").unwrap_or_default(), known)?;
        let mut storages = HashMap::new();
        for key in pickle
            .storages()
            .into_iter()
            .filter_map(|place| pickle.text(place.key))
        {
            if let Some(range) = parts.get(&format!("{root}data/{key}")) {
                storages.insert(key, range.clone());
            }
        }
        Ok(Self {
            pickle,
            storages,
            file,
            length: bytes.len(),
        })
    }

    fn rowed(bytes: &'a [u8], file: usize) -> Result<Self, Problem> {
        let mut at = MAGIC.len();
        let mut next = || -> Result<Pickle<'a>, Problem> {
            let pickle = Pickle::read(bytes.get(at..).unwrap_or_default(), known)?;
            at += pickle.length;
            Ok(pickle)
        };
        let version = next()?;
        if version.size(version.root) != Some(1001) {
            return Err("is of an unknown version of torch.save's older form".into());
        }
        let system = next()?;
        let little = system.entry(system.root, "little_endian");
        if little.is_some_and(|little| *system.get(little) == Value::Bool(false)) {
            return Err("was written on a big-endian machine; save it again on another".into());
        }
        let pickle = next()?;
        let keys = next()?;
        // Storages follow in the order of the keys, each behind its number of
        // elements.
        let places = pickle.storages().into_iter();
        let sizes: HashMap<&str, usize> = places
            .filter_map(|place| Some((pickle.text(place.key)?, kind(place.class)?.1)))
            .collect();
        let cut = || Problem::from("ends before its storages do");
        let mut storages = HashMap::new();
        for &key in keys.items(keys.root).ok_or_else(cut)? {
            let key = keys.text(key).ok_or_else(cut)?;
            let size = sizes.get(key).ok_or_else(cut)?;
            let count = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>);
            let count = usize::try_from(u64::from_le_bytes(*count.ok_or_else(cut)?)).ok();
            let start = at + 8;
            let end = count.and_then(|count| start.checked_add(count.checked_mul(*size)?));
            at = end.filter(|&end| end <= bytes.len()).ok_or_else(cut)?;
            storages.insert(key, start..at);
        }
        Ok(Self {
            pickle,
            storages,
            file,
            length: bytes.len(),
        })
    }

    /// What was saved.
    pub fn root(&self) -> Id {
        self.pickle.root
    }

    /// The values of the file's pickle.
    pub fn pickle(&self) -> &Pickle<'a> {
        &self.pickle
    }

    /// The tensors of a state dict: a dict from names to tensors.
    ///
    /// # Errors
    /// If it is none, or a tensor does not fit its storage.
    pub fn tensors(&self, dict: Id) -> Result<Vec<Stored>, Problem> {
        let pairs = self.pickle.pairs(dict);
        let pairs = pairs.ok_or("holds no dict from names to tensors")?;
        let mut tensors: BTreeMap<&str, Stored> = BTreeMap::new();
        for &(name, tensor) in pairs {
            let name = self.pickle.text(name);
            let name = name.ok_or("holds a dict whose keys are no names: not a state dict")?;
            tensors.insert(name, self.tensor(name, tensor)?);
        }
        Ok(tensors.into_values().collect())
    }

    fn tensor(&self, name: &str, id: Id) -> Result<Stored, Problem> {
        let odd = || {
            format!(
                "holds {name:?}, which is no tensor: a state dict is wanted, not a training \
                 checkpoint or a whole object"
            )
        };
        let mut call = id;
        for _ in 0..WRAPPINGS {
            let Value::Call(called, arguments) = *self.pickle.get(call) else {
                return Err(odd().into());
            };
            let arguments = self.pickle.items(arguments).unwrap_or_default();
            let (Value::Global(_, function), [first, rest @ ..]) =
                (self.pickle.get(called), arguments)
            else {
                return Err(odd().into());
            };
            match (*function, rest) {
                ("_rebuild_parameter" | "_rebuild_parameter_with_state", _) => call = *first,
                ("_rebuild_from_type_v2", [_, arguments, ..]) => {
                    // The arguments of the function that stands first.
                    let inner = Value::Call(*first, *arguments);
                    return self
                        .rebuilt(name, &inner)
                        .ok_or_else(|| odd().into())
                        .flatten();
                }
                _ => {
                    let whole = self.pickle.get(call);
                    return self
                        .rebuilt(name, whole)
                        .ok_or_else(|| odd().into())
                        .flatten();
                }
            }
        }
        Err(odd().into())
    }

    /// The tensor that a call of `_rebuild_tensor` and its like makes; nothing
    /// for other calls.
    fn rebuilt(&self, name: &str, call: &Value<'a>) -> Option<Result<Stored, Problem>> {
        let &Value::Call(called, arguments) = call else {
            return None;
        };
        let &Value::Global(_, function) = self.pickle.get(called) else {
            return None;
        };
        let [storage, offset, sizes, strides, rest @ ..] = self.pickle.items(arguments)? else {
            return None;
        };
        let dtype = match function {
            "_rebuild_tensor" | "_rebuild_tensor_v2" => None,
            "_rebuild_tensor_v3" => match self.pickle.get(*rest.get(2)?) {
                Value::Global(_, dtype) => Some(*dtype),
                _ => return None,
            },
            _ => return None,
        };
        // Such as that the numbers have the other sign, or are complex.
        let described = rest.get(if dtype.is_some() { 3 } else { 2 });
        let described = described.map(|&metadata| self.pickle.get(metadata));
        match described {
            None | Some(Value::None) => {}
            Some(Value::Dict(entries)) if entries.is_empty() => {}
            Some(_) => return None,
        }
        let storage = match self.storage(*storage, dtype)? {
            Ok(storage) => storage,
            Err(problem) => return Some(Err(format!("{name} {problem}").into())),
        };
        let (offset, sizes) = (self.pickle.size(*offset)?, self.sizes(*sizes)?);
        let strides = self.sizes(*strides)?;
        Some(self.view(name, &storage, offset, sizes, strides))
    }

    fn view(
        &self,
        name: &str,
        storage: &Storage,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Stored, Problem> {
        let wrong = || format!("{name} {shape:?} goes beyond its storage");
        if strides.len() != shape.len() {
            return Err(wrong().into());
        }
        let count = elements(&shape).ok_or_else(wrong)?;
        let steps = shape.iter().zip(&strides);
        let span = steps.clone().try_fold(0usize, |sum, (&side, &stride)| {
            sum.checked_add(side.saturating_sub(1).checked_mul(stride)?)
        });
        let span = if count == 0 {
            Some(0)
        } else {
            span.and_then(|span| span.checked_add(1))
        };
        let bytes = |elements: usize| elements.checked_mul(storage.element);
        let start = bytes(offset).and_then(|bytes| storage.range.start.checked_add(bytes));
        let end = start
            .zip(span.and_then(bytes))
            .and_then(|(start, span)| start.checked_add(span));
        // One element may stand for many; never for more than the file has bytes.
        let range = start.zip(end).filter(|&(_, end)| {
            end <= storage.range.end && storage.range.end <= self.length && count <= self.length
        });
        let (start, end) = range.ok_or_else(wrong)?;
        let mut dense = true;
        let mut step = 1usize;
        for (&side, &stride) in steps.rev() {
            dense &= side == 1 || stride == step;
            // Too large only beside a side of nothing.
            step = side.saturating_mul(step);
        }
        Ok(Stored {
            name: name.to_owned(),
            file: self.file,
            number: storage.number.clone(),
            shape,
            range: start..end,
            strides: (!dense && count > 0).then_some(strides),
            scale: None,
        })
    }

    /// Sizes or strides: a tuple, or a `torch.Size` of one. Not of more axes
    /// than tensors have: many tensors may share what only one pays for.
    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let items = match *self.pickle.get(id) {
            Value::Call(_, arguments) => {
                self.pickle.items(*self.pickle.items(arguments)?.first()?)?
            }
            _ => self.pickle.items(id)?,
        };
        let items = items.iter().map(|&item| self.pickle.size(item));
        if items.len() > AXES {
            None
        } else {
            items.collect()
        }
    }

    /// A storage; `dtype` is that of a tensor whose storage does not say.
    fn storage(&self, id: Id, dtype: Option<&str>) -> Option<Result<Storage, String>> {
        let place = self.pickle.storage(id)?;
        let Some((number, element)) = dtype.map_or_else(|| kind(place.class), kind) else {
            return Some(Err(format!("is of unknown numbers ({})", place.class)));
        };
        let range = self.storages.get(self.pickle.text(place.key)?);
        let Some(range) = range else {
            return Some(Err("has its storage in no part of the file".into()));
        };
        let start = place
            .offset
            .checked_mul(element)?
            .checked_add(range.start)?;
        let range = start..range.end;
        Some(Ok(Storage {
            number,
            element,
            range,
        }))
    }
}

/// How a pickle refers to a storage.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Of its numbers, as in `FloatStorage`.
    class: &'a str,
    key: Id,
    /// Elements before it: storages of the older container may be views.
    offset: usize,
}

impl<'a> Pickle<'a> {
    /// The storage that a persistent value refers to.
    fn storage(&self, id: Id) -> Option<Place<'a>> {
        let &Value::Persistent(id) = self.get(id) else {
            return None;
        };
        let [_, class, key, rest @ ..] = self.items(id)? else {
            return None;
        };
        let &Value::Global(_, class) = self.get(*class) else {
            return None;
        };
        let view = rest.get(2).and_then(|&view| self.items(view));
        let offset = match view {
            Some(&[_, offset, _]) => self.size(offset)?,
            _ => 0,
        };
        Some(Place {
            class,
            key: *key,
            offset,
        })
    }

    /// All storages that are referred to.
    fn storages(&self) -> Vec<Place<'a>> {
        (0..self.count())
            .filter_map(|id| self.storage(id))
            .collect()
    }
}
