//! Backups: one file that holds everything a store held at one moment.
//!
//! [`take`] writes one from a scan of one snapshot, [`source`] reads one, [`restore`] makes a store of
//! one, [`drill`] rehearses that. [`target`] is where files lie: a folder or an S3-compatible store.
//! [`desk`] runs all of it as jobs for the admin API, and [`schedule`] starts them by the clock.
//!
//! The file format is `kvasir_store::container`. The work is plain blocking code on threads of its
//! own, and holds a chunk of the file and a page of the store, whatever their size.

pub mod desk;
pub mod drill;
mod jobs;
pub mod metrics;
pub mod name;
pub mod prune;
pub mod records;
pub mod restore;
pub mod s3;
pub mod schedule;
pub mod source;
pub mod take;
pub mod target;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a long work tells, and is told.
#[derive(Debug, Default)]
pub struct Control {
    cancelled: AtomicBool,
    entries: AtomicU64,
    bytes: AtomicU64,
}

/// Somebody stopped the work.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it was stopped")]
pub struct Cancelled;

impl Control {
    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// How far the work is. Fails if it is to stop.
    ///
    /// # Errors
    ///
    /// [`Cancelled`].
    pub fn tell(&self, entries: u64, bytes: u64) -> Result<(), Cancelled> {
        self.entries.store(entries, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(Cancelled),
            false => Ok(()),
        }
    }

    /// Entries and bytes so far.
    pub fn progress(&self) -> (u64, u64) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (read(&self.entries), read(&self.bytes))
    }
}
