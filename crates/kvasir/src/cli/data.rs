//! `get`, `put` and `ls`: entries of a server's default database.

use std::io::Read;

use anyhow::Context;
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::client::{Client, block_on, segment};
use super::frame::{KeyFrame, answer, changed};
use super::output::Printer;
use crate::exit::{Exit, Failure};

/// Longest value that `put` reads, in bytes; the server's own limit is lower unless configured.
const VALUE_BYTES_MAX: u64 = kvasir_kv::limits::VALUE_BYTES_CEILING as u64;

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
    frame: KeyFrame,
}

impl Get {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.frame.client()?;
            let path = kv_path(&self.key);
            let mut printer = Printer::new(&self.frame.form);
            if printer.is_raw() {
                let request = client
                    .request(Method::GET, &path)
                    .header("accept", "application/octet-stream, application/json;q=0.9");
                let body = self.found(&client, request).await?.bytes().await;
                return printer.bytes(&body.map_err(|error| client.unreachable(error))?);
            }
            let request = client.request(Method::GET, &format!("{path}?meta=true"));
            let body = self.found(&client, request).await?.text().await;
            let body = body.map_err(|error| client.unreachable(error))?;
            let entry: Entry<'_> = parse(&body)?;
            printer.one(&body, || entry.value().to_owned())
        })
    }
}

/// Keys beside a missing one that are looked at for a suggestion.
const NEIGHBOURS: usize = 200;

/// How alike two keys have to be for one to be suggested, from 0 to 1.
const LIKENESS_MIN: f64 = 0.9;

impl Get {
    /// The answer for a key that is there. Of one that is not, the failure names what was probably
    /// meant.
    async fn found(&self, client: &Client, request: RequestBuilder) -> Result<Response, Failure> {
        let failure = match client.send(request).await {
            Err(failure) if failure.exit == Exit::NotFound => failure,
            other => return other,
        };
        // Without a suggestion, or the right to look for one, the failure is as it was.
        match self.similar(client).await {
            Ok(Some(key)) => Err(Failure::new(
                failure.exit,
                format!("{failure}; did you mean {key}?"),
            )),
            Ok(None) | Err(_) => Err(failure),
        }
    }

    /// The most similar of the keys beside this one.
    async fn similar(&self, client: &Client) -> Result<Option<String>, Failure> {
        let beside = match self.key.rsplit_once('.') {
            Some((parent, _)) => kv_path(parent),
            None => "/kv".to_owned(),
        };
        let path = format!("{beside}?list=true&values=false&limit={NEIGHBOURS}");
        let request = client
            .request(Method::GET, &path)
            .header("accept", "application/x-ndjson");
        let mut lines = client.lines(client.send(request).await?);
        let mut best = (LIKENESS_MIN, None);
        while let Some(line) = lines.next().await {
            let key = parse::<Entry<'_>>(&line?)?.shown_key();
            let likeness = strsim::jaro_winkler(&key, &self.key);
            if likeness >= best.0 {
                best = (likeness, Some(key));
            }
        }
        Ok(best.1)
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
    frame: KeyFrame,
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
            let client = self.frame.client()?;
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
            let stored = answer(&client, request).await?;
            changed(&client, &self.frame.form, stored, |stored| {
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
    frame: KeyFrame,
}

impl Ls {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.frame.client()?;
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
            let mut printer = Printer::new(&self.frame.form);
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

/// The path of a key in the REST dialect, which splits keys as this command does.
pub(super) fn kv_path(key: &str) -> String {
    format!("/kv/{}", segment(key))
}

/// The parts of a key as it is typed: separated by dots, `\\.` being a dot inside a part.
pub(super) fn split_path(key: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut chars = key.chars();
    while let Some(char) = chars.next() {
        match char {
            '.' => parts.push(std::mem::take(&mut part)),
            '\\' => part.extend(chars.next()),
            char => part.push(char),
        }
    }
    parts.push(part);
    parts
}

/// The key of these parts as it would be typed, the opposite of [`split_path`].
pub(super) fn joined_path<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let parts = parts.into_iter();
    let escaped = parts.map(|part| part.replace('\\', "\\\\").replace('.', "\\."));
    escaped.collect::<Vec<_>>().join(".")
}

/// A key in the typed form of the admin API as it would be typed, or as JSON where that cannot be.
pub(super) fn typed_path(key: &Json) -> String {
    let parts = key.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = parts.iter().map(|part| match part["type"].as_str() {
        Some("string") => part["value"].as_str().filter(|text| !text.is_empty()),
        _ => None,
    });
    match texts.collect::<Option<Vec<_>>>() {
        Some(texts) => joined_path(texts),
        None => key.to_string(),
    }
}

/// The key of a line of a list, as it would be typed.
pub(super) fn listed_path(line: &str) -> Result<String, Failure> {
    Ok(parse::<Entry<'_>>(line)?.shown_key())
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
