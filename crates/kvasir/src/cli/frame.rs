//! The frame of verbs that ask a server: whom they ask and how they answer, one request, one report.

use anyhow::Context;
use clap::Args;
use reqwest::{Method, RequestBuilder};
use serde_json::Value as Json;

use super::admin::Administration;
use super::client::{Client, Target};
use super::output::{Form, Printer};
use crate::exit::Failure;

/// The flags of every such verb.
#[derive(Debug, Args)]
pub(super) struct Frame {
    #[command(flatten)]
    pub(super) target: Target,
    #[command(flatten)]
    pub(super) form: Form,
}

/// The flags of verbs on keys.
#[derive(Debug, Args)]
pub(super) struct KeyFrame {
    /// Database [default: KVASIR_DATABASE, that of the context, `default`]
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pub(super) form: Form,
}

impl KeyFrame {
    /// A client of the server and the database that are meant.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.target.client_on(self.db.as_deref())
    }
}

impl Frame {
    /// Asks one thing of the admin API, wherever that is reached.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Json, Failure> {
        Administration::with(&self.target, async |server| {
            server.call(method, path, body).await
        })
        .await
    }

    /// All items of a paged list of the admin API.
    pub(super) async fn all(&self, path: &str, member: &str) -> Result<Vec<Json>, Failure> {
        Administration::with(&self.target, async |server| server.all(path, member).await).await
    }

    /// Reports one thing.
    pub(super) fn tell(&self, answer: &Json, line: impl FnOnce() -> String) -> Result<(), Failure> {
        Printer::new(&self.form).one(answer, line)
    }
}

/// The JSON that a request is answered with.
pub(super) async fn answer(client: &Client, request: RequestBuilder) -> Result<Json, Failure> {
    let body = client.send(request).await?.bytes().await;
    let body = body.map_err(|error| client.unreachable(error))?;
    Ok(serde_json::from_slice(&body).context("the server's answer is not JSON")?)
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
