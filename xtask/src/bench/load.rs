//! The load generator: so many connections, each sending the next request when the answer is there.
//!
//! HTTP/1.1 on raw sockets with prepared requests, so that most of the two cores is left to the
//! server. It understands answers with `Content-Length` and chunked ones, and nothing more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Makes the bytes of the n-th request of a connection.
pub(crate) type MakeRequest = Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// What one run of load did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Answers per second.
    pub(crate) per_second: f64,
    /// Median time of one request, in microseconds.
    pub(crate) p50_micros: u64,
    /// The slowest hundredth begins here, in microseconds.
    pub(crate) p99_micros: u64,
}

/// Sends requests over `connections` connections for `time`. Every answer must be 200.
pub(crate) async fn run(
    addr: SocketAddr,
    connections: usize,
    time: Duration,
    make: MakeRequest,
) -> Result<Done> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (make, stop) = (Arc::clone(&make), Arc::clone(&stop));
        clients.spawn(async move {
            let mut client = Client::connect(addr).await?;
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let request = make(NEXT.fetch_add(1, Ordering::Relaxed));
                let sent = Instant::now();
                let status = client.exchange(&request).await?;
                ensure!(status == 200, "the server answered {status}");
                times.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            anyhow::Ok(times)
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    while let Some(client) = clients.join_next().await {
        times.extend(client.context("a client panicked")??);
    }
    let elapsed = began.elapsed().as_secs_f64();
    if times.is_empty() {
        bail!("no request was answered");
    }
    times.sort_unstable();
    let at = |share: f64| u64::from(times[((times.len() - 1) as f64 * share) as usize]);
    Ok(Done {
        per_second: times.len() as f64 / elapsed,
        p50_micros: at(0.5),
        p99_micros: at(0.99),
    })
}

/// One connection.
pub(crate) struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Result<Client> {
        let socket = TcpStream::connect(addr).await.context("cannot connect")?;
        socket.set_nodelay(true)?;
        Ok(Client {
            socket,
            buffer: vec![0; 64 * 1024],
            filled: 0,
        })
    }

    /// Sends a request and reads its whole answer; returns the status.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.socket.write_all(request).await?;
        self.filled = 0;
        let head = loop {
            self.fill().await?;
            if let Some(end) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?;
        let status = text.get(9..12).context("no status line")?.parse()?;
        let header = |name: &str| {
            text.lines().find_map(|line| {
                let (known, value) = line.split_once(':')?;
                known
                    .eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        if let Some(length) = header("content-length") {
            let whole = head + length.parse::<usize>()?;
            while self.filled < whole {
                self.fill().await?;
            }
        } else if header("transfer-encoding").is_some() {
            while !self.buffer[..self.filled].ends_with(b"0\r\n\r\n") {
                self.fill().await?;
            }
        }
        Ok(status)
    }

    async fn fill(&mut self) -> Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = self.socket.read(&mut self.buffer[self.filled..]).await?;
        ensure!(read > 0, "the server closed the connection");
        self.filled += read;
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n").into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() || method == "PUT" || method == "POST" {
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}
