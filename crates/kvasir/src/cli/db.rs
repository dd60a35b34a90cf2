//! `kvasir db create|ls|rm`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::admin::Administration;
use super::client::{block_on, segment};
use super::data::typed_path;
use super::destroy::{Consent, Plan, SAMPLE};
use super::frame::Frame;
use super::output::Printer;
use super::progress::{Progress, ProgressForm};
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
    frame: Frame,
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
    frame: Frame,
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
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    progress: ProgressForm,
    #[command(flatten)]
    frame: Frame,
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
        let body = json!({"name": self.name});
        let made = self.frame.call(Method::POST, "/databases", Some(&body));
        let made = made.await?;
        self.frame
            .tell(&made, || format!("database {} is there", self.name))
    }
}

impl Ls {
    async fn run(self) -> Result<(), Failure> {
        let listed = self.frame.all("/databases", "databases").await?;
        let mut printer = Printer::new(&self.frame.form);
        printer.begin(&["name", "id", "created"])?;
        for database in listed {
            let cells = ["name", "id", "createdAt"]
                .map(|member| database[member].as_str().unwrap_or_default().to_owned());
            printer.row(&database, &cells)?;
        }
        printer.end()
    }
}

impl Rm {
    async fn run(self) -> Result<(), Failure> {
        let target = &self.frame.target;
        let done = Administration::with(target, async |server| self.remove(server).await).await?;
        self.frame.tell(&done, || {
            let place = done["server"].as_str().unwrap_or_default();
            match done["dryRun"] {
                Json::Bool(true) => format!(
                    "would remove {} with {} entries and {} messages from {place}",
                    self.name, done["entries"], done["messages"]
                ),
                _ => format!(
                    "removed {} and {} entries from {place}",
                    self.name, done["removed"]
                ),
            }
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
        let (count, sample) = self.count(server).await?;
        let queue = server
            .call(Method::GET, &format!("{path}/queue"), None)
            .await?;
        let of_queue = |member: &str| queue[member].as_u64().unwrap_or_default();
        let messages = of_queue("waiting") + of_queue("leased");
        let place = server.place();
        if self.consent.dry_run {
            return Ok(json!({
                "name": self.name,
                "dryRun": true,
                "entries": count,
                "messages": messages,
                "sample": sample,
                "server": place,
            }));
        }
        if count + messages > 0 {
            let keys: Vec<String> = sample.iter().map(typed_path).collect();
            let plan = Plan {
                verb: "removes",
                what: format!(
                    "the database {} with {count} keys and {messages} messages in {place} for good",
                    self.name
                ),
                count: count + messages,
                sample: &keys,
                typed: &self.name,
            };
            plan.agree(&self.consent)?;
        }
        let mut progress = Progress::begin(self.progress, "keys", 0, count);
        let mut removed = 0;
        loop {
            let answer = server.call(Method::DELETE, &entries, None).await?;
            removed += answer["removed"].as_u64().unwrap_or_default();
            progress.set(removed);
            if answer["more"] != true {
                break;
            }
        }
        progress.end();
        // Last, so that an interrupted removal can be taken up again.
        server.call(Method::DELETE, &path, None).await?;
        Ok(json!({"name": self.name, "removed": removed, "server": place}))
    }

    /// How many entries there are, and the keys of some.
    async fn count(&self, server: &Administration) -> Result<(u64, Vec<Json>), Failure> {
        let path = format!("/browse?keyspace={}&limit={PAGE}", segment(&self.name));
        let (mut count, mut sample) = (0, Vec::new());
        let mut next = path.clone();
        let mut progress = Progress::begin(self.progress, "keys counted", 0, None);
        loop {
            let page = server.call(Method::GET, &next, None).await?;
            let entries = page["entries"].as_array().map(Vec::as_slice);
            let entries = entries.unwrap_or_default();
            count += entries.len() as u64;
            let left = SAMPLE.saturating_sub(sample.len());
            sample.extend(entries.iter().take(left).map(|entry| entry["key"].clone()));
            progress.set(count);
            match page["cursor"].as_str() {
                Some(cursor) => next = format!("{path}&cursor={}", segment(cursor)),
                None => {
                    progress.end();
                    return Ok((count, sample));
                }
            }
        }
    }
}

/// Entries that are counted with one request; the most that it gives.
const PAGE: usize = 500;
