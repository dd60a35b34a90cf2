//! `DIR/edgegrid/.edgerc`: a credential that EdgeKV's clients can use as it is.
//!
//! It is made at the first start. Later starts change its host if the address has changed, and make
//! a new credential if the store does not know the one in it. A file with sections of the operator's
//! own is left alone.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kvasir_auth::edgegrid::{Clients, edgerc};
use secrecy::ExposeSecret;

use crate::replace::replace;

/// The section that clients read unless told otherwise.
pub const SECTION: &str = "default";

/// Name of the credential in lists.
const NAME: &str = "made at the first start";

/// Where the file of a data folder lies.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("edgegrid").join(".edgerc")
}

/// Makes the file or brings it up to date. `host` is where clients connect to, with its port.
///
/// # Errors
///
/// If it cannot be read or written, or no credential can be made.
pub async fn leave(folder: &Path, host: &str, clients: &Clients) -> anyhow::Result<PathBuf> {
    let file = path(folder);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let client_token = edgerc::member(&text, SECTION, "client_token");
    let is_known = match client_token {
        Some(client_token) => clients.get(client_token).await?.is_some(),
        None => false,
    };
    let has_own_sections = text.matches("\n[").count() > 0;
    if is_known {
        if edgerc::member(&text, SECTION, "host") != Some(host) {
            write(&file, &edgerc::with_host(&text, SECTION, host))?;
        }
    } else if !has_own_sections {
        let client = clients.create(NAME).await?;
        let section =
            edgerc::section(SECTION, host, &client).context("a new credential has a secret")?;
        write(&file, section.expose_secret())?;
    }
    Ok(file)
}

/// Replaces the file. Nobody but its owner may read it.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let folder = file.parent().context("the file lies in a folder")?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    replace(file, text.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use kvasir_kv::{Keyspace, KeyspaceName, ManualClock, UnixMillis};
    use kvasir_store::{MemoryStore, OpenOptions};

    use super::*;

    fn clients() -> Clients {
        let clock = Arc::new(ManualClock::at(UnixMillis(1_767_323_045_000)));
        let store = MemoryStore::new(&OpenOptions {
            clock: clock.clone(),
            ..OpenOptions::default()
        });
        let system = Keyspace::new(Arc::new(store), KeyspaceName::system());
        Clients::new(system, clock)
    }

    #[tokio::test]
    async fn the_file_is_made_once_and_follows_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let clients = clients();
        let file = leave(folder.path(), "127.0.0.1:8443", &clients)
            .await
            .unwrap();
        let first = fs::read_to_string(&file).unwrap();
        assert_eq!(
            edgerc::member(&first, SECTION, "host"),
            Some("127.0.0.1:8443")
        );
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        leave(folder.path(), "127.0.0.1:9000", &clients)
            .await
            .unwrap();
        let second = fs::read_to_string(&file).unwrap();
        assert_eq!(second, first.replace("8443", "9000"));
        assert_eq!(clients.list().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_credential_that_the_store_does_not_know_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = leave(folder.path(), "h:1", &clients()).await.unwrap();
        let old = fs::read_to_string(&file).unwrap();
        let clients = clients();
        leave(folder.path(), "h:1", &clients).await.unwrap();
        let new = fs::read_to_string(&file).unwrap();
        let token = |text| edgerc::member(text, SECTION, "client_token").map(str::to_owned);
        assert_ne!(token(&old), token(&new));
        let known = clients.get(&token(&new).unwrap()).await.unwrap();
        assert!(known.is_some());
    }

    #[tokio::test]
    async fn sections_of_the_operators_own_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = path(folder.path());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let own = "[default]\nclient_token = x\n[other]\nhost = y\n";
        fs::write(&file, own).unwrap();
        leave(folder.path(), "h:1", &clients()).await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), own);
    }
}
