//! The admin API, wherever it can be reached: in a running server, or in this process on the data
//! folder while no server holds it. Verbs do not see the difference.

use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt;
use reqwest::Method;
use serde_json::Value as Json;

use super::client::{Client, Place, Target, refused, segment};
use super::settings;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::server_file::ServerFile;
use crate::wire::Offline;

/// Where the API lies.
const API: &str = "/_/api/v1";

/// Items asked for at once.
const PAGE_ITEMS: usize = 1_000;

/// See the module.
pub(crate) enum Administration {
    /// A running server.
    Running(Client),
    /// The store, opened by this process.
    Here(Box<Offline>),
}

impl Administration {
    /// The server that the flags name, or that holds the data folder; without one the folder itself.
    ///
    /// # Errors
    ///
    /// If there is neither.
    pub(crate) async fn reach(target: &Target) -> Result<Administration, Failure> {
        let mut sources = settings::sources(None, None);
        if let Some(folder) = &target.data {
            let folder = folder.to_string_lossy().into_owned();
            let flag = ("server.data".to_owned(), "--data".to_owned(), vec![folder]);
            sources.flags.push(flag);
        }
        let (config, _) = Config::load(&sources)?;
        let folder = &config.server.data;
        let is_running = ServerFile::read(folder)?.is_some();
        let is_named = match target.place()? {
            Place::Address(_) => true,
            Place::Context(_) => target.data.is_none() && !is_running,
            Place::Folder(_) => false,
        };
        if is_named || is_running {
            return Ok(Administration::Running(target.client()?));
        }
        if !Path::new(folder).exists() && config.store.url.is_empty() {
            return Err(Failure::new(
                Exit::Unreachable,
                format!(
                    "no server runs on {0} and there is no such folder; name a server with \
                     --server, or a folder with --data",
                    folder.display()
                ),
            ));
        }
        let here = Offline::open(&config).await?;
        Ok(Administration::Here(Box::new(here)))
    }

    /// Does something with what [`Administration::reach`] finds, and closes it whatever comes of it.
    ///
    /// # Errors
    ///
    /// Those of the work, and as [`Administration::reach`] and [`Administration::leave`].
    pub(crate) async fn with<T>(
        target: &Target,
        work: impl AsyncFnOnce(&Administration) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let server = Administration::reach(target).await?;
        let done = work(&server).await;
        server.leave().await?;
        done
    }

    /// Where it is, for people: an address, or that it is the folder itself.
    pub(crate) fn place(&self) -> &str {
        match self {
            Administration::Running(client) => client.base(),
            Administration::Here(_) => "the data folder",
        }
    }

    /// Calls one route below `/_/api/v1`.
    ///
    /// # Errors
    ///
    /// The failure that the answer means.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Json, Failure> {
        let answer = self
            .exchange(method, path, body.map(Json::to_string))
            .await?;
        if answer.is_empty() {
            return Ok(Json::Null);
        }
        Ok(serde_json::from_slice(&answer).context("the answer is not JSON")?)
    }

    /// As [`Administration::call`], with bodies as they are: members of objects keep their order.
    ///
    /// # Errors
    ///
    /// As [`Administration::call`].
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Bytes, Failure> {
        let path = format!("{API}{path}");
        match self {
            Administration::Running(client) => {
                let mut request = client.request(method, &path);
                if let Some(body) = body {
                    request = request
                        .header("content-type", "application/json")
                        .body(body);
                }
                let answer = client.send(request).await?.bytes().await;
                Ok(answer.map_err(|error| client.unreachable(error))?)
            }
            Administration::Here(here) => {
                let body = body.unwrap_or_default();
                let (status, answer) = here.call(method, &path, body).await?;
                match status.is_success() {
                    true => Ok(answer),
                    false => Err(refused(status, &answer)),
                }
            }
        }
    }

    /// All items of a paged list: those in `member` of every page of `path`.
    ///
    /// # Errors
    ///
    /// As [`Administration::call`].
    pub(crate) async fn all(&self, path: &str, member: &str) -> Result<Vec<Json>, Failure> {
        let first = format!("{path}?limit={PAGE_ITEMS}");
        let mut items = Vec::new();
        let mut next = first.clone();
        loop {
            let mut page = self.call(Method::GET, &next, None).await?;
            if let Json::Array(more) = page[member].take() {
                items.extend(more);
            }
            match page["cursor"].as_str() {
                Some(cursor) => next = format!("{first}&cursor={}", segment(cursor)),
                None => return Ok(items),
            }
        }
    }

    /// The answer of one route below `/_/api/v1`, as it comes.
    ///
    /// # Errors
    ///
    /// The failure that the answer means. An answer that breaks off is an error of the stream.
    pub(crate) async fn stream(
        &self,
        path: &str,
    ) -> Result<BoxStream<'_, anyhow::Result<Bytes>>, Failure> {
        let path = format!("{API}{path}");
        match self {
            Administration::Running(client) => {
                let answer = client.send(client.request(Method::GET, &path)).await?;
                let parts = answer.bytes_stream();
                Ok(parts.map(|part| Ok(part?)).boxed())
            }
            Administration::Here(here) => {
                let (status, body) = here.stream(Method::GET, &path, String::new()).await?;
                if !status.is_success() {
                    let body = body.collect().await.context("the answer broke off")?;
                    return Err(refused(status, &body.to_bytes()));
                }
                let parts = body.into_data_stream();
                Ok(parts.map(|part| Ok(part?)).boxed())
            }
        }
    }

    /// Closes what was opened.
    ///
    /// # Errors
    ///
    /// If the store could not be closed cleanly.
    pub(crate) async fn leave(self) -> Result<(), Failure> {
        match self {
            Administration::Running(_) => Ok(()),
            Administration::Here(here) => Ok(here.close().await?),
        }
    }
}
