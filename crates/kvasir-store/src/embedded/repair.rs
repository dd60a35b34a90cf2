//! Says what can be done about a store that does not open because it is damaged, and does it.
//!
//! Every choice but a backup loses commits that were acknowledged, so it is left to a person, who is
//! told exactly what it costs. Nothing damaged is changed: a repair works on a copy, puts that into
//! the place of the store at one stroke, and keeps the old one beside it.

use std::path::{Path, PathBuf};

use kvasir_kv::Versionstamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::folder::{Folder, Identity, State, io, sync_folder, sync_folders, walk};
use super::{OTHER_STAMP, Opened, journal, mend};
use crate::open::{OpenError, OpenOptions};

/// What was found, and what can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What keeps the store from opening.
    pub damage: Damage,
    /// The choices, best first. The first is always [`Choice::Restore`].
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
    /// Take the store as it is, and forget how it was left. Gives up what was committed between
    /// what it holds and the versionstamp that it is known to have reached.
    ForgetState {
        /// Where it was closed, if that can still be read.
        reached: Option<Versionstamp>,
    },
}

/// Looks for damage that keeps the store in `dir` from opening; `None` if there is none. No server
/// may hold the folder. If nothing is found from outside, the store is opened and closed once, as by
/// any start. Blocks.
///
/// # Errors
///
/// `Locked`, `NewerFormat` or `Io`; and `Damaged` if even the identity of the store cannot be read.
pub fn plan(dir: &Path, options: &OpenOptions) -> Result<Option<Plan>, OpenError> {
    let found = {
        let folder = Folder::new(dir);
        let _lock = folder.lock()?;
        inspect(&folder)?
    };
    if found.is_some() {
        return Ok(found);
    }
    match Opened::open(dir, options) {
        Ok(opened) => opened.close().map(|()| None),
        Err(OpenError::Damaged { file, offset, what }) => {
            let mut choices = vec![Choice::Restore];
            if what.starts_with(OTHER_STAMP) {
                let state = Folder::new(dir).state()?;
                choices.push(Choice::ForgetState {
                    reached: state.map(|state| state.floor()),
                });
            }
            let damage = Damage { file, offset, what };
            Ok(Some(Plan { damage, choices }))
        }
        Err(other) => Err(other),
    }
}

/// What can be seen without opening the engine.
fn inspect(folder: &Folder) -> Result<Option<Plan>, OpenError> {
    let store = folder.store();
    let identity = Identity::read(&store)?;
    let state = match folder.state() {
        Ok(state) => state,
        Err(OpenError::Damaged { file, offset, what }) => {
            let damage = Damage { file, offset, what };
            let choices = vec![Choice::Restore, Choice::ForgetState { reached: None }];
            return Ok(Some(Plan { damage, choices }));
        }
        Err(other) => return Err(other),
    };
    let was_closed = matches!(state, Some(State::Closed { .. }));
    match mend::inspect(&store, &identity, was_closed) {
        Ok(()) => Ok(None),
        Err(OpenError::Damaged { file, offset, what }) => {
            let mut choices = vec![Choice::Restore];
            if file.extension().is_some_and(|extension| extension == "jnl") {
                choices.push(cut_journal(&store, &identity, &file, offset)?);
            }
            let damage = Damage { file, offset, what };
            Ok(Some(Plan { damage, choices }))
        }
        Err(other) => Err(other),
    }
}

/// Follows a choice of a plan of the store in `dir`, and returns where the damaged store lies now:
/// as it was, byte for byte, beside the repaired one. Tables are shared between the two, as nothing
/// ever changes them; so it takes little space. Blocks.
///
/// # Errors
///
/// As [`plan`]; then nothing was changed. [`Choice::Restore`] is nothing to be done here, and an
/// `Io` error of the kind `Unsupported`.
pub fn apply(dir: &Path, choice: &Choice) -> Result<PathBuf, OpenError> {
    let folder = Folder::new(dir);
    let _lock = folder.lock()?;
    let (store, repaired) = (folder.store(), folder.repaired_store());
    if *choice == Choice::Restore {
        let unsupported = std::io::ErrorKind::Unsupported.into();
        return Err(io("restore a backup over", &store)(unsupported));
    }
    if repaired.exists() {
        std::fs::remove_dir_all(&repaired).map_err(io("remove", &repaired))?;
    }
    copy(&store, &repaired)?;
    match choice {
        Choice::Restore | Choice::ForgetState { .. } => {}
        Choice::CutJournal {
            file,
            length,
            remove,
            ..
        } => {
            let in_copy = |path: &Path| {
                let name = path.file_name().expect("a journal has a name");
                repaired.join(name)
            };
            let file = in_copy(file);
            let cut = std::fs::OpenOptions::new().write(true).open(&file);
            cut.and_then(|journal| {
                journal.set_len(*length)?;
                journal.sync_all()
            })
            .map_err(io("cut", &file))?;
            for path in remove {
                let path = in_copy(path);
                std::fs::remove_file(&path).map_err(io("remove", &path))?;
            }
        }
    }
    sync_folders(&repaired)?;
    let aside = folder.damaged_store();
    replace(&store, &repaired, &aside)?;
    sync_folder(folder.root())?;
    // Not before: until now the old state is that of the store in its place.
    folder.set_state(&State::Running {
        floor: Versionstamp::ZERO,
    })?;
    Ok(aside)
}

/// Copies a store. Its tables never change, so they are only linked where that is possible.
fn copy(from: &Path, to: &Path) -> Result<(), OpenError> {
    for (path, is_folder) in walk(from)? {
        let inside = path.strip_prefix(from).expect("it was found below");
        let target = to.join(inside);
        if is_folder {
            std::fs::create_dir(&target).map_err(io("create", &target))?;
            continue;
        }
        let is_table = inside
            .parent()
            .is_some_and(|parent| parent.ends_with("tables"));
        if is_table && std::fs::hard_link(&path, &target).is_ok() {
            continue;
        }
        std::fs::copy(&path, &target)
            .and_then(|_| std::fs::File::open(&target)?.sync_all())
            .map_err(io("copy", &path))?;
    }
    Ok(())
}

/// Puts `repaired` into the place of `store`, which becomes `aside`. At one stroke where the file
/// system can; else a crash in between leaves both folders, and no store until one is renamed.
fn replace(store: &Path, repaired: &Path, aside: &Path) -> Result<(), OpenError> {
    let exchanged = renameat_with(CWD, repaired, CWD, store, RenameFlags::EXCHANGE);
    if exchanged.is_ok() {
        return std::fs::rename(repaired, aside).map_err(io("rename", repaired));
    }
    std::fs::rename(store, aside).map_err(io("rename", store))?;
    std::fs::rename(repaired, store).map_err(io("rename", repaired))
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
    /// What it means, in sentences: what is kept and what is given up.
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
                    .map(|path| format!(" and drop {}", path.display()))
                    .collect();
                let kept = last_kept.map_or("what the tables hold".into(), |stamp| {
                    format!("everything up to versionstamp {stamp}")
                });
                format!(
                    "Cut {} to {length} bytes{removals}. This keeps {kept} and gives up the damaged \
                     group of commits and {groups_lost} later ones, acknowledged or not.",
                    file.display()
                )
            }
            Choice::ForgetState { reached } => {
                let lost = reached.map_or(
                    "Whether something is missing from it can no longer be told.".into(),
                    |stamp| format!("What was committed up to versionstamp {stamp} and is not in it is given up."),
                );
                format!("Take the store as it is. {lost}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
