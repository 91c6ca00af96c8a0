//! `sonograd validate`: a model against reference values.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::{ModelArgs, Outcome, print, print_table, start};
use crate::listener::Parts;
use crate::validate::{Validation, validate};
use crate::{Error, Result};

/// Compare a model's outputs and gradients with a reference file.
#[derive(Args)]
#[command(
    after_help = "Example:\n  sonograd validate --model tests/fixtures/conformer --device cpu --precision f64"
)]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Reference values [default: reference.safetensors in the model folder]
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Print JSON and nothing else
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ValidateArgs) -> Result<Outcome> {
    if args.reference.is_none() && args.model.model.is_none() {
        return Err(Error::Input(
            "give --model DIR with a reference.safetensors in it, or --reference FILE".into(),
        ));
    }
    let mut listener = args.model.open(args.model.builder().without_tokenizer())?;
    let reference = match &args.reference {
        Some(file) => file.clone(),
        None => listener.model().files.path("reference.safetensors"),
    };
    start(&mut listener)?;
    let Parts {
        model,
        front_end,
        executor,
        ..
    } = listener.parts()?;
    let validation = validate(executor, model, front_end, &reference)?;
    if !validation.unknown.is_empty() {
        say!(
            "warning: {}: {} are no tensors of a reference; they were not looked at",
            reference.display(),
            validation.unknown.join(", ")
        );
    }
    if args.json {
        let json = serde_json::to_string(&validation);
        print(&json.map_err(|problem| Error::file("JSON", problem))?)?;
    } else {
        print_table(&table(&validation))?;
    }
    if validation.checks.is_empty() {
        say!(
            "error: {}: nothing was compared: it has none of {}",
            reference.display(),
            validation.absent.join(", ")
        );
    }
    Ok(if validation.pass() {
        Outcome::Done
    } else {
        Outcome::Failures
    })
}

fn table(validation: &Validation) -> String {
    let mut text = format!(
        "{:<24} {:<18} {:>13} {:>13} {:>10}  verdict\n",
        "name", "shape", "max abs error", "relative L2", "tolerance"
    );
    for check in &validation.checks {
        let verdict = if check.pass { "pass" } else { "FAIL" };
        let _ = writeln!(
            text,
            "{:<24} {:<18} {:>13.3e} {:>13.3e} {:>10.0e}  {verdict}",
            check.name,
            format!("{:?}", check.shape),
            check.max_abs_error,
            check.relative_l2_error,
            check.tolerance,
        );
    }
    if !validation.absent.is_empty() {
        let _ = writeln!(text, "absent: {}", validation.absent.join(", "));
    }
    text.trim_end().to_owned()
}
