//! `kvasir store verify|repair`: look into a data folder that no server holds.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
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

/// Say what can be done about a store that does not open, or do it.
///
/// A repair works on a copy and keeps the damaged store beside it, in `store.damaged-N`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir store repair --plan
  kvasir store repair --apply --dry-run --data kvasir-data

Exit codes: 0 nothing to repair, or repaired, 1 failed, 2 usage, 8 data damaged")]
#[group(id = "how", required = true, args = ["plan", "apply"])]
struct Repair {
    /// List the choices and what each of them loses; changes nothing
    #[arg(long)]
    plan: bool,
    /// Follow a choice other than a backup
    #[arg(long)]
    apply: bool,
    /// The choice to follow, by its number in the plan
    #[arg(long, value_name = "NUMBER", default_value_t = 2, requires = "apply")]
    choice: usize,
    /// Only tell what would be done
    #[arg(long, requires = "apply")]
    dry_run: bool,
    /// Do not ask
    #[arg(long, requires = "apply")]
    yes: bool,
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
        let folder = folder(self.data.as_deref())?;
        let plan = repair::plan(folder, &OpenOptions::default()).map_err(failure)?;
        let Some(plan) = plan else {
            let json = json!({"damage": null, "choices": []});
            return Printer::new(&self.form)
                .one(&json, || "nothing keeps this store from opening".into());
        };
        if self.plan {
            return self.tell(&plan);
        }
        let choice = plan.choices.get(self.choice.wrapping_sub(1));
        let Some(choice) = choice.filter(|choice| **choice != repair::Choice::Restore) else {
            return Err(Failure::new(
                Exit::Damaged,
                format!(
                    "{} is damaged at byte {}: {}; the plan has no choice {} that could be applied, \
                     restore a backup",
                    plan.damage.file.display(),
                    plan.damage.offset,
                    plan.damage.what,
                    self.choice
                ),
            ));
        };
        let steps = choice.steps();
        if self.dry_run {
            let json = json!({"wouldApply": steps, "data": folder});
            return Printer::new(&self.form)
                .one(&json, || format!("in {}: {steps}", folder.display()));
        }
        self.confirm(folder, &steps)?;
        let aside = repair::apply(folder, choice).map_err(failure)?;
        let report = verify::verify(folder, &OpenOptions::default()).map_err(|error| {
            let failed = failure(error);
            let sentence = format!("{failed}; the damaged store is in {}", aside.display());
            Failure::new(failed.exit, sentence)
        })?;
        let json = json!({
            "applied": steps,
            "aside": aside,
            "entries": report.entries,
            "versionstamp": report.last.to_string(),
            "problems_found": report.problems_found,
        });
        Printer::new(&self.form).one(&json, || {
            format!(
                "repaired {}: {steps}\nit holds {} entries up to versionstamp {}, {} problems\n\
                 the damaged store is kept in {}",
                folder.display(),
                report.entries,
                report.last,
                report.problems_found,
                aside.display()
            )
        })
    }

    /// The damage and the choices.
    fn tell(&self, plan: &repair::Plan) -> Result<(), Failure> {
        let steps: Vec<_> = plan.choices.iter().map(repair::Choice::steps).collect();
        let damage = &plan.damage;
        let json = json!({
            "damage": {"file": damage.file, "offset": damage.offset, "what": damage.what},
            "choices": steps,
        });
        let place = format!("{} at byte {}", damage.file.display(), damage.offset);
        Printer::new(&self.form).one(&json, || {
            let mut lines = vec![format!("{place}: {}", damage.what)];
            for (number, step) in (1..).zip(&steps) {
                lines.push(format!("{number}. {step}"));
            }
            lines.join("\n")
        })?;
        let further = match plan.choices.len() {
            1 => String::new(),
            _ => "; `kvasir store repair --apply --choice NUMBER` follows one on a copy and keeps \
                  the damaged store"
                .to_owned(),
        };
        Err(Failure::new(
            Exit::Damaged,
            format!("{place} is damaged; nothing was changed{further}"),
        ))
    }

    fn confirm(&self, folder: &Path, steps: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(format!(
                "this would be done in {}: {steps} Say --yes, or look first with --dry-run",
                folder.display()
            )));
        }
        let mut terminal = std::io::stderr();
        let mut answer = String::new();
        write!(terminal, "In {}: {steps}\nDo it? [y/N] ", folder.display())
            .and_then(|()| terminal.flush())
            .and_then(|()| std::io::stdin().read_line(&mut answer))
            .context("cannot ask")?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new(Exit::Failed, "nothing was changed")),
        }
    }
}

fn failure(error: kvasir_store::OpenError) -> Failure {
    Failure::from(anyhow::Error::new(error))
}
