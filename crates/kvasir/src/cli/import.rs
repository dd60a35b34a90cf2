//! `kvasir import`: exports and data of the original programs into a store.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use kvasir_kv::{Keyspace, KeyspaceName, Limits, Store};
use kvasir_store::{OpenOptions, SystemClock, open};

use super::import_denokv::Denokv;
use super::import_lines::Lines;
use super::offline;
use super::progress::{Progress, ProgressForm};
use crate::exit::{Exit, Failure};
use crate::moving::classworks::{self, Target};
use crate::moving::datasource::Datasource;
use crate::moving::kopano;
use crate::moving::legacy::Source;
use crate::moving::report::Report;

/// Move data in: JSON lines or CSV of an export, or the databases of the original programs.
///
/// A source is only read. From kopano and classworks, rows whose entry exists are skipped, so an
/// import may be repeated, and afterwards every entry is read back and compared with its row. JSON
/// lines, CSV and denokv keep versionstamps and expiries; when they were interrupted, the same command
/// goes on where they stopped. CSV holds no encodings, and raw exports hold no keys: those cannot be
/// imported.
///
/// Exit codes: 0 done, 7 some rows cannot be stored or differ (the report names them), 6
/// unreachable, 2 usage, 1 failed.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Examples:
  kvasir import shop.jsonl --db shop
  kvasir import users.csv --db shop --conflict newer --dry-run
  kvasir import denokv kv.sqlite3

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable, 7 partly done, 8 data damaged")]
pub(super) struct Import {
    #[command(subcommand)]
    from: Option<From>,
    #[command(flatten)]
    lines: Lines,
}

#[derive(Debug, Subcommand)]
enum From {
    Denokv(Denokv),
    Kopano(Kopano),
    Classworks(Classworks),
}

/// Documents of a Kopano kvs daemon.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvasir import kopano /var/lib/kopano/kapi-kvs/kvs.db --dry-run
  kvasir import kopano --driver mysql 'kvs:secret@tcp(db:3306)/kvs' --store sqlite:kvasir.db

Exit codes: 0 done, 1 failed, 2 usage, 6 unreachable, 7 partly done, 8 data damaged")]
struct Kopano {
    /// SQLite file or MySQL DSN, as KOPANO_KVS_DB_DATASOURCE has it; or a URL mysql://…
    source: String,

    /// What the source is, as KOPANO_KVS_DB_DRIVER has it: sqlite3 or mysql.
    #[arg(long)]
    driver: Option<String>,

    /// Keyspace of the Kopano mount.
    #[arg(long, default_value = "kopano")]
    keyspace: KeyspaceName,

    #[command(flatten)]
    common: Common,
}

/// Values and devices of a Classworks KV server.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvasir import classworks data/db.db --dry-run
  kvasir import classworks postgres://cw:secret@db/classworks --data /var/lib/kvasir

Exit codes: 0 done, 1 failed, 2 usage, 6 unreachable, 7 partly done, 8 data damaged")]
struct Classworks {
    /// SQLite file, mysql://… or postgres://…
    source: String,

    /// Keyspace of the Classworks mount.
    #[arg(long, default_value = "classworks")]
    keyspace: KeyspaceName,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The store to write: embedded:DIR, sqlite:FILE, mysql://… or postgres://…
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    store: Option<String>,

    /// The data folder of the server, for its embedded store. The server must not run.
    #[arg(long, value_name = "DIR", default_value = "./kvasir-data")]
    data: PathBuf,

    /// Only tell what would be done.
    #[arg(long)]
    dry_run: bool,

    /// Replace entries that exist instead of skipping their rows.
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    progress: ProgressForm,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Import {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match &self.from {
            None => self.lines.run(),
            Some(From::Denokv(denokv)) => denokv.run(),
            Some(From::Kopano(kopano)) => kopano.run(),
            Some(From::Classworks(classworks)) => classworks.run(),
        }
    }
}

impl Kopano {
    fn source(&self) -> Result<Source, Failure> {
        let is_url = [
            "mysql://",
            "mariadb://",
            "postgres://",
            "postgresql://",
            "sqlite:",
        ]
        .iter()
        .any(|scheme| self.source.starts_with(scheme));
        if is_url {
            return Source::parse(&self.source).map_err(|error| Failure::usage(error.to_string()));
        }
        let datasource = Datasource::parse(self.driver.as_deref(), &self.source)
            .map_err(|error| Failure::usage(error.to_string()))?;
        match datasource {
            Datasource::Sqlite(path) => Ok(Source::Sqlite(path)),
            Datasource::MySql(_) => {
                let url = datasource
                    .store_url()
                    .map_err(|error| Failure::usage(error.to_string()))?;
                Ok(Source::MySql(url))
            }
        }
    }

    fn run(&self) -> Result<(), Failure> {
        let source = self.source()?;
        self.common.run(async |store, limits, progress| {
            let keyspace = Keyspace::new(store, self.keyspace.clone());
            let options = kopano::Options {
                dry_run: self.common.dry_run,
                overwrite: self.common.overwrite,
            };
            let tell = |rows| progress.set(rows);
            kopano::import(&source, &keyspace, &SystemClock, &limits, options, tell).await
        })
    }
}

impl Classworks {
    fn run(&self) -> Result<(), Failure> {
        let source =
            Source::parse(&self.source).map_err(|error| Failure::usage(error.to_string()))?;
        self.common.run(async |store, limits, progress| {
            let target = Target {
                values: Keyspace::new(Arc::clone(&store), self.keyspace.clone()),
                system: Keyspace::new(store, KeyspaceName::system()),
            };
            let options = classworks::Options {
                dry_run: self.common.dry_run,
                overwrite: self.common.overwrite,
            };
            let tell = |rows| progress.set(rows);
            classworks::import(&source, &target, &limits, options, tell).await
        })
    }
}

impl Common {
    fn store_url(&self) -> String {
        match &self.store {
            Some(url) => url.clone(),
            None => format!("embedded:{}", self.data.display()),
        }
    }

    fn run(
        &self,
        import: impl AsyncFnOnce(Arc<dyn Store>, Limits, &mut Progress) -> anyhow::Result<Report>,
    ) -> Result<(), Failure> {
        offline::block_on(async {
            let options = OpenOptions {
                sweeper: false,
                ..OpenOptions::default()
            };
            let limits = options.limits;
            let store = open(&self.store_url(), options).await?;
            let mut progress = Progress::begin(self.progress, "rows", 0, None);
            let done = import(Arc::clone(&store), limits, &mut progress).await;
            progress.end();
            let closed = store.close().await;
            let report = done?;
            closed?;
            if self.json {
                offline::print_json(&report)?;
            } else {
                offline::print(&summary(&report));
            }
            if report.refused > 0 || report.differing > 0 {
                return Err(Failure::new(
                    Exit::Partly,
                    format!(
                        "{} rows were left out and {} entries differ from the source; see the report",
                        report.refused, report.differing
                    ),
                ));
            }
            Ok(())
        })
    }
}

/// The report for people.
fn summary(report: &Report) -> String {
    let verb = if report.dry_run {
        "would write"
    } else {
        "wrote"
    };
    let mut lines = vec![format!(
        "read {} rows, {verb} {} entries, skipped {} that exist, left out {}",
        report.rows, report.written, report.skipped, report.refused
    )];
    if !report.dry_run {
        lines.push(format!(
            "compared {} entries with their rows, {} differ",
            report.verified, report.differing
        ));
    }
    for (kind, remark) in &report.remarks {
        lines.push(format!("{} {kind}:", remark.count));
        lines.extend(remark.names.iter().map(|name| format!("  {name}")));
        if remark.count > remark.names.len() as u64 {
            lines.push("  …".into());
        }
    }
    for (owner, rows) in &report.totals {
        lines.push(format!("{rows} rows of {owner}"));
    }
    lines.join("\n")
}
