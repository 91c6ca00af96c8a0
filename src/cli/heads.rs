//! `sonograd heads`: which heads of the cross-attention to trust.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::align::SiteName;
use super::progress::{self, Extent};
use super::study::{OnsetArgs, utterances, watcher};
use super::{MaskArgs, ModelArgs, Outcome, print, print_table, start};
use crate::explain::alignment::all_heads;
use crate::explain::{Method, Site};
use crate::listener::Listener;
use crate::model::Model;
use crate::model::generation_config::ALIGNMENT_HEADS;
use crate::study::Subjects;
use crate::study::choosing::Criterion;
use crate::study::directions::within;
use crate::study::heads::{
    Found, Settings, Survey, Tried, Wanted, check_file, listed, survey, usable, usual_count,
    write_heads,
};
use crate::study::manifest::{self, Item};
use crate::study::map_name::MapName;
use crate::study::truth::TrueOnsets;
use crate::study::watch::Event;
use crate::{Error, Result};

/// Say which heads of the cross-attention to trust.
///
/// Ranks heads over the utterances of manifests by how far they agree with
/// saliency, or by how well they tell when words begin; and says how well the
/// best of them do together on utterances that they were not chosen on.
#[derive(Args)]
#[command(
    after_help = "Example:\n  sonograd heads samples/manifest.tsv --by gradient --top 4 --write \
                  generation_config.json"
)]
pub(super) struct HeadsArgs {
    /// Utterances: fairseq's TSV (id audio tgt_text src_lang tgt_lang ...) or NeMo's JSON lines
    #[arg(value_name = "MANIFEST", required = true)]
    manifests: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// What heads are ranked by
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    by: By,
    /// Where spes and gradient look [default: encoder]
    #[arg(long, value_enum, value_name = "SITE")]
    at: Option<SiteName>,
    #[command(flatten)]
    onsets: OnsetArgs,
    /// How many heads to choose [default: 6, or half of the heads if there are fewer than 12]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Which heads to use, and to write
    #[arg(long, value_enum, value_name = "SET", default_value_t)]
    set: SetName,
    /// Take the first utterances of each manifest only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    masks: MaskArgs,
    /// Write the heads as alignment_heads into this generation_config.json; a new one is a
    /// copy of the model's
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print JSON and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum By {
    /// Agreement with occlusion by random masks
    #[default]
    Spes,
    /// Agreement with the size of the gradient
    Gradient,
    /// Errors of word starts, against --onsets
    Onsets,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SetName {
    /// The best single heads
    #[default]
    Best,
    /// Heads that are good clocks together, against --onsets: greedy forward selection, at most
    /// --top
    Forward,
}

impl From<SetName> for Wanted {
    fn from(name: SetName) -> Self {
        match name {
            SetName::Best => Self::Best,
            SetName::Forward => Self::Forward,
        }
    }
}

/// What the ranking goes on without; that nothing is left is an error.
const FAILED: &str = "warning";

pub(super) fn run(args: &HeadsArgs) -> Result<Outcome> {
    let settings = args.settings()?;
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    let items = manifest::read_all(&args.manifests, limit)?;
    // That onsets are of no use is an error of its own where they are needed.
    let onsets = match (settings.by, args.set) {
        (Criterion::Map(_), SetName::Best) => args.onsets.of(&items)?,
        _ => args.onsets.needed(&items)?,
    };
    let mut listener = args.model.open(args.model.builder().wanted_later())?;
    let model = listener.model();
    let top = args.top(model)?;
    // What cannot be written fails before the long work.
    if let Some(path) = &args.write {
        check_file(path, model)?;
    }
    let (items, left_out) = within(&items, model)?;
    if let Some(left_out) = left_out {
        say!("{left_out}");
    }
    let (items, left_out) = usable(items, &onsets, (settings.by, args.set.into()))?;
    if let Some(left_out) = left_out {
        say!("{left_out}");
    }
    let survey = args.survey(&mut listener, &settings, &items, &onsets)?;
    let found = {
        let what = "trying sets of heads";
        let _shown = progress::work("", what);
        let wanted = (top, args.set.into());
        let name = &listener.model().name;
        Found::new(name, &settings, &survey, wanted, &mut |own: Tried| {
            progress::at(what, Extent::of(own.done, own.at_most, "").at_most());
            !progress::stopped()
        })?
    };
    if let Some(warning) = found.warning() {
        say!("warning: {warning}");
    }
    match args.json {
        true => print(&found.json()?)?,
        false => print_table(found.to_string().trim_end())?,
    }
    if !found.complete {
        say!("stopped; nothing is written");
        return Ok(Outcome::Failures);
    }
    if let Some(path) = &args.write {
        write_heads(path, listener.model(), &found.chosen)?;
        say!(
            "{}: {ALIGNMENT_HEADS} are {}",
            path.display(),
            listed(&found.chosen)
        );
    }
    Ok(match survey.failures.len() {
        0 => Outcome::Done,
        failed => {
            say!("{failed} of {} utterances failed", items.len());
            Outcome::Failures
        }
    })
}

impl HeadsArgs {
    /// How heads are ranked. Options that would have no effect are refused.
    fn settings(&self) -> Result<Settings> {
        let refused = |option: &str, of_what: &str| {
            Err(Error::Input(format!("only --by {of_what} takes {option}")))
        };
        if self.at.is_some() && self.by == By::Onsets {
            return refused("--at", "spes or gradient");
        }
        if self.masks.given() && self.by != By::Spes {
            return refused("--masks and --reliability", "spes");
        }
        for (needs, option) in [
            (self.by == By::Onsets, "--by onsets"),
            (self.set == SetName::Forward, "--set forward"),
        ] {
            if needs && !self.onsets.given() {
                let problem = format!("{option} needs files of true onsets: --onsets FILE...");
                return Err(Error::Input(problem));
            }
        }
        let site = self.at.map_or(Site::Encoder, Site::from);
        let mut settings = Settings::new(match self.by {
            By::Spes => Criterion::Map(MapName::At(Method::Spes, site)),
            By::Gradient => Criterion::Map(MapName::At(Method::Gradient, site)),
            By::Onsets => Criterion::Onsets,
        });
        settings.seed = self.masks.seed;
        settings.stop = settings.stop.map(|_| self.masks.stop());
        Ok(settings)
    }

    /// How many heads to choose.
    fn top(&self, model: &Model) -> Result<usize> {
        let Some(top) = self.top else {
            return Ok(usual_count(model));
        };
        let (top, all) = (top as usize, all_heads(model).len());
        if top > all {
            let name = &model.name;
            let problem = format!("{name} has {all} heads; --top {top} is more");
            return Err(Error::Input(problem));
        }
        Ok(top)
    }

    fn survey(
        &self,
        listener: &mut Listener,
        settings: &Settings,
        items: &[Item],
        onsets: &TrueOnsets,
    ) -> Result<Survey> {
        start(listener)?;
        let parts = listener.parts()?;
        let subjects = Subjects {
            model: parts.model,
            front_end: parts.front_end,
            tokenizer: parts.tokenizer()?,
            onsets,
            memory: (self.masks.memory as usize) << 20,
        };
        // Only masks can be cut short: whoever scores none keeps Ctrl-C as it is.
        let mut watch: Box<dyn FnMut(Event) -> bool> = match settings.stop {
            Some(_) => Box::new(watcher(String::new(), FAILED, "the utterance is left out")),
            None => Box::new(utterances(String::new(), FAILED)),
        };
        survey(parts.executor, &subjects, settings, items, watch.as_mut())
    }
}
