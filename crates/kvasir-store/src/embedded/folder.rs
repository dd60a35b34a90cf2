//! The folder of an embedded store: its files, its lock, and how it is made so that a power cut at
//! any moment leaves either nothing or a whole store.
//!
//! ```text
//! store/            fjall's database, with `kvasir` (format version and nonce) in it
//! store.new/        a store that is being made; deleted at the next start
//! store.lock        locked while open; holds the process number of the holder
//! store.state       whether the last end was clean, and what the store held at the last clean one
//! store.repaired    a repaired copy that is being made; deleted by the next repair
//! store.damaged-N   what a repair put aside; never touched again
//! store.ballast     space that is given up when the disk is full
//! ```
//!
//! Order of durability (each step is synced before the next begins): everything in `store.new`,
//! its folders, its rename to `store`, then `store.state`. `store.state` says "running" before the
//! engine is opened, and "closed" only after it was closed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvasir_kv::Versionstamp;

use super::journal::{NONCE_BYTES, Seal};
use crate::open::OpenError;

/// The format that this version writes, the newest it opens.
pub(crate) const FORMAT: u32 = 1;

/// Keyspaces of fjall's database, its own one for meta data not counted.
pub(crate) const KEYSPACES: usize = 3;

/// The paths of a store.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(crate) fn new(root: &Path) -> Folder {
        Folder {
            root: root.to_path_buf(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub(crate) fn repaired_store(&self) -> PathBuf {
        self.root.join("store.repaired")
    }

    /// The first unused name for a store that is put aside.
    pub(crate) fn damaged_store(&self) -> PathBuf {
        let name = |number| self.root.join(format!("store.damaged-{number}"));
        let mut numbers = 1_u32..;
        numbers
            .find_map(|number| Some(name(number)).filter(|path| !path.exists()))
            .expect("a folder holds less than 2^32 names")
    }

    pub(crate) fn new_store(&self) -> PathBuf {
        self.root.join("store.new")
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.root.join("store.ballast")
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("store.lock")
    }

    fn state_file(&self) -> PathBuf {
        self.root.join("store.state")
    }

    /// Makes the folder itself and takes its lock.
    pub(crate) fn lock(&self) -> Result<Lock, OpenError> {
        self.make_root()?;
        let path = self.lock_file();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text);
                return Err(OpenError::Locked {
                    path: self.root.clone(),
                    holder: read.ok().and_then(|_| text.trim().parse().ok()),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io("lock", &path)(error)),
        }
        // Only to be shown to people, so nothing is synced.
        let holder = std::process::id().to_string();
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(io("write", &path))?;
        Ok(Lock {
            _file: Arc::new(file),
        })
    }

    /// Makes the folder and those above it, each durable in the one that lists it.
    fn make_root(&self) -> Result<(), OpenError> {
        let root = std::path::absolute(&self.root).map_err(io("find", &self.root))?;
        let missing: Vec<_> = root.ancestors().take_while(|path| !path.is_dir()).collect();
        for path in missing.into_iter().rev() {
            std::fs::create_dir(path).map_err(io("create", path))?;
            sync_folder(path.parent().expect("the root of all is not missing"))?;
        }
        Ok(())
    }

    /// How the store was left, `None` for one that was never opened.
    pub(crate) fn state(&self) -> Result<Option<State>, OpenError> {
        let path = self.state_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("read", &path)(error)),
        };
        State::parse(&text)
            .map(Some)
            .ok_or_else(|| damaged(&path, 0, "it does not say how the store was left"))
    }

    /// Replaces the state and makes that durable.
    pub(crate) fn set_state(&self, state: &State) -> Result<(), OpenError> {
        let path = self.state_file();
        let new = path.with_extension("state.new");
        write_synced(&new, state.to_text().as_bytes())?;
        std::fs::rename(&new, &path).map_err(io("rename", &new))?;
        sync_folder(&self.root)
    }
}

/// Held while a store is open. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    _file: Arc<File>,
}

/// How a store was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is open, or its process ended without closing it.
    Running {
        /// The newest versionstamp of the last clean end, below which it cannot be; zero before the
        /// first one.
        floor: Versionstamp,
    },
    /// It was closed, and held this.
    Closed {
        /// The newest versionstamp.
        last: Versionstamp,
    },
}

impl State {
    /// A versionstamp that the store reached for certain.
    pub(crate) fn floor(&self) -> Versionstamp {
        match *self {
            State::Running { floor } | State::Closed { last: floor } => floor,
        }
    }
}

impl State {
    fn to_text(self) -> String {
        let line = match self {
            State::Running { floor } => format!("running {floor}"),
            State::Closed { last } => format!("closed {last}"),
        };
        with_checksum(&line)
    }

    fn parse(text: &str) -> Option<State> {
        let line = without_checksum(text)?;
        match line.split_once(' ') {
            Some(("running", floor)) => Some(State::Running {
                floor: floor.parse().ok()?,
            }),
            Some(("closed", last)) => Some(State::Closed {
                last: last.parse().ok()?,
            }),
            _ => None,
        }
    }
}

/// What identifies a store, kept in its folder from its first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) seal: Seal,
}

impl Identity {
    pub(crate) fn random() -> Result<Identity, OpenError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| {
            OpenError::Engine(Arc::new(std::io::Error::other(error.to_string())))
        })?;
        Ok(Identity {
            seal: Seal { nonce },
        })
    }

    /// Writes it into the folder of a new store.
    pub(crate) fn write(&self, store: &Path) -> Result<(), OpenError> {
        let nonce = data_encoding::HEXLOWER.encode(&self.seal.nonce);
        let text = with_checksum(&format!("kvasir embedded store, format {FORMAT}, {nonce}"));
        write_synced(&Identity::path(store), text.as_bytes())
    }

    /// Reads it from a store, whose format it checks.
    pub(crate) fn read(store: &Path) -> Result<Identity, OpenError> {
        let path = Identity::path(store);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(damaged(&path, 0, "the file is missing"));
            }
            Err(error) => return Err(io("read", &path)(error)),
        };
        let unreadable = || damaged(&path, 0, "it does not say which format the store has");
        let line = without_checksum(&text).ok_or_else(unreadable)?;
        let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
        let found = words.nth(4).and_then(|word| word.parse().ok());
        let found: u32 = found.ok_or_else(unreadable)?;
        if found > FORMAT {
            return Err(OpenError::NewerFormat {
                path: store.to_path_buf(),
                found,
                known: FORMAT,
            });
        }
        let nonce = words.next().and_then(|word| {
            let bytes = data_encoding::HEXLOWER.decode(word.as_bytes()).ok()?;
            bytes.try_into().ok()
        });
        Ok(Identity {
            seal: Seal {
                nonce: nonce.ok_or_else(unreadable)?,
            },
        })
    }

    pub(crate) fn path(store: &Path) -> PathBuf {
        store.join("kvasir")
    }
}

/// One line, and a second one with its checksum.
fn with_checksum(line: &str) -> String {
    format!("{line}\n{:08x}\n", crc32fast::hash(line.as_bytes()))
}

fn without_checksum(text: &str) -> Option<&str> {
    let (line, checksum) = text.split_once('\n')?;
    let expected = with_checksum(line);
    (expected == text && !checksum.is_empty()).then_some(line)
}

/// Every folder and file below `path`, parents before children.
pub(crate) fn walk(path: &Path) -> Result<Vec<(PathBuf, bool)>, OpenError> {
    let mut found = vec![(path.to_path_buf(), true)];
    let mut next = 0;
    while let Some((folder, is_folder)) = found.get(next).cloned() {
        next += 1;
        if !is_folder {
            continue;
        }
        for child in std::fs::read_dir(&folder).map_err(io("list", &folder))? {
            let child = child.map_err(io("list", &folder))?;
            let kind = child.file_type().map_err(io("list", &folder))?;
            found.push((child.path(), kind.is_dir()));
        }
    }
    Ok(found)
}

/// Syncs every folder below `path`, itself included, children first.
pub(crate) fn sync_folders(path: &Path) -> Result<(), OpenError> {
    let folders = walk(path)?.into_iter().filter(|(_, is_folder)| *is_folder);
    for (folder, _) in folders.collect::<Vec<_>>().into_iter().rev() {
        sync_folder(&folder)?;
    }
    Ok(())
}

/// Makes entries made, renamed and removed in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), OpenError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(io("sync", path))
}

/// Makes the kernel forget what it keeps of every file below `path`.
///
/// After a failed sync the kernel calls pages clean that never reached the disk. A process that
/// starts on the same boot would read and believe them.
pub(crate) fn drop_page_cache(path: &Path) -> Result<(), OpenError> {
    for (file, is_folder) in walk(path)? {
        if !is_folder {
            let opened = File::open(&file).map_err(io("open", &file))?;
            // Dirty pages are not dropped; writing them out first is all that can be done.
            opened.sync_all().map_err(io("sync", &file))?;
            rustix::fs::fadvise(&opened, 0, None, rustix::fs::Advice::DontNeed)
                .map_err(|error| io("drop the page cache of", &file)(error.into()))?;
        }
    }
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let mut file = File::create(path).map_err(io("create", path))?;
    file.write_all(bytes).map_err(io("write", path))?;
    file.sync_all().map_err(io("sync", path))
}

/// An [`OpenError::Io`] about `path`.
pub(crate) fn io<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> OpenError + 'a {
    move |source| OpenError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

/// An [`OpenError::Damaged`] about `path`.
pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> OpenError {
    OpenError::Damaged {
        file: path.to_path_buf(),
        offset,
        what: what.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(&dir.path().join("a/b"));
        let lock = folder.lock().unwrap();
        match folder.lock() {
            Err(OpenError::Locked { holder, .. }) => assert_eq!(holder, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn the_state_round_trips_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert_eq!(folder.state().unwrap(), None);
        let last = Versionstamp::new(77, 3);
        for state in [State::Running { floor: last }, State::Closed { last }] {
            folder.set_state(&state).unwrap();
            assert_eq!(folder.state().unwrap(), Some(state));
        }
        let path = folder.state_file();
        let text = std::fs::read_to_string(&path).unwrap();
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            assert!(folder.state().is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_and_a_damaged_identity_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::random().unwrap();
        identity.write(dir.path()).unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap(), identity);

        let line = format!("kvasir embedded store, format {}, x", FORMAT + 1);
        std::fs::write(Identity::path(dir.path()), with_checksum(&line)).unwrap();
        let error = Identity::read(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::NewerFormat { found: 2, .. }));

        std::fs::write(Identity::path(dir.path()), "kvasir").unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap_err().exit_code(), 8);
    }
}
