//! `txn` and `touch`: several changes at once, and another expiry for an entry.

use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use reqwest::Method;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::client::{Client, block_on};
use super::data::{kv_path, split_path};
use super::frame::{KeyFrame, answer, changed};
use crate::exit::{Exit, Failure};

/// Largest transaction that is read, in bytes: the store takes no larger one.
const TEXT_BYTES_MAX: u64 = kvasir_kv::limits::WRITE_BYTES_MAX as u64 * 2;

/// How often `touch` tries again when somebody changes the entry meanwhile.
const TRIES: usize = 5;

/// Change several keys at once, all of them or none.
///
/// Checks and changes come from flags, or as JSON from a file: the body of `POST /kv/_atomic`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir txn --absent orders.17 --set orders.17='{\"item\":\"tea\"}' --sum stock.tea=-1
  kvasir txn --delete cart.john --delete cart.mary --json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 5 a check did not hold and nothing was changed,
6 unreachable")]
pub(super) struct Txn {
    /// File with checks and mutations as JSON; - reads standard input
    file: Option<String>,
    /// Only if the key is still at this versionstamp; repeatable
    #[arg(long, value_name = "KEY=VERSIONSTAMP")]
    check: Vec<String>,
    /// Only if the key is not there; repeatable
    #[arg(long, value_name = "KEY")]
    absent: Vec<String>,
    /// Set a key to JSON, or to text if it is none; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Add a number to a key; repeatable
    #[arg(long, value_name = "KEY=NUMBER", allow_hyphen_values = true)]
    sum: Vec<String>,
    /// Delete a key; repeatable
    #[arg(long, value_name = "KEY")]
    delete: Vec<String>,
    #[command(flatten)]
    frame: KeyFrame,
}

/// Change when an entry expires, without changing its value.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir touch users.john --ttl 1h
  kvasir touch users.john --forever

Exit codes: 0 done, 1 failed, 2 usage, 3 no such key, 4 denied, 5 somebody else keeps changing it,
6 unreachable")]
pub(super) struct Touch {
    /// Key, its parts separated by dots
    key: String,
    /// How long the entry lasts from now on, such as 90s or 1h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, required_unless_present = "forever")]
    ttl: Option<Duration>,
    /// It does not expire any more
    #[arg(long, conflicts_with = "ttl")]
    forever: bool,
    #[command(flatten)]
    frame: KeyFrame,
}

/// `KEY=REST`; the key may hold no `=`.
fn assigned<'a>(flag: &str, text: &'a str) -> Result<(Vec<String>, &'a str), Failure> {
    let (key, rest) = text.split_once('=').ok_or_else(|| {
        Failure::usage(format!("--{flag} takes KEY=…, and there is no = in {text}"))
    })?;
    Ok((split_path(key), rest))
}

impl Txn {
    fn body(&self) -> Result<String, Failure> {
        let has_flags = [
            &self.check,
            &self.absent,
            &self.set,
            &self.sum,
            &self.delete,
        ]
        .into_iter()
        .any(|flags| !flags.is_empty());
        match (&self.file, has_flags) {
            (Some(_), true) => Err(Failure::usage("give a file or flags, not both")),
            (None, false) => Err(Failure::usage(
                "say what to change: a file, --set, --sum, --delete",
            )),
            (Some(file), false) => {
                let mut text = String::new();
                let read = match file.as_str() {
                    "-" => std::io::stdin()
                        .take(TEXT_BYTES_MAX)
                        .read_to_string(&mut text),
                    file => std::fs::File::open(file)
                        .and_then(|file| file.take(TEXT_BYTES_MAX).read_to_string(&mut text)),
                };
                read.with_context(|| format!("cannot read {file}"))?;
                Ok(text)
            }
            (None, true) => self.body_of_flags(),
        }
    }

    fn body_of_flags(&self) -> Result<String, Failure> {
        let (mut checks, mut mutations) = (Vec::new(), Vec::new());
        for text in &self.check {
            let (key, stamp) = assigned("check", text)?;
            checks.push(json!({"key": key, "versionstamp": stamp}));
        }
        for key in &self.absent {
            checks.push(json!({"key": split_path(key), "versionstamp": null}));
        }
        for text in &self.set {
            let (key, value) = assigned("set", text)?;
            let value: Json =
                serde_json::from_str(value).unwrap_or_else(|_| Json::String(value.to_owned()));
            mutations.push(json!({"type": "set", "key": key, "value": value}));
        }
        for text in &self.sum {
            let (key, number) = assigned("sum", text)?;
            let number: serde_json::Number = number
                .parse()
                .map_err(|_| Failure::usage(format!("{number} is not a number")))?;
            mutations.push(json!({"type": "sum", "key": key, "value": number}));
        }
        for key in &self.delete {
            mutations.push(json!({"type": "delete", "key": split_path(key)}));
        }
        Ok(json!({"checks": checks, "mutations": mutations}).to_string())
    }

    pub(super) fn run(self) -> Result<(), Failure> {
        let body = self.body()?;
        block_on(async {
            let client = self.frame.client()?;
            let request = client
                .request(Method::POST, "/kv/_atomic")
                .header("content-type", "application/json")
                .body(body);
            let done = answer(&client, request).await?;
            changed(&client, &self.frame.form, done, |answer| {
                let stamp = answer["versionstamp"].as_str().unwrap_or("-");
                format!("committed in {} at {stamp}", client.base())
            })
        })
    }
}

impl Touch {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.frame.client()?;
            for _ in 0..TRIES {
                match self.try_once(&client).await {
                    Err(failure) if failure.exit == Exit::Conflict => {}
                    outcome => return outcome,
                }
            }
            Err(Failure::new(
                Exit::Conflict,
                format!("somebody else keeps changing {}", self.key),
            ))
        })
    }

    async fn try_once(&self, client: &Client) -> Result<(), Failure> {
        #[derive(serde::Deserialize)]
        struct Entry<'a> {
            #[serde(borrow)]
            value: &'a RawValue,
            versionstamp: &'a str,
        }
        let path = kv_path(&self.key);
        let request = client.request(Method::GET, &format!("{path}?meta=true"));
        let body = client.send(request).await?.text().await;
        let body = body.map_err(|error| client.unreachable(error))?;
        let entry: Entry<'_> =
            serde_json::from_str(&body).context("the server's answer is not as it should be")?;
        let ttl = match self.ttl {
            None => String::new(),
            Some(ttl) => format!(",\"ttl\":{}", ttl.as_millis()),
        };
        let request = client
            .request(Method::PUT, &path)
            .header("content-type", "application/json")
            .header("if-match", format!("\"{}\"", entry.versionstamp))
            .body(format!("{{\"value\":{}{ttl}}}", entry.value));
        let done = answer(client, request).await?;
        changed(client, &self.frame.form, done, |answer| {
            let stamp = answer["versionstamp"].as_str().unwrap_or("-");
            let end = match self.ttl {
                None => "does not expire".to_owned(),
                Some(ttl) => format!("expires in {}", humantime::format_duration(ttl)),
            };
            format!("{} {end} in {} at {stamp}", self.key, client.base())
        })
    }
}
