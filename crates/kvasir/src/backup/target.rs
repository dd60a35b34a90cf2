//! Where backups lie: a folder, or an S3-compatible store.
//!
//! A file appears under its name only when all of it is there: in a folder it is renamed after it was
//! synced, in an S3 store it is one upload that is completed at the end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::runtime::Handle;

use super::name::Name;
use super::s3::{S3, Upload};
use crate::config::backup::BackupSettings;

/// Bytes that are read from a file or asked from a store at once.
const READ_BYTES: usize = 1024 * 1024;

/// Where backups lie.
#[derive(Clone, Debug)]
pub enum Target {
    /// Files in a folder.
    Folder(PathBuf),
    /// Objects in a bucket.
    S3(Arc<S3>),
}

/// One backup at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: Name,
    /// Its size, in bytes.
    pub bytes: u64,
}

impl Target {
    /// The target of the settings; a folder is the one in the data folder if none is named.
    ///
    /// # Errors
    ///
    /// For settings that make no target.
    pub fn new(settings: &BackupSettings, data: &Path) -> anyhow::Result<Target> {
        match settings.target.as_str() {
            "" => Ok(Target::Folder(data.join("backups"))),
            target => match target.strip_prefix("s3://") {
                Some(place) => Ok(Target::S3(Arc::new(S3::new(place, &settings.s3)?))),
                None => Ok(Target::Folder(target.into())),
            },
        }
    }

    /// What people call it.
    pub fn shown(&self) -> String {
        match self {
            Target::Folder(folder) => folder.display().to_string(),
            Target::S3(s3) => s3.shown(),
        }
    }

    /// The backups there, the newest first.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub async fn list(&self) -> anyhow::Result<Vec<Found>> {
        let mut found = match self {
            Target::Folder(folder) => {
                list_folder(folder).with_context(|| format!("cannot read {}", folder.display()))?
            }
            Target::S3(s3) => s3.list().await?,
        };
        found.sort_by(|a, b| b.name.cmp(&a.name));
        Ok(found)
    }

    /// Removes a backup.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub async fn remove(&self, name: &Name) -> anyhow::Result<()> {
        match self {
            Target::Folder(folder) => match fs::remove_file(folder.join(name.as_str())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", name.as_str()))
                }
                _ => Ok(()),
            },
            Target::S3(s3) => s3.remove(name.as_str()).await,
        }
    }

    /// Begins to write a backup. Not on a thread of the runtime.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn create(&self, name: &Name, runtime: &Handle) -> anyhow::Result<Sink> {
        match self {
            Target::Folder(folder) => {
                let sink = FileSink::create(folder, name.as_str());
                let sink = sink.with_context(|| format!("cannot write to {}", folder.display()))?;
                Ok(Sink::File(sink))
            }
            Target::S3(s3) => Ok(Sink::Upload(Upload::new(s3, name.as_str(), runtime))),
        }
    }

    /// Reads a backup. Not on a thread of the runtime.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn open(&self, found: &Found, runtime: &Handle) -> anyhow::Result<Box<dyn Read + Send>> {
        let name = found.name.as_str();
        match self {
            Target::Folder(folder) => {
                let file = File::open(folder.join(name));
                let file = file.with_context(|| format!("cannot open {name}"))?;
                Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)))
            }
            Target::S3(s3) => Ok(Box::new(s3.reader(name, found.bytes, runtime))),
        }
    }

    /// The bytes of a backup, as they are.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub async fn content(
        &self,
        found: &Found,
    ) -> anyhow::Result<BoxStream<'static, io::Result<Bytes>>> {
        let name = found.name.as_str();
        match self {
            Target::Folder(folder) => {
                let file = tokio::fs::File::open(folder.join(name)).await;
                let file = file.with_context(|| format!("cannot open {name}"))?;
                Ok(stream::unfold(Some(file), |file| async {
                    use tokio::io::AsyncReadExt;
                    let mut file = file?;
                    let mut part = bytes::BytesMut::with_capacity(READ_BYTES);
                    match file.read_buf(&mut part).await {
                        Ok(0) => None,
                        Ok(_) => Some((Ok(part.freeze()), Some(file))),
                        Err(error) => Some((Err(error), None)),
                    }
                })
                .boxed())
            }
            Target::S3(s3) => Ok(s3.content(name, found.bytes)),
        }
    }
}

fn list_folder(folder: &Path) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_str().and_then(Name::parse);
        if let Some(name) = name {
            let bytes = entry.metadata()?.len();
            found.push(Found { name, bytes });
        }
    }
    Ok(found)
}

/// A backup that is being written. Dropped without [`Sink::commit`], nothing is left of it.
pub enum Sink {
    /// To a folder.
    File(FileSink),
    /// To an S3 store.
    Upload(Upload),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::File(sink) => sink.out.write(bytes),
            Sink::Upload(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::File(sink) => sink.out.flush(),
            Sink::Upload(upload) => upload.flush(),
        }
    }
}

impl Sink {
    /// Makes the file appear.
    ///
    /// # Errors
    ///
    /// If it cannot be written to its end.
    pub fn commit(self) -> anyhow::Result<()> {
        match self {
            Sink::File(sink) => sink.commit().context("cannot finish the file"),
            Sink::Upload(upload) => upload.commit(),
        }
    }
}

/// A file that gets its name when it is whole.
pub struct FileSink {
    out: BufWriter<File>,
    folder: PathBuf,
    part: PathBuf,
    whole: PathBuf,
    is_committed: bool,
}

impl FileSink {
    fn create(folder: &Path, name: &str) -> io::Result<FileSink> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let part = folder.join(format!(".{name}.part"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        Ok(FileSink {
            out: BufWriter::new(file),
            folder: folder.to_owned(),
            part,
            whole: folder.join(name),
            is_committed: false,
        })
    }

    /// First the bytes are on the disk, then the name is, so that no name leads to half a file.
    fn commit(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        fs::rename(&self.part, &self.whole)?;
        self.is_committed = true;
        File::open(&self.folder)?.sync_all()
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if !self.is_committed {
            // What stays is not taken for a backup.
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use kvasir_kv::{UnixMillis, Versionstamp};

    use super::*;

    #[tokio::test]
    async fn a_file_appears_when_it_is_whole_and_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/b");
        let target = Target::Folder(place.clone());
        assert!(target.list().await.unwrap().is_empty());
        let name = Name::new(UnixMillis(0), Versionstamp::new(1, 0), false);
        let handle = Handle::current();
        let mut sink = target.create(&name, &handle).unwrap();
        sink.write_all(b"half").unwrap();
        sink.flush().unwrap();
        assert!(target.list().await.unwrap().is_empty());
        drop(sink);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "nothing is left");

        let mut sink = target.create(&name, &handle).unwrap();
        sink.write_all(b"whole").unwrap();
        sink.commit().unwrap();
        let found = target.list().await.unwrap();
        assert_eq!((found[0].name.clone(), found[0].bytes), (name.clone(), 5));
        let mode = fs::metadata(place.join(name.as_str()))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        target.remove(&name).await.unwrap();
        target.remove(&name).await.unwrap();
        assert!(target.list().await.unwrap().is_empty());
    }
}
