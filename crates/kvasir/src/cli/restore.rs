//! `kvasir restore` and `kvasir init --restore`: a data folder or store from a backup.

use std::fs::File;
use std::io::{BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use kvasir_kv::{Clock, UnixMillis};
use kvasir_store::container::Summary;
use kvasir_store::{OpenOptions, SystemClock, open};
use serde_json::json;
use tokio::runtime::Handle;

use super::offline;
use super::output::{Form, Printer};
use super::progress::{Progress, ProgressForm};
use super::settings;
use crate::backup::Control;
use crate::backup::restore::{self, Place, Report};
use crate::backup::source::{self, Source};
use crate::backup::target::{Found, Target};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::server_file::ServerFile;

/// How often progress is shown.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Make a data folder of a backup.
///
/// The folder must be empty, or --replace removes what is there at the end. Everything is written
/// beside it, read back and compared, and takes its place only then; whatever fails before leaves the
/// folder as it was. No server may hold it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir restore latest --replace --yes
  kvasir restore latest --to 2026-11-21T12:00:00Z --replace --keep-old --dry-run
  kvasir restore kvasir-data/backups/20261121T150405Z-00060a24181e40000003.kvb --data new-data

Exit codes: 0 done, 1 failed, 2 usage, 3 no such backup, 6 unreachable, 8 the backup is damaged")]
pub(super) struct Restore {
    /// A file, a name that `kvasir backup ls` shows, or latest
    backup: String,
    /// The newest that is not later than this versionstamp or time (RFC 3339), with latest
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// Take the place of what is in the folder, which is removed once the new store was read back
    #[arg(long)]
    replace: bool,
    /// Leave the old store beside the folder, which takes its space until somebody removes it
    #[arg(long, requires = "replace")]
    keep_old: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Read the backup and say what it holds, but write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    form: Form,
}

/// Make a data folder, empty or of a backup, before the first start.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir init --data new-data
  kvasir init --restore /mnt/20261121T150405Z-00060a24181e40000003.kvb --data new-data

Exit codes: 0 done, 1 failed, 2 usage, 3 no such backup, 6 unreachable, 8 the backup is damaged")]
pub(super) struct Init {
    /// A file, a name at backup.target, or latest
    #[arg(long, value_name = "BACKUP")]
    restore: Option<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
struct How {
    /// The data folder to make [default: kvasir-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The store to fill instead, which must be empty: sqlite:FILE, mysql://… or postgres://…
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// File with the private key of age, if the backup is encrypted
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Let no entry expire, so that those come back too whose time is over
    #[arg(long)]
    ignore_expiry: bool,
    /// Configuration file, for backup.target
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    progress: ProgressForm,
}

impl Init {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.restore {
            Some(backup) => Restore {
                backup,
                to: None,
                replace: false,
                keep_old: false,
                yes: false,
                dry_run: false,
                how: self.how,
                form: self.form,
            }
            .run(),
            None => {
                let config = self.how.config()?;
                let url = match &self.how.store {
                    Some(url) => url.clone(),
                    None => config.server.store_url(&config.store),
                };
                offline::block_on(async {
                    let store = open(&url, OpenOptions::default()).await?;
                    Ok(store.close().await.context("cannot close the store")?)
                })?;
                let answer = json!({"data": config.server.data});
                Printer::new(&self.form).one(&answer, || {
                    format!("{} is ready", config.server.data.display())
                })
            }
        }
    }
}

impl How {
    fn config(&self) -> Result<Config, Failure> {
        let mut sources = settings::sources(None, self.config.clone());
        if let Some(folder) = &self.data {
            let folder = folder.to_string_lossy().into_owned();
            let flag = ("server.data".to_owned(), "--data".to_owned(), vec![folder]);
            sources.flags.push(flag);
        }
        Ok(Config::load(&sources)?.0)
    }
}

impl Restore {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.how.config()?;
        let data = config.server.data.clone();
        let is_folder = self.how.store.is_none();
        if is_folder && !config.store.url.is_empty() {
            return Err(Failure::usage(
                "the server's store is not in its data folder: name an empty one with --store",
            ));
        }
        if is_folder && ServerFile::read(&data)?.is_some() {
            return Err(Failure::usage(format!(
                "a server holds {}: stop it first",
                data.display()
            )));
        }
        let answer = offline::block_on(async {
            let progress = Progress::begin(self.how.progress, "entries", 0, None);
            let (control, runtime) = (Arc::new(Control::default()), Handle::current());
            let source = self.source(&config).await?;
            if self.dry_run {
                let seen = Arc::clone(&control);
                let read = on_thread(move || source::verify(source, &seen));
                let summary = follow(read, &control, progress).await?;
                return Ok(of_backup(&summary));
            }
            let report = match &self.how.store {
                Some(url) => {
                    let store = open(url, options()).await?;
                    let (filled, seen) = (Arc::clone(&store), Arc::clone(&control));
                    let ignore = self.how.ignore_expiry;
                    let fill = on_thread(move || {
                        restore::fill(source, &filled, ignore, &SystemClock, &seen, &runtime)
                    });
                    let done = follow(fill, &control, progress).await;
                    let closed = store.close().await;
                    let report = done?;
                    closed.context("cannot close the store")?;
                    of_report(&report, None)
                }
                None => self.to_folder(source, &data, progress, control).await?,
            };
            Ok(report)
        })?;
        Printer::new(&self.form).one(&answer, || told(&answer))
    }

    async fn to_folder(
        &self,
        source: Source,
        data: &Path,
        progress: Progress,
        control: Arc<Control>,
    ) -> Result<serde_json::Value, Failure> {
        let place = Place::prepare(data, self.replace)?;
        if self.replace && !self.yes && data.exists() {
            ask(data, self.keep_old)?;
        }
        let url = format!("embedded:{}", place.scratch().display());
        let store = open(&url, options()).await?;
        let (filled, seen, runtime) = (Arc::clone(&store), Arc::clone(&control), Handle::current());
        let ignore = self.how.ignore_expiry;
        let fill = on_thread(move || {
            restore::fill(source, &filled, ignore, &SystemClock, &seen, &runtime)
        });
        let done = follow(fill, &control, progress).await;
        let closed = store.close().await;
        let report = done?;
        closed.context("cannot close the store")?;
        let aside = place.commit(&SystemClock.now().0.to_string(), self.keep_old)?;
        Ok(of_report(&report, aside.as_deref()))
    }

    /// The backup that is meant.
    async fn source(&self, config: &Config) -> Result<Source, Failure> {
        let keys = match (&self.how.identity, &config.backup.identity_file) {
            (Some(file), _) | (None, Some(file)) => source::identities(file)?,
            (None, None) => Vec::new(),
        };
        let file = Path::new(&self.backup);
        if self.backup != "latest" && file.is_file() {
            let opened =
                File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
            let input: Box<dyn Read + Send> = Box::new(BufReader::new(opened));
            return on_thread(move || source::open(input, &keys))
                .await
                .map_err(failed);
        }
        let target = Target::new(&config.backup, &config.server.data)?;
        let found = self.choose(target.list().await.map_err(failed)?)?;
        let runtime = Handle::current();
        on_thread(move || source::open(target.open(&found, &runtime)?, &keys))
            .await
            .map_err(failed)
    }

    /// `found` is sorted, the newest first.
    fn choose(&self, found: Vec<Found>) -> Result<Found, Failure> {
        let wanted = match (&self.to, self.backup.as_str()) {
            (Some(to), _) => {
                let stamp: Option<kvasir_kv::Versionstamp> = to.parse().ok();
                let time: Option<UnixMillis> = kvasir_api::time::parse_rfc3339(to);
                if stamp.is_none() && time.is_none() {
                    return Err(Failure::usage(format!(
                        "{to:?} is neither a versionstamp nor a time such as 2026-01-02T03:04:05Z"
                    )));
                }
                found.into_iter().find(|one| {
                    stamp.is_some_and(|stamp| one.name.versionstamp() <= stamp)
                        || time.is_some_and(|time| one.name.versionstamp().time() <= time)
                })
            }
            (None, "latest") => found.into_iter().next(),
            (None, name) => found.into_iter().find(|one| one.name.as_str() == name),
        };
        wanted.ok_or_else(|| {
            let what = format!("there is no backup {}; see `kvasir backup ls`", self.backup);
            Failure::new(Exit::NotFound, what)
        })
    }
}

/// Nothing is swept while it is written, and everything fits that ever did.
fn options() -> OpenOptions {
    OpenOptions {
        sweeper: false,
        embedded: restore::frugal(),
        limits: offline::widest_limits(),
        ..OpenOptions::default()
    }
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(panic.into()))
}

/// Shows how far the work is until it ends.
async fn follow<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    control: &Control,
    mut progress: Progress,
) -> Result<T, Failure> {
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(LOOK_EVERY) => progress.set(control.progress().0),
        }
    };
    progress.set(control.progress().0);
    progress.end();
    done.map_err(failed)
}

fn failed(error: anyhow::Error) -> Failure {
    if source::is_damage(&error) {
        let exit = Exit::Damaged;
        return Failure { exit, error };
    }
    // Only stores behind HTTP are asked with that.
    if error.chain().any(|cause| cause.is::<reqwest::Error>()) {
        let exit = Exit::Unreachable;
        return Failure { exit, error };
    }
    error.into()
}

fn of_backup(summary: &Summary) -> serde_json::Value {
    json!({
        "dryRun": true,
        "versionstamp": summary.versionstamp.to_string(),
        "entries": summary.content.entries(),
        "contentHash": summary.content.text(),
    })
}

fn of_report(report: &Report, aside: Option<&Path>) -> serde_json::Value {
    json!({
        "dryRun": false,
        "versionstamp": report.versionstamp,
        "entries": report.entries,
        "restored": report.restored,
        "expired": report.expired,
        "contentHash": report.content_hash,
        "oldData": aside.map(|aside| aside.display().to_string()),
    })
}

/// The answer for people.
fn told(answer: &serde_json::Value) -> String {
    let text = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
    if answer["dryRun"] == true {
        return format!(
            "the backup is whole: {} entries up to {}, content hash {}; nothing was written",
            answer["entries"],
            text("versionstamp"),
            text("contentHash")
        );
    }
    let mut told = format!(
        "restored {} of {} entries up to {} and read them back, content hash {}; {} were past their \
         expiry",
        answer["restored"],
        answer["entries"],
        text("versionstamp"),
        text("contentHash"),
        answer["expired"]
    );
    if let Some(aside) = answer["oldData"].as_str() {
        told +=
            &format!("\nthe old store is in {aside}; remove it when you do not need it any more");
    }
    told
}

/// Lets a person say yes; without one `--yes` is needed.
#[expect(clippy::print_stderr, reason = "questions go to standard error")]
fn ask(data: &Path, keep_old: bool) -> Result<(), Failure> {
    let shown = data.display();
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{shown} would be replaced: add --yes to do so"
        )));
    }
    let fate = match keep_old {
        true => "is put aside",
        false => "is removed once the backup was restored and read back",
    };
    eprint!(
        "This replaces {shown} by the backup; the store that is there {fate}. Type yes to go on: "
    );
    std::io::stderr().flush().context("cannot ask")?;
    let mut typed = String::new();
    std::io::stdin()
        .read_line(&mut typed)
        .context("cannot read the answer")?;
    match typed.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::usage("nothing was changed")),
    }
}
