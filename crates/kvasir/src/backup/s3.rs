//! Objects in an S3-compatible store, with signed addresses and bounded memory.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::StatusCode;
use jiff::Timestamp;
use kvasir_kv::Clock;
use kvasir_store::SystemClock;
use reqwest::{Method, Response, Url};
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;

use super::name::Name;
use super::target::Found;
use crate::config::backup::S3Settings;
use crate::outgoing;

/// How long a signed address is good for.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);

/// Bytes of the first parts of an upload, and of each piece that is read. The smallest that all
/// stores take is 5 MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of the parts behind the first [`SMALL_PARTS`], so that long uploads keep to [`PARTS_MAX`].
const LARGE_PART_BYTES: usize = 24 * 1024 * 1024;

const SMALL_PARTS: usize = 1_000;

/// Most parts of one upload; S3's limit.
const PARTS_MAX: usize = 10_000;

/// How often a request is sent before its failure counts.
const TRIES: u32 = 4;

/// Pause before the second try; it doubles with each.
const PAUSE: Duration = Duration::from_millis(250);

/// Largest answer that is read as text, in bytes: a list of 1,000 objects.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most objects of all pages of a list.
const OBJECTS_MAX: usize = 100_000;

/// A prefix in a bucket.
pub struct S3 {
    bucket: Bucket,
    credentials: Option<Credentials>,
    prefix: String,
    http: reqwest::Client,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl S3 {
    /// The place `BUCKET/PREFIX`.
    ///
    /// # Errors
    ///
    /// For settings that make no sense, or lead where they may not.
    pub fn new(place: &str, settings: &S3Settings) -> anyhow::Result<S3> {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            bail!("backup.target: s3:// needs a bucket, as in s3://backups/kvasir");
        }
        let endpoint: Url = settings
            .endpoint
            .parse()
            .context("backup.s3.endpoint is no address such as https://s3.example.com")?;
        outgoing::check(&endpoint, settings.allow_local).context("backup.s3.endpoint")?;
        let style = match settings.path_style {
            true => UrlStyle::Path,
            false => UrlStyle::VirtualHost,
        };
        let bucket = Bucket::new(endpoint, style, bucket.to_owned(), settings.region.clone())
            .context("backup.s3.endpoint")?;
        let credentials = settings
            .secret_key
            .as_ref()
            .map(|secret| Credentials::new(settings.access_key.clone(), secret.expose_secret()));
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(S3 {
            bucket,
            credentials,
            prefix,
            http: outgoing::client(settings.allow_local).context("cannot make a client")?,
        })
    }

    pub(super) fn shown(&self) -> String {
        format!("s3://{}/{}", self.bucket.name(), self.prefix)
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn sign<'a>(&self, action: &impl S3Action<'a>) -> Url {
        let now = Timestamp::from_millisecond(SystemClock.now().0).unwrap_or_default();
        action.sign_with_time(SIGNED_FOR, &now)
    }

    /// Sends a request, again if the store or the way to it has a moment's trouble.
    async fn send(
        &self,
        what: &str,
        method: Method,
        url: impl Fn() -> Url,
        body: Bytes,
        range: Option<(u64, u64)>,
    ) -> anyhow::Result<Response> {
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let mut request = self.http.request(method.clone(), url()).body(body.clone());
            if let Some((from, to)) = range {
                request = request.header(http::header::RANGE, format!("bytes={from}-{to}"));
            }
            let failure = match request.send().await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let status = response.status();
                    let is_passing = status.is_server_error()
                        || status == StatusCode::TOO_MANY_REQUESTS
                        || status == StatusCode::REQUEST_TIMEOUT;
                    let failure = anyhow::anyhow!("the store answered {status} to {what}");
                    if !is_passing {
                        return Err(failure);
                    }
                    failure
                }
                // Addresses hold a signature, which has no business in a log.
                Err(error) => anyhow::Error::new(error.without_url())
                    .context(format!("{what}: the store cannot be reached")),
            };
            if tries == TRIES {
                return Err(failure);
            }
            tries += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn text(response: Response) -> anyhow::Result<String> {
        let mut body = Vec::new();
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(reqwest::Error::without_url)?);
            if body.len() > ANSWER_BYTES_MAX {
                bail!("the store's answer is over {ANSWER_BYTES_MAX} bytes");
            }
        }
        String::from_utf8(body).context("the store's answer is no text")
    }

    pub(super) async fn list(&self) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let url = || {
                let mut list = self.bucket.list_objects_v2(self.credentials.as_ref());
                list.with_prefix(self.prefix.clone());
                if let Some(token) = &token {
                    list.with_continuation_token(token.clone());
                }
                self.sign(&list)
            };
            let answer = self
                .send("a list", Method::GET, url, Bytes::new(), None)
                .await?;
            let answer = ListObjectsV2::parse_response(&S3::text(answer).await?)
                .context("the store's list cannot be read")?;
            for object in answer.contents {
                let name = object.key.strip_prefix(&self.prefix).and_then(Name::parse);
                if let Some(name) = name {
                    let bytes = object.size.unwrap_or_default();
                    found.push(Found { name, bytes });
                }
            }
            token = answer.next_continuation_token;
            if token.is_none() || found.len() > OBJECTS_MAX {
                return Ok(found);
            }
        }
    }

    pub(super) async fn remove(&self, name: &str) -> anyhow::Result<()> {
        let key = self.key(name);
        let url = || self.sign(&self.bucket.delete_object(self.credentials.as_ref(), &key));
        let what = "the removal of a backup";
        self.send(what, Method::DELETE, url, Bytes::new(), None)
            .await?;
        Ok(())
    }

    /// Some bytes of an object.
    async fn range(&self, name: &str, from: u64, to: u64) -> anyhow::Result<Bytes> {
        let key = self.key(name);
        let url = || self.sign(&self.bucket.get_object(self.credentials.as_ref(), &key));
        let what = "a read of a backup";
        let answer = self
            .send(what, Method::GET, url, Bytes::new(), Some((from, to - 1)))
            .await?;
        let wanted = usize::try_from(to - from).context("a piece is small")?;
        let mut piece = Vec::with_capacity(wanted);
        let mut parts = answer.bytes_stream();
        while let Some(part) = parts.next().await {
            piece.extend_from_slice(&part.map_err(reqwest::Error::without_url)?);
            if piece.len() > wanted {
                bail!("the store sends more of {name} than was asked for");
            }
        }
        if piece.len() < wanted {
            bail!("the store sends less of {name} than was asked for");
        }
        Ok(piece.into())
    }

    pub(super) fn content(
        self: &Arc<Self>,
        name: &str,
        bytes: u64,
    ) -> BoxStream<'static, io::Result<Bytes>> {
        let (s3, name) = (Arc::clone(self), name.to_owned());
        stream::unfold(0, move |from| {
            let (s3, name) = (Arc::clone(&s3), name.clone());
            async move {
                if from >= bytes {
                    return None;
                }
                let to = bytes.min(from + PART_BYTES as u64);
                match s3.range(&name, from, to).await {
                    Ok(piece) => Some((Ok(piece), to)),
                    Err(error) => Some((Err(io::Error::other(error)), bytes)),
                }
            }
        })
        .boxed()
    }

    pub(super) fn reader(self: &Arc<Self>, name: &str, bytes: u64, runtime: &Handle) -> S3Reader {
        S3Reader {
            s3: Arc::clone(self),
            name: name.to_owned(),
            bytes,
            offset: 0,
            piece: Bytes::new(),
            runtime: runtime.clone(),
        }
    }
}

/// Reads an object piece by piece.
pub struct S3Reader {
    s3: Arc<S3>,
    name: String,
    bytes: u64,
    offset: u64,
    piece: Bytes,
    runtime: Handle,
}

impl Read for S3Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.offset < self.bytes {
            let to = self.bytes.min(self.offset + PART_BYTES as u64);
            let piece = self.s3.range(&self.name, self.offset, to);
            self.piece = self.runtime.block_on(piece).map_err(io::Error::other)?;
            self.offset = to;
        }
        let some = self.piece.len().min(buffer.len());
        buffer[..some].copy_from_slice(&self.piece.split_to(some));
        Ok(some)
    }
}

/// An object on its way, part by part. It appears when all are there.
pub struct Upload {
    s3: Arc<S3>,
    key: String,
    /// Once there is more than one part.
    id: Option<String>,
    tags: Vec<String>,
    part: Vec<u8>,
    is_committed: bool,
    runtime: Handle,
}

impl Upload {
    pub(super) fn new(s3: &Arc<S3>, name: &str, runtime: &Handle) -> Upload {
        Upload {
            s3: Arc::clone(s3),
            key: s3.key(name),
            id: None,
            tags: Vec::new(),
            part: Vec::new(),
            is_committed: false,
            runtime: runtime.clone(),
        }
    }

    fn part_bytes(&self) -> usize {
        match self.tags.len() < SMALL_PARTS {
            true => PART_BYTES,
            false => LARGE_PART_BYTES,
        }
    }

    fn send_part(&mut self) -> anyhow::Result<()> {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            if self.tags.len() == PARTS_MAX {
                bail!("the backup has more parts than an S3 store takes");
            }
            let (s3, credentials) = (&self.s3, self.s3.credentials.as_ref());
            let id = match &self.id {
                Some(id) => id.clone(),
                None => {
                    let begin =
                        || s3.sign(&s3.bucket.create_multipart_upload(credentials, &self.key));
                    let what = "the begin of an upload";
                    let answer = s3
                        .send(what, Method::POST, begin, Bytes::new(), None)
                        .await?;
                    let answer = CreateMultipartUpload::parse_response(&S3::text(answer).await?)
                        .context("the store's answer cannot be read")?;
                    answer.upload_id().to_owned()
                }
            };
            self.id = Some(id.clone());
            let number = u16::try_from(self.tags.len() + 1).context("parts are bounded")?;
            let url = || s3.sign(&s3.bucket.upload_part(credentials, &self.key, number, &id));
            let part = Bytes::from(std::mem::take(&mut self.part));
            let answer = s3
                .send("a part of an upload", Method::PUT, url, part, None)
                .await?;
            let tag = answer.headers().get(http::header::ETAG);
            let tag = tag.and_then(|tag| tag.to_str().ok());
            self.tags
                .push(tag.context("the store names no ETag")?.to_owned());
            Ok(())
        })
    }

    pub(super) fn commit(mut self) -> anyhow::Result<()> {
        let runtime = self.runtime.clone();
        if self.id.is_some() && !self.part.is_empty() {
            self.send_part()?;
        }
        let (s3, credentials) = (&self.s3, self.s3.credentials.as_ref());
        match &self.id {
            None => {
                let url = || s3.sign(&s3.bucket.put_object(credentials, &self.key));
                let whole = Bytes::from(std::mem::take(&mut self.part));
                let what = "an upload";
                runtime.block_on(s3.send(what, Method::PUT, url, whole, None))?;
            }
            Some(id) => {
                let tags = || self.tags.iter().map(String::as_str);
                let complete = || {
                    s3.bucket
                        .complete_multipart_upload(credentials, &self.key, id, tags())
                };
                let (url, body) = (|| s3.sign(&complete()), complete().body());
                let what = "the end of an upload";
                let text = runtime.block_on(async {
                    let answer = s3.send(what, Method::POST, url, body.into(), None).await?;
                    S3::text(answer).await
                })?;
                // S3 answers 200 before it knows.
                if text.contains("<Error>") {
                    bail!("the store did not put the parts together");
                }
            }
        }
        self.is_committed = true;
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() >= self.part_bytes() {
            self.send_part().map_err(io::Error::other)?;
        }
        let some = bytes.len().min(self.part_bytes() - self.part.len());
        self.part.extend_from_slice(&bytes[..some]);
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Parts have a least size: what is left goes with the end.
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take().filter(|_| !self.is_committed) else {
            return;
        };
        let (s3, credentials) = (&self.s3, self.s3.credentials.as_ref());
        let url = || {
            s3.sign(
                &s3.bucket
                    .abort_multipart_upload(credentials, &self.key, &id),
            )
        };
        let abort = s3.send(
            "the end of an upload",
            Method::DELETE,
            url,
            Bytes::new(),
            None,
        );
        if let Err(error) = self.runtime.block_on(abort) {
            tracing::warn!("parts of a backup are left at the store: {error:#}");
        }
    }
}
