//! `kvasir edgekv client create|ls|revoke` and `kvasir edgekv import`.

mod import;
mod rows;

use clap::{Args, Subcommand};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value as Json, json};

use super::client::{block_on, segment};
use super::frame::Frame;
use super::output::Printer;
use crate::exit::Failure;

/// EdgeKV: credentials for its administration API, and bulk import.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir edgekv client create --name ci
  kvasir edgekv import items.csv --network staging --namespace marketing

Exit codes: 0 done, 1 failed, 2 usage, 3 no such client, 4 denied, 6 unreachable")]
pub(super) struct EdgeKv {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Client(ClientVerbs),
    Import(import::Import),
}

/// Make, list and revoke EdgeGrid credentials.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir edgekv client create --name ci >> ~/.edgerc
  kvasir edgekv client ls

Exit codes: 0 done, 1 failed, 2 usage, 3 no such client, 4 denied, 6 unreachable")]
struct ClientVerbs {
    #[command(subcommand)]
    verb: ClientVerb,
}

#[derive(Debug, Subcommand)]
enum ClientVerb {
    Create(Create),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Revoke(Revoke),
}

/// Make a credential and print it as a section for .edgerc. Its secret is shown only now.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir edgekv client create --name ci
  kvasir edgekv client create --name ci --section staging --host 127.0.0.1:8443

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Create {
    /// What people call it
    #[arg(long)]
    name: String,
    /// Name of the section
    #[arg(long, default_value = crate::edgerc::SECTION)]
    section: String,
    /// Where its clients will connect to
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "HOST:PORT")]
    host: String,
    #[command(flatten)]
    frame: Frame,
}

/// List credentials. Their secrets are not shown.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir edgekv client ls
  kvasir edgekv client ls --json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Ls {
    #[command(flatten)]
    frame: Frame,
}

/// Revoke a credential, effective at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir edgekv client revoke akab-…
  kvasir edgekv client revoke akab-… --json

Exit codes: 0 done, 1 failed, 2 usage, 3 no such client, 4 denied, 6 unreachable")]
struct Revoke {
    /// Its client token, as `kvasir edgekv client ls` shows it
    client_token: String,
    #[command(flatten)]
    frame: Frame,
}

impl EdgeKv {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            match self.verb {
                Verb::Client(client) => match client.verb {
                    ClientVerb::Create(create) => create.run().await,
                    ClientVerb::Ls(ls) => ls.run().await,
                    ClientVerb::Revoke(revoke) => revoke.run().await,
                },
                Verb::Import(import) => import.run().await,
            }
        })
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let body = json!({ "name": self.name });
        let made = self
            .frame
            .call(Method::POST, "/edgekv/clients", Some(&body))
            .await?;
        self.frame
            .tell(&made, || self.section(&made).expose_secret().to_owned())
    }

    fn section(&self, made: &Json) -> SecretString {
        let member = |name: &str| made[name].as_str().unwrap_or_default();
        SecretString::from(format!(
            "[{}]\nclient_secret = {}\nhost = {}\naccess_token = {}\nclient_token = {}",
            self.section,
            member("clientSecret"),
            self.host,
            member("accessToken"),
            member("clientToken"),
        ))
    }
}

impl Ls {
    async fn run(self) -> Result<(), Failure> {
        let answer = self
            .frame
            .call(Method::GET, "/edgekv/clients", None)
            .await?;
        let mut printer = Printer::new(&self.frame.form);
        printer.begin(&["client token", "name", "state"])?;
        for client in answer["clients"].as_array().into_iter().flatten() {
            let text = |name: &str| client[name].as_str().unwrap_or_default().to_owned();
            let state = match client["revoked"] {
                Json::Bool(true) => "revoked",
                _ => "valid",
            };
            let cells = [text("clientToken"), text("name"), state.to_owned()];
            printer.row(client, &cells)?;
        }
        printer.end()
    }
}

impl Revoke {
    async fn run(self) -> Result<(), Failure> {
        let path = format!("/edgekv/clients/{}", segment(&self.client_token));
        let revoked = self.frame.call(Method::DELETE, &path, None).await?;
        self.frame
            .tell(&revoked, || format!("revoked {}", self.client_token))
    }
}
