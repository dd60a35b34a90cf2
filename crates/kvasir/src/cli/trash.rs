//! `trash ls`, `trash restore` and `trash empty`: what was removed below a prefix.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::admin::Administration;
use super::client::block_on;
use super::data::typed_path;
use super::destroy::{Consent, Plan, SAMPLE};
use super::frame::Frame;
use super::output::Printer;
use super::progress::{Progress, ProgressForm};
use crate::exit::{Exit, Failure};

/// See, bring back and let go of what `kvasir rm --prefix` removed. It stays for a week.
///
/// Works on the server that holds the data folder, or on the folder itself while none runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir trash ls
  kvasir trash restore latest

Exit codes: 0 done, 1 failed, 2 usage, 3 no such removal, 4 denied, 5 conflict, 6 unreachable")]
pub(super) struct TrashVerbs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(visible_alias = "list")]
    Ls(Ls),
    Restore(Restore),
    Empty(Empty),
}

/// List removals, or the keys of one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir trash ls
  kvasir trash ls latest --json

Exit codes: 0 done, 1 failed, 2 usage, 3 no such removal, 4 denied, 6 unreachable")]
struct Ls {
    /// A removal: its id, or `latest` [default: all removals]
    id: Option<String>,
    #[command(flatten)]
    frame: Frame,
}

/// What to do with keys that hold something again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Conflict {
    /// Leave them alone, and the entry in the trash.
    Skip,
    /// Write over them.
    Replace,
    /// Bring nothing back.
    Fail,
}

impl Conflict {
    fn name(self) -> &'static str {
        match self {
            Conflict::Skip => "skip",
            Conflict::Replace => "replace",
            Conflict::Fail => "fail",
        }
    }
}

/// Bring a removal back, as it was but for the versionstamps. What has expired stays away.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir trash restore latest --dry-run
  kvasir trash restore latest --conflict skip

Exit codes: 0 done, 1 failed, 2 usage, 3 no such removal, 4 denied, 5 a key holds something again,
6 unreachable")]
struct Restore {
    /// The removal: its id, or `latest`
    id: String,
    /// What to do with keys that hold something again
    #[arg(long, value_enum, value_name = "RULE", default_value_t = Conflict::Fail)]
    conflict: Conflict,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    progress: ProgressForm,
    #[command(flatten)]
    frame: Frame,
}

/// Let go of a removal, or of all of them, for good.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir trash empty latest --dry-run
  kvasir trash empty --yes

Exit codes: 0 done, 1 failed, 2 usage, 3 no such removal, 4 denied, 6 unreachable")]
struct Empty {
    /// A removal: its id, or `latest` [default: all removals]
    id: Option<String>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    progress: ProgressForm,
    #[command(flatten)]
    frame: Frame,
}

/// What has to be typed to empty all of the trash, when it is much.
const EVERYTHING: &str = "everything";

impl TrashVerbs {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            match self.verb {
                Verb::Ls(ls) => ls.run().await,
                Verb::Restore(restore) => restore.run().await,
                Verb::Empty(empty) => empty.run().await,
            }
        })
    }
}

/// All removals, the oldest first.
async fn removals(server: &Administration) -> Result<Vec<Json>, Failure> {
    let mut listed = server.call(Method::GET, "/trash", None).await?;
    match listed["removals"].take() {
        Json::Array(removals) => Ok(removals),
        _ => Ok(Vec::new()),
    }
}

/// The removals that are meant: one by its id, the latest, or all.
async fn meant(server: &Administration, id: Option<&str>) -> Result<Vec<Json>, Failure> {
    let mut all = removals(server).await?;
    let one = match id {
        None => return Ok(all),
        Some("latest") => all.pop(),
        Some(id) => all.into_iter().find(|removal| removal["id"] == id),
    };
    match one {
        Some(one) => Ok(vec![one]),
        None => Err(Failure::new(
            Exit::NotFound,
            "the trash holds no such removal; `kvasir trash ls` lists them",
        )),
    }
}

fn text<'a>(removal: &'a Json, member: &str) -> &'a str {
    removal[member].as_str().unwrap_or_default()
}

fn entries(removal: &Json) -> u64 {
    removal["entries"].as_u64().unwrap_or_default()
}

/// A prefix as it would be typed; the empty one is everything.
fn shown_prefix(removal: &Json) -> String {
    match typed_path(&removal["prefix"]) {
        path if path.is_empty() => EVERYTHING.to_owned(),
        path => path,
    }
}

/// Some keys of removals.
async fn sample(server: &Administration, removals: &[Json]) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for removal in removals {
        let left = SAMPLE.saturating_sub(keys.len());
        if left == 0 {
            break;
        }
        let path = format!("/trash/{}?limit={left}", text(removal, "id"));
        let page = server.call(Method::GET, &path, None).await?;
        let shown = page["entries"].as_array().into_iter().flatten();
        keys.extend(shown.map(|entry| typed_path(&entry["key"])));
    }
    Ok(keys)
}

impl Ls {
    async fn run(self) -> Result<(), Failure> {
        let Frame { target, form } = &self.frame;
        let mut printer = Printer::new(form);
        let Some(id) = &self.id else {
            let listed = Administration::with(target, removals).await?;
            printer.begin(&[
                "id", "keyspace", "prefix", "keys", "bytes", "by", "at", "until",
            ])?;
            for removal in listed {
                let cells = [
                    text(&removal, "id").to_owned(),
                    text(&removal, "keyspace").to_owned(),
                    shown_prefix(&removal),
                    removal["entries"].to_string(),
                    removal["bytes"].to_string(),
                    text(&removal, "by").to_owned(),
                    text(&removal, "at").to_owned(),
                    text(&removal, "until").to_owned(),
                ];
                printer.row(&removal, &cells)?;
            }
            return printer.end();
        };
        let listed = Administration::with(target, async |server| {
            let found = meant(server, Some(id)).await?;
            let path = format!("/trash/{}", text(&found[0], "id"));
            server.all(&path, "entries").await
        });
        let listed = listed.await?;
        printer.begin(&["key", "encoding", "bytes", "versionstamp"])?;
        for entry in listed {
            let cells = [
                typed_path(&entry["key"]),
                text(&entry, "encoding").to_owned(),
                entry["bytes"].to_string(),
                text(&entry, "versionstamp").to_owned(),
            ];
            printer.row(&entry, &cells)?;
        }
        printer.end()
    }
}

impl Restore {
    async fn run(self) -> Result<(), Failure> {
        let target = &self.frame.target;
        let done = Administration::with(target, async |server| self.restore(server).await).await?;
        self.frame.tell(&done, || {
            let (restored, kept) = (&done["restored"], &done["kept"]);
            let would = if self.consent.dry_run {
                "would be"
            } else {
                "are"
            };
            let place = text(&done, "prefix");
            match kept.as_u64() {
                Some(0) | None => format!("{restored} keys below {place} {would} back"),
                Some(kept) => format!(
                    "{restored} keys below {place} {would} back; {kept} keys hold something again"
                ),
            }
        })
    }

    async fn restore(&self, server: &Administration) -> Result<Json, Failure> {
        let found = meant(server, Some(&self.id)).await?.remove(0);
        let (id, prefix) = (text(&found, "id").to_owned(), shown_prefix(&found));
        let path = format!("/trash/{id}/restore");
        let report = |restored: u64, kept: u64| {
            json!({"id": id, "prefix": prefix, "server": server.place(), "restored": restored,
                   "kept": kept, "dryRun": self.consent.dry_run})
        };
        let body = json!({"conflict": self.conflict.name(), "dryRun": true});
        let foreseen = server.call(Method::POST, &path, Some(&body)).await?;
        let occupied = foreseen["kept"].as_u64().unwrap_or_default();
        if self.consent.dry_run {
            let restored = foreseen["restored"].as_u64().unwrap_or_default();
            return Ok(report(restored, occupied));
        }
        if self.conflict == Conflict::Replace && occupied > 0 {
            let plan = Plan {
                verb: "writes over",
                what: format!("{occupied} keys below {prefix} in {}", server.place()),
                count: occupied,
                sample: &[],
                typed: &prefix,
            };
            plan.agree(&self.consent)?;
        }
        let mut progress = Progress::begin(self.progress, "keys", 0, entries(&found));
        let (mut restored, mut kept, mut cursor) = (0, 0, Json::Null);
        loop {
            let body = json!({"conflict": self.conflict.name(), "cursor": cursor});
            let mut step = server.call(Method::POST, &path, Some(&body)).await?;
            restored += step["restored"].as_u64().unwrap_or_default();
            kept += step["kept"].as_u64().unwrap_or_default();
            progress.set(restored + kept);
            cursor = step["cursor"].take();
            if cursor.is_null() {
                progress.end();
                return Ok(report(restored, kept));
            }
        }
    }
}

impl Empty {
    async fn run(self) -> Result<(), Failure> {
        let target = &self.frame.target;
        let done = Administration::with(target, async |server| self.empty(server).await).await?;
        self.frame.tell(&done, || {
            let place = text(&done, "server");
            match self.consent.dry_run {
                true => format!("would let go of {} keys in {place}", done["wouldRemove"]),
                false => format!("let go of {} keys in {place}", done["removed"]),
            }
        })
    }

    async fn empty(&self, server: &Administration) -> Result<Json, Failure> {
        let found = meant(server, self.id.as_deref()).await?;
        let count: u64 = found.iter().map(entries).sum();
        let sample = sample(server, &found).await?;
        let typed = match (&self.id, &found[..]) {
            (Some(_), [one]) => shown_prefix(one),
            _ => EVERYTHING.to_owned(),
        };
        let place = server.place();
        if self.consent.dry_run {
            return Ok(json!({"wouldRemove": count, "sample": sample, "server": place}));
        }
        if count > 0 {
            let plan = Plan {
                verb: "lets go of",
                what: format!("{count} keys in the trash of {place} for good"),
                count,
                sample: &sample,
                typed: &typed,
            };
            plan.agree(&self.consent)?;
        }
        let mut progress = Progress::begin(self.progress, "keys", 0, count);
        let mut removed = 0;
        for removal in &found {
            let path = format!("/trash/{}", text(removal, "id"));
            loop {
                let step = match server.call(Method::DELETE, &path, None).await {
                    // Its time came, or somebody else was faster.
                    Err(failure) if failure.exit == Exit::NotFound => break,
                    step => step?,
                };
                removed += step["removed"].as_u64().unwrap_or_default();
                progress.set(removed);
                if step["more"] != true {
                    break;
                }
            }
        }
        progress.end();
        Ok(json!({"removed": removed, "server": place}))
    }
}
