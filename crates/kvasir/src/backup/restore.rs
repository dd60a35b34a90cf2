//! Makes a store hold what a backup holds, and reads it back before it says so.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use kvasir_kv::{Clock, Entry, Key, KeyRange, Store, Versionstamp};
use kvasir_store::container::Summary;
use kvasir_store::content::ContentHash;
use serde::Serialize;
use tokio::runtime::Handle;

use super::Control;
use super::source::Source;

/// Entries that are written at once.
const WRITE_ENTRIES: usize = 1_000;

/// Bytes after which a write is sent early.
const WRITE_BYTES: usize = 4 * 1024 * 1024;

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The newest commit in the backup.
    pub versionstamp: String,
    /// Entries of the backup.
    pub entries: u64,
    /// Entries that were past their expiry and were left out.
    pub expired: u64,
    /// Entries that were written and read back.
    pub restored: u64,
    /// Hash over the entries that do not expire, in the store as in the backup.
    pub content_hash: String,
}

/// Writes all of a backup into an empty store and reads it back. Not on a thread of the runtime.
///
/// With `ignore_expiry` entries never expire, so that those come back too whose time is over.
///
/// # Errors
///
/// If the backup is damaged, the store is not empty or cannot be written, or what is read back is not
/// what was written.
pub fn fill(
    mut source: Source,
    store: &Arc<dyn Store>,
    ignore_expiry: bool,
    clock: &dyn Clock,
    control: &Control,
    runtime: &Handle,
) -> anyhow::Result<Report> {
    if !is_empty(store, runtime)? {
        bail!("the store is not empty: a restore needs an empty one");
    }
    let mut written = ContentHash::default();
    let mut expired = 0;
    let mut batch = Batch::default();
    while let Some(entries) = source.next_chunk()? {
        let now = clock.now();
        for mut entry in entries {
            if ignore_expiry {
                entry.expires_at = None;
            } else if entry.is_expired(now) {
                expired += 1;
                continue;
            }
            written.add(&entry);
            batch.push(entry, store, runtime)?;
        }
        let so_far = source.so_far();
        control.tell(so_far.content.entries(), so_far.bytes)?;
    }
    batch.send(store, runtime)?;
    let summary: Summary = source.finish()?;
    let found = content_of(store, control, runtime)?;
    if !written.fits(&found) {
        bail!(
            "what was read back is not what was written: {} lasting entries with hash {}, not {} \
             with hash {}",
            found.lasting,
            found.text(),
            written.lasting,
            written.text()
        );
    }
    Ok(Report {
        versionstamp: summary.versionstamp.to_string(),
        entries: summary.content.entries(),
        expired,
        restored: written.entries(),
        content_hash: found.text(),
    })
}

fn is_empty(store: &Arc<dyn Store>, runtime: &Handle) -> anyhow::Result<bool> {
    let versionstamp = runtime.block_on(store.versionstamp());
    let first = runtime.block_on(store.scan(everything(), false).next());
    let first = first.transpose().context("cannot read the store")?;
    let has_entries = first.is_some_and(|page| !page.entries.is_empty());
    // A store that held something once has given out versionstamps.
    let is_new = versionstamp.context("cannot read the store")? == Versionstamp::ZERO;
    Ok(is_new && !has_entries)
}

fn everything() -> KeyRange {
    KeyRange::starting_with(&Key::default())
}

/// What a store holds.
pub(super) fn content_of(
    store: &Arc<dyn Store>,
    control: &Control,
    runtime: &Handle,
) -> anyhow::Result<ContentHash> {
    let mut found = ContentHash::default();
    let mut pages = store.scan_snapshot(everything(), false);
    while let Some(page) = runtime.block_on(pages.next()) {
        for entry in &page.context("cannot read the store back")?.entries {
            found.add(entry);
        }
        let (entries, bytes) = control.progress();
        control.tell(entries, bytes)?;
    }
    Ok(found)
}

/// Entries that wait to be written.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    fn push(
        &mut self,
        entry: Entry,
        store: &Arc<dyn Store>,
        runtime: &Handle,
    ) -> anyhow::Result<()> {
        self.bytes += entry.cost_bytes();
        self.entries.push(entry);
        if self.entries.len() >= WRITE_ENTRIES || self.bytes >= WRITE_BYTES {
            self.send(store, runtime)?;
        }
        Ok(())
    }

    fn send(&mut self, store: &Arc<dyn Store>, runtime: &Handle) -> anyhow::Result<()> {
        let entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        match entries.is_empty() {
            true => Ok(()),
            false => runtime
                .block_on(store.ingest(entries))
                .context("cannot write the store"),
        }
    }
}

/// A data folder that is to be made from a backup.
///
/// The store is filled in a folder beside it, which takes its place by one rename when everything was
/// read back. Until then the old folder is where it was.
pub struct Place {
    data: PathBuf,
    scratch: PathBuf,
    is_taken: bool,
}

impl Place {
    /// Makes the folder beside `data`. Without `replace` there must be nothing of a server in `data`.
    ///
    /// # Errors
    ///
    /// If there is, or the folder cannot be made.
    pub fn prepare(data: &Path, replace: bool) -> anyhow::Result<Place> {
        let shown = data.display();
        let is_empty = match fs::read_dir(data) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        if !is_empty && !replace {
            bail!("{shown} is not empty: name another folder, or add --replace");
        }
        let scratch = beside(data, "restoring")?;
        if scratch.exists() {
            // Of a restore that was killed: it was never anybody's data.
            fs::remove_dir_all(&scratch)
                .with_context(|| format!("cannot remove {}", scratch.display()))?;
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&scratch)
            .with_context(|| format!("cannot create {}", scratch.display()))?;
        Ok(Place {
            data: data.to_owned(),
            scratch,
            is_taken: !is_empty,
        })
    }

    /// Where the new store is to be made.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Puts the new folder in its place, and says where the old one is now, if there was one. What the
    /// old one held beside its store (certificates, credentials of clients, backups) comes along.
    ///
    /// # Errors
    ///
    /// If folders cannot be renamed; then the old one is where it was.
    pub fn commit(self, label: &str) -> anyhow::Result<Option<PathBuf>> {
        let shown = self.data.display().to_string();
        let aside = match self.is_taken {
            false => {
                match fs::remove_dir(&self.data) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("cannot replace {shown}"));
                    }
                    _ => {}
                }
                None
            }
            true => {
                let aside = beside(&self.data, &format!("before-{label}"))?;
                fs::rename(&self.data, &aside)
                    .with_context(|| format!("cannot put {shown} aside"))?;
                Some(aside)
            }
        };
        if let Err(error) = fs::rename(&self.scratch, &self.data) {
            if let Some(aside) = &aside {
                fs::rename(aside, &self.data)
                    .with_context(|| format!("the old data is in {}", aside.display()))?;
            }
            return Err(error).with_context(|| format!("cannot put the new store into {shown}"));
        }
        if let Some(aside) = &aside {
            bring_along(aside, &self.data)?;
        }
        sync_parent(&self.data)?;
        Ok(aside)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // After a commit it is not there any more.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Moves what is not the store's from the old folder to the new one.
fn bring_along(old: &Path, new: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(old).context("cannot read the old folder")? {
        let entry = entry.context("cannot read the old folder")?;
        let name = entry.file_name();
        let is_of_store = name
            .to_str()
            .is_some_and(|name| name == "store" || name.starts_with("store."));
        let to = new.join(&name);
        if is_of_store || name == "server.json" || to.exists() {
            continue;
        }
        fs::rename(entry.path(), &to)
            .with_context(|| format!("cannot bring {} along", entry.path().display()))?;
    }
    Ok(())
}

/// A folder next to `data`, so that a rename stays on one file system.
fn beside(data: &Path, what: &str) -> anyhow::Result<PathBuf> {
    let data = std::path::absolute(data).context("cannot find the folder")?;
    let mut name = data
        .file_name()
        .context("the data folder has no name")?
        .to_owned();
    name.push(format!(".{what}"));
    Ok(data.with_file_name(name))
}

fn sync_parent(data: &Path) -> anyhow::Result<()> {
    let data = std::path::absolute(data).context("cannot find the folder")?;
    let parent = data.parent().unwrap_or(&data);
    let synced = fs::File::open(parent).and_then(|folder| folder.sync_all());
    synced.context("cannot make the rename durable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replaced_as_a_whole_and_the_old_one_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        fs::create_dir_all(data.join("store")).unwrap();
        fs::create_dir_all(data.join("tls")).unwrap();
        fs::write(data.join("store/old"), "").unwrap();
        fs::write(data.join("server.json"), "").unwrap();
        assert!(Place::prepare(&data, false).is_err());
        assert!(data.join("store/old").exists());

        let place = Place::prepare(&data, true).unwrap();
        fs::create_dir_all(place.scratch().join("store")).unwrap();
        fs::write(place.scratch().join("store/new"), "").unwrap();
        assert!(data.join("store/old").exists(), "untouched until the end");
        let aside = place.commit("x").unwrap().unwrap();
        assert!(data.join("store/new").exists() && !data.join("store/old").exists());
        assert!(data.join("tls").exists() && !data.join("server.json").exists());
        assert!(aside.join("store/old").exists());
    }

    #[test]
    fn a_restore_that_was_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let place = Place::prepare(&data, false).unwrap();
        fs::write(place.scratch().join("half"), "").unwrap();
        drop(place);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);

        let place = Place::prepare(&data, false).unwrap();
        fs::create_dir(&data).unwrap();
        assert_eq!(place.commit("x").unwrap(), None);
        assert!(data.exists());
    }
}
