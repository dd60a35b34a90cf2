//! The real `kvasir` binary as a test sees it: started on free ports, killed, started again.
//!
//! The child process sees no variable of the test's own environment but [`ENV_KEPT`], so a
//! developer's settings change no result. It ends when the [`TestServer`] is dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::wait::{DEADLINE, eventually, within};

/// Variables that the server inherits: to find programs and libraries, to write coverage.
const ENV_KEPT: [&str; 5] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "LLVM_PROFILE_FILE",
    "RUST_BACKTRACE",
];

/// Longest a stopped server may take to exit: `design.md` 8 gives it 10 seconds to drain.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// How to start a server. `ServerOptions::new(env!("CARGO_BIN_EXE_kvasir"))` is enough for most.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    binary: PathBuf,
    data: Option<PathBuf>,
    listen: Vec<String>,
    tls_listen: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl ServerOptions {
    /// A server on one free loopback port, in the clear, with a data folder of its own.
    pub fn new(binary: impl Into<PathBuf>) -> ServerOptions {
        ServerOptions {
            binary: binary.into(),
            data: None,
            listen: Vec::new(),
            tls_listen: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Uses this data folder instead of a temporary one, and leaves it behind.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> ServerOptions {
        self.data = Some(folder.into());
        self
    }

    /// Adds a listener; the first one replaces the default `127.0.0.1:0`.
    #[must_use]
    pub fn listen(mut self, addr: impl Into<String>) -> ServerOptions {
        self.listen.push(addr.into());
        self
    }

    /// Adds a TLS listener on a free loopback port.
    #[must_use]
    pub fn tls(mut self) -> ServerOptions {
        self.tls_listen.push("127.0.0.1:0".into());
        self
    }

    /// Adds an argument behind `serve`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> ServerOptions {
        self.args.push(arg.into());
        self
    }

    /// Adds a setting, as in `.set("deno.v8_compat", "false")`.
    #[must_use]
    pub fn set(self, setting: &str, value: &str) -> ServerOptions {
        self.arg(format!("--{setting}")).arg(value)
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> ServerOptions {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts the server and waits until it says that it is ready.
    ///
    /// # Panics
    ///
    /// If it exits or says nothing; the message holds what it wrote.
    pub async fn start(self) -> TestServer {
        match self.try_start().await {
            Ok(server) => server,
            Err(exit) => panic!("kvasir did not start: {exit}"),
        }
    }

    /// Starts the server where the test expects that it may refuse.
    ///
    /// # Errors
    ///
    /// The way it ended before it was ready.
    ///
    /// # Panics
    ///
    /// If the binary is missing, or if it neither exits nor is ready before [`DEADLINE`].
    pub async fn try_start(self) -> Result<TestServer, StartFailure> {
        let scratch = Arc::new(TempDir::new().expect("a temporary folder"));
        self.start_with(scratch).await
    }

    async fn start_with(self, scratch: Arc<TempDir>) -> Result<TestServer, StartFailure> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => scratch.path().join("data"),
        };
        let mut child = self
            .command(&data, scratch.path())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()));
        let stdout = Output::gather(child.stdout.take().expect("piped above"));
        let stderr = Output::gather(child.stderr.take().expect("piped above"));

        enum Start {
            Ready(String),
            Exited(ExitStatus),
        }
        let started = eventually(DEADLINE, "kvasir is ready or exits", || {
            let exited = child.try_wait().expect("the child can be waited for");
            let ready = stdout.find("kvasir ready ");
            async move { ready.map(Start::Ready).or(exited.map(Start::Exited)) }
        })
        .await;
        match started {
            Start::Ready(line) => {
                let (http, https) =
                    parse_ready_line(&line).unwrap_or_else(|| panic!("not a ready line: {line}"));
                Ok(TestServer {
                    options: self,
                    scratch,
                    data,
                    child,
                    http,
                    https,
                    stdout,
                    stderr,
                })
            }
            Start::Exited(status) => {
                stdout.finished().await;
                stderr.finished().await;
                Err(StartFailure {
                    status,
                    stdout: stdout.text(),
                    stderr: stderr.text(),
                })
            }
        }
    }

    fn command(&self, data: &Path, scratch: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .env("HOME", scratch)
            .envs(
                ENV_KEPT
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(scratch)
            .arg("serve")
            .arg("--data")
            .arg(data);
        let default = ["127.0.0.1:0".to_owned()];
        let listen = if self.listen.is_empty() {
            &default[..]
        } else {
            &self.listen
        };
        for addr in listen {
            command.arg("--listen").arg(addr);
        }
        for addr in &self.tls_listen {
            command.arg("--tls-listen").arg(addr);
        }
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// A server that ended before it was ready.
#[derive(Debug)]
pub struct StartFailure {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl std::fmt::Display for StartFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}{}", self.status, self.stdout, self.stderr)
    }
}

/// A running `kvasir` process.
#[derive(Debug)]
pub struct TestServer {
    options: ServerOptions,
    scratch: Arc<TempDir>,
    data: PathBuf,
    child: Child,
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    stdout: Output,
    stderr: Output,
}

impl TestServer {
    /// Starts a server with [`ServerOptions::new`].
    ///
    /// # Panics
    ///
    /// As [`ServerOptions::start`].
    pub async fn start(binary: impl Into<PathBuf>) -> TestServer {
        ServerOptions::new(binary).start().await
    }

    /// Address of the first listener in the clear.
    ///
    /// # Panics
    ///
    /// If the server has none.
    pub fn addr(&self) -> SocketAddr {
        *self.http.first().expect("the server listens in the clear")
    }

    /// Addresses of all listeners in the clear.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Address of the first TLS listener.
    ///
    /// # Panics
    ///
    /// If the server has none; see [`ServerOptions::tls`].
    pub fn tls_addr(&self) -> SocketAddr {
        *self.https.first().expect("the server listens with TLS")
    }

    /// The URL of a path, such as `/kv/a`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    /// The URL of a path on the TLS listener, by the name `localhost` that its certificate holds.
    pub fn tls_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.tls_addr().port())
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// An empty folder that lives as long as the server and its restarts.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The process id.
    ///
    /// # Panics
    ///
    /// After the process has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// Its resident memory, in bytes.
    ///
    /// # Panics
    ///
    /// Where there is no `/proc`, or after the process has ended.
    pub fn memory_bytes(&self) -> u64 {
        let status = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(status).expect("the server runs on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("the kernel tells it") * 1024
    }

    /// Processor time that it has used so far.
    ///
    /// # Panics
    ///
    /// As [`TestServer::memory_bytes`].
    pub fn processor_time(&self) -> Duration {
        /// Unit of the figures, in milliseconds: `USER_HZ` is 100 wherever Linux runs.
        const TICK_MS: u64 = 10;
        let stat = format!("/proc/{}/stat", self.pid());
        let stat = std::fs::read_to_string(stat).expect("the server runs on Linux");
        // The name in parentheses may hold spaces; user and system time are fields 14 and 15.
        let behind = stat.rsplit(')').next().expect("there is a last part");
        let ticks: u64 = behind
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("a number of ticks"))
            .sum();
        Duration::from_millis(ticks * TICK_MS)
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    pub async fn kill(&mut self) {
        // It may have ended by itself; gone is gone.
        let _ = self.child.start_kill();
        self.wait(STOP_DEADLINE).await;
    }

    /// Asks it to stop with SIGTERM and waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not end in time.
    pub async fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .expect("our own child can be signalled");
        }
        self.wait(STOP_DEADLINE).await
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not come in time; the message holds what the server wrote to standard error.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(status) => status.expect("our own child can be waited for"),
            Err(_) => panic!(
                "kvasir still runs after {deadline:?}:\n{}",
                self.stderr.text()
            ),
        }
    }

    /// Starts it again on the same data folder with the same options, on whatever ports are free.
    ///
    /// # Panics
    ///
    /// As [`ServerOptions::start`].
    pub async fn restart(&mut self) {
        self.kill().await;
        let options = self.options.clone();
        match options.start_with(self.scratch.clone()).await {
            Ok(server) => *self = server,
            Err(exit) => panic!("kvasir did not start again: {exit}"),
        }
    }
}

/// A client that follows no proxy settings and gives up in time.
///
/// # Panics
///
/// Never in practice: the settings are fixed.
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .build()
        .expect("a client without options builds")
}

/// Lines of one output of a child, gathered while it runs so that it never blocks on a full pipe.
#[derive(Clone, Debug)]
struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    end: tokio::sync::watch::Receiver<bool>,
}

impl Output {
    fn gather(pipe: impl AsyncRead + Send + Unpin + 'static) -> Output {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (ended, end) = tokio::sync::watch::channel(false);
        let gathered = lines.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                gathered.lock().expect("no panic while held").push(line);
            }
            // Nobody may be waiting.
            let _ = ended.send(true);
        });
        Output { lines, end }
    }

    fn find(&self, prefix: &str) -> Option<String> {
        let lines = self.lines.lock().expect("no panic while held");
        lines.iter().find(|line| line.starts_with(prefix)).cloned()
    }

    fn text(&self) -> String {
        let lines = self.lines.lock().expect("no panic while held");
        lines.iter().flat_map(|line| [line, "\n"]).collect()
    }

    async fn finished(&self) {
        let mut end = self.end.clone();
        // An error means that the gathering task is gone, which is an end too.
        let _ = within(DEADLINE, "the output ends", end.wait_for(|ended| *ended)).await;
    }
}

/// Reads `kvasir ready http=ADDR[,ADDR] https=ADDR`; either list may be missing or empty.
fn parse_ready_line(line: &str) -> Option<(Vec<SocketAddr>, Vec<SocketAddr>)> {
    let (mut http, mut https) = (Vec::new(), Vec::new());
    for word in line.strip_prefix("kvasir ready ")?.split_whitespace() {
        let (scheme, addrs) = word.split_once('=')?;
        let list = match scheme {
            "http" => &mut http,
            "https" => &mut https,
            _ => return None,
        };
        for addr in addrs.split(',').filter(|addr| !addr.is_empty()) {
            list.push(addr.parse().ok()?);
        }
    }
    Some((http, https))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_ready_line_names_every_listener() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(
            parse_ready_line("kvasir ready http=127.0.0.1:8000,[::1]:8000 https=127.0.0.1:8443"),
            Some((
                vec![addr("127.0.0.1:8000"), addr("[::1]:8000")],
                vec![addr("127.0.0.1:8443")]
            ))
        );
        assert_eq!(
            parse_ready_line("kvasir ready http=127.0.0.1:1"),
            Some((vec![addr("127.0.0.1:1")], vec![]))
        );
        assert_eq!(parse_ready_line("kvasir ready ftp=127.0.0.1:1"), None);
        assert_eq!(parse_ready_line("listening on 127.0.0.1:1"), None);
    }

    /// A shell script in place of the server.
    fn script(text: &str) -> (TempDir, ServerOptions) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("kvasir");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = ServerOptions::new(path);
        (folder, options)
    }

    #[tokio::test]
    async fn a_server_is_started_stopped_and_started_again_on_its_folder() {
        let (_folder, options) = script(
            "echo $0 $* >> started; trap 'exit 0' TERM; \
             echo kvasir ready http=127.0.0.1:7; while :; do sleep 0.01; done",
        );
        let mut server = options.set("deno.v8_compat", "false").start().await;
        assert_eq!(server.url("/kv/a"), "http://127.0.0.1:7/kv/a");
        let first = server.pid();
        assert!(server.terminate().await.success());

        server.restart().await;
        assert_ne!(server.pid(), first);
        server.kill().await;
        let started = std::fs::read_to_string(server.scratch().join("started")).unwrap();
        let data = server.data().display();
        for line in started.lines() {
            let expected =
                format!("serve --data {data} --listen 127.0.0.1:0 --deno.v8_compat false");
            assert!(line.ends_with(&expected), "{line}");
        }
        assert_eq!(started.lines().count(), 2);
    }

    #[tokio::test]
    async fn a_server_that_refuses_to_start_tells_why() {
        let (_folder, options) = script("echo no such store >&2; exit 2");
        let failure = options.try_start().await.unwrap_err();
        assert_eq!(failure.status.code(), Some(2));
        assert_eq!(failure.stderr, "no such store\n");
    }
}
