//! `kvasir db create|ls|rm`.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::admin::Administration;
use super::client::{Target, block_on, segment};
use super::output::{Form, Printer};
use crate::exit::{Exit, Failure};

/// Make, list and remove databases.
///
/// Deno programs open a database NAME as http://localhost:8000/db/NAME; `default` is at the root.
/// Works on the server that holds the data folder, or on the folder itself while none runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir db create shop
  kvasir db ls

Exit codes: 0 done, 1 failed, 2 usage, 3 no such database, 4 denied, 6 unreachable")]
pub(super) struct Databases {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(Create),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Rm(Rm),
}

/// Make a database. One that is there already stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir db create shop
  kvasir db create shop --json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Create {
    /// 1 to 63 of a-z 0-9 - _, beginning with a letter or digit
    name: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: Form,
}

/// List databases.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir db ls
  kvasir db ls --json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Ls {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: Form,
}

/// Remove a database with all entries and messages in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir db rm shop --dry-run
  kvasir db rm shop --yes

Exit codes: 0 done, 1 failed, 2 usage, 3 no such database, 4 denied, 6 unreachable")]
struct Rm {
    /// Its name
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: Form,
}

impl Databases {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            match self.verb {
                Verb::Create(create) => create.run().await,
                Verb::Ls(ls) => ls.run().await,
                Verb::Rm(rm) => rm.run().await,
            }
        })
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let server = Administration::reach(&self.target).await?;
        let body = json!({"name": self.name});
        let made = server.call(Method::POST, "/databases", Some(&body)).await;
        server.leave().await?;
        let made = made?;
        Printer::new(&self.form).one(&made, || format!("database {} is there", self.name))
    }
}

impl Ls {
    async fn run(self) -> Result<(), Failure> {
        let server = Administration::reach(&self.target).await?;
        let listed = server.all("/databases", "databases").await;
        server.leave().await?;
        let mut printer = Printer::new(&self.form);
        printer.begin(&["name", "id", "created"])?;
        for database in listed? {
            let cells = ["name", "id", "createdAt"]
                .map(|member| database[member].as_str().unwrap_or_default().to_owned());
            printer.row(&database, &cells)?;
        }
        printer.end()
    }
}

impl Rm {
    async fn run(self) -> Result<(), Failure> {
        let server = Administration::reach(&self.target).await?;
        let done = self.remove(&server).await;
        server.leave().await?;
        let done = done?;
        Printer::new(&self.form).one(&done, || match done["dryRun"] {
            Json::Bool(true) => format!("nothing was removed from {}", self.name),
            _ => format!("removed {} and {} entries", self.name, done["removed"]),
        })
    }

    async fn remove(&self, server: &Administration) -> Result<Json, Failure> {
        let known = server.all("/databases", "databases").await?;
        if !known.iter().any(|database| database["name"] == *self.name) {
            return Err(Failure::new(
                Exit::NotFound,
                format!("there is no database {}", self.name),
            ));
        }
        let path = format!("/databases/{}", segment(&self.name));
        let entries = format!("{path}/entries");
        let sample = server
            .call(Method::GET, &format!("{entries}?limit=5"), None)
            .await?;
        if self.dry_run {
            return Ok(json!({
                "name": self.name,
                "dryRun": true,
                "sample": sample["entries"],
            }));
        }
        let is_empty = sample["entries"].as_array().is_none_or(Vec::is_empty);
        if !self.yes && !is_empty {
            ask(&self.name)?;
        }
        let mut removed = 0;
        loop {
            let answer = server.call(Method::DELETE, &entries, None).await?;
            removed += answer["removed"].as_u64().unwrap_or_default();
            if answer["more"] != true {
                break;
            }
        }
        // Last, so that an interrupted removal can be taken up again.
        server.call(Method::DELETE, &path, None).await?;
        Ok(json!({"name": self.name, "removed": removed}))
    }
}

/// Lets a person type the name; without one `--yes` is needed.
#[expect(clippy::print_stderr, reason = "questions go to standard error")]
fn ask(name: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "the database {name} is not empty: add --yes to remove it with everything in it"
        )));
    }
    eprint!("This removes everything in the database {name}. Type its name to go on: ");
    std::io::stderr().flush().context("cannot ask")?;
    let mut typed = String::new();
    std::io::stdin()
        .read_line(&mut typed)
        .context("cannot read the answer")?;
    if typed.trim() == name {
        Ok(())
    } else {
        Err(Failure::usage("nothing was removed"))
    }
}
