//! Says what can be done about a store that does not open because it is damaged.
//!
//! Nothing here changes anything. Every choice but a backup loses commits that were acknowledged,
//! so it is left to a person, who is told exactly what it costs and how to do it.

use std::path::{Path, PathBuf};

use kvasir_kv::Versionstamp;

use super::folder::{Folder, Identity, io};
use super::{journal, mend};
use crate::open::OpenError;

/// What was found, and what can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What keeps the store from opening.
    pub damage: Damage,
    /// The choices, best first.
    pub choices: Vec<Choice>,
}

/// The first damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// One way on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Put a backup in the place of the folder. Loses what was written after it.
    Restore,
    /// Cut the journal at the damage, and remove later ones. Loses every group of commits from
    /// there on.
    CutJournal {
        /// The journal to cut.
        file: PathBuf,
        /// The length to cut it to, in bytes.
        length: u64,
        /// Later journals to remove.
        remove: Vec<PathBuf>,
        /// Whole groups behind the damage, which would be lost although they can be read.
        groups_lost: u64,
        /// The newest versionstamp that would be left, if a whole group stands before the damage.
        last_kept: Option<Versionstamp>,
    },
}

/// Looks for damage in the journals and pointers of the store in `dir`; `None` if there is none
/// that keeps it from opening. No server may hold the folder. Blocks.
///
/// # Errors
///
/// `Locked`, `NewerFormat` or `Io`; and `Damaged` if even the identity of the store cannot be read.
pub fn plan(dir: &Path) -> Result<Option<Plan>, OpenError> {
    let folder = Folder::new(dir);
    let _lock = folder.lock()?;
    let store = folder.store();
    let identity = Identity::read(&store)?;
    match mend::inspect(&store, &identity) {
        Ok(()) => Ok(None),
        Err(OpenError::Damaged { file, offset, what }) => {
            let mut choices = vec![Choice::Restore];
            if file.extension().is_some_and(|extension| extension == "jnl") {
                choices.push(cut_journal(&store, &identity, &file, offset)?);
            }
            Ok(Some(Plan {
                damage: Damage { file, offset, what },
                choices,
            }))
        }
        Err(other) => Err(other),
    }
}

fn cut_journal(
    store: &Path,
    identity: &Identity,
    file: &Path,
    offset: u64,
) -> Result<Choice, OpenError> {
    let journals = mend::journals(store)?;
    let later = journals.into_iter().skip_while(|journal| journal != file);
    let remove: Vec<_> = later.skip(1).collect();
    let bytes = std::fs::read(file).map_err(io("read", file))?;
    let at = usize::try_from(offset).unwrap_or(bytes.len());
    let mut groups_lost = journal::batches_behind(&bytes, at, &identity.seal);
    for journal in &remove {
        let bytes = std::fs::read(journal).map_err(io("read", journal))?;
        groups_lost += journal::batches_behind(&bytes, 0, &identity.seal);
    }
    Ok(Choice::CutJournal {
        file: file.to_path_buf(),
        length: offset,
        remove,
        groups_lost,
        last_kept: journal::last_stamp(&bytes[..at.min(bytes.len())], &identity.seal),
    })
}

impl Choice {
    /// What a person has to do, in sentences, with the commands.
    pub fn steps(&self) -> String {
        match self {
            Choice::Restore => "Restore a backup into an empty folder and serve that. \
                What was written after the backup is lost."
                .into(),
            Choice::CutJournal {
                file,
                length,
                remove,
                groups_lost,
                last_kept,
            } => {
                let removals: String = remove
                    .iter()
                    .map(|path| format!(" && rm {}", path.display()))
                    .collect();
                let kept = last_kept.map_or("what the tables hold".into(), |stamp| {
                    format!("everything up to versionstamp {stamp}")
                });
                format!(
                    "Copy the whole folder first. Then cut the journal: `truncate -s {length} {}{removals}`. \
                     This keeps {kept} and loses the damaged group and {groups_lost} later ones.",
                    file.display()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
