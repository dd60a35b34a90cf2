//! The load generator: so many connections, each sending the next request when the answer is there.
//!
//! HTTP/1.1 goes over raw sockets, so that most of the two cores is left to the servers; it
//! understands answers with `Content-Length` and chunked ones, and nothing more. HTTP/2 is hyper's
//! client, one stream at a time on each connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One request, whatever version of HTTP carries it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: Arc<[(&'static str, String)]>,
    pub(crate) body: Bytes,
}

impl Call {
    /// A request without a body.
    pub(crate) fn get(path: impl Into<String>) -> Call {
        Call {
            method: "GET",
            path: path.into(),
            ..Call::default()
        }
    }

    /// The same request with these headers.
    pub(crate) fn headers<const N: usize>(mut self, headers: [(&'static str, String); N]) -> Call {
        self.headers = headers.into();
        self
    }

    /// Makes the same request again and again.
    pub(crate) fn repeated(self) -> MakeCall {
        Arc::new(move |_| self.clone())
    }

    fn write_http1(&self, out: &mut Vec<u8>) {
        out.clear();
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        for part in [
            self.method,
            " ",
            &self.path,
            " HTTP/1.1\r\nhost: localhost\r\n",
        ] {
            put(part);
        }
        for (name, value) in self.headers.iter() {
            for part in [name, ": ", value, "\r\n"] {
                put(part);
            }
        }
        if !self.body.is_empty() || self.method != "GET" {
            out.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
    }

    fn to_http2(&self) -> Result<http::Request<Full<Bytes>>> {
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(format!("http://localhost{}", self.path));
        for (name, value) in self.headers.iter() {
            request = request.header(*name, value);
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

/// Makes the n-th request of a run.
pub(crate) type MakeCall = Arc<dyn Fn(u64) -> Call + Send + Sync>;

/// Which HTTP the requests go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// What one run of load did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Answers per second.
    pub(crate) per_second: f64,
    /// Median time of one request, in microseconds.
    pub(crate) p50_micros: u64,
    /// The slowest hundredth begins here, in microseconds.
    pub(crate) p99_micros: u64,
    /// Answers in all.
    pub(crate) answers: u64,
}

/// Sends requests over `connections` connections for `time`. Every answer must be 200.
pub(crate) async fn run(
    addr: SocketAddr,
    protocol: Protocol,
    connections: usize,
    time: Duration,
    make: MakeCall,
) -> Result<Done> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (make, stop) = (Arc::clone(&make), Arc::clone(&stop));
        clients.spawn(async move {
            let mut client = Client::connect(addr, protocol).await?;
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let call = make(NEXT.fetch_add(1, Ordering::Relaxed));
                let sent = Instant::now();
                let status = client.exchange(&call).await?;
                ensure!(
                    status == 200,
                    "{} {} was answered {status}",
                    call.method,
                    call.path
                );
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
        answers: times.len() as u64,
    })
}

/// One connection.
pub(crate) enum Client {
    Http1(Http1),
    Http2(SendRequest<Full<Bytes>>),
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr, protocol: Protocol) -> Result<Client> {
        let socket = TcpStream::connect(addr).await.context("cannot connect")?;
        socket.set_nodelay(true)?;
        if protocol == Protocol::Http1 {
            return Ok(Client::Http1(Http1 {
                socket,
                sent: Vec::new(),
                buffer: vec![0; 64 * 1024],
                filled: 0,
            }));
        }
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(Client::Http2(sender))
    }

    /// Sends a request and reads its whole answer; returns the status.
    pub(crate) async fn exchange(&mut self, call: &Call) -> Result<u16> {
        match self {
            Client::Http1(client) => client.exchange(call).await,
            Client::Http2(sender) => {
                let answer = sender.send_request(call.to_http2()?).await?;
                let status = answer.status().as_u16();
                let mut body = answer.into_body();
                while let Some(frame) = body.frame().await {
                    frame?;
                }
                Ok(status)
            }
        }
    }
}

/// A raw connection.
pub(crate) struct Http1 {
    socket: TcpStream,
    sent: Vec<u8>,
    buffer: Vec<u8>,
    filled: usize,
}

impl Http1 {
    async fn exchange(&mut self, call: &Call) -> Result<u16> {
        call.write_http1(&mut self.sent);
        self.socket.write_all(&self.sent).await?;
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
