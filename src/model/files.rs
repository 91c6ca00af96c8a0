//! The files of a model: a folder as Hugging Face saves it, or the model that
//! is part of the program.

use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde_json::Value;

use super::forms::{self, Converted, unread};
use crate::error::Problem;
use crate::hub::Found;
use crate::hub::layout::{WEIGHTS, shards};
use crate::{Error, Result, plain};

/// Where a model's files come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ModelFiles {
    /// A folder on disk.
    Folder(PathBuf),
    /// Part of the program.
    Embedded {
        /// For messages and results.
        name: &'static str,
        /// Contents by file name.
        files: &'static [(&'static str, &'static [u8])],
    },
    /// A model of another form, seen as such a folder.
    Converted(Arc<Converted>),
    /// No files at all: a `config.json`, and random numbers for the weights
    /// that it asks for.
    Random {
        /// For messages and results.
        name: String,
        /// What would stand in `config.json`.
        config: Value,
        /// Of the numbers.
        seed: u64,
    },
}

/// The bytes of a weight file, read when they are looked at.
pub enum WeightBytes {
    /// Of a file on disk.
    Mapped(Mmap),
    /// Of a file that is part of the program.
    Embedded(&'static [u8]),
}

impl Deref for WeightBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Embedded(bytes) => bytes,
        }
    }
}

impl ModelFiles {
    /// The model that is part of the program: English, small, trained on
    /// synthesised speech (`weights/base-en/README.md`).
    pub fn default_model() -> Self {
        macro_rules! embedded {
            ($($name:literal),*) => {
                &[$(($name, include_bytes!(concat!("../../weights/base-en/", $name)))),*]
            };
        }
        Self::Embedded {
            name: "base-en",
            files: embedded![
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "preprocessor_config.json",
                "tokenizer.json"
            ],
        }
    }

    /// A model's folder, or OpenAI's file, which has to exist.
    ///
    /// # Errors
    /// If it does not, or is of a form that is not read.
    pub fn folder(path: impl Into<PathBuf>) -> Result<Self> {
        forms::find(path.into())
    }

    /// What was found by a name or a path.
    ///
    /// # Errors
    /// As [`folder`](Self::folder).
    pub fn found(found: &Found) -> Result<Self> {
        forms::find_with(found.folder.clone(), found.base.clone())
    }

    /// The folder's name, or the embedded model's.
    pub fn name(&self) -> String {
        let last = |path: &PathBuf| {
            let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
            let name = whole.file_name().map(|name| name.to_string_lossy());
            name.map_or_else(|| whole.display().to_string(), |name| name.into_owned())
        };
        match self {
            Self::Folder(path) => last(path),
            Self::Converted(converted) => last(&converted.path),
            Self::Embedded { name, .. } => (*name).to_owned(),
            Self::Random { name, .. } => name.clone(),
        }
    }

    /// A path for messages.
    pub fn path(&self, file: &str) -> PathBuf {
        match self {
            Self::Folder(path) => path.join(file),
            Self::Converted(converted) => converted.place(file),
            Self::Embedded { name, .. } => Path::new("(embedded)").join(name).join(file),
            Self::Random { name, .. } => Path::new("(random)").join(name).join(file),
        }
    }

    /// The bytes of a file, or nothing if there is no such file.
    ///
    /// # Errors
    /// If it is there but cannot be read.
    pub fn read_if_present(&self, file: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Folder(path) => {
                let path = path.join(file);
                match plain::read(&path) {
                    Ok(bytes) => match unread::pointer(&bytes) {
                        Some(what) => Err(Error::file(path, what)),
                        None => Ok(Some(bytes)),
                    },
                    Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(Error::file(path, e)),
                }
            }
            Self::Converted(converted) => converted.read_if_present(file),
            Self::Embedded { files, .. } => {
                let found = files.iter().find(|(name, _)| *name == file);
                Ok(found.map(|(_, bytes)| bytes.to_vec()))
            }
            Self::Random { config, .. } if file == "config.json" => {
                Ok(Some(config.to_string().into_bytes()))
            }
            Self::Random { .. } => Ok(None),
        }
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn read(&self, file: &str) -> Result<Vec<u8>> {
        self.read_if_present(file)?
            .ok_or_else(|| self.missing(file))
    }

    /// A file parsed as JSON.
    ///
    /// # Errors
    /// If it cannot be read or is not JSON.
    pub fn json(&self, file: &str) -> Result<Value> {
        self.parsed(file, &self.read(file)?)
    }

    fn parsed(&self, file: &str, bytes: &[u8]) -> Result<Value> {
        serde_json::from_slice(bytes)
            .map_err(|problem| Error::file(self.path(file), Problem::json(problem)))
    }

    /// As [`json`](Self::json), nothing where the file does not exist.
    ///
    /// # Errors
    /// If it cannot be read or is not JSON.
    pub(crate) fn json_of_present(&self, file: &str) -> Result<Option<Value>> {
        let bytes = self.read_if_present(file)?;
        bytes.map(|bytes| self.parsed(file, &bytes)).transpose()
    }

    /// As [`json`](Self::json), `null` where the file does not exist.
    ///
    /// # Errors
    /// If it cannot be read or is not JSON.
    pub fn json_if_present(&self, file: &str) -> Result<Value> {
        Ok(self.json_of_present(file)?.unwrap_or_default())
    }

    /// The weight files with their paths: `model.safetensors`, or the shards
    /// that `model.safetensors.index.json` lists, or else `pytorch_model.bin`
    /// or its shards, in transformers' order.
    ///
    /// # Errors
    /// If none is there or a shard is missing.
    pub(super) fn weights(&self) -> Result<Vec<(PathBuf, WeightBytes)>> {
        for [single, index] in WEIGHTS {
            if let Some(bytes) = self.map_if_present(single)? {
                return Ok(vec![(self.path(single), bytes)]);
            }
            if let Some(bytes) = self.read_if_present(index)? {
                return self.shards(index, &bytes);
            }
        }
        if let Self::Folder(folder) = self
            && let Some((file, what)) = unread::in_folder(folder)
        {
            return Err(Error::file(file, what));
        }
        let problem = "there is neither this file nor model.safetensors.index.json, nor \
                       pytorch_model.bin";
        Err(Error::file(self.path(WEIGHTS[0][0]), problem))
    }

    /// The files that an index of these bytes lists.
    fn shards(&self, index: &str, bytes: &[u8]) -> Result<Vec<(PathBuf, WeightBytes)>> {
        let names = shards(bytes).map_err(|problem| Error::file(self.path(index), problem))?;
        names
            .iter()
            .map(|name| {
                let bytes = self.map_if_present(name)?;
                Ok((self.path(name), bytes.ok_or_else(|| self.missing(name))?))
            })
            .collect()
    }

    /// A weight file, mapped into memory, or nothing if there is none.
    fn map_if_present(&self, file: &str) -> Result<Option<WeightBytes>> {
        match self {
            Self::Folder(path) => map(&path.join(file)),
            Self::Embedded { files, .. } => {
                let found = files.iter().find(|(name, _)| *name == file);
                Ok(found.map(|(_, bytes)| WeightBytes::Embedded(bytes)))
            }
            Self::Converted(_) | Self::Random { .. } => Ok(None),
        }
    }

    fn missing(&self, file: &str) -> Error {
        Error::file(self.path(file), "there is no such file in the model folder")
    }
}

/// A file, mapped into memory, or nothing if there is none.
///
/// # Errors
/// If it cannot be read, or is a Git LFS pointer.
pub(super) fn map(path: &Path) -> Result<Option<WeightBytes>> {
    let opened = match plain::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|e| Error::file(path, e))?,
    };
    // SAFETY: only bytes are read from it, and it is unmapped when
    // loading ends. Whoever writes to the file meanwhile can make
    // the values wrong, or end the process by cutting it short, as
    // with every program that maps its weights.
    let mapped = unsafe { Mmap::map(&opened) };
    let mapped = mapped.map_err(|e| Error::file(path, e))?;
    match unread::pointer(&mapped) {
        Some(what) => Err(Error::file(path, what)),
        None => Ok(Some(WeightBytes::Mapped(mapped))),
    }
}
