//! Real database servers for tests: private instances on loopback in a scratch folder.
//!
//! The programs come from Debian's packages, installed as usual or unpacked below the folder that
//! `KVASIR_TEST_DATABASES` names. Nothing is started as a service; every process is ours and is
//! ended by its own id when the value is dropped. A test whose programs are missing says so and
//! is skipped, see [`Programs::find`].

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::skip::skip;

pub use galera::Galera;
pub use mariadb::MariaDb;
pub use old::OldServer;
pub use postgres::Postgres;
pub use private::{Kind, Private};
pub use shared::Shared;

mod galera;
mod mariadb;
mod old;
mod postgres;
mod private;
mod shared;

/// Names the folder below which Debian's packages were unpacked.
pub const PROGRAMS_VARIABLE: &str = "KVASIR_TEST_DATABASES";

/// `nobody` on Debian: PostgreSQL refuses to run as root, Galera's state transfer does not work so.
const NOBODY: u32 = 65_534;

/// Longest a server may take from start to its first answer. Galera joins in 5 to 12 s on a machine
/// with nothing else to do, and took more than 90 s on one that was building for ten people.
const START_MAX: Duration = Duration::from_secs(150);

/// Where the database programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `/` after an ordinary installation, else the folder of unpacked packages.
    root: PathBuf,
}

impl Programs {
    /// The programs, if all of `needed` (paths below the root, such as `usr/sbin/mariadbd`) are
    /// there. Prints why not, so that a skipped test can be told from a passed one.
    pub fn find(needed: &[&str]) -> Option<Programs> {
        let named = std::env::var_os(PROGRAMS_VARIABLE).map(PathBuf::from);
        let roots = named.into_iter().chain([PathBuf::from("/")]);
        let found = roots
            .map(|root| Programs { root })
            .find(|programs| needed.iter().all(|path| programs.path(path).exists()));
        if found.is_none() {
            skip(&format!(
                "{} not found; install the Debian package or set {PROGRAMS_VARIABLE}",
                needed.join(", ")
            ));
        }
        found
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// A command that finds the libraries of the unpacked packages.
    fn command(&self, below: &str) -> Command {
        let mut command = Command::new(self.path(below));
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.path("usr/bin");
        let sbin = self.path("usr/sbin");
        command
            .env(
                "PATH",
                format!("{}:{}:{path}", bin.display(), sbin.display()),
            )
            .stdin(Stdio::null());
        if self.root != Path::new("/") {
            let libraries = self.path("usr/lib/x86_64-linux-gnu");
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// A server process and its log.
#[derive(Debug)]
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, log: PathBuf) -> io::Result<Process> {
        let out = File::options().create(true).append(true).open(&log)?;
        // A group of its own: a signal meant for the tests ends it through its owner.
        command.process_group(0);
        let child = command.stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Process { child, log })
    }

    /// The process id.
    fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a crash does.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end and waits; kills it after 20 s.
    fn stop(&mut self, signal: &str) {
        let asked = Command::new("kill")
            .args([signal, &self.id().to_string()])
            .status();
        let until = Instant::now() + Duration::from_secs(20);
        while asked.is_ok() && Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until `is_ready`, the process ends, or too long has passed.
    fn wait_until(&mut self, what: &str, mut is_ready: impl FnMut() -> bool) -> io::Result<()> {
        let until = Instant::now() + START_MAX;
        while !is_ready() {
            if self.has_ended() || Instant::now() > until {
                let mut text = String::new();
                let _ = File::open(&self.log).and_then(|mut log| log.read_to_string(&mut text));
                let tail: Vec<&str> = text.lines().rev().take(15).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                return Err(io::Error::other(format!(
                    "{what} did not become ready:\n{}",
                    tail.join("\n")
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A scratch folder that the server's user may write.
fn scratch(label: &str) -> io::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix(label).tempdir()?;
    give_to_server(dir.path())?;
    Ok(dir)
}

/// Puts files beside the server's data, readable by its user only.
fn place_files(dir: &Path, files: &[(&str, &str)]) -> io::Result<()> {
    for (name, text) in files {
        let path = dir.join(name);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path)?.write_all(text.as_bytes())?;
        give_to_server(&path)?;
    }
    Ok(())
}

/// Hands a folder to the user the servers run as.
fn give_to_server(path: &Path) -> io::Result<()> {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY))?;
        if path.is_dir() {
            for child in fs::read_dir(path)? {
                give_to_server(&child?.path())?;
            }
        }
    }
    Ok(())
}

/// Lets a command run as an ordinary user when we are root.
fn as_server_user(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| {
        use std::os::unix::fs::MetadataExt;
        me.uid() == 0
    })
}

/// A port that nobody listens on, below the range from which the kernel takes outgoing ports: a
/// client's port that equals a server's makes the server fail at start.
fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that start together begin at different places.
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(step)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A database name that this process has not used yet.
fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("kv{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(200)).is_ok()
}

/// Runs a client program to its end.
fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "{:?} failed: {}",
            command.get_program(),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
