//! The forms in which people have models, each read as it is.
//!
//! | form | told by |
//! | --- | --- |
//! | Hugging Face's folder, safetensors or `torch.save` | its weight files |
//! | peft's LoRA adapter | `adapter_config.json` |
//! | CTranslate2's folder | `model.bin` |
//! | OpenAI's file | `.pt` with `dims` |
//!
//! The last three have not the files that a Hugging Face folder has. What such
//! a folder would say ([`Converted`]) is made from what they have, and the rest
//! of the program sees no difference. Tensors (`Stored`) stay where they are
//! in the mapped files until each is read.

mod adapter;
mod ctranslate2;
mod openai;
mod pickle;
mod safetensors;
mod stored;
mod torch;
pub(crate) mod unread;
mod vocabulary;
mod whisper;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use self::adapter::AdapterConfig;
pub(super) use self::adapter::Change;
use self::ctranslate2::Variables;
pub(super) use self::stored::{Files, Stored};
use self::torch::TorchFile;
use self::whisper::{Sizes, generation, suppressed};
use super::files::{ModelFiles, WeightBytes, map};
use crate::hub::ModelName;
use crate::hub::layout::{self, Kind};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";

/// A model of another form than Hugging Face's folder, seen as one.
#[derive(Debug)]
pub struct Converted {
    /// The folder or the file that was given.
    pub(super) path: PathBuf,
    form: Form,
    /// Contents of files that were made, by name.
    made: BTreeMap<&'static str, Vec<u8>>,
    /// Where its files are.
    folder: PathBuf,
}

#[derive(Debug)]
enum Form {
    CTranslate2,
    OpenAi,
    /// And the model that it is for.
    Adapter(Box<ModelFiles>),
}

/// The tensors of a model, and what an adapter does to them.
pub(super) struct Opened {
    pub files: Files,
    pub tensors: Vec<Stored>,
    /// Tensors that take the place of others of their name.
    pub instead: Vec<Stored>,
    /// By the names of tensors.
    pub changes: Vec<(String, Change)>,
    /// Whether an embedding among `instead` is a copy, of which a projection that
    /// was tied to it knows nothing (`modules_to_save`).
    pub copied: bool,
}

/// The model at a path: a folder, or OpenAI's file.
///
/// # Errors
/// If there is none, or it is of a form that is not read.
pub fn find(path: PathBuf) -> Result<ModelFiles> {
    find_with(path, None)
}

/// The same, where it is known which folder an adapter is for.
///
/// # Errors
/// As [`find`].
pub fn find_with(path: PathBuf, base: Option<PathBuf>) -> Result<ModelFiles> {
    if path.is_file() {
        return of_file(path);
    }
    if !path.is_dir() {
        return Err(Error::file(path, layout::NO_FOLDER));
    }
    let files = ModelFiles::Folder(path.clone());
    match layout::kind(&path) {
        Some(Kind::Adapter) => return adapted(path, base),
        // As in transformers, an adapter in a whole model's folder changes that model.
        Some(Kind::Whole) if layout::has_adapter(&path) => return adapted(path, base),
        Some(Kind::Whole) => return Ok(files),
        Some(Kind::CTranslate2) => return from_ctranslate2(path),
        None => {}
    }
    let (named, weights) = (path.join(CONFIG).is_file(), in_folder(&path, "pt"));
    match weights.as_slice() {
        _ if named && ctranslate2::is_config(&files.json(CONFIG)?) => {
            let problem = "there is no such file, which config.json, as CTranslate2 writes it, \
                           stands beside";
            Err(Error::file(path.join(layout::CTRANSLATE2), problem))
        }
        [] if !named => match unread::in_folder(&path) {
            Some((file, what)) => Err(Error::file(file, what)),
            None => Ok(files),
        },
        [one] if !named => from_openai(path, one.clone()),
        [first, ..] if !named => {
            let advice = format!("is one of {} files .pt; give the one to use", weights.len());
            Err(Error::file(first, advice))
        }
        _ => Ok(files),
    }
}

/// Files of a folder with an ending, in order.
fn in_folder(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let own = paths.filter(|path| path.extension().is_some_and(|own| own == ending));
    let mut own: Vec<PathBuf> = own.collect();
    own.sort();
    own
}

/// The model that a file is: only OpenAI's are one file.
fn of_file(path: PathBuf) -> Result<ModelFiles> {
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(what) = unread::file(&name) {
        return Err(Error::file(&path, what));
    }
    if path.extension().is_some_and(|ending| ending == "pt") {
        return from_openai(folder, path);
    }
    let advice = format!(
        "is a file; give the model's folder: {}",
        match folder.as_os_str().is_empty() {
            true => ".".to_owned(),
            false => folder.display().to_string(),
        }
    );
    Err(Error::file(&path, advice))
}

impl Converted {
    /// Where a file is, or what stands for it.
    pub(super) fn place(&self, file: &str) -> PathBuf {
        match &self.form {
            Form::Adapter(base) if !self.is_own(file) => base.path(file),
            Form::OpenAi if self.made.contains_key(file) => self.path.clone(),
            Form::CTranslate2 if self.made.contains_key(file) => {
                self.folder.join(layout::CTRANSLATE2)
            }
            _ => self.folder.join(file),
        }
    }

    /// The bytes of a file, made or read; nothing where there is none.
    pub(super) fn read_if_present(&self, file: &str) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.made.get(file) {
            return Ok(Some(bytes.clone()));
        }
        match &self.form {
            Form::Adapter(base) if !self.is_own(file) => base.read_if_present(file),
            _ => ModelFiles::Folder(self.folder.clone()).read_if_present(file),
        }
    }

    /// Whether an adapter's folder, not the base's, is asked for a file. Its
    /// vocabulary goes before the base's as a whole, and so does its processor;
    /// the model's own files are the base's.
    fn is_own(&self, file: &str) -> bool {
        const VOCABULARIES: [&str; 6] = [
            "tokenizer.json",
            "vocab.json",
            "tokenizer.model",
            "spiece.model",
            "sentencepiece.bpe.model",
            "merges.txt",
        ];
        const PROCESSORS: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];
        let has_any = |names: &[&str]| names.iter().any(|name| self.folder.join(name).is_file());
        match file {
            CONFIG | GENERATION => false,
            layout::ADAPTER_CONFIG => true,
            _ if PROCESSORS.contains(&file) => has_any(&PROCESSORS),
            _ => has_any(&VOCABULARIES),
        }
    }
}

/// A config as the contents of a file.
fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The tensors of a model.
///
/// # Errors
/// If a file is missing, broken or of a kind that is not read.
pub(super) fn open(files: &ModelFiles) -> Result<Opened> {
    let mut opened = Opened {
        files: Vec::new(),
        tensors: Vec::new(),
        instead: Vec::new(),
        changes: Vec::new(),
        copied: false,
    };
    let ModelFiles::Converted(converted) = files else {
        opened.files = files.weights()?;
        for (place, (path, bytes)) in opened.files.iter().enumerate() {
            opened.tensors.extend(tensors(path, bytes, place)?);
        }
        return Ok(opened);
    };
    match &converted.form {
        Form::CTranslate2 => {
            let (path, bytes) = mapped(converted.folder.join(layout::CTRANSLATE2))?;
            let variables = Variables::read(&path, &bytes)?;
            opened.tensors = variables.tensors(&path, &bytes)?;
            opened.files.push((path, bytes));
        }
        Form::OpenAi => {
            let (path, bytes) = mapped(converted.path.clone())?;
            let file = TorchFile::open(&path, &bytes, 0)?;
            opened.tensors = openai::tensors(&path, &file)?;
            drop(file);
            opened.files.push((path, bytes));
        }
        Form::Adapter(base) => {
            opened = open(base)?;
            let (config, weights) = adapter_parts(&converted.folder)?;
            let (path, bytes) = mapped(weights)?;
            let adapter = config.sort(tensors(&path, &bytes, opened.files.len())?)?;
            opened.copied = config.copies_embedding();
            opened.instead = adapter.whole;
            opened.changes = adapter.changes;
            opened.files.push((path, bytes));
        }
    }
    Ok(opened)
}

/// The tensors of one file, whichever of the two kinds it is.
fn tensors(path: &Path, bytes: &[u8], place: usize) -> Result<Vec<Stored>> {
    if path
        .extension()
        .is_some_and(|ending| ending == "safetensors")
    {
        return safetensors::tensors(path, bytes, place);
    }
    let file = TorchFile::open(path, bytes, place)?;
    let tensors = file.tensors(file.root());
    tensors.map_err(|problem| Error::file(path, problem))
}

/// A weight file, mapped into memory.
fn mapped(path: PathBuf) -> Result<(PathBuf, WeightBytes)> {
    match map(&path)? {
        Some(bytes) => Ok((path, bytes)),
        None => Err(Error::file(path, "there is no such file")),
    }
}

/// An adapter's config and the path of its tensors.
fn adapter_parts(folder: &Path) -> Result<(AdapterConfig, PathBuf)> {
    let files = ModelFiles::Folder(folder.to_owned());
    let path = folder.join(layout::ADAPTER_CONFIG);
    let config = AdapterConfig::new(&path, &files.read(layout::ADAPTER_CONFIG)?)?;
    let weights = layout::ADAPTERS.iter().map(|name| folder.join(name));
    let mut there = weights.filter(|path| path.is_file());
    let weights = there.next().ok_or_else(|| {
        let problem = format!("there is neither this file nor {}", layout::ADAPTERS[1]);
        Error::file(folder.join(layout::ADAPTERS[0]), problem)
    })?;
    Ok((config, weights))
}

/// The folder of the model that an adapter is for.
fn base_folder(config: &AdapterConfig, folder: &Path) -> Result<PathBuf> {
    let base = config.base()?;
    layout::base_folder(folder, base).map_err(|[inside, beside]| {
        let places = format!("nor in {}, nor in {}", inside.display(), beside.display());
        config.problem(match ModelName::parse(base) {
            Some(_) => format!(
                "is an adapter for {base:?}, which is no model's folder here, {places}; fetch it \
                 (`hf download {base} --local-dir DIR`) and write DIR as base_model_name_or_path"
            ),
            None => format!(
                "is an adapter for {base:?}, and there is no such model's folder here, {places}; \
                 write where it is, or its name on the hub, as base_model_name_or_path"
            ),
        })
    })
}

/// An adapter's folder, with its base, if it is known where that is.
fn adapted(folder: PathBuf, base: Option<PathBuf>) -> Result<ModelFiles> {
    let (config, weights) = adapter_parts(&folder)?;
    let own = ModelFiles::Folder(folder.clone());
    let base = match base {
        _ if layout::is_whole(&folder) => own,
        Some(base) => find(base)?,
        None => find(base_folder(&config, &folder)?)?,
    };
    // A vocabulary that was resized has as many tokens as its embedding rows.
    let (path, bytes_of) = mapped(weights)?;
    let adapter = config.sort(tensors(&path, &bytes_of, 0)?)?;
    let mut own = base.json(CONFIG)?;
    let embedding = adapter
        .whole
        .iter()
        .find(|tensor| tensor.name.ends_with("decoder.embed_tokens.weight"));
    if let Some(&rows) = embedding.and_then(|tensor| tensor.shape.first())
        && own.is_object()
    {
        own["vocab_size"] = json!(rows);
    }
    let made = BTreeMap::from([(CONFIG, bytes(&own))]);
    Ok(converted(
        folder.clone(),
        Form::Adapter(Box::new(base)),
        made,
        folder,
    ))
}

fn converted(
    path: PathBuf,
    form: Form,
    made: BTreeMap<&'static str, Vec<u8>>,
    folder: PathBuf,
) -> ModelFiles {
    ModelFiles::Converted(Arc::new(Converted {
        path,
        form,
        made,
        folder,
    }))
}

/// A CTranslate2 folder.
fn from_ctranslate2(folder: PathBuf) -> Result<ModelFiles> {
    let (path, weights) = mapped(folder.join(layout::CTRANSLATE2))?;
    if !ctranslate2::is_model(&weights) {
        return Err(Error::file(path, "is no model.bin of CTranslate2"));
    }
    let sizes = Variables::read(&path, &weights)?.sizes(&path)?;
    let files = ModelFiles::Folder(folder.clone());
    let mut made = BTreeMap::new();
    if !has_vocabulary(&folder) {
        let (name, tokens) = token_list(&files)?;
        let vocabulary = vocabulary::files(&tokens);
        made.extend(vocabulary.map_err(|problem| Error::file(files.path(name), problem))?);
    }
    let own = files.json_if_present(CONFIG)?;
    let taken = |key: &str, is_right: fn(&Value) -> bool| match &own[key] {
        Value::Null => Ok(None),
        Value::Array(items) if items.iter().all(is_right) => Ok(Some(own[key].clone())),
        other => {
            let problem = format!("has {key} {other}, which is no list as CTranslate2 writes it");
            Err(Error::file(files.path(CONFIG), problem))
        }
    };
    // Tokens; -1 stands for those that OpenAI's program finds.
    let is_token = |token: &Value| token.as_i64().is_some_and(|token| token >= -1);
    let is_head = |head: &Value| {
        let pair = head.as_array().filter(|pair| pair.len() == 2);
        pair.is_some_and(|pair| pair.iter().all(Value::is_u64))
    };
    let entries = BTreeMap::from([
        ("suppress_tokens", taken("suppress_ids", is_token)?),
        (
            "begin_suppress_tokens",
            taken("suppress_ids_begin", is_token)?,
        ),
        ("alignment_heads", taken("alignment_heads", is_head)?),
    ]);
    describe(&path, &folder, sizes, entries, &mut made)?;
    Ok(converted(folder.clone(), Form::CTranslate2, made, folder))
}

/// Whether a folder has a vocabulary that the tokenizer reads.
fn has_vocabulary(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("tokenizer.json") || has("vocab.json") && has("merges.txt")
}

/// CTranslate2's list of tokens, and the file's name.
fn token_list(files: &ModelFiles) -> Result<(&'static str, Vec<String>)> {
    type Parse = fn(&[u8]) -> Result<Vec<String>, String>;
    let kinds: [(&str, Parse); 2] = [
        ("vocabulary.json", vocabulary::list),
        ("vocabulary.txt", vocabulary::lines),
    ];
    for (name, parse) in kinds {
        if let Some(bytes) = files.read_if_present(name)? {
            let tokens = parse(&bytes);
            let tokens = tokens.map_err(|problem| Error::file(files.path(name), problem))?;
            return Ok((name, tokens));
        }
    }
    let problem = "there is neither this file nor vocabulary.json or vocabulary.txt; take \
                   tokenizer.json from the model that this one was converted from";
    Err(Error::file(files.path("tokenizer.json"), problem))
}

/// OpenAI's file, with the vocabulary in its folder.
fn from_openai(folder: PathBuf, path: PathBuf) -> Result<ModelFiles> {
    let (path, weights) = mapped(path)?;
    let file = TorchFile::open(&path, &weights, 0)?;
    if !openai::is_model(&file) {
        let problem = "is a file of torch.save, but not OpenAI's Whisper: it has no dims and \
                       model_state_dict";
        return Err(Error::file(path, problem));
    }
    let sizes = openai::sizes(&path, &file)?;
    let mut made = BTreeMap::new();
    if !has_vocabulary(&folder) {
        let mut problem = None;
        for name in ["multilingual.tiktoken", "gpt2.tiktoken"] {
            let list = folder.join(name);
            if !list.is_file() {
                continue;
            }
            let tokens = crate::plain::read(&list).map_err(|e| Error::file(&list, e))?;
            match vocabulary::tiktoken(&tokens, sizes.vocabulary) {
                Ok(tokens) => {
                    let files = vocabulary::files(&tokens);
                    made.extend(files.map_err(|problem| Error::file(&list, problem))?);
                    problem = None;
                    break;
                }
                Err(own) => problem = Some(Error::file(&list, own)),
            }
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
        if made.is_empty() {
            let english = sizes.vocabulary < 51_865;
            let (list, name) = match english {
                true => ("gpt2.tiktoken", "openai/whisper-tiny.en"),
                false => ("multilingual.tiktoken", "openai/whisper-tiny"),
            };
            return Err(Error::file(
                folder.join("tokenizer.json"),
                format!(
                    "there is no such file, and {} has no vocabulary in it; put there \
                     tokenizer.json of {name}, or {list} of the Python package openai-whisper \
                     (whisper/assets)",
                    path.file_name().unwrap_or_default().to_string_lossy()
                ),
            ));
        }
    }
    describe(&path, &folder, sizes, BTreeMap::new(), &mut made)?;
    Ok(converted(path, Form::OpenAi, made, folder))
}

/// Makes `config.json`, and `generation_config.json` where the folder has none,
/// from the sizes and the vocabulary; `entries` are what the form itself says.
fn describe(
    path: &Path,
    folder: &Path,
    sizes: Sizes,
    entries: BTreeMap<&str, Option<Value>>,
    made: &mut BTreeMap<&'static str, Vec<u8>>,
) -> Result<()> {
    let files = ModelFiles::Folder(folder.to_owned());
    let tokenizer = Tokenizer::from_files(folder, |name| match made.get(name) {
        Some(bytes) => Ok(Some(bytes.clone())),
        None => files.read_if_present(name),
    })?;
    let id = |token: &str| tokenizer.id(token);
    if tokenizer.vocab_size() > sizes.vocabulary {
        return Err(Error::file(
            tokenizer.file(),
            format!(
                "has {} tokens where {} has {}: it is another model's",
                tokenizer.vocab_size(),
                path.display(),
                sizes.vocabulary
            ),
        ));
    }
    let config = sizes.config(id).map_err(|token| {
        Error::file(
            tokenizer.file(),
            format!("has no {token}: it is not Whisper's"),
        )
    })?;
    made.insert(CONFIG, bytes(&config));
    if files.read_if_present(GENERATION)?.is_some() {
        return Ok(());
    }
    let mut generation = generation(&sizes, &tokenizer.languages(), id);
    for (key, value) in entries {
        if let Some(value) = value {
            generation.insert(key.to_owned(), value);
        }
    }
    if !generation.contains_key("suppress_tokens") {
        let (always, first) = suppressed(&tokenizer);
        generation.insert("suppress_tokens".into(), json!(always));
        generation
            .entry("begin_suppress_tokens")
            .or_insert_with(|| json!(first));
    }
    made.insert(GENERATION, bytes(&Value::Object(generation)));
    Ok(())
}
