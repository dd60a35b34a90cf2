//! The file as a file: who may write it, its folder, its cached pages.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use crate::open::OpenError;

/// Keeps other Kvasir processes off a file. The lock ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock of the database `path`.
    pub(super) fn take(path: &Path) -> Result<FileLock, OpenError> {
        let lock_path = beside(path, ".lock");
        let failed = |action| {
            let path = lock_path.clone();
            move |source| OpenError::Io {
                action,
                path,
                source,
            }
        };
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .map_err(failed("create"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(OpenError::Locked {
                    path: path.to_owned(),
                    holder: holder.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        // Only for the message of a second process; the lock itself is the kernel's.
        let _ = file.set_len(0);
        let _ = file.seek(SeekFrom::Start(0));
        let _ = write!(file, "{}", std::process::id());
        Ok(FileLock { _file: file })
    }
}

/// Makes the names of the database's files durable. SQLite ignores errors of its own attempt.
pub(super) fn sync_folder(path: &Path) -> Result<(), OpenError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| OpenError::Io {
            action: "sync",
            path: folder.to_owned(),
            source,
        })
}

/// Lets the kernel forget what it holds of the files, so that what is read is what is on the disk:
/// after a failed sync the kernel calls pages clean that never got there.
pub(super) fn forget_cached_pages(path: &Path) {
    for path in [path.to_owned(), beside(path, "-wal")] {
        if let Ok(file) = File::open(&path) {
            // Best effort: not every file system has a page cache.
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
    }
}

/// Bytes free for us on the disk of `path`, if the system tells.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
