//! Refuses writes before the disk is full, because the engine does not survive a full disk.
//!
//! Below a reserve of free space writes that may grow the store are refused; reads, deletes and the
//! removal of expired entries go on. When even these run short, a preallocated file, the ballast, is
//! given up for them. Once there is space again the ballast is made anew and writes come back.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;

use super::MEMTABLE_BYTES;
use super::folder::Folder;
use crate::clock::monotonic;
use crate::group::Space;
use crate::metrics::StoreMetrics;

/// Longest use of one look at the file system.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Bytes written after which the file system is looked at again in any case.
const LOOK_AFTER_BYTES: u64 = 4 * 1024 * 1024;

/// Free bytes below which nothing at all is written: even a delete may make the engine write out a
/// table from memory, and another one may be on its way.
const LAST_BYTES: u64 = 2 * MEMTABLE_BYTES + 8 * 1024 * 1024;

/// Free bytes below which the ballast is given up.
const BALLAST_BYTES: u64 = LAST_BYTES + MEMTABLE_BYTES;

/// Watches the free space of the disk under a store.
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    folder: Folder,
    reserve_bytes: u64,
    ballast_bytes: u64,
    has_ballast: bool,
    looked_at: Option<Instant>,
    written_since: u64,
    space: Space,
    metrics: Arc<StoreMetrics>,
}

impl SpaceGuard {
    pub(crate) fn new(
        folder: Folder,
        reserve_bytes: u64,
        ballast_bytes: u64,
        metrics: Arc<StoreMetrics>,
    ) -> SpaceGuard {
        let path = folder.ballast();
        let held = path.metadata().map_or(0, |metadata| metadata.len());
        let mut guard = SpaceGuard {
            folder,
            reserve_bytes,
            ballast_bytes,
            has_ballast: ballast_bytes > 0 && held == ballast_bytes,
            looked_at: None,
            written_since: 0,
            space: Space::Enough,
            metrics,
        };
        if !guard.has_ballast && held > 0 {
            guard.drop_ballast();
        }
        guard
    }

    /// `bytes` were handed to the engine.
    pub(crate) fn written(&mut self, bytes: u64) {
        self.written_since = self.written_since.saturating_add(bytes);
    }

    /// How much space there is now.
    pub(crate) fn space(&mut self) -> Space {
        let now = monotonic();
        let is_fresh = self
            .looked_at
            .is_some_and(|at| now.saturating_duration_since(at) < LOOK_EVERY);
        if !is_fresh || self.written_since > LOOK_AFTER_BYTES {
            self.looked_at = Some(now);
            self.written_since = 0;
            let before = self.space;
            self.space = self.look();
            if self.space != before {
                tracing::warn!(
                    space = ?self.space,
                    reserve_bytes = self.reserve_bytes,
                    "the space on the disk went from {before:?} to {:?}",
                    self.space
                );
            }
        }
        self.space
    }

    fn look(&mut self) -> Space {
        let Some(free) = free_bytes(self.folder.root()) else {
            return self.space;
        };
        self.metrics.disk_free_bytes.set(free.cast_signed());
        // Coming back takes a little more than staying, so that it does not flicker.
        let enough = match self.space {
            Space::Enough => self.reserve_bytes,
            Space::Low | Space::None => self.reserve_bytes + self.reserve_bytes / 16,
        };
        let missing_ballast = if self.has_ballast {
            0
        } else {
            self.ballast_bytes
        };
        if free >= enough + missing_ballast {
            if missing_ballast > 0 {
                self.make_ballast();
            }
            return Space::Enough;
        }
        if free >= enough && self.space == Space::Enough {
            // A disk that never had room for the ballast.
            return Space::Enough;
        }
        if free < BALLAST_BYTES && self.has_ballast {
            self.drop_ballast();
            tracing::warn!("gave up the ballast so that deletes can go on");
            return Space::Low;
        }
        if free < LAST_BYTES.min(self.reserve_bytes) {
            Space::None
        } else {
            Space::Low
        }
    }

    fn make_ballast(&mut self) {
        match preallocate(&self.folder.ballast(), self.ballast_bytes) {
            Ok(()) => self.has_ballast = true,
            Err(error) => {
                tracing::warn!(%error, "cannot preallocate the ballast file, going on without");
                self.drop_ballast();
                self.ballast_bytes = 0;
            }
        }
    }

    fn drop_ballast(&mut self) {
        self.has_ballast = false;
        if let Err(error) = std::fs::remove_file(self.folder.ballast()) {
            tracing::warn!(%error, "cannot remove the ballast file");
        }
    }
}

fn preallocate(path: &Path, bytes: u64) -> std::io::Result<()> {
    let file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes))?;
    file.sync_all()
}

/// Bytes that an unprivileged process may still write to the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
