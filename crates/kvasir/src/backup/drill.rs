//! Rehearses a restore: a backup becomes a store in scratch space and is compared with the live one.
//!
//! The live store has gone on since. What can be said is this: the restored store must hold what the
//! backup's trailer says, and every live entry that was last written before the backup must be in it,
//! the same. An entry that an import wrote since with an old versionstamp is therefore told as
//! missing.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use kvasir_kv::{Clock, Entry, Key, KeyRange, PageStream, Store};
use kvasir_store::{OpenOptions, open};
use tokio::runtime::Handle;

use super::source::Source;
use super::{Control, restore};

/// What a rehearsal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Entries that were restored.
    pub entries: u64,
    /// Live entries that have not changed since the backup; all of them were in it.
    pub compared: u64,
    /// Hash over the restored entries that do not expire.
    pub content_hash: String,
}

/// Rehearses. Not on a thread of the runtime. `scratch` is an empty folder that the caller removes.
///
/// # Errors
///
/// If the backup is damaged or what is restored differs from the live store.
pub fn run(
    source: Source,
    live: &Arc<dyn Store>,
    scratch: &Path,
    options: OpenOptions,
    clock: &dyn Clock,
    control: &Control,
    runtime: &Handle,
) -> anyhow::Result<Finding> {
    let url = format!("embedded:{}", scratch.display());
    let store = runtime
        .block_on(open(&url, options))
        .context("cannot open the scratch store")?;
    let done = compare(source, live, &store, clock, control, runtime);
    let closed = runtime.block_on(store.close());
    let finding = done?;
    closed.context("cannot close the scratch store")?;
    Ok(finding)
}

fn compare(
    source: Source,
    live: &Arc<dyn Store>,
    restored: &Arc<dyn Store>,
    clock: &dyn Clock,
    control: &Control,
    runtime: &Handle,
) -> anyhow::Result<Finding> {
    let report = restore::fill(source, restored, false, clock, control, runtime)?;
    let mut compared = 0;
    let (mut live, mut restored) = (Walk::new(live, runtime), Walk::new(restored, runtime));
    let mut there = restored.next()?;
    while let Some(entry) = live.next()? {
        // Written after the backup.
        if entry.versionstamp.to_string() > report.versionstamp {
            continue;
        }
        while there.as_ref().is_some_and(|there| there.key < entry.key) {
            there = restored.next()?;
        }
        let is_there = there.as_ref().is_some_and(|there| *there == entry);
        // Entries that expire may have done so between the two looks.
        if !is_there && !entry.is_expired(clock.now()) {
            bail!(
                "an entry that was last written at {} is not in the backup of {}",
                entry.versionstamp,
                report.versionstamp
            );
        }
        compared += 1;
        if compared % 1_000 == 0 {
            control.tell(report.entries, compared)?;
        }
    }
    Ok(Finding {
        entries: report.restored,
        compared,
        content_hash: report.content_hash,
    })
}

/// The entries of a store, in key order.
struct Walk {
    pages: PageStream,
    page: std::vec::IntoIter<Entry>,
    runtime: Handle,
}

impl Walk {
    fn new(store: &Arc<dyn Store>, runtime: &Handle) -> Walk {
        Walk {
            pages: store.scan_snapshot(KeyRange::starting_with(&Key::default()), false),
            page: Vec::new().into_iter(),
            runtime: runtime.clone(),
        }
    }

    fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.page.next() {
                return Ok(Some(entry));
            }
            match self.runtime.block_on(self.pages.next()) {
                None => return Ok(None),
                Some(page) => self.page = page.context("cannot read a store")?.entries.into_iter(),
            }
        }
    }
}
