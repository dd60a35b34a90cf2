//! `kvasir slowlog`: the latest slow requests of a server, and what they spent their time on.

use clap::Args;
use reqwest::Method;
use serde_json::Value as Json;

use super::client::block_on;
use super::frame::Frame;
use super::output::Printer;
use crate::exit::Failure;

/// Show the latest slow requests and what they spent their time on.
///
/// Times are in milliseconds. What the total has beyond the parts went into decoding, encoding and
/// waiting for the request's body. Thresholds are settings: slowlog.read, write, scan and admin.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir slowlog
  kvasir slowlog --limit 5 -o jsonl

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Slowlog {
    /// Most requests, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    frame: Frame,
}

/// Columns of the table with the members that they show.
const COLUMNS: [(&str, &str); 12] = [
    ("at", "atMs"),
    ("class", "class"),
    ("method", "method"),
    ("route", "route"),
    ("status", "status"),
    ("total", "totalMs"),
    ("queue", "queueMs"),
    ("lock", "lockMs"),
    ("engine", "engineMs"),
    ("sync", "syncMs"),
    ("send", "sendMs"),
    ("request", "request"),
];

impl Slowlog {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let path = format!("/slow?limit={}", self.limit);
            let answer = self.frame.call(Method::GET, &path, None).await?;
            let mut printer = Printer::new(&self.frame.form);
            printer.begin(&COLUMNS.map(|(name, _)| name))?;
            for row in answer["requests"].as_array().into_iter().flatten() {
                printer.row(row, &COLUMNS.map(|(_, member)| cell(row, member)))?;
            }
            printer.end()
        })
    }
}

fn cell(row: &Json, member: &str) -> String {
    match (&row[member], member) {
        (Json::Number(at), "atMs") => {
            let at = at
                .as_i64()
                .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
            at.map_or_else(String::new, |at| at.to_string())
        }
        (Json::String(text), _) => text.clone(),
        (other, _) => other.to_string(),
    }
}
