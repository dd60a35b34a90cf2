//! `kvasir edgekv import`: writes the items of a file, as any EdgeKV client would.
//!
//! Items are sent in the order of the file, several at once. How many are done is kept in a file
//! beside it, with what the import was of, so that one that was interrupted goes on from there and
//! another one does not. An item may be sent twice; that is the same as once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use kvasir_auth::edgegrid::header::SCHEME;
use kvasir_auth::edgegrid::signature::{data_to_sign, sign, signing_key};
use kvasir_auth::edgegrid::{Scheme, edgerc};
use kvasir_kv::Clock;
use kvasir_store::SystemClock;
use reqwest::{Method, StatusCode, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::client::{Client, Target, refused, segment};
use super::super::output::{Form, Printer};
use super::super::progress::{Progress, ProgressForm};
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
/// called again with the same file, server, network and namespace.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir edgekv import items.csv --network staging --namespace marketing
  kvasir edgekv import items.json --network production --namespace marketing --progress=json
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
    progress: ProgressForm,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: Form,
}

/// What was done of a file, kept beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    server: String,
    network: String,
    namespace: String,
    /// Of the file's bytes. Another file under the same name begins at its first row.
    sha256: String,
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
        let unreadable = |error| Failure::usage(format!("{error:#}"));
        let file = rows::File::read(&self.file).map_err(unreadable)?;
        let rows = file.rows().map_err(unreadable)?;
        let client = self.target.client()?;
        let signer = self.signer(client.base())?;
        let mut note = Note {
            path: note_path(&self.file),
            done: Done {
                server: client.base().to_owned(),
                network: self.network.clone(),
                namespace: self.namespace.clone(),
                sha256: file.sha256(),
                rows: rows.len(),
                done: 0,
            },
        };
        if !self.restart {
            note.take_up();
        }

        let begin = note.done.done;
        let total = rows.len() as u64;
        let mut progress = Progress::begin(self.progress, "items", begin as u64, total);
        let mut sent = futures_util::stream::iter(&rows[begin..])
            .map(|row| self.send(&client, &signer, row))
            .buffered(AT_ONCE);
        let mut outcome = Ok(());
        while let Some(answer) = sent.next().await {
            if let Err(failure) = answer {
                outcome = Err(failure);
                break;
            }
            note.done.done += 1;
            progress.set(note.done.done as u64);
            if note.done.done.is_multiple_of(NOTE_EVERY) {
                note.write()?;
            }
        }
        progress.end();
        let done = note.done.done;
        match outcome {
            Ok(()) => {
                note.remove();
                let answer = json!({"items": done, "resumed_at": begin, "written": done - begin});
                Printer::new(&self.form).one(&answer, || format!("{done} items are written"))
            }
            Err(failure) => {
                note.write()?;
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
}

/// The file beside the imported one that tells how far it came.
struct Note {
    path: PathBuf,
    done: Done,
}

impl Note {
    /// Goes on where the same import was interrupted. What cannot be read is no note.
    fn take_up(&mut self) {
        let noted = fs::read(&self.path).ok();
        let noted = noted.and_then(|text| serde_json::from_slice::<Done>(&text).ok());
        if let Some(noted) = noted {
            let done = noted.done;
            let this = Done {
                done,
                ..self.done.clone()
            };
            if noted == this && done <= this.rows {
                self.done.done = done;
            }
        }
    }

    /// Replaces the file as a whole, so that being killed leaves the old one or the new one.
    fn write(&self) -> Result<(), Failure> {
        let text = serde_json::to_vec(&self.done).context("cannot write JSON")?;
        let mut aside = self.path.clone().into_os_string();
        aside.push(".new");
        fs::write(&aside, text)
            .and_then(|()| fs::rename(&aside, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(())
    }

    fn remove(&self) {
        // One that stays behind only says that everything is done.
        let _ = fs::remove_file(&self.path);
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
