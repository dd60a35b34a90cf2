//! `get`, `put`, `rm` and `ls`: entries of a server's default database.

use std::io::{IsTerminal, Read, Write};

use anyhow::Context;
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, Response};
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
    /// Do not ask, up to 1,000 keys
    #[arg(long)]
    yes: bool,
    /// The prefix once more, to remove more than 1,000 keys without being asked
    #[arg(long, value_name = "PREFIX", requires = "prefix")]
    confirm: Option<String>,
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
                self.confirm(count, &what, &sample)?;
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

    fn confirm(&self, count: usize, what: &str, sample: &[String]) -> Result<(), Failure> {
        let is_large = count > UNTYPED_MAX;
        if is_large && self.confirm.as_ref() == Some(&self.key) {
            return Ok(());
        }
        if self.yes && !is_large {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            let how = match is_large {
                true => format!("say --confirm {}", self.key),
                false => "say --yes".to_owned(),
            };
            return Err(Failure::usage(format!(
                "{what} would be removed; {how}, or look first with --dry-run"
            )));
        }
        let question = match is_large {
            true => format!("Type {} to remove them: ", self.key),
            false => "Go on? [y/N] ".to_owned(),
        };
        let mut terminal = std::io::stderr();
        let asked = write!(
            terminal,
            "Removes {what}, such as {}. {question}",
            sample.join(", ")
        );
        let mut answer = String::new();
        asked
            .and_then(|()| terminal.flush())
            .and_then(|()| std::io::stdin().read_line(&mut answer))
            .context("cannot ask")?;
        let agreed = match is_large {
            true => answer.trim() == self.key,
            false => matches!(answer.trim(), "y" | "Y" | "yes"),
        };
        match agreed {
            true => Ok(()),
            false => Err(Failure::new(Exit::Failed, "nothing was removed")),
        }
    }
}

/// Most keys that are removed without their prefix being typed; CLI-5 of the operator's contract.
const UNTYPED_MAX: usize = 1000;

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

/// The key of a line of a list, as it would be typed.
pub(super) fn listed_path(line: &str) -> Result<String, Failure> {
    Ok(parse::<Entry<'_>>(line)?.shown_key())
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
pub(super) fn changed(
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
