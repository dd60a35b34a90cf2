//! `kvasir store verify|repair`: look into a data folder that no server holds.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kvasir_store::OpenOptions;
use kvasir_store::embedded::{repair, verify};
use serde_json::json;

use super::output::{Form, Printer};
use crate::exit::{Exit, Failure};

/// Check a data folder, or plan its repair.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir store verify
  kvasir store repair --plan --data /var/lib/kvasir

Exit codes: 0 done, 1 failed, 2 usage, 8 data damaged")]
pub(super) struct StoreVerbs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Verify(Verify),
    Repair(Repair),
}

/// Read every journal, table and record, and list what is damaged.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir store verify
  kvasir store verify --data /var/lib/kvasir --json

Exit codes: 0 everything is whole, 1 failed, 2 usage, 8 data damaged")]
struct Verify {
    /// Data folder [default: kvasir-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// Say what can be done about a store that does not open. Changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir store repair --plan
  kvasir store repair --plan --data /var/lib/kvasir --json

Exit codes: 0 nothing to repair, 1 failed, 2 usage, 8 data damaged")]
struct Repair {
    /// List the choices and what each of them loses
    #[arg(long, required = true)]
    plan: bool,
    /// Data folder [default: kvasir-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

impl StoreVerbs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Verify(verify) => verify.run(),
            Verb::Repair(repair) => repair.run(),
        }
    }
}

/// The folder that was named; it must hold a store, so that none is made by looking.
fn folder(named: Option<&Path>) -> Result<&Path, Failure> {
    let folder = named.unwrap_or(Path::new("kvasir-data"));
    if kvasir_store::embedded::store_path(folder).is_dir() {
        return Ok(folder);
    }
    Err(Failure::usage(format!(
        "{} holds no embedded store; name the folder with --data",
        folder.display()
    )))
}

impl Verify {
    fn run(self) -> Result<(), Failure> {
        let folder = folder(self.data.as_deref())?;
        let report = verify::verify(folder, &OpenOptions::default()).map_err(failure)?;
        let mut printer = Printer::new(&self.form);
        let problems: Vec<_> = report
            .problems
            .iter()
            .map(|problem| json!({"file": problem.file, "what": problem.what}))
            .collect();
        let json = json!({
            "entries": report.entries,
            "bytes": report.bytes,
            "tables": report.tables,
            "versionstamp": report.last.to_string(),
            "problems": problems,
            "problems_found": report.problems_found,
        });
        printer.one(&json, || {
            let mut lines = vec![format!(
                "read {} entries and {} tables up to versionstamp {}, {} problems",
                report.entries, report.tables, report.last, report.problems_found
            )];
            for problem in &report.problems {
                lines.push(format!("{}: {}", problem.file.display(), problem.what));
            }
            lines.join("\n")
        })?;
        match report.problems_found {
            0 => Ok(()),
            found => Err(Failure::new(
                Exit::Damaged,
                format!("{found} places are damaged; restore them from a backup"),
            )),
        }
    }
}

impl Repair {
    fn run(self) -> Result<(), Failure> {
        debug_assert!(self.plan, "the only form so far, and required");
        let folder = folder(self.data.as_deref())?;
        let plan = repair::plan(folder).map_err(failure)?;
        let mut printer = Printer::new(&self.form);
        let Some(plan) = plan else {
            let json = json!({"damage": null, "choices": []});
            return printer.one(&json, || "nothing keeps this store from opening".into());
        };
        let steps: Vec<_> = plan.choices.iter().map(repair::Choice::steps).collect();
        let damage = &plan.damage;
        let json = json!({
            "damage": {"file": damage.file, "offset": damage.offset, "what": damage.what},
            "choices": steps,
        });
        let place = format!("{} at byte {}", damage.file.display(), damage.offset);
        printer.one(&json, || {
            let mut lines = vec![format!("{place}: {}", damage.what)];
            for (number, step) in (1..).zip(&steps) {
                lines.push(format!("{number}. {step}"));
            }
            lines.join("\n")
        })?;
        Err(Failure::new(
            Exit::Damaged,
            format!("{place} is damaged; nothing was changed"),
        ))
    }
}

fn failure(error: kvasir_store::OpenError) -> Failure {
    Failure::from(anyhow::Error::new(error))
}
