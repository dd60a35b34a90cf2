//! How far an import has come, kept beside its file until it is done.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// See the module. A journal that does not fit its file any more is ignored, and so is one that cannot
/// be read: an import from the beginning comes to the same end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Which database.
    db: String,
    /// What the file was: its size and the time of its last change, or the place in history that it
    /// names itself.
    source: String,
    /// Everything before is stored: a place in a file.
    #[serde(default)]
    pub(super) offset: u64,
    /// Lines before `offset`.
    #[serde(default)]
    pub(super) line: u64,
    /// Everything up to this key is stored, as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
}

impl Journal {
    /// Where an import of `file` into `db` is to begin.
    pub(super) fn read(file: &Path, db: &str, source: &str) -> Journal {
        let text = std::fs::read(path(file)).unwrap_or_default();
        let found: Option<Journal> = serde_json::from_slice(&text).ok();
        let fits = |journal: &Journal| journal.db == db && journal.source == source;
        found.filter(fits).unwrap_or_else(|| Journal {
            db: db.to_owned(),
            source: source.to_owned(),
            ..Journal::default()
        })
    }

    /// Keeps where the import is. A kill leaves this or the one before.
    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let path = path(file);
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let written = serde_json::to_vec(self)
            .map_err(std::io::Error::other)
            .and_then(|text| std::fs::write(&new, text))
            .and_then(|()| std::fs::rename(&new, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// The import is done.
    pub(super) fn remove(file: &Path) {
        // Gone already is as good.
        let _ = std::fs::remove_file(path(file));
    }
}

fn path(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".kvasir-import");
    path.into()
}

/// What a file is, by size and last change.
pub(super) fn identity(metadata: &Metadata) -> String {
    let changed = metadata.modified().ok();
    let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    format!(
        "{} bytes of {}",
        metadata.len(),
        changed.unwrap_or_default().as_nanos()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_counts_only_for_its_file_and_database() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.jsonl");
        let mut journal = Journal::read(&file, "x", "1");
        journal.offset = 7;
        journal.write(&file).unwrap();
        assert_eq!(Journal::read(&file, "x", "1"), journal);
        assert_eq!(Journal::read(&file, "y", "1").offset, 0);
        assert_eq!(Journal::read(&file, "x", "2").offset, 0);
        std::fs::write(path(&file), "{\"db\"").unwrap();
        assert_eq!(Journal::read(&file, "x", "1").offset, 0);
        Journal::remove(&file);
        Journal::remove(&file);
    }
}
