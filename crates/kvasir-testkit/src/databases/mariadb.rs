//! One MariaDB server.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Process, Programs, answers, as_server_user, free_port, fresh_name, give_to_server};
use super::{place_files, run, scratch};

const SERVER: &str = "usr/sbin/mariadbd";
const CLIENT: &str = "usr/bin/mariadb";
const INSTALL: &str = "usr/bin/mariadb-install-db";

/// A private MariaDB server with user `kv`, password `kv`. Ended when dropped.
#[derive(Debug)]
pub struct MariaDb {
    process: Option<Process>,
    programs: Programs,
    extra: Vec<String>,
    port: u16,
    dir: TempDir,
}

impl MariaDb {
    /// Starts a server; `None` (and a line on standard error) where MariaDB is not installed.
    ///
    /// # Errors
    ///
    /// Whatever kept an installed server from starting, with the end of its log.
    pub fn start() -> io::Result<Option<MariaDb>> {
        MariaDb::start_with(&[], &[])
    }

    /// Like [`MariaDb::start`], with further options of the server (`{dir}` stands for its folder)
    /// and files, name and text, in that folder.
    ///
    /// # Errors
    ///
    /// As [`MariaDb::start`].
    pub fn start_with(extra: &[&str], files: &[(&str, &str)]) -> io::Result<Option<MariaDb>> {
        let Some(programs) = Programs::find(&[SERVER, CLIENT, INSTALL]) else {
            return Ok(None);
        };
        let dir = scratch("kvasir-mariadb-")?;
        install(&programs, &dir.path().join("data"))?;
        place_files(dir.path(), files)?;
        let folder = dir.path().display().to_string();
        let mut server = MariaDb {
            process: None,
            programs,
            extra: extra
                .iter()
                .map(|option| option.replace("{dir}", &folder))
                .collect(),
            port: free_port(),
            dir,
        };
        server.restart()?;
        server.admin(USER_SQL)?;
        Ok(Some(server))
    }

    /// Ends the server at once, as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on its folder and port.
    ///
    /// # Errors
    ///
    /// As [`MariaDb::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.process = None;
        let mut command = server_command(&self.programs, self.dir.path(), "data", self.port);
        command.args(&self.extra);
        let mut process = Process::start(command, self.dir.path().join("server.log"))?;
        let (programs, port) = (self.programs.clone(), self.port);
        process.wait_until("MariaDB", || {
            answers(port) && sql(&programs, port, "SELECT 1").is_ok()
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Process id of the running server.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Its folder.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of a new, empty database.
    ///
    /// # Errors
    ///
    /// If the server refuses to create it.
    pub fn fresh_url(&self) -> io::Result<String> {
        let name = fresh_name();
        self.admin(&format!("CREATE DATABASE {name}"))?;
        Ok(format!("mysql://kv:kv@127.0.0.1:{}/{name}", self.port))
    }

    /// Runs statements as the administrator and returns what they print.
    ///
    /// # Errors
    ///
    /// The text of the client program.
    pub fn admin(&self, statements: &str) -> io::Result<String> {
        sql(&self.programs, self.port, statements)
    }
}

pub(super) const USER_SQL: &str =
    "CREATE USER 'kv'@'%' IDENTIFIED BY 'kv'; GRANT ALL ON *.* TO 'kv'@'%';";

/// Creates the system tables below `data`.
pub(super) fn install(programs: &Programs, data: &Path) -> io::Result<()> {
    let mut command = programs.command(INSTALL);
    command.arg("--no-defaults");
    if let Some(dir) = data.parent() {
        // Away from those who tidy up the system's folder.
        command.arg(format!("--tmpdir={}", dir.display()));
    }
    command
        .arg(format!("--basedir={}", programs.path("usr").display()))
        .arg(format!("--datadir={}", data.display()))
        .arg("--auth-root-authentication-method=normal")
        .arg("--skip-test-db")
        .arg(format!(
            "--lc-messages-dir={}",
            messages(programs).display()
        ));
    run(&mut command)?;
    give_to_server(data)
}

fn messages(programs: &Programs) -> PathBuf {
    programs.path("usr/share/mysql")
}

/// The server with everything that a single one and a Galera node have in common.
pub(super) fn server_command(programs: &Programs, dir: &Path, data: &str, port: u16) -> Command {
    let mut command = programs.command(SERVER);
    command
        .arg("--no-defaults")
        .arg(format!("--basedir={}", programs.path("usr").display()))
        .arg(format!(
            "--plugin-dir={}",
            programs.path("usr/lib/mysql/plugin").display()
        ))
        .arg(format!(
            "--lc-messages-dir={}",
            messages(programs).display()
        ))
        .arg(format!("--datadir={}", dir.join(data).display()))
        .arg(format!(
            "--socket={}",
            dir.join(format!("{port}.sock")).display()
        ))
        .arg(format!(
            "--pid-file={}",
            dir.join(format!("{port}.pid")).display()
        ))
        .arg(format!("--tmpdir={}", dir.display()))
        .arg(format!("--port={port}"))
        .args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--default-storage-engine=InnoDB",
            "--innodb-flush-log-at-trx-commit=1",
            "--innodb-buffer-pool-size=128M",
            "--innodb-log-file-size=64M",
            "--max-connections=300",
            "--max-allowed-packet=64M",
        ]);
    as_server_user(&mut command);
    command
}

/// Like [`sql`], with the programs found again.
pub(super) fn run_sql(port: u16, statements: &str) -> io::Result<String> {
    let missing = || io::Error::other("the client program is gone");
    sql(
        &Programs::find(&[CLIENT]).ok_or_else(missing)?,
        port,
        statements,
    )
}

/// Runs statements as root over TCP.
pub(super) fn sql(programs: &Programs, port: u16, statements: &str) -> io::Result<String> {
    run(programs
        .command(CLIENT)
        .args([
            "--no-defaults",
            "-uroot",
            "-h127.0.0.1",
            "-N",
            "-e",
            statements,
        ])
        .arg(format!("-P{port}")))
}
