//! `kvasir token create|ls|revoke`.

use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::client::{block_on, segment};
use super::frame::Frame;
use super::output::Printer;
use crate::exit::Failure;

/// Make, list and revoke tokens.
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
}

/// Make a token and print it. It is shown only now.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir token create --db default
  kvasir token create --db default --verb read --ttl 30d --name reports

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
    #[command(flatten)]
    frame: Frame,
}

/// List tokens. Their secrets are not known any more.
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

impl Tokens {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            match self.verb {
                Verb::Create(create) => create.run().await,
                Verb::Ls(ls) => ls.run().await,
                Verb::Revoke(revoke) => revoke.run().await,
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
        printer.begin(&["id", "name", "database", "state"])?;
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

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
