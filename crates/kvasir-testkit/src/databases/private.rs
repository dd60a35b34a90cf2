//! A database for one measurement: started, asked for its URL, ended.

use std::io;
use std::process::{Child, Command, Stdio};

use super::{Galera, MariaDb, Postgres};

/// A private server (or cluster) with durable settings and one empty database. Ended when dropped,
/// and also when this process ends without dropping it.
///
/// Durable means: an acknowledged commit has been synced (`innodb_flush_log_at_trx_commit = 1`,
/// PostgreSQL's defaults `fsync` and `synchronous_commit`). Data lies in a folder of the system's
/// temporary folder, so that is the disk which is measured.
///
/// ```no_run
/// use kvasir_testkit::databases::{Kind, Private};
///
/// if let Some(database) = Private::start(Kind::Postgres).unwrap() {
///     println!("{} at {}", database.version().unwrap(), database.url());
/// }
/// ```
#[derive(Debug)]
pub struct Private {
    server: Server,
    url: String,
    // Dropped after the server: then there is nothing left for it to end.
    _watchman: Watchman,
}

/// Which server to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One MariaDB server.
    MariaDb,
    /// Three Galera nodes.
    Galera,
    /// One PostgreSQL server.
    Postgres,
}

#[derive(Debug)]
enum Server {
    MariaDb(MariaDb),
    Galera(Galera),
    Postgres(Postgres),
}

impl Kind {
    /// All of them, in the order in which they are listed for people.
    pub const ALL: [Kind; 3] = [Kind::MariaDb, Kind::Galera, Kind::Postgres];

    /// The name that arguments and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MariaDb => "mariadb",
            Kind::Galera => "galera",
            Kind::Postgres => "postgres",
        }
    }
}

impl Private {
    /// Starts a server; `None` (and a line on standard error) where it is not installed.
    ///
    /// # Errors
    ///
    /// Whatever kept an installed server from starting, with the end of its log.
    pub fn start(kind: Kind) -> io::Result<Option<Private>> {
        let (server, url, pids) = match kind {
            Kind::MariaDb => {
                let Some(server) = MariaDb::start()? else {
                    return Ok(None);
                };
                let (url, pids) = (server.fresh_url()?, server.id().into_iter().collect());
                (Server::MariaDb(server), url, pids)
            }
            Kind::Galera => {
                let Some(cluster) = Galera::start()? else {
                    return Ok(None);
                };
                let (url, pids) = (cluster.fresh_url()?, cluster.ids());
                (Server::Galera(cluster), url, pids)
            }
            Kind::Postgres => {
                let Some(server) = Postgres::start()? else {
                    return Ok(None);
                };
                let (url, pids) = (server.fresh_url()?, server.id().into_iter().collect());
                (Server::Postgres(server), url, pids)
            }
        };
        Ok(Some(Private {
            server,
            url,
            _watchman: Watchman::start(pids)?,
        }))
    }

    /// URL of its empty database, as `--store` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// URL of another, empty database on the same server.
    ///
    /// # Errors
    ///
    /// If the server refuses to create it.
    pub fn fresh_url(&self) -> io::Result<String> {
        match &self.server {
            Server::MariaDb(server) => server.fresh_url(),
            Server::Galera(cluster) => cluster.fresh_url(),
            Server::Postgres(server) => server.fresh_url(),
        }
    }

    /// Product and version, as the server tells it.
    ///
    /// # Errors
    ///
    /// The text of the client program.
    pub fn version(&self) -> io::Result<String> {
        let text = match &self.server {
            Server::MariaDb(server) => server.admin("SELECT VERSION()"),
            Server::Galera(cluster) => cluster.admin(0, "SELECT VERSION()"),
            Server::Postgres(server) => server.admin("SHOW server_version"),
        }?;
        let name = match &self.server {
            Server::MariaDb(_) => "MariaDB",
            Server::Galera(_) => "Galera, 3 nodes of MariaDB",
            Server::Postgres(_) => "PostgreSQL",
        };
        let number = text.trim().split(['-', ' ']).next().unwrap_or_default();
        Ok(format!("{name} {number}"))
    }
}

/// A shell that ends processes by their ids as soon as this process is gone: its standard input
/// then ends.
#[derive(Debug)]
struct Watchman(Child);

impl Watchman {
    fn start(pids: Vec<u32>) -> io::Result<Watchman> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        Command::new("sh")
            .args(["-c", "read -r _; kill -9 $PIDS"])
            .env("PIDS", pids.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Watchman)
    }
}

impl Drop for Watchman {
    fn drop(&mut self) {
        // Before its input ends, so that it never meets ids that others have by now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_server_is_durable_and_gone_afterwards() {
        for kind in [Kind::MariaDb, Kind::Postgres] {
            let Some(database) = Private::start(kind).unwrap() else {
                continue;
            };
            assert!(database.version().unwrap().contains(' '));
            assert_ne!(database.url(), database.fresh_url().unwrap());
            let (durable, expected) = match &database.server {
                Server::MariaDb(server) => {
                    (server.admin("SELECT @@innodb_flush_log_at_trx_commit"), "1")
                }
                Server::Postgres(server) => (server.admin("SHOW synchronous_commit"), "on"),
                Server::Galera(_) => continue,
            };
            assert_eq!(durable.unwrap().trim(), expected);
            let id = match &database.server {
                Server::MariaDb(server) => server.id(),
                Server::Postgres(server) => server.id(),
                Server::Galera(_) => continue,
            };
            let folder = format!("/proc/{}", id.expect("it runs"));
            assert!(std::path::Path::new(&folder).exists());
            drop(database);
            assert!(!std::path::Path::new(&folder).exists());
        }
    }
}
