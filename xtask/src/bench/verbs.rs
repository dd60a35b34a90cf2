//! What a verb of the command line costs beyond the request that it makes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Bench, kvasir_binary};

/// Rounds; in each the verb, the bare request and `curl` take turns.
const ROUNDS: usize = 30;

/// What a verb may take beyond the bare request, in milliseconds; CLI-13 of the operator's contract.
const OVERHEAD_MAX_MS: f64 = 50.0;

/// The key that is asked for.
const KEY: &str = "bench";

impl Bench {
    /// `kvasir get` and `kvasir put` against the same request on a bare socket, and against `curl`.
    pub(super) async fn verbs(&mut self) -> Result<()> {
        let name = "verb beyond the bare request";
        if !self.wants_some(&["verb", name]) {
            return Ok(());
        }
        let server = self.kvasir(&self.data("verbs"), &[])?;
        let url = format!("http://{}", server.addr);
        let body = r#"{"value":1}"#;
        for (verb, args, method, body) in [
            ("put", &["put", KEY, "1"][..], "PUT", body),
            ("get", &["get", KEY], "GET", ""),
        ] {
            let mut command = Command::new(kvasir_binary());
            command.args(args).args(["--server", &url]);
            let mut curl = Command::new("curl");
            curl.args(["-sf", "-X", method, &format!("{url}/kv/{KEY}")]);
            curl.args(["-H", "content-type: application/json"]);
            if !body.is_empty() {
                curl.args(["-d", body]);
            }
            let has_curl = time_of(&mut curl).is_ok();
            // Both warm up: pages of the programs are in memory then.
            time_of(&mut command)?;
            bare(server.addr, method, body)?;
            let (mut beyond, mut by_curl) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let ours = time_of(&mut command)?;
                let theirs = bare(server.addr, method, body)?;
                beyond.push(millis(ours) - millis(theirs));
                if has_curl {
                    by_curl.push(millis(ours) - millis(time_of(&mut curl)?));
                }
            }
            let name = format!("verb `{verb}` beyond the bare request, median of {ROUNDS}");
            self.report
                .figure(&name, middle(beyond), "ms", Some(OVERHEAD_MAX_MS));
            if has_curl {
                let name = format!("verb `{verb}` beyond curl, median of {ROUNDS}");
                self.report.figure(&name, middle(by_curl), "ms", None);
            }
        }
        Ok(())
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long a program takes from its start to its end.
fn time_of(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    let time = began.elapsed();
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(time)
}

/// How long one request takes on a connection of its own, without any library.
fn bare(addr: SocketAddr, method: &str, body: &str) -> Result<Duration> {
    let request = format!(
        "{method} /kv/{KEY} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let began = Instant::now();
    let mut socket = TcpStream::connect(addr)?;
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let time = began.elapsed();
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(time)
}
