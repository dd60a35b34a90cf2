//! A disk in memory that forgets what was not synced.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

/// What a power cut keeps or loses as a whole, in bytes.
const SECTOR_BYTES: usize = 512;

/// Files by name, as a program sees them and as they are without power.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: BTreeMap<u32, File>,
    next_file: u32,
    /// Names as the program sees them.
    names: BTreeMap<String, u32>,
    /// Names that survive a power cut.
    durable_names: BTreeMap<String, u32>,
    /// Changes of names since the last sync of the folder.
    pending_names: Vec<(String, Option<u32>)>,
}

#[derive(Clone, Debug, Default)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync: pieces written, each within a sector.
    pending: Vec<(usize, Vec<u8>)>,
    /// Since the last sync: the length was set to less.
    is_cut: bool,
}

/// The sync failed; what was not synced is gone from the disk, though the program still sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskError;

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        Disk::default()
    }

    /// Makes an empty file, in place of one of this name.
    pub fn create(&mut self, name: &str) {
        let number = self.next_file;
        self.next_file += 1;
        self.files.insert(number, File::default());
        self.name(name, Some(number));
    }

    /// The bytes of a file; `None` if there is none.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        Some(self.files[self.names.get(name)?].seen.clone())
    }

    /// Bytes of a file, 0 without one.
    pub fn len(&self, name: &str) -> usize {
        self.names
            .get(name)
            .map_or(0, |number| self.files[number].seen.len())
    }

    /// Writes behind the last byte.
    pub fn append(&mut self, name: &str, bytes: &[u8]) {
        if let Some(file) = self.file(name) {
            let mut at = file.seen.len();
            file.seen.extend_from_slice(bytes);
            let mut rest = bytes;
            while !rest.is_empty() {
                let room = SECTOR_BYTES - at % SECTOR_BYTES;
                let (piece, behind) = rest.split_at(room.min(rest.len()));
                file.pending.push((at, piece.to_vec()));
                at += piece.len();
                rest = behind;
            }
        }
    }

    /// Cuts a file.
    pub fn truncate(&mut self, name: &str, len: usize) {
        if let Some(file) = self.file(name) {
            file.seen.truncate(len);
            file.pending.retain(|(at, _)| *at < len);
            file.is_cut = true;
        }
    }

    /// Makes the content and length of a file durable.
    pub fn sync(&mut self, name: &str) {
        if let Some(file) = self.file(name) {
            file.durable = file.seen.clone();
            file.pending.clear();
            file.is_cut = false;
        }
    }

    /// A sync that fails: the kernel calls the pages clean all the same.
    pub fn fail_sync(&mut self, name: &str) -> DiskError {
        if let Some(file) = self.file(name) {
            file.pending.clear();
        }
        DiskError
    }

    /// Gives a file another name, in place of one of that name.
    pub fn rename(&mut self, from: &str, to: &str) {
        let number = self.names.get(from).copied();
        self.name(to, number);
        self.name(from, None);
    }

    /// Makes names durable.
    pub fn sync_folder(&mut self) {
        self.durable_names = self.names.clone();
        self.pending_names.clear();
    }

    /// What a power cut leaves: of what was not synced any part, torn at sectors.
    pub fn cut_power(mut self, rng: &mut StdRng) -> Disk {
        for (name, number) in std::mem::take(&mut self.pending_names) {
            // Names change in order or not at all: a later one without the earlier is not seen on
            // file systems with a journal.
            if rng.random_bool(0.4) {
                break;
            }
            match number {
                Some(number) => self.durable_names.insert(name, number),
                None => self.durable_names.remove(&name),
            };
        }
        for file in self.files.values_mut() {
            if file.is_cut && rng.random_bool(0.5) {
                file.durable.truncate(file.seen.len());
            }
            for (at, piece) in std::mem::take(&mut file.pending) {
                if rng.random_bool(0.5) {
                    continue;
                }
                if file.durable.len() < at + piece.len() {
                    // A length that is kept without its data reads as zeros.
                    file.durable.resize(at + piece.len(), 0);
                }
                file.durable[at..at + piece.len()].copy_from_slice(&piece);
            }
            file.is_cut = false;
            file.seen = file.durable.clone();
        }
        self.names = self.durable_names.clone();
        self
    }

    fn file(&mut self, name: &str) -> Option<&mut File> {
        self.files.get_mut(self.names.get(name)?)
    }

    fn name(&mut self, name: &str, number: Option<u32>) {
        self.pending_names.push((name.to_owned(), number));
        match number {
            Some(number) => self.names.insert(name.to_owned(), number),
            None => self.names.remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn what_was_synced_survives_every_power_cut_and_the_rest_only_some() {
        let mut lost = 0;
        for seed in 0..100 {
            let mut disk = Disk::new();
            disk.create("a");
            disk.append("a", b"kept");
            disk.sync("a");
            disk.sync_folder();
            disk.append("a", b"open");
            disk.rename("a", "b");
            let disk = disk.cut_power(&mut StdRng::seed_from_u64(seed));
            let found = disk
                .read("a")
                .or(disk.read("b"))
                .expect("under one of its names");
            assert!(found.starts_with(b"kept"));
            lost += u32::from(found.len() == 4);
        }
        assert!((10..90).contains(&lost), "{lost}");
    }

    #[test]
    fn after_a_failed_sync_the_program_sees_what_the_disk_does_not_have() {
        let mut disk = Disk::new();
        disk.create("a");
        disk.sync("a");
        disk.sync_folder();
        disk.append("a", b"x");
        disk.fail_sync("a");
        assert_eq!(disk.read("a").unwrap(), b"x");
        let disk = disk.cut_power(&mut StdRng::seed_from_u64(1));
        assert_eq!(disk.read("a").unwrap(), b"");
    }
}
