//! The same dialects without listeners, for verbs that work on a data folder no server holds.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use kvasir_api::request::RequestId;
use kvasir_api::{RequestInfo, Site};
use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret, SecretString};

use super::{Shared, mounts};
use crate::config::Config;
use crate::exit::Failure;

/// A server that only this process can ask.
pub struct Offline {
    shared: Shared,
    site: Site,
    token: SecretString,
}

impl Offline {
    /// Opens the store and builds the dialects. No background work begins.
    ///
    /// # Errors
    ///
    /// As [`super::Server::start`].
    pub async fn open(config: &Config) -> Result<Offline, Failure> {
        let shared = Shared::open(config, &mut Registry::default()).await?;
        let mounts = mounts::mounts(config, &shared).await?;
        let token = shared.access.make_process_token()?;
        let common = mounts.into_iter().filter(|mount| mount.listen.is_empty());
        let site = Site::of(common.map(Into::into).collect());
        Ok(Offline {
            shared,
            site,
            token,
        })
    }

    /// Answers one request of an administrator.
    ///
    /// # Errors
    ///
    /// If the answer breaks off.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let (status, body) = self.stream(method, path, body).await?;
        Ok((status, body.collect().await?.to_bytes()))
    }

    /// As [`Offline::call`], with an answer that is read as it comes.
    ///
    /// # Errors
    ///
    /// If there can be no such request.
    pub async fn stream(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<(StatusCode, Body)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", self.token.expose_secret()),
            )
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .context("not a request")?;
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let info = RequestInfo {
            id: RequestId(0),
            peer: here,
            local: here,
            client: here.ip(),
            is_tls: false,
            received: Instant::now(),
            uri: request.uri().clone(),
            method: request.method().clone(),
            host: Arc::from("localhost"),
        };
        let response = self.site.handle(request, &info).await;
        Ok((response.status(), response.into_body()))
    }

    /// Closes the stores.
    ///
    /// # Errors
    ///
    /// If one could not be closed cleanly.
    pub async fn close(self) -> anyhow::Result<()> {
        self.shared.shutdown.cancel();
        self.shared.audit.flush().await;
        self.shared.close().await
    }
}
