//! HTTP/1.1 written by hand, for requests that no client library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::{DEADLINE, within};

/// Largest answer that is gathered, in bytes, so that a runaway server fails the test and not the
/// machine.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Sends these bytes on a new connection and reads one answer.
///
/// # Panics
///
/// If there is no answer in time, or none that is HTTP.
pub async fn exchange(addr: SocketAddr, request: impl AsRef<[u8]>) -> RawResponse {
    let mut connection = RawConnection::open(addr).await;
    connection.send(request).await;
    connection.response().await
}

/// A TCP connection with the bytes that were read but not used yet.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl RawConnection {
    /// Connects.
    ///
    /// # Panics
    ///
    /// If nobody listens.
    pub async fn open(addr: SocketAddr) -> RawConnection {
        let stream = within(DEADLINE, "the server accepts", TcpStream::connect(addr)).await;
        RawConnection {
            stream: stream.expect("somebody listens"),
            read: Vec::new(),
        }
    }

    /// Sends bytes as they are. That the server has closed already is no failure: it may well
    /// answer and close before it has read everything.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(bytes.as_ref());
        let _ = within(DEADLINE, "the server reads", sent).await;
    }

    /// Tells the server that nothing more will come.
    pub async fn finish(&mut self) {
        // As in `send`, it may be closed already.
        let _ = self.stream.shutdown().await;
    }

    /// Reads one answer. Heads of `100 Continue` are skipped.
    ///
    /// # Panics
    ///
    /// If the connection ends before the answer does, or the answer is not HTTP.
    pub async fn response(&mut self) -> RawResponse {
        match within(DEADLINE, "an answer", self.try_response(true)).await {
            Some(response) => response,
            None => panic!(
                "no whole answer but {:?}",
                String::from_utf8_lossy(&self.read)
            ),
        }
    }

    /// Reads the answer to a HEAD request, which has no body whatever its length field says.
    ///
    /// # Panics
    ///
    /// As [`RawConnection::response`].
    pub async fn head_response(&mut self) -> RawResponse {
        let response = within(DEADLINE, "an answer", self.try_response(false)).await;
        response.expect("a whole answer")
    }

    /// Waits until the server asks for the body of a request that was sent with `Expect: 100-continue`,
    /// so that it is known to be in work.
    ///
    /// # Panics
    ///
    /// If something else comes, or nothing in time.
    pub async fn continued(&mut self) {
        let head = within(DEADLINE, "100 Continue", self.take_through(b"\r\n\r\n")).await;
        let head = head.expect("the connection stays open");
        let text = String::from_utf8_lossy(&head);
        assert!(text.starts_with("HTTP/1.1 100 "), "{text}");
    }

    /// Reads one answer, or `None` if the connection ends before one is whole: a server that has
    /// answered and closed resets a client that goes on sending, and that may overtake the answer.
    ///
    /// # Panics
    ///
    /// If neither happens in time.
    pub async fn try_read_response(&mut self) -> Option<RawResponse> {
        within(DEADLINE, "an answer or an end", self.try_response(true)).await
    }

    /// Whether the server closes the connection before the deadline. What it still sends is
    /// dropped.
    pub async fn is_closed_within(&mut self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, async { while self.fill().await {} })
            .await
            .is_ok()
    }

    /// Everything that comes until the server closes the connection.
    ///
    /// # Panics
    ///
    /// If it does not close it in time.
    pub async fn read_to_close(&mut self) -> Vec<u8> {
        within(DEADLINE, "the server closes", async {
            while self.fill().await {}
        })
        .await;
        std::mem::take(&mut self.read)
    }

    async fn try_response(&mut self, has_body: bool) -> Option<RawResponse> {
        loop {
            let head = self.take_through(b"\r\n\r\n").await?;
            let mut response = RawResponse::parse_head(&head);
            if response.status == 100 {
                continue;
            }
            let bodiless = !has_body || matches!(response.status, 101 | 204 | 304);
            if bodiless {
                return Some(response);
            }
            let chunked = response
                .header("transfer-encoding")
                .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
            response.body = match response.header("content-length") {
                _ if chunked => self.take_chunks().await?,
                Some(length) => {
                    let length = length.parse().expect("content-length is a number");
                    self.take(length).await?
                }
                None => {
                    while self.fill().await {}
                    std::mem::take(&mut self.read)
                }
            };
            return Some(response);
        }
    }

    async fn take_chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_through(b"\r\n").await?;
            let size = String::from_utf8_lossy(&line);
            let size = size.trim().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).expect("a chunk begins with its size");
            if size == 0 {
                while self.take_through(b"\r\n").await? != b"\r\n" {}
                return Some(body);
            }
            body.extend(self.take(size).await?);
            assert_eq!(self.take(2).await?, b"\r\n", "a chunk ends with a line end");
        }
    }

    /// Takes bytes up to and with the first `end`; `None` if the connection ends before.
    async fn take_through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            let found = self.read[searched..]
                .windows(end.len())
                .position(|window| window == end);
            if let Some(at) = found {
                return self.take(searched + at + end.len()).await;
            }
            searched = self.read.len().saturating_sub(end.len() - 1);
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.read.len() < bytes {
            if !self.fill().await {
                return None;
            }
        }
        let rest = self.read.split_off(bytes);
        Some(std::mem::replace(&mut self.read, rest))
    }

    /// Reads some more; false at the end of the connection, orderly or not.
    async fn fill(&mut self) -> bool {
        assert!(self.read.len() <= ANSWER_BYTES_MAX, "the answer has no end");
        matches!(self.stream.read_buf(&mut self.read).await, Ok(1..))
    }
}

/// An answer, taken apart but not interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawResponse {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values, in the order sent.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
}

impl RawResponse {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn parse_head(head: &[u8]) -> RawResponse {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok());
        RawResponse {
            status: status.unwrap_or_else(|| panic!("not a status line: {status_line:?}")),
            headers: lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers the first request of one connection with these bytes, then closes.
    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _sent = stream.read(&mut request).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        addr
    }

    #[tokio::test]
    async fn bodies_of_every_framing_are_read() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: 1\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nhello",
        ] {
            let response = exchange(server(answer).await, "GET / HTTP/1.1\r\n\r\n").await;
            assert_eq!((response.status, response.text().as_str()), (200, "hello"));
        }
    }

    #[tokio::test]
    async fn answers_without_a_body_end_with_their_head() {
        let addr = server(b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\nrest").await;
        let mut connection = RawConnection::open(addr).await;
        connection.send("GET / HTTP/1.1\r\n\r\n").await;
        let response = connection.response().await;
        assert_eq!(response.header("etag"), Some("\"1\""));
        assert_eq!(connection.read_to_close().await, b"rest");
    }

    #[tokio::test]
    async fn a_closed_connection_is_noticed() {
        let mut connection = RawConnection::open(server(b"").await).await;
        assert!(!connection.is_closed_within(Duration::from_millis(10)).await);
        connection.send("x").await;
        assert!(connection.is_closed_within(DEADLINE).await);
    }
}
