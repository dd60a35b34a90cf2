//! `get`, `put`, `rm`, `ls` and `watch`: entries of a server's default database.

use std::io::{IsTerminal, Read, Write};

use anyhow::Context;
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::client::{Client, Target, block_on, segment};
use super::output::{Form, Printer};
use crate::exit::{Exit, Failure};

/// Longest value that `put` reads, in bytes; the server's own limit is lower unless configured.
const VALUE_BYTES_MAX: u64 = kvasir_kv::limits::VALUE_BYTES_CEILING as u64;

/// What every data verb takes.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    form: Form,
}

/// Show the value of a key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir get users.john
  kvasir get users.john -o raw > john.json

Exit codes: 0 done, 1 failed, 2 usage, 3 no such key, 4 denied, 6 unreachable")]
pub(super) struct Get {
    /// Key, its parts separated by dots; \\. is a dot inside a part
    key: String,
    #[command(flatten)]
    common: Common,
}

impl Get {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.common.target.client()?;
            let path = kv_path(&self.key);
            let mut printer = Printer::new(&self.common.form);
            if printer.is_raw() {
                let request = client
                    .request(Method::GET, &path)
                    .header("accept", "application/octet-stream, application/json;q=0.9");
                let body = client.send(request).await?.bytes().await;
                return printer.bytes(&body.map_err(|error| client.unreachable(error))?);
            }
            let request = client.request(Method::GET, &format!("{path}?meta=true"));
            let body = client.send(request).await?.text().await;
            let body = body.map_err(|error| client.unreachable(error))?;
            let entry: Entry<'_> = parse(&body)?;
            printer.one(&body, || entry.value().to_owned())
        })
    }
}

/// How `put` takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum As {
    /// JSON text.
    Json,
    /// Text, stored as a JSON string.
    Text,
    /// Bytes as they are.
    Bytes,
}

/// Set the value of a key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir put users.john '{\"name\":\"John\"}' --ttl 1h
  kvasir put files.logo @logo.png

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 5 conflict, 6 unreachable")]
pub(super) struct Put {
    /// Key, its parts separated by dots
    key: String,
    /// JSON or text; - reads standard input, @FILE a file
    value: String,
    /// What the value is [default: json if it is JSON, else text; bytes from a file or standard
    /// input]
    #[arg(long = "as", value_enum, value_name = "KIND")]
    kind: Option<As>,
    /// How long the entry lasts, such as 90s or 1h [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<std::time::Duration>,
    /// Only if the key is still at this versionstamp
    #[arg(long, value_name = "VERSIONSTAMP", conflicts_with = "if_absent")]
    if_version: Option<String>,
    /// Only if the key is not there
    #[arg(long)]
    if_absent: bool,
    #[command(flatten)]
    common: Common,
}

impl Put {
    pub(super) fn run(self) -> Result<(), Failure> {
        let value = self.json_value()?;
        let ttl = match self.ttl {
            None => String::new(),
            Some(ttl) => format!(",\"ttl\":{}", ttl.as_millis()),
        };
        let body = format!("{{\"value\":{value}{ttl}}}");
        block_on(async {
            let client = self.common.target.client()?;
            let mut request = client
                .request(Method::PUT, &kv_path(&self.key))
                .header("content-type", "application/json")
                .body(body);
            if let Some(version) = &self.if_version {
                request = request.header("if-match", format!("\"{version}\""));
            }
            if self.if_absent {
                request = request.header("if-none-match", "*");
            }
            let stored = json(&client, client.send(request).await?).await?;
            changed(&client, &self.common.form, stored, |stored| {
                format!(
                    "stored {} in {} at {}",
                    self.key,
                    client.base(),
                    text(&stored["versionstamp"])
                )
            })
        })
    }

    /// The value as the member of a REST body.
    fn json_value(&self) -> Result<String, Failure> {
        let (bytes, usual) = match self.value.as_str() {
            "-" => (read_all(std::io::stdin(), "standard input")?, As::Bytes),
            value => match value.strip_prefix('@') {
                Some(file) => {
                    let open = std::fs::File::open(file);
                    let open = open.with_context(|| format!("cannot read {file}"))?;
                    (read_all(open, file)?, As::Bytes)
                }
                None => {
                    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
                    let usual = if is_json { As::Json } else { As::Text };
                    (value.as_bytes().to_vec(), usual)
                }
            },
        };
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes)
                .map_err(|_| Failure::usage("the value is not UTF-8; store it with `--as bytes`"))
        };
        match self.kind.unwrap_or(usual) {
            As::Json => {
                let text = text(bytes)?;
                match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                    Ok(_) => Ok(text),
                    Err(error) => Err(Failure::usage(format!("the value is not JSON: {error}"))),
                }
            }
            As::Text => Ok(Json::String(text(bytes)?).to_string()),
            // The tagged form of bytes, as `docs/dialects/rest.md` describes it.
            As::Bytes => Ok(format!(
                "{{\"type\":\"Uint8Array\",\"value\":\"{}\",\"$kvasir\":1}}",
                data_encoding::BASE64.encode(&bytes)
            )),
        }
    }
}

fn read_all(source: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    source
        .take(VALUE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > VALUE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{name} is over the limit of {VALUE_BYTES_MAX} bytes"
        )));
    }
    Ok(bytes)
}

/// Remove a key, or everything below a prefix.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir rm users.john
  kvasir rm users --prefix --yes

Exit codes: 0 done (also if there was no such key), 1 failed, 2 usage, 4 denied, 5 conflict,
6 unreachable")]
pub(super) struct Rm {
    /// Key, or prefix with --prefix
    key: String,
    /// Remove every key below it instead
    #[arg(long)]
    prefix: bool,
    /// Only tell what would be removed
    #[arg(long, requires = "prefix")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

impl Rm {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.common.target.client()?;
            let mut path = kv_path(&self.key);
            if self.prefix {
                let (count, sample) = count(&client, &self.key).await?;
                let what = format!("{count} keys below {} in {}", self.key, client.base());
                if self.dry_run {
                    return changed(
                        &client,
                        &self.common.form,
                        serde_json::json!({"wouldDelete": count, "sample": sample}),
                        |_| format!("would remove {what}: {}", sample.join(", ")),
                    );
                }
                self.confirm(&what, &sample)?;
                path.push_str("?list=true");
            }
            let request = client.request(Method::DELETE, &path);
            let removed = json(&client, client.send(request).await?).await?;
            changed(&client, &self.common.form, removed, |removed| {
                if self.prefix {
                    let count = &removed["deleted"];
                    return format!(
                        "removed {count} keys below {} in {}",
                        self.key,
                        client.base()
                    );
                }
                match removed["existed"] {
                    Json::Bool(false) => format!("{} was not in {}", self.key, client.base()),
                    _ => format!("removed {} in {}", self.key, client.base()),
                }
            })
        })
    }

    fn confirm(&self, what: &str, sample: &[String]) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(format!(
                "{what} would be removed; say --yes, or look first with --dry-run"
            )));
        }
        let mut terminal = std::io::stderr();
        let asked = write!(
            terminal,
            "Remove {what}, such as {}? [y/N] ",
            sample.join(", ")
        );
        let mut answer = String::new();
        asked
            .and_then(|()| terminal.flush())
            .and_then(|()| std::io::stdin().read_line(&mut answer))
            .context("cannot ask")?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new(Exit::Failed, "nothing was removed")),
        }
    }
}

/// Keys shown before many are removed.
const SAMPLE: usize = 5;

/// How many keys lie below a prefix, and some of them.
async fn count(client: &Client, prefix: &str) -> Result<(usize, Vec<String>), Failure> {
    let path = format!("{}?list=true&values=false", kv_path(prefix));
    let request = client
        .request(Method::GET, &path)
        .header("accept", "application/x-ndjson");
    let mut lines = client.lines(client.send(request).await?);
    let (mut count, mut sample) = (0, Vec::new());
    while let Some(line) = lines.next().await {
        let line = line?;
        count += 1;
        if sample.len() < SAMPLE {
            sample.push(parse::<Entry<'_>>(&line)?.shown_key());
        }
    }
    Ok((count, sample))
}

/// List the entries below a prefix.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir ls users
  kvasir ls --limit 10 --reverse -o jsonl

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Ls {
    /// Prefix, its parts separated by dots [default: everything]
    prefix: Option<String>,
    /// Most entries
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// Keys only
    #[arg(long)]
    keys: bool,
    #[command(flatten)]
    common: Common,
}

impl Ls {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.common.target.client()?;
            let mut path = match &self.prefix {
                None => "/kv?list=true".to_owned(),
                Some(prefix) => format!("{}?list=true", kv_path(prefix)),
            };
            if let Some(limit) = self.limit {
                path += &format!("&limit={limit}");
            }
            if self.reverse {
                path += "&reverse=true";
            }
            if self.keys {
                path += "&values=false";
            }
            let request = client
                .request(Method::GET, &path)
                .header("accept", "application/x-ndjson");
            let mut lines = client.lines(client.send(request).await?);
            let mut printer = Printer::new(&self.common.form);
            printer.begin(if self.keys {
                &["key"]
            } else {
                &["key", "value"]
            })?;
            while let Some(line) = lines.next().await {
                let line = line?;
                let entry: Entry<'_> = parse(&line)?;
                let mut cells = vec![entry.shown_key()];
                if !self.keys {
                    cells.push(entry.value().to_owned());
                }
                printer.row(&line, &cells)?;
            }
            printer.end()
        })
    }
}

/// Follow the changes of a key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir watch users.john
  kvasir watch users.john --count 1 -o jsonl

Exit codes: 0 the server ended the watch or --count was reached, 1 failed, 2 usage, 4 denied,
6 unreachable")]
pub(super) struct Watch {
    /// Key, its parts separated by dots
    key: String,
    /// End after so many states, the present one included
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    #[command(flatten)]
    common: Common,
}

impl Watch {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.common.target.client()?;
            let path = format!("{}?watch=true", kv_path(&self.key));
            let request = client
                .request(Method::GET, &path)
                .header("accept", "text/event-stream");
            let mut lines = client.lines(client.send(request).await?);
            let mut printer = Printer::new(&self.common.form);
            printer.begin(&["versionstamp", "value"])?;
            let mut left = self.count.unwrap_or(u64::MAX);
            while left > 0
                && let Some(line) = lines.next().await
            {
                let line = line?;
                let Some(data) = line.strip_prefix("data:") else {
                    continue;
                };
                let data = data.trim_start();
                let state: Entry<'_> = parse(data)?;
                let stamp = state.versionstamp.unwrap_or("-").to_owned();
                printer.row(&data, &[stamp, state.value().to_owned()])?;
                printer.flush()?;
                left -= 1;
            }
            printer.end()
        })
    }
}

/// The path of a key in the REST dialect, which splits keys as this command does.
fn kv_path(key: &str) -> String {
    format!("/kv/{}", segment(key))
}

async fn json(client: &Client, response: reqwest::Response) -> Result<Json, Failure> {
    let body = response.bytes().await;
    let body = body.map_err(|error| client.unreachable(error))?;
    Ok(serde_json::from_slice(&body).context("the server's answer is not JSON")?)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Failure> {
    Ok(serde_json::from_str(text).context("the server's answer is not as it should be")?)
}

/// An entry as the REST dialect shows it. Values stay the text they are, so nothing is lost.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    path: Option<String>,
    versionstamp: Option<&'a str>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

impl Entry<'_> {
    /// The key as it would be typed, or its parts where that cannot be.
    fn shown_key(&self) -> String {
        match &self.path {
            Some(path) => path.clone(),
            None => self.key.get().to_owned(),
        }
    }

    fn value(&self) -> &str {
        self.value.map_or("null", RawValue::get)
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Reports a change: a sentence for people, JSON with the server's address for programs.
fn changed(
    client: &Client,
    form: &Form,
    mut answer: Json,
    sentence: impl FnOnce(&Json) -> String,
) -> Result<(), Failure> {
    if let Json::Object(members) = &mut answer {
        members.insert("server".to_owned(), client.base().into());
    }
    let told = sentence(&answer);
    Printer::new(form).one(&answer, || told)
}
