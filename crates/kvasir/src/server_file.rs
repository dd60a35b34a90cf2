//! `DIR/server.json`: how verbs on the same machine find the server that holds a data folder.
//!
//! It holds the server's addresses and a credential of this process's lifetime, so only the owner
//! may read it. It goes away when the server stops; one that was left behind by a killed server
//! names a process that is gone, or a credential that is worth nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::replace::replace;

/// What the file holds.
#[derive(Debug, Deserialize)]
pub struct ServerFile {
    /// The server's process.
    pub pid: u32,
    /// Its addresses, those in the clear first, as URLs.
    pub urls: Vec<String>,
    /// A token for everything.
    pub token: SecretString,
}

#[derive(Serialize)]
struct Written<'a> {
    pid: u32,
    urls: &'a [String],
    token: &'a str,
}

impl ServerFile {
    /// The file of a data folder, if a server that still runs left one.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Option<ServerFile>> {
        let file = path(folder);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        // A file of another version is like none.
        let read: Option<ServerFile> = serde_json::from_slice(&text).ok();
        Ok(read.filter(|read| !read.urls.is_empty() && is_running(read.pid)))
    }

    /// The address to talk to.
    pub fn base(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }

    /// Leaves the file in `folder`. It is removed when the answer is dropped.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn leave(folder: &Path, urls: &[String], token: &SecretString) -> anyhow::Result<Left> {
        let file = path(folder);
        let written = Written {
            pid: std::process::id(),
            urls,
            token: token.expose_secret(),
        };
        let text = serde_json::to_vec_pretty(&written).context("cannot write JSON")?;
        replace(&file, &text, 0o600)?;
        Ok(Left(file))
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("server.json")
}

fn is_running(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| {
        !matches!(
            rustix::process::test_kill_process(pid),
            Err(rustix::io::Errno::SRCH)
        )
    })
}

/// A file that was left and is to be removed.
#[derive(Debug)]
pub struct Left(PathBuf);

impl Drop for Left {
    fn drop(&mut self) {
        // If it stays, it names a process that is gone.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_for_the_owner_and_goes_with_the_server() {
        let folder = tempfile::TempDir::new().unwrap();
        let urls = ["http://127.0.0.1:1".to_owned()];
        let left = ServerFile::leave(folder.path(), &urls, &"secret".into()).unwrap();

        let mode = fs::metadata(path(folder.path())).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let read = ServerFile::read(folder.path()).unwrap().unwrap();
        assert_eq!(read.base(), "http://127.0.0.1:1");
        assert_eq!(read.token.expose_secret(), "secret");

        drop(left);
        assert!(ServerFile::read(folder.path()).unwrap().is_none());
    }

    #[test]
    fn a_file_of_a_killed_server_is_like_none() {
        let folder = tempfile::TempDir::new().unwrap();
        let gone = r#"{"pid":4194304,"urls":["http://127.0.0.1:1"],"token":"x"}"#;
        fs::write(path(folder.path()), gone).unwrap();
        assert!(ServerFile::read(folder.path()).unwrap().is_none());
    }
}
