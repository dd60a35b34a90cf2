//! `kvasir edgekv import`: writes the items of a file, as any EdgeKV client would.
//!
//! Items are sent in the order of the file, several at once. How many are done is kept in a file
//! beside it, so that an import that was interrupted goes on from there. An item may be sent twice;
//! that is the same as once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use kvasir_auth::edgegrid::header::SCHEME;
use kvasir_auth::edgegrid::signature::{data_to_sign, sign, signing_key};
use kvasir_auth::edgegrid::{Scheme, edgerc};
use kvasir_kv::Clock;
use kvasir_store::SystemClock;
use reqwest::{Method, StatusCode, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::super::client::{Client, Target, refused, segment};
use super::rows::{self, Row};
use crate::edgerc as edgerc_file;
use crate::exit::{Exit, Failure};

/// Requests under way at once. A server commits them together.
const AT_ONCE: usize = 32;

/// How often an item is tried while the server is busy.
const TRIES: u32 = 8;

/// After so many items what is done is written down.
const NOTE_EVERY: usize = 500;

/// Write the items of a CSV or JSON file into a namespace.
///
/// CSV rows are group,item,value; JSON is {"group": {"item": value}} or a list of
/// {"group", "item", "value"}. An import that was interrupted goes on where it ended when it is
/// called again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir edgekv import items.csv --network staging --namespace marketing
  kvasir edgekv import items.json --network production --namespace marketing --server https://127.0.0.1:8443 --edgerc ~/.edgerc

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Import {
    /// The file, ending in .csv or .json
    file: PathBuf,
    /// staging or production
    #[arg(long, value_parser = ["staging", "production"])]
    network: String,
    /// The namespace, which must be there
    #[arg(long, value_name = "NAME")]
    namespace: String,
    /// File with the credential [default: the one in the data folder]
    #[arg(long, value_name = "FILE")]
    edgerc: Option<PathBuf>,
    /// Section of that file
    #[arg(long, default_value = edgerc_file::SECTION)]
    section: String,
    /// Begin again from the first row
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    target: Target,
}

/// What was done of a file, kept beside it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    network: String,
    namespace: String,
    rows: usize,
    done: usize,
}

/// Signs requests.
struct Signer {
    client_token: String,
    access_token: String,
    secret: SecretString,
    scheme: Scheme,
    host: String,
}

impl Import {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let rows = rows::read(&self.file).map_err(|error| Failure::usage(format!("{error:#}")))?;
        let client = self.target.client()?;
        let signer = self.signer(client.base())?;
        let note = note_path(&self.file);
        let begin = if self.restart {
            0
        } else {
            self.done_before(&note, rows.len())
        };

        let bar = ProgressBar::new(rows.len() as u64).with_style(style());
        bar.set_position(begin as u64);
        let mut done = begin;
        let mut sent = futures_util::stream::iter(&rows[begin..])
            .map(|row| self.send(&client, &signer, row))
            .buffered(AT_ONCE);
        let mut outcome = Ok(());
        while let Some(answer) = sent.next().await {
            if let Err(failure) = answer {
                outcome = Err(failure);
                break;
            }
            done += 1;
            bar.inc(1);
            if done.is_multiple_of(NOTE_EVERY) {
                self.note(&note, rows.len(), done)?;
            }
        }
        match outcome {
            Ok(()) => {
                bar.finish();
                let _ = fs::remove_file(&note);
                Ok(())
            }
            Err(failure) => {
                bar.abandon();
                self.note(&note, rows.len(), done)?;
                Err(Failure {
                    exit: failure.exit,
                    error: failure.error.context(format!(
                        "{done} of {} items were written; call it again to go on",
                        rows.len()
                    )),
                })
            }
        }
    }

    fn signer(&self, base: &str) -> Result<Signer, Failure> {
        let folder = self.target.data.as_deref();
        let folder = folder.unwrap_or(Path::new("kvasir-data"));
        let file = match &self.edgerc {
            Some(file) => file.clone(),
            None => edgerc_file::path(folder),
        };
        let text = fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}; name one with --edgerc", file.display()))?;
        let member = |name: &str| {
            edgerc::member(&text, &self.section, name)
                .map(str::to_owned)
                .ok_or_else(|| {
                    Failure::usage(format!(
                        "{} has no {name} in its section {}",
                        file.display(),
                        self.section
                    ))
                })
        };
        let url = Url::parse(base)
            .map_err(|error| Failure::usage(format!("{base} is no address: {error}")))?;
        let host = url.host_str().unwrap_or_default();
        Ok(Signer {
            client_token: member("client_token")?,
            access_token: member("access_token")?,
            secret: member("client_secret")?.into(),
            scheme: match url.scheme() {
                "https" => Scheme::Https,
                _ => Scheme::Http,
            },
            // As the Host header has it: without the scheme's own port.
            host: match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            },
        })
    }

    async fn send(&self, client: &Client, signer: &Signer, row: &Row) -> Result<(), Failure> {
        let path = format!(
            "/edgekv/v1/networks/{}/namespaces/{}/groups/{}/items/{}",
            self.network,
            segment(&self.namespace),
            segment(&row.group),
            segment(&row.item),
        );
        let mut tried = 0;
        loop {
            // A request of its own each time: a nonce works once.
            let request = client
                .bare_request(Method::PUT, &path)
                .header(header::AUTHORIZATION, signer.header("PUT", &path)?)
                .header(header::CONTENT_TYPE, row.content_type)
                .body(row.value.clone());
            let answer = request.send().await;
            let answer = answer.map_err(|error| client.unreachable(error))?;
            let status = answer.status();
            if status.is_success() {
                return Ok(());
            }
            tried += 1;
            let is_busy = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            if !is_busy || tried >= TRIES {
                let body = answer.bytes().await.unwrap_or_default();
                let Failure { exit, error } = refused(status, &body);
                let what = format!("the item {} of the group {}", row.item, row.group);
                return Err(Failure {
                    exit,
                    error: error.context(what),
                });
            }
            tokio::time::sleep(Duration::from_millis(100 << tried)).await;
        }
    }

    fn done_before(&self, note: &Path, rows: usize) -> usize {
        let noted: Option<Done> = fs::read(note)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        match noted {
            Some(noted) if noted == self.noted(rows, noted.done) => noted.done.min(rows),
            _ => 0,
        }
    }

    fn noted(&self, rows: usize, done: usize) -> Done {
        Done {
            network: self.network.clone(),
            namespace: self.namespace.clone(),
            rows,
            done,
        }
    }

    fn note(&self, note: &Path, rows: usize, done: usize) -> Result<(), Failure> {
        let text = serde_json::to_vec(&self.noted(rows, done)).context("cannot write JSON")?;
        fs::write(note, text).with_context(|| format!("cannot write {}", note.display()))?;
        Ok(())
    }
}

impl Signer {
    fn header(&self, method: &str, path: &str) -> Result<String, Failure> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("the system has no randomness: {error}"),
            )
        })?;
        let nonce = uuid::Builder::from_random_bytes(nonce).into_uuid();
        let now = jiff::Timestamp::from_millisecond(SystemClock.now().0)
            .context("the clock is out of range")?;
        let timestamp = now.strftime("%Y%m%dT%H:%M:%S+0000").to_string();
        let signed = format!(
            "{SCHEME} client_token={};access_token={};timestamp={timestamp};nonce={nonce};",
            self.client_token, self.access_token
        );
        let data = data_to_sign(method, self.scheme, &self.host, path, "", &signed);
        let signature = sign(&signing_key(self.secret.expose_secret(), &timestamp), &data);
        Ok(format!("{signed}signature={signature}"))
    }
}

/// Where what was done of a file is kept.
fn note_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".kvasir-import");
    name.into()
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {pos}/{len} items, {per_sec}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
