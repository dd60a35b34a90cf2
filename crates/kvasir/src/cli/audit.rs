//! `kvasir audit ls|verify`: who administered what, and whether the list is whole.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value as Json;

use super::admin::Administration;
use super::client::{block_on, segment};
use super::frame::Frame;
use super::output::Printer;
use crate::exit::{Exit, Failure};

/// Show who administered what, and find lines that were removed or changed.
///
/// Every change through the admin API is a line: by this command line, by the console and by
/// programs. Each line holds the hash of the one before it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir audit ls --limit 20
  kvasir audit verify

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable, 8 a line was removed or changed")]
pub(super) struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(visible_alias = "list")]
    Ls(Ls),
    Verify(Verify),
}

/// List the latest lines, the newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir audit ls
  kvasir audit ls --limit 1000 -o jsonl

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Ls {
    /// Most lines, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    frame: Frame,
}

/// Read the whole list and say whether a line was removed or changed.
///
/// What it prints, NUMBER:HASH, can be noted somewhere else. Given with --known later it shows
/// whether somebody has written the whole list anew.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir audit verify
  kvasir audit verify --json

Exit codes: 0 whole, 1 failed, 2 usage, 4 denied, 6 unreachable, 8 a line was removed or changed")]
struct Verify {
    /// A line that was noted before
    #[arg(long, value_name = "NUMBER:HASH")]
    known: Option<String>,
    #[command(flatten)]
    frame: Frame,
}

/// Columns of the table with the members that they show.
const COLUMNS: [(&str, &str); 9] = [
    ("number", "number"),
    ("at", "at"),
    ("by", "by"),
    ("name", "byName"),
    ("from", "from"),
    ("action", "action"),
    ("on", "on"),
    ("before", "before"),
    ("after", "after"),
];

/// Lines asked for at once.
const PAGE_LINES: usize = 1_000;

impl Audit {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            match self.verb {
                Verb::Ls(ls) => ls.run().await,
                Verb::Verify(verify) => verify.run().await,
            }
        })
    }
}

impl Ls {
    async fn run(self) -> Result<(), Failure> {
        let limit = self.limit;
        let lines = Administration::with(&self.frame.target, async |server| {
            latest(server, limit).await
        })
        .await?;
        let mut printer = Printer::new(&self.frame.form);
        printer.begin(&COLUMNS.map(|(name, _)| name))?;
        for line in lines {
            printer.row(&line, &COLUMNS.map(|(_, member)| cell(&line[member])))?;
        }
        printer.end()
    }
}

async fn latest(server: &Administration, limit: usize) -> Result<Vec<Json>, Failure> {
    let mut lines = Vec::new();
    let mut before = None;
    while lines.len() < limit {
        let count = (limit - lines.len()).min(PAGE_LINES);
        let mut path = format!("/audit?limit={count}");
        if let Some(before) = before {
            path.push_str(&format!("&before={before}"));
        }
        let mut page = server.call(Method::GET, &path, None).await?;
        if let Json::Array(more) = page["lines"].take() {
            lines.extend(more);
        }
        before = page["before"].as_u64();
        if before.is_none() {
            break;
        }
    }
    Ok(lines)
}

impl Verify {
    async fn run(self) -> Result<(), Failure> {
        let path = match &self.known {
            Some(known) => format!("/audit/verify?known={}", segment(known)),
            None => "/audit/verify".to_owned(),
        };
        let verdict = self.frame.call(Method::GET, &path, None).await?;
        let last = format!("{}:{}", verdict["last"], cell(&verdict["hash"]));
        self.frame.tell(&verdict, || match verdict["intact"] {
            Json::Bool(true) => format!("all {} lines are whole\n{last}", verdict["lines"]),
            _ => last,
        })?;
        match verdict["intact"] {
            Json::Bool(true) => Ok(()),
            _ => Err(Failure::new(
                Exit::Damaged,
                format!(
                    "line {}: {}",
                    verdict["fault"]["number"],
                    cell(&verdict["fault"]["what"])
                ),
            )),
        }
    }
}

fn cell(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
