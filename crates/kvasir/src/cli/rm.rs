//! `rm`: one entry, or everything below a prefix, which goes into the trash unless told otherwise.

use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::below::each_key;
use super::client::{Client, block_on};
use super::data::kv_path;
use super::destroy::{Consent, Plan, SAMPLE};
use super::frame::{KeyFrame, answer, changed};
use super::progress::{Progress, ProgressForm};
use crate::exit::{Exit, Failure};

/// Keys that one request removes, so that progress can be shown.
const STEP: u64 = 5_000;

/// Remove a key, or everything below a prefix.
///
/// What is removed below a prefix stays in the trash for a week, see `kvasir trash`, unless --purge
/// is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir rm users.john
  kvasir rm users --prefix --dry-run
  kvasir rm users --prefix --yes
  kvasir rm users --prefix --purge --yes

Exit codes: 0 done (also if there was no such key), 1 failed, 2 usage, also if it does not fit into
the trash, 4 denied, 5 conflict, 6 unreachable, 7 a part was removed")]
pub(super) struct Rm {
    /// Key, or prefix with --prefix
    key: String,
    /// Remove every key below it instead
    #[arg(long)]
    prefix: bool,
    /// For good, past the trash
    #[arg(long, requires = "prefix")]
    purge: bool,
    /// Only tell what would be removed
    #[arg(long, requires = "prefix")]
    dry_run: bool,
    /// Do not ask, up to 1,000 keys
    #[arg(long)]
    yes: bool,
    /// The prefix once more, to remove more than 1,000 keys without being asked
    #[arg(long, value_name = "PREFIX", requires = "prefix")]
    confirm: Option<String>,
    #[command(flatten)]
    progress: ProgressForm,
    #[command(flatten)]
    frame: KeyFrame,
}

/// What is below a prefix, and whether it fits into the trash.
#[derive(Deserialize)]
struct Below {
    entries: u64,
    #[serde(default)]
    bytes: u64,
    sample: Vec<String>,
    fits: bool,
    /// The bounds of the trash; a server that has none does not send them.
    trash: Bounds,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounds {
    entries_max: u64,
    bytes_max: u64,
}

impl Rm {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.frame.client()?;
            match self.prefix {
                true => self.remove_below(&client).await,
                false => self.remove_one(&client).await,
            }
        })
    }

    async fn remove_one(&self, client: &Client) -> Result<(), Failure> {
        let request = client.request(Method::DELETE, &kv_path(&self.key));
        let removed = answer(client, request).await?;
        changed(client, &self.frame.form, removed, |removed| {
            match removed["existed"] {
                Json::Bool(false) => format!("{} was not in {}", self.key, client.base()),
                _ => format!("removed {} in {}", self.key, client.base()),
            }
        })
    }

    async fn remove_below(&self, client: &Client) -> Result<(), Failure> {
        let below = self.below(client).await?;
        let count = below.entries;
        let what = format!("{count} keys below {} in {}", self.key, client.base());
        let whither = match self.purge {
            true => "for good",
            false => "into the trash",
        };
        let full = format!(
            "{what} have {} bytes and do not fit into the trash, which holds {} keys and {} bytes, \
             what is there already included; empty it with `kvasir trash empty`, or remove them for \
             good with --purge",
            below.bytes, below.trash.entries_max, below.trash.bytes_max
        );
        if self.dry_run {
            let plan = json!({
                "wouldDelete": count,
                "sample": below.sample,
                "purge": self.purge,
                "fits": below.fits,
            });
            return changed(client, &self.frame.form, plan, |_| match below.fits {
                true => format!("would remove {what} {whither}: {}", below.sample.join(", ")),
                false => full,
            });
        }
        if !below.fits {
            return Err(Failure::usage(full));
        }
        let plan = Plan {
            verb: "removes",
            what: format!("{what} {whither}"),
            count,
            sample: &below.sample,
            typed: &self.key,
        };
        plan.agree(&Consent {
            dry_run: false,
            yes: self.yes,
            confirm: self.confirm.clone(),
        })?;
        let removed = self.step_by_step(client, count).await?;
        changed(client, &self.frame.form, removed, |removed| {
            let count = &removed["deleted"];
            let kept = &removed["trash"];
            match (kept["id"].as_str(), kept["until"].as_str()) {
                (Some(id), Some(until)) => format!(
                    "moved {count} keys below {} in {} into the trash; `kvasir trash restore {id}` \
                     brings them back until {until}",
                    self.key,
                    client.base()
                ),
                _ => format!(
                    "removed {count} keys below {} in {}",
                    self.key,
                    client.base()
                ),
            }
        })
    }

    async fn below(&self, client: &Client) -> Result<Below, Failure> {
        if self.purge {
            let mut sample = Vec::new();
            let entries = each_key(client, Some(&self.key), self.progress, |key| {
                if sample.len() < SAMPLE {
                    sample.push(key.to_owned());
                }
            });
            return Ok(Below {
                entries: entries.await?,
                bytes: 0,
                sample,
                fits: true,
                trash: Bounds::default(),
            });
        }
        let path = format!("{}?list=true&trash=true", kv_path(&self.key));
        let plan = answer(client, client.request(Method::GET, &path)).await;
        let plan = plan.map_err(|failure| match failure.exit {
            Exit::Conflict => Failure::usage(format!("{failure}; here that is --purge")),
            _ => failure,
        })?;
        serde_json::from_value(plan).map_err(|_| {
            Failure::usage("this server has no trash; --purge removes the keys for good")
        })
    }

    /// Removes a part with every request, until nothing is left.
    async fn step_by_step(&self, client: &Client, count: u64) -> Result<Json, Failure> {
        let path = format!("{}?list=true&limit={STEP}", kv_path(&self.key));
        let mut progress = Progress::begin(self.progress, "keys", 0, count);
        let (mut removed, mut kept) = (0, Json::Null);
        loop {
            let path = match (self.purge, kept["id"].as_str()) {
                (true, _) => path.clone(),
                (false, None) => format!("{path}&trash=true"),
                (false, Some(id)) => format!("{path}&trash={id}"),
            };
            let step = answer(client, client.request(Method::DELETE, &path)).await;
            let mut step = step.map_err(|failure| match removed {
                0 => failure,
                removed => Failure::new(
                    Exit::Partly,
                    format!(
                        "{removed} keys below {} were removed, then: {failure}",
                        self.key
                    ),
                ),
            })?;
            let more = step["deleted"].as_u64().unwrap_or_default();
            if !step["trash"].is_null() {
                kept = step["trash"].take();
            }
            removed += more;
            progress.set(removed);
            if more == 0 {
                progress.end();
                return Ok(json!({"ok": true, "deleted": removed, "trash": kept}));
            }
        }
    }
}
