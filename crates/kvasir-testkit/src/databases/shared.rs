//! One server for the tests of many processes.
//!
//! Each test may be a process of its own, and starting a server takes seconds. So the first test
//! starts it, later ones find it, and a small watchman process ends it by its id when no test has
//! used it for a few seconds. Who uses it holds a shared lock on a file; the lock ends with its
//! process, however that ends.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Galera, MariaDb, Postgres};

/// A server that other tests use too. Every user gets databases of its own.
#[derive(Debug)]
pub struct Shared {
    /// `scheme://user@hosts/`, to be followed by the name of a database.
    base: String,
    admin: Admin,
    _user: File,
}

/// How new databases are made.
#[derive(Debug)]
enum Admin {
    MariaDb(u16),
    Postgres(u16),
}

/// A server that was started to be shared.
struct Started {
    base: String,
    admin: Admin,
    pids: Vec<u32>,
    /// Removed together with the server.
    dir: PathBuf,
}

impl Shared {
    /// The shared MariaDB; `None` (and a line on standard error) where it is not installed.
    ///
    /// # Panics
    ///
    /// If an installed server does not start.
    pub fn mariadb() -> Option<&'static Shared> {
        static SERVER: OnceLock<Option<Shared>> = OnceLock::new();
        let server = SERVER.get_or_init(|| {
            find_or_start("mariadb", || {
                let Some(server) = MariaDb::start()? else {
                    return Ok(None);
                };
                let started = Started {
                    base: format!("mysql://kv:kv@127.0.0.1:{}/", server.port()),
                    admin: Admin::MariaDb(server.port()),
                    pids: server.id().into_iter().collect(),
                    dir: server.dir().to_owned(),
                };
                std::mem::forget(server);
                Ok(Some(started))
            })
        });
        server.as_ref()
    }

    /// The shared PostgreSQL.
    ///
    /// # Panics
    ///
    /// As [`Shared::mariadb`].
    pub fn postgres() -> Option<&'static Shared> {
        static SERVER: OnceLock<Option<Shared>> = OnceLock::new();
        let server = SERVER.get_or_init(|| {
            find_or_start("postgres", || {
                let Some(server) = Postgres::start()? else {
                    return Ok(None);
                };
                let started = Started {
                    base: format!("postgres://kv@127.0.0.1:{}/", server.port()),
                    admin: Admin::Postgres(server.port()),
                    pids: server.id().into_iter().collect(),
                    dir: server.dir().to_owned(),
                };
                std::mem::forget(server);
                Ok(Some(started))
            })
        });
        server.as_ref()
    }

    /// The shared Galera cluster of three nodes.
    ///
    /// # Panics
    ///
    /// As [`Shared::mariadb`].
    pub fn galera() -> Option<&'static Shared> {
        static SERVER: OnceLock<Option<Shared>> = OnceLock::new();
        let server = SERVER.get_or_init(|| {
            find_or_start("galera", || {
                let Some(cluster) = Galera::start()? else {
                    return Ok(None);
                };
                let hosts = cluster.sql_ports().map(|port| format!("127.0.0.1:{port}"));
                let started = Started {
                    base: format!("mysql://kv:kv@{}/", hosts.join(",")),
                    admin: Admin::MariaDb(cluster.sql_ports()[0]),
                    pids: cluster.ids(),
                    dir: cluster.dir().to_owned(),
                };
                std::mem::forget(cluster);
                Ok(Some(started))
            })
        });
        server.as_ref()
    }

    /// URL of a new, empty database.
    ///
    /// # Panics
    ///
    /// If the server refuses to create it.
    pub fn fresh_url(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kv_{}_{number}", std::process::id());
        self.run(&format!("CREATE DATABASE {name}"))
            .expect("the administrator may create databases");
        format!("{}{name}", self.base)
    }

    /// Runs statements as the administrator and returns what they print.
    ///
    /// # Errors
    ///
    /// The text of the client program.
    pub fn run(&self, statements: &str) -> io::Result<String> {
        ask(&self.admin, statements)
    }

    /// Like [`Shared::run`], in a database of a name that [`Shared::fresh_url`] gave.
    ///
    /// # Errors
    ///
    /// As [`Shared::run`].
    pub fn run_in(&self, database: &str, statements: &str) -> io::Result<String> {
        match self.admin {
            Admin::MariaDb(port) => {
                super::mariadb::run_sql(port, &format!("USE {database}; {statements}"))
            }
            Admin::Postgres(port) => super::postgres::run_sql(port, database, statements),
        }
    }
}

/// Uses the server of this name, starting it if nobody has. Only one process at a time looks.
fn find_or_start(
    name: &str,
    start: impl FnOnce() -> io::Result<Option<Started>>,
) -> Option<Shared> {
    try_find_or_start(name, start)
        .unwrap_or_else(|error| panic!("the shared {name} server does not start: {error}"))
}

fn try_find_or_start(
    name: &str,
    start: impl FnOnce() -> io::Result<Option<Started>>,
) -> io::Result<Option<Shared>> {
    let home = std::env::temp_dir().join(format!("kvasir-shared-{name}"));
    fs::create_dir_all(&home)?;
    let looking = File::create(home.join("looking.lock"))?;
    looking.lock()?;
    let user = File::create(home.join("users.lock"))?;
    user.lock_shared()?;
    let address = home.join("address");
    if let Ok(text) = fs::read_to_string(&address)
        && let Some((base, admin)) = parse_address(&text)
        && ask(&admin, "SELECT 1").is_ok()
    {
        return Ok(Some(Shared {
            base,
            admin,
            _user: user,
        }));
    }
    let Some(started) = start()? else {
        return Ok(None);
    };
    let line = match started.admin {
        Admin::MariaDb(port) => format!("mariadb {port} {}", started.base),
        Admin::Postgres(port) => format!("postgres {port} {}", started.base),
    };
    File::create(&address)?.write_all(line.as_bytes())?;
    watch_over(&home, &started)?;
    Ok(Some(Shared {
        base: started.base,
        admin: started.admin,
        _user: user,
    }))
}

fn parse_address(text: &str) -> Option<(String, Admin)> {
    let mut words = text.split(' ');
    let kind = words.next()?;
    let port = words.next()?.parse().ok()?;
    let admin = match kind {
        "mariadb" => Admin::MariaDb(port),
        "postgres" => Admin::Postgres(port),
        _ => return None,
    };
    Some((words.next()?.to_owned(), admin))
}

fn ask(admin: &Admin, statements: &str) -> io::Result<String> {
    match admin {
        Admin::MariaDb(port) => super::mariadb::run_sql(*port, statements),
        Admin::Postgres(port) => super::postgres::run_sql(*port, "postgres", statements),
    }
}

/// Three looks in a row without a user end the server, under the lock that keeps new users waiting.
/// If there is one all the same, it goes on looking. Removing the folder can take minutes on a busy
/// disk, so nobody waits for that.
const WATCHMAN: &str = r#"
while :; do
  idle=0
  while [ "$idle" -lt 3 ]; do
    sleep 2
    if flock -n -x "$HOME_DIR/users.lock" true; then idle=$((idle + 1)); else idle=0; fi
  done
  flock -x "$HOME_DIR/looking.lock" sh -c \
    'flock -n -x "$HOME_DIR/users.lock" true && rm -f "$HOME_DIR/address" && { kill -9 $PIDS; true; }' \
    && break
done
sleep 1
rm -rf "$SERVER_DIR"
"#;

fn watch_over(home: &Path, started: &Started) -> io::Result<()> {
    let pids: Vec<String> = started.pids.iter().map(u32::to_string).collect();
    Command::new("sh")
        .args(["-c", WATCHMAN])
        .env("HOME_DIR", home)
        .env("SERVER_DIR", &started.dir)
        .env("PIDS", pids.join(" "))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Not to be ended together with the test that happened to start it.
        .process_group(0)
        .spawn()?;
    Ok(())
}
