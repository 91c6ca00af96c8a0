//! A study of one listener's model: from manifests to tables.

use std::path::PathBuf;

use pyo3::prelude::*;
use sonograd::engine::device;
use sonograd::engine::precision::Precision;
use sonograd::study::folder::Folder;
use sonograd::study::manifest;
use sonograd::study::run::Shard;
use sonograd::study::settings::{KnownOnsets, Settings};
use sonograd::study::truth::TrueOnsets;
use sonograd::study::watch::Event;
use sonograd::study::work::{Shared, Work, check_some};
use sonograd::{Error, Listener, Method, Result, report};

use crate::options::{Masking, methods};
use crate::watch::{Watch, of_progress};

/// What is asked for.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Asked {
    manifests: Vec<PathBuf>,
    out: PathBuf,
    methods: Option<Vec<String>>,
    onsets: Vec<PathBuf>,
    faithfulness: bool,
    special: bool,
    checks: usize,
    beams: Option<usize>,
    limit: Option<usize>,
    shard: Option<String>,
}

/// What came of it.
pub struct Done {
    /// `tables.json`'s text.
    pub tables: String,
    pub conclusion: String,
    pub warnings: Vec<String>,
}

/// Does the utterances that the folder has not, and makes its tables.
///
/// # Errors
/// If what is asked for cannot be done, the folder is another study's, or the
/// device fails. What is wrong with an utterance is recorded.
pub fn run(
    listener: &mut Listener,
    (choice, precision): (&str, Precision),
    asked: Asked,
    masking: &Masking,
    watch: &mut Watch,
) -> Result<Done> {
    let mut warnings = Vec::new();
    let mut items = manifest::read_all(&asked.manifests, asked.limit.unwrap_or(usize::MAX))?;
    warnings.extend(manifest::without_text(&items));
    let shard: Option<Shard> = asked.shard.as_deref().map(str::parse).transpose()?;
    if let Some(shard) = shard {
        items = shard.of(items);
    }
    let onsets = TrueOnsets::read(&asked.onsets, None)?;
    warnings.extend(onsets.begins_late());
    onsets.check_items(&items)?;
    warnings.extend(onsets.check(&items));
    let settings = settings(&asked, precision, masking, &onsets)?;
    let shared = Shared {
        items: &items,
        onsets: &onsets,
        settings: &settings,
        memory: masking.memory()?,
    };
    let folder = Folder::open(&asked.out)?;
    report::study::check(folder.path())?;
    let mut work = Work::reserve(&folder, &listener.model().name, shard.into())?;
    warnings.extend(work.warning());
    work.look(listener, &folder, &shared)?;
    check_some([&work], &items)?;
    warnings.extend(work.left_out().cloned());
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();

    let choice = choice.parse()?;
    let mut open = |weights: &_| {
        let (device, _) = device::open(&choice)?;
        let (executor, _) = device::executor(device, weights, precision, false)?;
        Ok(executor)
    };
    let mut told = |event: Event<'_>| match event {
        Event::Explained(progress) => watch.at(Some(of_progress(&progress))),
        Event::Utterance {
            item,
            error,
            done,
            all,
        } => {
            warnings.extend(error.map(|error| format!("{}: {error}", item.id)));
            watch.at(Some(("utterances", done as f64, all as f64)))
        }
        _ => watch.at(None),
    };
    work.run(listener, &shared, &mut open, &mut told)?;
    drop(work);
    let tables = report::study::make(&[folder.path().to_owned()], folder.path())?;
    Ok(Done {
        tables: tables.json()?,
        conclusion: tables.conclusion(),
        warnings,
    })
}

fn settings(
    asked: &Asked,
    precision: Precision,
    masking: &Masking,
    onsets: &TrueOnsets,
) -> Result<Settings> {
    let mut settings = Settings::default();
    if let Some(names) = &asked.methods {
        settings.methods = vec![Method::Attention];
        for method in methods(names)? {
            if !settings.methods.contains(&method) {
                settings.methods.push(method);
            }
        }
    }
    settings.beams = asked.beams;
    settings.checks = asked.checks;
    settings.faithfulness = asked.faithfulness;
    settings.onsets = KnownOnsets::of(onsets);
    settings.precision = precision;
    settings.seed = masking.seed();
    settings.special_tokens = asked.special;
    if let Some(stop) = masking.stop()? {
        if !settings.methods.contains(&Method::Spes) {
            let problem = "only the method spes takes masks and reliability";
            return Err(Error::Input(problem.into()));
        }
        settings.stop = stop;
    }
    Ok(settings)
}
