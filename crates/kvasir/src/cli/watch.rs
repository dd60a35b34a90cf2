//! `kvasir watch`: the changes of a key, or of everything below a prefix.
//!
//! A key is watched through the REST dialect, which any token that may read it can do; a prefix
//! through the admin API. When the connection breaks the watch goes on from the versionstamp that was
//! seen last: states that were told are not told again, and the latest state of a key is never
//! missed. Of keys that were removed below a prefix meanwhile, those are told that this watch had
//! told of before.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::client::{Client, block_on, segment};
use super::data::{kv_path, split_path};
use super::frame::KeyFrame;
use super::output::Printer;
use crate::exit::{Exit, Failure};

/// Keys below a prefix whose last state is remembered, to tell an expiry from a removal, and what
/// went while the connection was broken.
const REMEMBERED_MAX: usize = 100_000;

/// Entries that a watch of a prefix begins with; what the server tells at most.
const INITIAL_MAX: usize = 1_000;

/// Pauses between tries to connect again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Differences that are shown of one change.
const DIFFERENCES_MAX: usize = 50;

/// Follow the changes of a key, or of everything below a prefix.
///
/// An event is set, deleted or expired, or absent for a key that is not there when the watch begins.
/// Of changes that follow each other quickly only the last may be told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir watch users.john --count 1
  kvasir watch users --prefix --count 1 -o jsonl

Exit codes: 0 --count was reached, 1 failed, 2 usage, 4 denied, 6 unreachable, also after --retry")]
pub(super) struct Watch {
    /// Key, or prefix with --prefix; its parts separated by dots
    key: String,
    /// Watch everything below the key instead; needs an administrator's token
    #[arg(long)]
    prefix: bool,
    /// Tell only what was written after this versionstamp
    #[arg(long, value_name = "VERSIONSTAMP")]
    from: Option<String>,
    /// Do not tell what is there when the watch begins
    #[arg(long)]
    no_initial: bool,
    /// Show what differs from the value before
    #[arg(long)]
    diff: bool,
    /// Run a command with `sh` for each event, with the value on its standard input and KVASIR_EVENT,
    /// KVASIR_KEY and KVASIR_VERSIONSTAMP in its environment
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// How long to try to reach a server that went away; 0s for not at all
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "60s")]
    retry: Duration,
    #[command(flatten)]
    frame: KeyFrame,
}

/// What is remembered of a key.
#[derive(Clone, Debug)]
struct Seen {
    versionstamp: String,
    expires_at: Option<i64>,
    /// Kept for `--diff` only.
    value: Option<String>,
}

/// Something that happened.
#[derive(Debug)]
struct Event {
    kind: &'static str,
    key: String,
    versionstamp: String,
    value: Option<String>,
    expires_at: Option<i64>,
}

/// The state of a watch over all its connections.
struct Following<'a> {
    watch: &'a Watch,
    printer: Printer,
    seen: BTreeMap<String, Seen>,
    /// The newest versionstamp that was told.
    newest: Option<String>,
    /// Whether the states that were there at the begin are told.
    is_ready: bool,
    left: u64,
}

/// Why a connection ended.
enum End {
    /// Enough was told.
    Done,
    /// The server ended it.
    Broken,
}

impl Watch {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.frame.client()?;
            let mut printer = Printer::new(&self.frame.form);
            printer.begin(&["event", "key", "versionstamp", "value"])?;
            let mut following = Following {
                printer,
                seen: BTreeMap::new(),
                newest: self.from.clone(),
                is_ready: false,
                left: self.count.unwrap_or(u64::MAX),
                watch: &self,
            };
            let mut is_first = true;
            let mut away_since: Option<tokio::time::Instant> = None;
            let mut pause = PAUSE_MIN;
            loop {
                match following.connection(&client, is_first).await {
                    Ok(End::Done) => return following.printer.end(),
                    Ok(End::Broken) => {
                        away_since = None;
                        pause = PAUSE_MIN;
                    }
                    Err(failure) if is_first || failure.exit != Exit::Unreachable => {
                        return Err(failure);
                    }
                    Err(failure) => {
                        let since = away_since.get_or_insert_with(tokio::time::Instant::now);
                        if since.elapsed() >= self.retry {
                            return Err(failure);
                        }
                    }
                }
                is_first = false;
                if self.retry.is_zero() {
                    return following.printer.end();
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        })
    }

    fn path(&self, database: &str, newest: Option<&str>) -> String {
        if !self.prefix {
            return format!("{}?watch=true", kv_path(&self.key));
        }
        let part = |text: String| json!({"type": "string", "value": text});
        let parts: Json = split_path(&self.key).into_iter().map(part).collect();
        let parts = parts.to_string();
        let mut path = format!(
            "/_/api/v1/watch?keyspace={}&prefix={}",
            segment(database),
            segment(&parts)
        );
        match newest {
            Some(newest) => path += &format!("&from={}", segment(newest)),
            None => path += &format!("&initial={INITIAL_MAX}"),
        }
        path
    }
}

impl Following<'_> {
    async fn connection(&mut self, client: &Client, is_first: bool) -> Result<End, Failure> {
        let path = self.watch.path(client.database(), self.newest.as_deref());
        let request = client
            .request(Method::GET, &path)
            .header("accept", "text/event-stream");
        let mut lines = client.lines(client.send(request).await?);
        if !is_first && self.watch.prefix {
            self.tell_what_went(client).await?;
        }
        while self.left > 0 {
            let line = match lines.next().await {
                Some(Ok(line)) => line,
                Some(Err(failure)) if failure.exit == Exit::Unreachable => return Ok(End::Broken),
                Some(Err(failure)) => return Err(failure),
                None => return Ok(End::Broken),
            };
            let Some(data) = line.strip_prefix("data:") else {
                continue;
            };
            let event = match self.watch.prefix {
                true => self.read_below(data.trim_start())?,
                false => self.read_state(data.trim_start())?,
            };
            if let Some(event) = event {
                self.tell(event).await?;
            }
        }
        Ok(End::Done)
    }

    /// An event of the REST dialect: the entry of the key, or that there is none.
    fn read_state(&mut self, data: &str) -> Result<Option<Event>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct State<'a> {
            versionstamp: Option<&'a str>,
            #[serde(borrow)]
            value: Option<&'a RawValue>,
            expires_at: Option<Json>,
        }
        let state: State<'_> =
            serde_json::from_str(data).context("the server's answer is not as it should be")?;
        let is_first = !std::mem::replace(&mut self.is_ready, true);
        let key = self.watch.key.clone();
        let Some(stamp) = state.versionstamp else {
            let gone = self.seen.remove(&key);
            let Some(gone) = gone else {
                return Ok((is_first && !self.watch.no_initial).then(|| Event {
                    kind: "absent",
                    key,
                    versionstamp: "-".to_owned(),
                    value: None,
                    expires_at: None,
                }));
            };
            return Ok(Some(Event {
                kind: kind_of_end(gone.expires_at),
                key,
                versionstamp: "-".to_owned(),
                value: None,
                expires_at: None,
            }));
        };
        let is_told = self.newest.as_deref().is_some_and(|newest| newest >= stamp);
        let event = Event {
            kind: "set",
            key,
            versionstamp: stamp.to_owned(),
            value: state.value.map(|value| value.get().to_owned()),
            expires_at: state.expires_at.and_then(|at| millis(&at)),
        };
        if is_told || (is_first && self.watch.no_initial) {
            self.remember(&event);
            return Ok(None);
        }
        Ok(Some(event))
    }

    /// An event of the admin API.
    fn read_below(&mut self, data: &str) -> Result<Option<Event>, Failure> {
        let event: Json =
            serde_json::from_str(data).context("the server's answer is not as it should be")?;
        let stamp = |of: &Json| of["versionstamp"].as_str().unwrap_or("-").to_owned();
        Ok(match event["kind"].as_str() {
            Some(kind @ ("state" | "change")) => {
                let entry = &event["entry"];
                let event = Event {
                    kind: "set",
                    key: typed_key(&entry["key"]),
                    versionstamp: stamp(entry),
                    value: shown_value(entry),
                    expires_at: entry["expiresAt"].as_i64(),
                };
                if kind == "state" && self.watch.no_initial {
                    self.remember(&event);
                    None
                } else {
                    Some(event)
                }
            }
            Some("gone") => {
                let key = typed_key(&event["key"]);
                let before = self.seen.remove(&key);
                Some(Event {
                    kind: kind_of_end(before.and_then(|seen| seen.expires_at)),
                    key,
                    versionstamp: stamp(&event),
                    value: None,
                    expires_at: None,
                })
            }
            Some("ready") => {
                self.is_ready = true;
                // Nothing older comes any more, also if nothing was told so far.
                let ready = stamp(&event);
                if self.newest.as_ref().is_none_or(|newest| *newest < ready) {
                    self.newest = Some(ready);
                }
                None
            }
            Some("missed") => {
                notice("this watch was too slow and missed changes");
                None
            }
            _ => None,
        })
    }

    /// Tells which of the keys that this watch told of are not there any more.
    async fn tell_what_went(&mut self, client: &Client) -> Result<(), Failure> {
        let mut there = std::collections::BTreeSet::new();
        let progress = super::progress::ProgressForm::never();
        let prefix = Some(self.watch.key.as_str());
        super::below::each_key(client, prefix, progress, |key| {
            there.insert(key.to_owned());
        })
        .await?;
        let went: Vec<String> = self
            .seen
            .keys()
            .filter(|key| !there.contains(*key))
            .cloned()
            .collect();
        for key in went {
            let before = self.seen.remove(&key);
            self.tell(Event {
                kind: kind_of_end(before.and_then(|seen| seen.expires_at)),
                key,
                versionstamp: "-".to_owned(),
                value: None,
                expires_at: None,
            })
            .await?;
        }
        Ok(())
    }

    fn remember(&mut self, event: &Event) -> Option<String> {
        let before = self
            .seen
            .get(&event.key)
            .and_then(|seen| seen.value.clone());
        if event.kind == "set"
            && (self.seen.len() < REMEMBERED_MAX || self.seen.contains_key(&event.key))
        {
            let seen = Seen {
                versionstamp: event.versionstamp.clone(),
                expires_at: event.expires_at,
                value: event.value.clone().filter(|_| self.watch.diff),
            };
            self.seen.insert(event.key.clone(), seen);
        }
        let newest = self.newest.as_deref().unwrap_or_default();
        if event.versionstamp != "-" && event.versionstamp.as_str() > newest {
            self.newest = Some(event.versionstamp.clone());
        }
        before
    }

    async fn tell(&mut self, event: Event) -> Result<(), Failure> {
        if self.left == 0 {
            return Ok(());
        }
        let same = self.seen.get(&event.key);
        if event.kind == "set" && same.is_some_and(|seen| seen.versionstamp == event.versionstamp) {
            return Ok(());
        }
        let before = self.remember(&event);
        let value = event.value.as_deref().unwrap_or("null");
        let mut members = json!({
            "event": event.kind,
            "key": event.key,
            "versionstamp": event.versionstamp,
            "expiresAt": event.expires_at,
        });
        let mut shown = value.to_owned();
        if self.watch.diff
            && let Some(before) = &before
        {
            let differences = differences(before, value);
            shown = differences.join("; ");
            members["diff"] = json!(differences);
        }
        // The value stays the text that it is.
        let mut json = members.to_string();
        json.pop();
        json += &format!(",\"value\":{value}}}");
        let cells = [
            event.kind.to_owned(),
            event.key.clone(),
            event.versionstamp.clone(),
            shown,
        ];
        self.printer.row(&json, &cells)?;
        self.printer.flush()?;
        if let Some(command) = &self.watch.exec {
            execute(command, &event).await?;
        }
        self.left -= 1;
        Ok(())
    }
}

/// Why an entry is gone, by when it was to expire.
fn kind_of_end(expires_at: Option<i64>) -> &'static str {
    use kvasir_kv::Clock;
    let now = kvasir_store::SystemClock.now();
    match expires_at {
        Some(at) if at <= now.0 => "expired",
        _ => "deleted",
    }
}

/// Milliseconds since 1970, from a number or a time as text.
fn millis(at: &Json) -> Option<i64> {
    match at {
        Json::Number(at) => at.as_i64(),
        Json::String(at) => Some(at.parse::<jiff::Timestamp>().ok()?.as_millisecond()),
        _ => None,
    }
}

/// A key of the admin API as it would be typed; one that cannot be typed stays JSON.
fn typed_key(key: &Json) -> String {
    let parts: Option<Vec<String>> = key.as_array().and_then(|parts| {
        let parts = parts.iter().map(|part| {
            let text = part
                .as_str()
                .or(part["value"].as_str().filter(|_| part["type"] == "string"));
            Some(text?.replace('\\', "\\\\").replace('.', "\\."))
        });
        parts.collect()
    });
    parts.map_or_else(|| key.to_string(), |parts| parts.join("."))
}

/// The value of an entry of the admin API as JSON text.
fn shown_value(entry: &Json) -> Option<String> {
    // Of large values there is only a preview.
    match (
        &entry["text"],
        &entry["typed"],
        &entry["raw"],
        &entry["preview"],
    ) {
        (Json::String(text), ..) => Some(text.clone()),
        (_, typed, ..) if !typed.is_null() => Some(typed.to_string()),
        (_, _, raw, _) if !raw.is_null() => Some(raw.to_string()),
        (.., preview) if !preview.is_null() => Some(preview.to_string()),
        _ => None,
    }
}

/// What differs between two JSON texts, by path.
fn differences(before: &str, now: &str) -> Vec<String> {
    fn walk(path: &str, before: Option<&Json>, now: Option<&Json>, out: &mut Vec<String>) {
        let shown = |path: &str| if path.is_empty() { "." } else { path }.to_owned();
        match (before, now) {
            (Some(a), Some(b)) if a == b => {}
            (Some(Json::Object(a)), Some(Json::Object(b))) => {
                let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
                for name in names {
                    walk(&format!("{path}/{name}"), a.get(name), b.get(name), out);
                }
            }
            (Some(Json::Array(a)), Some(Json::Array(b))) => {
                for place in 0..a.len().max(b.len()) {
                    walk(&format!("{path}/{place}"), a.get(place), b.get(place), out);
                }
            }
            (Some(a), Some(b)) => out.push(format!("{} {a} -> {b}", shown(path))),
            (Some(a), None) => out.push(format!("{} {a} removed", shown(path))),
            (None, Some(b)) => out.push(format!("{} {b} added", shown(path))),
            (None, None) => {}
        }
    }
    let parsed = |text| serde_json::from_str::<Json>(text).ok();
    let mut out = Vec::new();
    walk("", parsed(before).as_ref(), parsed(now).as_ref(), &mut out);
    let more = out.len().saturating_sub(DIFFERENCES_MAX);
    out.truncate(DIFFERENCES_MAX);
    if more > 0 {
        out.push(format!("and {more} more"));
    }
    out
}

/// Runs a command for an event and waits for it.
async fn execute(command: &str, event: &Event) -> Result<(), Failure> {
    let mut child = tokio::process::Command::new("sh")
        .args(["-c", command])
        .env("KVASIR_EVENT", event.kind)
        .env("KVASIR_KEY", &event.key)
        .env("KVASIR_VERSIONSTAMP", &event.versionstamp)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run sh")?;
    if let Some(mut stdin) = child.stdin.take() {
        use tokio::io::AsyncWriteExt;
        // A command that does not read its input is none the worse.
        let _ = stdin
            .write_all(event.value.as_deref().unwrap_or("").as_bytes())
            .await;
    }
    let status = child.wait().await.context("cannot wait for the command")?;
    if !status.success() {
        notice(&format!("the command ended with {status}"));
    }
    Ok(())
}

fn notice(text: &str) {
    // Nobody reading it is no reason to end.
    let _ = writeln!(std::io::stderr(), "kvasir: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_path() {
        let seen = differences(
            r#"{"a":1,"b":[1,2],"c":{"d":0}}"#,
            r#"{"a":2,"b":[1],"c":{"d":0},"e":3}"#,
        );
        assert_eq!(seen, ["/a 1 -> 2", "/b/1 2 removed", "/e 3 added"]);
        assert_eq!(differences("1", "2"), [". 1 -> 2"]);
        assert!(differences("{}", "{}").is_empty());
    }

    #[test]
    fn keys_of_the_admin_api_are_shown_as_they_are_typed() {
        assert_eq!(typed_key(&json!(["a", "b.c"])), "a.b\\.c");
        assert_eq!(
            typed_key(&json!([{"type": "string", "value": "a"}, "b"])),
            "a.b"
        );
        assert_eq!(typed_key(&json!([1, "b"])), r#"[1,"b"]"#);
    }
}
