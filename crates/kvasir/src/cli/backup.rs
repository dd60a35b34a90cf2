//! `kvasir backup create|ls|verify|prune|schedule` and `kvasir restore-drill`.

use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::admin::Administration;
use super::client::{Target, block_on, segment};
use super::import_lines::say;
use super::output::{Form, Printer};
use super::progress::{Progress, ProgressForm};
use crate::exit::{Exit, Failure};

/// How often a job is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Take, list, check and remove backups.
///
/// A backup is one file with everything the store held at one moment. Where backups go is set by
/// backup.target: a folder, or s3://BUCKET/PREFIX. Works on the server that holds the data folder, or
/// on the folder itself while none runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir backup create
  kvasir backup ls

Exit codes: 0 done, 1 failed, 2 usage, 3 no such backup, 4 denied, 5 another job is at work,
6 unreachable, 8 a backup is damaged")]
pub(super) struct Backups {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(Create),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Verify(Verify),
    Prune(Prune),
    Schedule(Schedule),
}

/// Take a backup, and read it again to see that it is whole.
///
/// It holds everything in the server's store. Mounts with a store of their own are not in it, and are
/// named in a warning.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir backup create
  kvasir backup create --comment 'before the move' --progress=json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 5 another job is at work, 6 unreachable")]
struct Create {
    /// What to write beside it
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Do not read it again
    #[arg(long)]
    no_verify: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    progress: ProgressForm,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: Form,
}

/// List the backups, the newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir backup ls
  kvasir backup ls --json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Ls {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: Form,
}

/// Read a backup to its end without restoring it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir backup verify
  kvasir backup verify --json

Exit codes: 0 it is whole, 1 failed, 2 usage, 3 no such backup, 4 denied, 6 unreachable, 8 it is damaged")]
struct Verify {
    /// Its name [default: the newest]
    name: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Remove backups that need not be kept.
///
/// The newest that was found whole always stays, and nothing goes while none was. Without flags the
/// rules are those of backup.keep_count, backup.keep_days and backup.keep_bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir backup prune --keep-count 7 --dry-run
  kvasir backup prune --keep-days 30

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Prune {
    /// Most backups to keep; 0 for all
    #[arg(long, value_name = "NUMBER")]
    keep_count: Option<u32>,
    /// Days to keep them; 0 for ever
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<u32>,
    /// Most bytes of all together; 0 for any
    #[arg(long, value_name = "BYTES")]
    keep_bytes: Option<u64>,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: Form,
}

/// Show or set when backups are taken.
///
/// A schedule has minute, hour, day, month and weekday, in UTC, as cron has them. One that is set here
/// takes the place of backup.schedule.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir backup schedule '30 3 * * *'
  kvasir backup schedule

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Schedule {
    /// When; empty for never
    cron: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: Form,
}

/// Rehearse a restore: into scratch space, compared with the live store.
///
/// Count and content hash must be those of the backup, and every live entry that did not change since
/// must be in it. When it was and how it went is in the metrics.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir restore-drill
  kvasir restore-drill --json

Exit codes: 0 it would have worked, 1 it would not, 2 usage, 3 no such backup, 4 denied, 6 unreachable,
8 the backup is damaged")]
pub(super) struct RestoreDrill {
    /// Name of the backup [default: the newest]
    name: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Backups {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            match self.verb {
                Verb::Create(create) => create.run().await,
                Verb::Ls(ls) => ls.run().await,
                Verb::Verify(verify) => verify.run().await,
                Verb::Prune(prune) => prune.run().await,
                Verb::Schedule(schedule) => schedule.run().await,
            }
        })
    }
}

impl Common {
    /// Starts a job, waits for its end and prints how it went.
    async fn job(
        &self,
        begin: impl AsyncFnOnce(&Administration) -> Result<Json, Failure>,
    ) -> Result<(), Failure> {
        let server = Administration::reach(&self.target).await?;
        let ended = match begin(&server).await {
            Ok(job) => self.follow(&server, job).await,
            Err(failure) => Err(failure),
        };
        server.leave().await?;
        let job = ended?;
        let detail = job["detail"].as_str().unwrap_or_default();
        if job["state"] != "done" {
            let exit = match job["damaged"] == true {
                true => Exit::Damaged,
                false => Exit::Failed,
            };
            return Err(Failure::new(exit, detail));
        }
        if let Some(warning) = job["warning"].as_str() {
            say(&format!("warning: {warning}"));
        }
        let backup = job["backup"].as_str().unwrap_or_default();
        Printer::new(&self.form).one(&job, || format!("{backup}: {detail}"))
    }

    async fn follow(&self, server: &Administration, mut job: Json) -> Result<Json, Failure> {
        let path = format!("/jobs/{}", segment(job["id"].as_str().unwrap_or_default()));
        let mut progress = Progress::begin(self.progress, "entries", 0, None);
        while job["state"] == "running" {
            tokio::time::sleep(LOOK_EVERY).await;
            job = server.call(Method::GET, &path, None).await?;
            progress.set(job["entries"].as_u64().unwrap_or_default());
        }
        progress.end();
        Ok(job)
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let body = json!({"comment": self.comment, "skipVerify": self.no_verify});
        self.common
            .job(async |server: &Administration| {
                server.call(Method::POST, "/backups", Some(&body)).await
            })
            .await
    }
}

impl Verify {
    async fn run(self) -> Result<(), Failure> {
        self.common
            .job(async |server: &Administration| {
                let name = match &self.name {
                    Some(name) => name.clone(),
                    None => newest(server).await?,
                };
                let path = format!("/backups/{}/verify", segment(&name));
                server.call(Method::POST, &path, None).await
            })
            .await
    }
}

async fn newest(server: &Administration) -> Result<String, Failure> {
    let listed = server.call(Method::GET, "/backups", None).await?;
    let name = listed["backups"][0]["name"].as_str();
    name.map(str::to_owned)
        .ok_or_else(|| Failure::new(Exit::NotFound, "there is no backup"))
}

impl RestoreDrill {
    pub(super) fn run(self) -> Result<(), Failure> {
        let body = json!({"name": self.name});
        block_on(self.common.job(async |server: &Administration| {
            server
                .call(Method::POST, "/backups/drill", Some(&body))
                .await
        }))
    }
}

impl Ls {
    async fn run(self) -> Result<(), Failure> {
        let server = Administration::reach(&self.target).await?;
        let listed = server.call(Method::GET, "/backups", None).await;
        server.leave().await?;
        let listed = listed?;
        let mut printer = Printer::new(&self.form);
        printer.begin(&["name", "created", "bytes", "entries", "state"])?;
        for backup in listed["backups"].as_array().into_iter().flatten() {
            let text = |member: &str| match &backup[member] {
                Json::String(text) => text.clone(),
                Json::Null => String::new(),
                other => other.to_string(),
            };
            let state = match (&backup["damage"], &backup["verifiedAt"]) {
                (Json::String(damage), _) => damage.clone(),
                (_, Json::String(at)) => format!("whole at {at}"),
                _ => "not verified".to_owned(),
            };
            let cells = [
                text("name"),
                text("createdAt"),
                text("bytes"),
                text("entries"),
                state,
            ];
            printer.row(backup, &cells)?;
        }
        for mount in listed["leftOut"].as_array().into_iter().flatten() {
            say(&format!(
                "warning: no backup holds the mount {}, which has a {} store of its own",
                mount["mount"].as_str().unwrap_or_default(),
                mount["backend"].as_str().unwrap_or_default()
            ));
        }
        printer.end()
    }
}

impl Prune {
    async fn run(self) -> Result<(), Failure> {
        let server = Administration::reach(&self.target).await?;
        let body = json!({
            "keepCount": self.keep_count,
            "keepDays": self.keep_days,
            "keepBytes": self.keep_bytes,
            "dryRun": self.dry_run,
        });
        let pruned = server
            .call(Method::POST, "/backups/prune", Some(&body))
            .await;
        server.leave().await?;
        let pruned = pruned?;
        let mut printer = Printer::new(&self.form);
        printer.begin(&["name", "what"])?;
        let removed = if self.dry_run { "would go" } else { "removed" };
        for (member, what) in [("removed", removed), ("kept", "kept")] {
            for name in pruned[member].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap_or_default().to_owned();
                let row = json!({"name": name, "what": what});
                printer.row(&row, &[name, what.to_owned()])?;
            }
        }
        printer.end()
    }
}

impl Schedule {
    async fn run(self) -> Result<(), Failure> {
        let server = Administration::reach(&self.target).await?;
        let schedule = match &self.cron {
            Some(cron) => {
                let body = json!({ "cron": cron });
                server
                    .call(Method::PUT, "/backups/schedule", Some(&body))
                    .await
            }
            None => {
                let listed = server.call(Method::GET, "/backups", None).await;
                listed.map(|mut listed| listed["schedule"].take())
            }
        };
        server.leave().await?;
        let schedule = schedule?;
        Printer::new(&self.form).one(&schedule, || match schedule["cron"].as_str() {
            None => "backups are not taken by themselves".to_owned(),
            Some(cron) => {
                let next = schedule["nextAt"].as_str().unwrap_or("never");
                format!("backups are taken at {cron} (UTC), next at {next}")
            }
        })
    }
}
