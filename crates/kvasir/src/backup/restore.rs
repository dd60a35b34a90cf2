//! Makes a store hold what a backup holds, and reads it back before it says so.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use kvasir_kv::{Clock, Entry, Key, KeyRange, Store, Versionstamp};
use kvasir_store::EmbeddedSettings;
use kvasir_store::container::Summary;
use kvasir_store::content::ContentHash;
use serde::Serialize;
use tokio::runtime::Handle;

use super::Control;
use super::source::Source;

/// Entries that are written at once.
const WRITE_ENTRIES: usize = 1_000;

/// Bytes after which a write is sent early.
const WRITE_BYTES: usize = 256 * 1024;

/// What the folder is called, behind the data folder's name, whose store was replaced and is removed.
const GOING: &str = "going";

/// Memory for blocks of tables while a store is filled and read back once, in bytes.
const BLOCK_CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// Tables of the embedded engine that may be in memory while a store is filled, in bytes: with what is
/// being read and written, all stays under the 64 MiB of MOV-2.
const TABLES_IN_MEMORY_BYTES: u64 = 4 * 1024 * 1024;

/// What an embedded store takes that is filled once and read back: nothing is kept in memory for readers
/// that do not come.
pub fn frugal() -> EmbeddedSettings {
    EmbeddedSettings {
        hot_cache_bytes: 0,
        block_cache_bytes: BLOCK_CACHE_BYTES,
        tables_in_memory_bytes: TABLES_IN_MEMORY_BYTES,
        ..EmbeddedSettings::default()
    }
}

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
        // A link leads to the folder; it is not what is replaced.
        let data = &fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
        let scratch = beside(data, "restoring")?;
        // Of a restore that was killed: never anybody's data, and data that was replaced.
        for left in [&scratch, &beside(data, GOING)?] {
            remove_if_there(left).with_context(|| format!("cannot remove {}", left.display()))?;
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

    /// Puts the new folder in its place. What the old one held beside its store (certificates,
    /// credentials of clients, backups) comes along. What is left of the old one, its store, is removed
    /// then, or with `keep_old` stays beside the folder, under the name that is returned.
    ///
    /// Where the file system can, the two folders change places in one step, so that a kill leaves
    /// either. Nothing of the old one is removed before the new one is there and durable.
    ///
    /// # Errors
    ///
    /// If folders cannot be renamed; then the old one is where it was.
    pub fn commit(self, label: &str, keep_old: bool) -> anyhow::Result<Option<PathBuf>> {
        if !self.is_taken {
            let shown = self.data.display();
            match fs::remove_dir(&self.data) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot replace {shown}"));
                }
                _ => {}
            }
            fs::rename(&self.scratch, &self.data)
                .with_context(|| format!("cannot put the new store into {shown}"))?;
            sync_parent(&self.data)?;
            return Ok(None);
        }
        let aside = beside(&self.data, &format!("before-{label}"))?;
        self.change_places(&aside)?;
        bring_along(&aside, &self.data)?;
        sync_parent(&self.data)?;
        if keep_old {
            return Ok(Some(aside));
        }
        // Under a name by which the next restore knows that nobody wants it any more.
        let going = beside(&self.data, GOING)?;
        let removed = remove_if_there(&going)
            .and_then(|()| fs::rename(&aside, &going))
            .and_then(|()| fs::remove_dir_all(&going));
        match removed {
            Ok(()) => Ok(None),
            Err(error) => {
                tracing::warn!("the old data cannot be removed: {error}");
                Ok(Some(if aside.exists() { aside } else { going }))
            }
        }
    }

    /// The new folder takes the place of the old one, which is `aside` then.
    fn change_places(&self, aside: &Path) -> anyhow::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let shown = self.data.display();
        fs::rename(&self.scratch, aside)
            .with_context(|| format!("cannot rename {}", self.scratch.display()))?;
        if renameat_with(CWD, aside, CWD, &self.data, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
        // Not every file system knows that.
        fs::rename(aside, &self.scratch).context("cannot rename it back")?;
        fs::rename(&self.data, aside).with_context(|| format!("cannot put {shown} aside"))?;
        if let Err(error) = fs::rename(&self.scratch, &self.data) {
            fs::rename(aside, &self.data)
                .with_context(|| format!("the old data is in {}", aside.display()))?;
            return Err(error).with_context(|| format!("cannot put the new store into {shown}"));
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // After a commit it is not there any more.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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

    /// A data folder with an old store, and a place with a new one.
    fn replaceable(root: &Path) -> (PathBuf, Place) {
        let data = root.join("data");
        fs::create_dir_all(data.join("store")).unwrap();
        fs::create_dir_all(data.join("tls")).unwrap();
        fs::write(data.join("store/old"), "").unwrap();
        fs::write(data.join("server.json"), "").unwrap();
        assert!(Place::prepare(&data, false).is_err());
        let place = Place::prepare(&data, true).unwrap();
        fs::create_dir_all(place.scratch().join("store")).unwrap();
        fs::write(place.scratch().join("store/new"), "").unwrap();
        assert!(data.join("store/old").exists(), "untouched until the end");
        (data, place)
    }

    #[test]
    fn a_folder_is_replaced_as_a_whole_and_the_old_store_goes_at_the_end() {
        for keep_old in [false, true] {
            let root = tempfile::tempdir().unwrap();
            // Of a restore that was killed at its end.
            fs::create_dir_all(root.path().join("data.going/store")).unwrap();
            let (data, place) = replaceable(root.path());
            assert!(!root.path().join("data.going").exists());
            let aside = place.commit("x", keep_old).unwrap();
            assert!(data.join("store/new").exists() && !data.join("store/old").exists());
            assert!(data.join("tls").exists() && !data.join("server.json").exists());
            assert_eq!(aside.is_some(), keep_old);
            if let Some(aside) = aside {
                assert!(aside.join("store/old").exists() && !aside.join("tls").exists());
            }
            let left = fs::read_dir(root.path()).unwrap().count();
            assert_eq!(left, 1 + usize::from(keep_old), "nothing else is left");
        }
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
        assert_eq!(place.commit("x", false).unwrap(), None);
        assert!(data.exists());
    }
}
