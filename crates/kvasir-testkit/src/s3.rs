//! A store that answers as an S3 store does, in memory, as far as backups need it.
//!
//! It knows objects, uploads in parts, ranges, lists in pages and removals, refuses what is not
//! signed with its key's name, and can have moments of trouble. It does not check the signature
//! itself: those who sign have tests for that.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Name of the key that requests are to be signed with.
pub const ACCESS_KEY: &str = "test-key";

/// Objects of one page of a list, few so that there are pages.
const PAGE_OBJECTS: usize = 2;

/// The store; it ends when this is dropped.
#[derive(Debug)]
pub struct S3Double {
    /// Its address, such as `http://127.0.0.1:1234`.
    pub url: String,
    held: Arc<Mutex<Held>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Held {
    /// Bucket and key to bytes.
    objects: BTreeMap<String, Bytes>,
    /// Uploads that are not complete: their object and parts.
    uploads: BTreeMap<String, (String, BTreeMap<u16, Bytes>)>,
    begun: u64,
    /// So many requests are still answered with 503.
    trouble: u32,
    largest_body: usize,
}

impl S3Double {
    /// An empty store on a free loopback port.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub async fn start() -> S3Double {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let held = Arc::new(Mutex::default());
        let task = tokio::spawn(serve(listener, Arc::clone(&held)));
        S3Double {
            url: format!("http://{addr}"),
            held,
            task,
        }
    }

    /// The objects: `bucket/key` and bytes.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.lock().objects.clone()
    }

    /// Puts an object there, or another in its place.
    pub fn put(&self, object: &str, bytes: impl Into<Bytes>) {
        self.lock().objects.insert(object.to_owned(), bytes.into());
    }

    /// Uploads that were begun and neither completed nor given up.
    pub fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    /// Answers the next so many requests with 503.
    pub fn be_in_trouble(&self, requests: u32) {
        self.lock().trouble = requests;
    }

    /// Bytes of the largest request so far.
    pub fn largest_body(&self) -> usize {
        self.lock().largest_body
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().expect("no panic while held")
    }
}

impl Drop for S3Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, held: Arc<Mutex<Held>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let held = Arc::clone(&held);
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let held = Arc::clone(&held);
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes());
                    let answer = match body {
                        Ok(body) => answer(&held, &parts, body),
                        Err(_) => plain(StatusCode::BAD_REQUEST, ""),
                    };
                    Ok::<_, Infallible>(answer)
                }
            });
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

fn answer(held: &Mutex<Held>, parts: &http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
    let mut held = held.lock().expect("no panic while held");
    held.largest_body = held.largest_body.max(body.len());
    if held.trouble > 0 {
        held.trouble -= 1;
        return plain(StatusCode::SERVICE_UNAVAILABLE, "");
    }
    let query: BTreeMap<String, String> = query_of(parts.uri.query().unwrap_or_default());
    let is_signed = query
        .get("X-Amz-Credential")
        .is_some_and(|credential| credential.starts_with(&format!("{ACCESS_KEY}/")))
        && query
            .get("X-Amz-Signature")
            .is_some_and(|tag| tag.len() == 64);
    if !is_signed {
        return plain(
            StatusCode::FORBIDDEN,
            "<Error><Code>AccessDenied</Code></Error>",
        );
    }
    let object = decoded(parts.uri.path().trim_start_matches('/'));
    let upload = query.get("uploadId").cloned();
    match (parts.method.clone(), upload) {
        (Method::GET, None) if query.contains_key("list-type") => list(&held, &object, &query),
        (Method::GET, None) => read(&held, &object, parts),
        (Method::PUT, None) => {
            held.objects.insert(object, body);
            plain(StatusCode::OK, "")
        }
        (Method::DELETE, None) => {
            held.objects.remove(&object);
            plain(StatusCode::NO_CONTENT, "")
        }
        (Method::POST, None) if query.contains_key("uploads") => {
            held.begun += 1;
            let id = format!("upload-{}", held.begun);
            let answer = format!(
                "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>"
            );
            held.uploads.insert(id, (object, BTreeMap::new()));
            plain(StatusCode::OK, answer)
        }
        (Method::PUT, Some(id)) => {
            let number = query
                .get("partNumber")
                .and_then(|number| number.parse().ok());
            match (held.uploads.get_mut(&id), number) {
                (Some((_, parts)), Some(number)) => {
                    parts.insert(number, body);
                    let mut answer = plain(StatusCode::OK, "");
                    let tag = format!("\"part-{number}\"").parse().expect("ASCII");
                    answer.headers_mut().insert(header::ETAG, tag);
                    answer
                }
                _ => plain(StatusCode::NOT_FOUND, ""),
            }
        }
        (Method::POST, Some(id)) => complete(&mut held, &id, &body),
        (Method::DELETE, Some(id)) => match held.uploads.remove(&id) {
            Some(_) => plain(StatusCode::NO_CONTENT, ""),
            None => plain(StatusCode::NOT_FOUND, ""),
        },
        _ => plain(StatusCode::METHOD_NOT_ALLOWED, ""),
    }
}

fn complete(held: &mut Held, id: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let Some((object, parts)) = held.uploads.remove(id) else {
        return plain(StatusCode::NOT_FOUND, "");
    };
    let text = String::from_utf8_lossy(body).replace("&quot;", "\"");
    // All but the last must have 5 MiB, and all must be named, in order.
    let mut whole = Vec::new();
    for (place, (number, part)) in parts.iter().enumerate() {
        let is_last = place + 1 == parts.len();
        let is_named = text.contains(&format!("\"part-{number}\""));
        if usize::from(*number) != place + 1 || !is_named || !is_last && part.len() < 5 << 20 {
            return plain(
                StatusCode::BAD_REQUEST,
                "<Error><Code>InvalidPart</Code></Error>",
            );
        }
        whole.extend_from_slice(part);
    }
    held.objects.insert(object, whole.into());
    plain(
        StatusCode::OK,
        "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>",
    )
}

fn read(held: &Held, object: &str, parts: &http::request::Parts) -> Response<Full<Bytes>> {
    let Some(bytes) = held.objects.get(object) else {
        return plain(StatusCode::NOT_FOUND, "");
    };
    let range = parts.headers.get(header::RANGE).and_then(|range| {
        let (from, to) = range
            .to_str()
            .ok()?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))
    });
    match range {
        None => plain(StatusCode::OK, bytes.clone()),
        Some((from, to)) if from < bytes.len() && from <= to => {
            let end = bytes.len().min(to + 1);
            plain(StatusCode::PARTIAL_CONTENT, bytes.slice(from..end))
        }
        Some(_) => plain(StatusCode::RANGE_NOT_SATISFIABLE, ""),
    }
}

fn list(held: &Held, bucket: &str, query: &BTreeMap<String, String>) -> Response<Full<Bytes>> {
    let bucket = bucket.trim_end_matches('/');
    let prefix = query.get("prefix").map_or("", String::as_str);
    let after = query.get("continuation-token").map_or("", String::as_str);
    let begin = format!("{bucket}/");
    let mut keys = held
        .objects
        .iter()
        .filter_map(|(object, bytes)| Some((object.strip_prefix(&begin)?, bytes.len())))
        .filter(|(key, _)| key.starts_with(prefix) && *key > after);
    let page: Vec<_> = keys.by_ref().take(PAGE_OBJECTS).collect();
    let more = keys.next().is_some();
    let mut answer = String::from(
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><MaxKeys>2</MaxKeys>",
    );
    for (key, bytes) in &page {
        answer += &format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>\"x\"</ETag><Size>{bytes}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        );
    }
    if let Some((last, _)) = page.last().filter(|_| more) {
        answer += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
    }
    answer += &format!("<IsTruncated>{more}</IsTruncated></ListBucketResult>");
    plain(StatusCode::OK, answer)
}

fn query_of(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// Percent signs undone.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
