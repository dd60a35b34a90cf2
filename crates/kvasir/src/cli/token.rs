//! `kvasir token create|ls|revoke|explain`.

use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::client::{block_on, segment};
use super::frame::Frame;
use super::output::Printer;
use crate::exit::Failure;

/// Make, list and revoke tokens, and say why one is refused.
///
/// Works on the server that holds the data folder, or on the folder itself while none runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir token create --db default
  kvasir token ls

Exit codes: 0 done, 1 failed, 2 usage, 3 no such token, 4 denied, 6 unreachable")]
pub(super) struct Tokens {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(Create),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Revoke(Revoke),
    Explain(Explain),
}

/// Make a token and print it. It is shown only now.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir token create --db default
  kvasir token create --db default --verb read --ttl 30d --name reports
  kvasir token create --db default --source 10.0.0.0/8 --source 2001:db8::/32

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Create {
    /// Database it is for [default: everything, administration included]
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
    /// What people call it
    #[arg(long, default_value = "token")]
    name: String,
    /// Only keys that begin with these parts, separated by dots
    #[arg(long, value_name = "KEY", requires = "db")]
    prefix: Option<String>,
    /// Only through this dialect, repeatable
    #[arg(long, value_name = "NAME")]
    dialect: Vec<String>,
    /// What it allows, repeatable: read, write, delete, admin [default: read, write and delete with
    /// --db, else everything]
    #[arg(long, value_name = "VERB")]
    verb: Vec<String>,
    /// How long it lasts, such as 12h or 30d [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// From where it may be used: an address or a network such as 10.0.0.0/8, repeatable [default:
    /// from anywhere]
    #[arg(long, value_name = "NETWORK")]
    source: Vec<String>,
    #[command(flatten)]
    frame: Frame,
}

/// List tokens, each with its last use. Their secrets are not known any more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir token ls
  kvasir token ls --json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Ls {
    #[command(flatten)]
    frame: Frame,
}

/// Revoke a token, effective at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir token revoke 0123456789abcdef
  kvasir token revoke 0123456789abcdef --json

Exit codes: 0 done, 1 failed, 2 usage, 3 no such token, 4 denied, 6 unreachable")]
struct Revoke {
    /// Its id, as `kvasir token ls` shows it
    id: String,
    #[command(flatten)]
    frame: Frame,
}

/// Say whether a token allows a request, and why.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir token explain 0123456789abcdef --key users.john --verb write
  kvasir token explain 0123456789abcdef --dialect deno --db shop --from 203.0.113.7

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Explain {
    /// Its id, as `kvasir token ls` shows it, or the token itself
    token: String,
    /// The API that the request comes through
    #[arg(long, value_name = "NAME", default_value = "rest")]
    dialect: String,
    /// The database that it is about
    #[arg(long, value_name = "NAME", default_value = "default")]
    db: String,
    /// The key that it is about, its parts separated by dots [default: all keys]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// What it wants: read, write, delete or admin
    #[arg(long, value_name = "VERB", default_value = "read")]
    verb: String,
    /// The address that it comes from [default: not looked at]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    #[command(flatten)]
    frame: Frame,
}

impl Tokens {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            match self.verb {
                Verb::Create(create) => create.run().await,
                Verb::Ls(ls) => ls.run().await,
                Verb::Revoke(revoke) => revoke.run().await,
                Verb::Explain(explain) => explain.run().await,
            }
        })
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let prefix: Vec<&str> = match &self.prefix {
            Some(prefix) => prefix.split('.').collect(),
            None => Vec::new(),
        };
        let verbs: Vec<&str> = match (&self.verb[..], &self.db) {
            ([], None) => vec!["read", "write", "delete", "admin"],
            ([], Some(_)) => vec!["read", "write", "delete"],
            (verbs, _) => verbs.iter().map(String::as_str).collect(),
        };
        let ttl = self.ttl.map(|ttl| u32::try_from(ttl.as_secs()));
        let ttl_seconds = ttl.transpose().map_err(|_| {
            Failure::usage("--ttl: at most 136 years; without it the token lasts for ever")
        })?;
        let body = json!({
            "name": self.name,
            "grants": [{
                "dialects": self.dialect,
                "keyspace": self.db,
                "prefix": prefix,
                "verbs": verbs,
            }],
            "sources": self.source,
            "ttlSeconds": ttl_seconds,
        });
        let made = self
            .frame
            .call(Method::POST, "/tokens", Some(&body))
            .await?;
        self.frame.tell(&made, || text(&made["token"]))
    }
}

impl Ls {
    async fn run(self) -> Result<(), Failure> {
        let tokens = self.frame.all("/tokens", "tokens").await?;
        let mut printer = Printer::new(&self.frame.form);
        printer.begin(&[
            "id",
            "name",
            "database",
            "state",
            "sources",
            "last used",
            "from",
        ])?;
        for token in tokens {
            let database = match &token["grants"][0]["keyspace"] {
                Json::String(name) => name.clone(),
                _ => "*".to_owned(),
            };
            let cells = [
                text(&token["id"]),
                text(&token["name"]),
                database,
                text(&token["state"]),
                sources(&token["sources"]),
                shown(&token["lastUsedAt"], "never"),
                shown(&token["lastUsedFrom"], "-"),
            ];
            printer.row(&token, &cells)?;
        }
        printer.end()
    }
}

impl Revoke {
    async fn run(self) -> Result<(), Failure> {
        let path = format!("/tokens/{}", segment(&self.id));
        let revoked = self.frame.call(Method::DELETE, &path, None).await?;
        self.frame.tell(&revoked, || format!("revoked {}", self.id))
    }
}

impl Explain {
    async fn run(self) -> Result<(), Failure> {
        let key: Vec<&str> = match &self.key {
            Some(key) => key.split('.').collect(),
            None => Vec::new(),
        };
        let body = json!({
            "token": self.token,
            "dialect": self.dialect,
            "keyspace": self.db,
            "key": key,
            "verb": self.verb,
            "from": self.from,
        });
        let path = "/tokens/explain";
        let answer = self.frame.call(Method::POST, path, Some(&body)).await?;
        self.frame.tell(&answer, || {
            let word = match answer["allowed"].as_bool() {
                Some(true) => "allowed",
                _ => "refused",
            };
            let mut lines = vec![format!("{word}: {}", text(&answer["reason"]))];
            for (number, grant) in answer["grants"]
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
            {
                let why = shown(&grant["mismatch"], "the grant covers it");
                lines.push(format!("grant {}: {why}", number + 1));
            }
            lines.join("\n")
        })
    }
}

fn sources(value: &Json) -> String {
    let networks = value.as_array().into_iter().flatten().map(text);
    match networks.collect::<Vec<_>>() {
        none if none.is_empty() => "*".to_owned(),
        networks => networks.join(","),
    }
}

fn shown(value: &Json, without: &str) -> String {
    match value {
        Json::Null => without.to_owned(),
        value => text(value),
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
