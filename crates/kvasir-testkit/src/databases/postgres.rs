//! One PostgreSQL server.

use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::{Process, Programs, as_server_user, free_port, fresh_name, place_files, run, scratch};

const BIN: &str = "usr/lib/postgresql/15/bin";

/// A private PostgreSQL server with user `kv`, no password asked. Ended when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    programs: Programs,
    settings: Vec<String>,
    port: u16,
    dir: TempDir,
}

impl Postgres {
    /// Starts a server; `None` (and a line on standard error) where PostgreSQL is not installed.
    ///
    /// # Errors
    ///
    /// Whatever kept an installed server from starting, with the end of its log.
    pub fn start() -> io::Result<Option<Postgres>> {
        Postgres::start_with(&[], &[])
    }

    /// Like [`Postgres::start`], with further settings of the server, such as `ssl=on` (`{dir}` stands
    /// for its folder), and files, name and text, in that folder.
    ///
    /// # Errors
    ///
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[&str], files: &[(&str, &str)]) -> io::Result<Option<Postgres>> {
        let needed = [program("postgres"), program("initdb"), program("psql")];
        let Some(programs) = Programs::find(&needed.each_ref().map(String::as_str)) else {
            return Ok(None);
        };
        let dir = scratch("kvasir-postgres-")?;
        let mut initdb = programs.command(&program("initdb"));
        initdb
            .args(["-U", "kv", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
            .arg(dir.path().join("data"))
            .current_dir(dir.path());
        run(as_server_user(&mut initdb))?;
        place_files(dir.path(), files)?;
        let folder = dir.path().display().to_string();
        let mut server = Postgres {
            process: None,
            settings: settings
                .iter()
                .map(|setting| setting.replace("{dir}", &folder))
                .collect(),
            programs,
            port: free_port(),
            dir,
        };
        server.restart()?;
        Ok(Some(server))
    }

    /// Ends the server at once, as a crash does. Its children notice within a moment.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on its folder and port.
    ///
    /// # Errors
    ///
    /// As [`Postgres::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        // Children of a killed server hold its memory until they have noticed.
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_start() {
                Err(_) if attempts < 20 => std::thread::sleep(Duration::from_millis(200)),
                done => return done,
            }
        }
    }

    fn try_start(&mut self) -> io::Result<()> {
        let mut command = self.programs.command(&program("postgres"));
        command
            .arg("-D")
            .arg(self.dir.path().join("data"))
            .args(["-p", &self.port.to_string()])
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=200",
            ])
            .arg("-c")
            .arg(format!(
                "unix_socket_directories={}",
                self.dir.path().display()
            ))
            .current_dir(self.dir.path());
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        as_server_user(&mut command);
        let mut process = Process::start(command, self.dir.path().join("server.log"))?;
        let (programs, port) = (self.programs.clone(), self.port);
        process.wait_until("PostgreSQL", || {
            sql(&programs, port, "postgres", "SELECT 1").is_ok()
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
        Ok(format!("postgres://kv@127.0.0.1:{}/{name}", self.port))
    }

    /// Runs statements as the administrator and returns what they print.
    ///
    /// # Errors
    ///
    /// The text of the client program.
    pub fn admin(&self, statements: &str) -> io::Result<String> {
        self.admin_in("postgres", statements)
    }

    /// Like [`Postgres::admin`], in a database of a name that [`Postgres::fresh_url`] gave.
    ///
    /// # Errors
    ///
    /// The text of the client program.
    pub fn admin_in(&self, database: &str, statements: &str) -> io::Result<String> {
        sql(&self.programs, self.port, database, statements)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Immediate shutdown, children included.
            process.stop("-QUIT");
        }
    }
}

fn program(name: &str) -> String {
    format!("{BIN}/{name}")
}

/// Like [`sql`], with the programs found again.
pub(super) fn run_sql(port: u16, database: &str, statements: &str) -> io::Result<String> {
    let missing = || io::Error::other("the client program is gone");
    let programs = Programs::find(&[&program("psql")]).ok_or_else(missing)?;
    sql(&programs, port, database, statements)
}

fn sql(programs: &Programs, port: u16, database: &str, statements: &str) -> io::Result<String> {
    run(programs
        .command(&program("psql"))
        .args(["-h", "127.0.0.1", "-U", "kv", "-d", database, "-At", "-p"])
        .arg(port.to_string())
        .args(["-c", statements]))
}
