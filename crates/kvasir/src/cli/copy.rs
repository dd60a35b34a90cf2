//! `kvasir copy`: everything from one store into another.

use clap::Args;
use kvasir_store::{OpenOptions, open};

use super::offline;
use super::progress::{Progress, ProgressForm};
use crate::exit::{Exit, Failure};
use crate::moving::copy::{self, Options, Report};

/// Copy everything from one store into another.
///
/// Reads one snapshot of the source, writes what the target lacks, then reads the target again and
/// compares count and content hash. Entries keep their versionstamps and expiries. It may be
/// repeated: a second run writes only what is missing. No server may use an embedded or SQLite
/// store at the same time.
///
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvasir copy --from embedded:./kvasir-data --to sqlite:kvasir.db
  kvasir copy --from sqlite:kvasir.db --to mysql://kv:secret@db1,db2/kv --dry-run

Exit codes: 0 done, 1 failed, 2 usage, 6 unreachable, 7 the target holds newer or other entries (they
stay), 8 data damaged")]
pub(super) struct Copy {
    /// The store to read: embedded:DIR, sqlite:FILE, mysql://… or postgres://…
    #[arg(long, value_name = "URL")]
    from: String,

    /// The store to write; created if it is not there.
    #[arg(long, value_name = "URL")]
    to: String,

    /// Only tell what would be done.
    #[arg(long)]
    dry_run: bool,

    /// Replace entries of the target that are newer than those of the source.
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    progress: ProgressForm,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Copy {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.from == self.to {
            return Err(Failure::usage("--from and --to name the same store"));
        }
        offline::block_on(async {
            // Nothing is swept while it is copied.
            let options = || OpenOptions {
                sweeper: false,
                limits: offline::widest_limits(),
                ..OpenOptions::default()
            };
            let source = open(&with_snapshot(&self.from), options()).await?;
            let target = open(&self.to, options()).await?;
            let mut progress = Progress::begin(self.progress, "entries", 0, None);
            let done = copy::copy(
                &source,
                &target,
                Options {
                    dry_run: self.dry_run,
                    overwrite: self.overwrite,
                },
                |entries, _| progress.set(entries),
            )
            .await;
            progress.end();
            let closed = (source.close().await, target.close().await);
            let report = done?;
            closed.0?;
            closed.1?;
            self.tell(&report)?;
            if report.newer > 0 || report.only_in_target > 0 {
                return Err(Failure::new(
                    Exit::Partly,
                    "the target holds entries that the source does not, or newer ones; they were \
                     left as they are",
                ));
            }
            Ok(())
        })
    }

    fn tell(&self, report: &Report) -> Result<(), Failure> {
        if self.json {
            return offline::print_json(report);
        }
        let verb = if report.dry_run {
            "would write"
        } else {
            "wrote"
        };
        offline::print(&format!(
            "{verb} {} of {} entries ({} bytes); {} were there, {} are newer in the target, {} only \
             there\ncontent hash {}{}",
            report.written,
            report.entries,
            report.bytes,
            report.same,
            report.newer,
            report.only_in_target,
            report.content_hash,
            if report.verified {
                ", verified by reading the target again"
            } else {
                ""
            },
        ));
        if !report.one_snapshot {
            offline::print("the source was read page by page: nobody should write to it meanwhile");
        }
        Ok(())
    }
}

/// Asks a source for one snapshot over its whole scan, where that is an option.
fn with_snapshot(url: &str) -> String {
    let has_option = ["sqlite:", "mysql:", "mariadb:", "postgres:", "postgresql:"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    if !has_option || url.contains("scan=") {
        return url.to_owned();
    }
    let glue = if url.contains('?') { '&' } else { '?' };
    format!("{url}{glue}scan=snapshot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_with_the_option_are_read_in_one_snapshot() {
        for (url, expected) in [
            ("embedded:x", "embedded:x"),
            ("memory:", "memory:"),
            ("sqlite:x", "sqlite:x?scan=snapshot"),
            (
                "mysql://u@h/d?tls=off",
                "mysql://u@h/d?tls=off&scan=snapshot",
            ),
            ("postgres://u@h/d?scan=page", "postgres://u@h/d?scan=page"),
        ] {
            assert_eq!(with_snapshot(url), expected);
        }
    }
}
