//! Talking to a server over HTTP: where it is, who asks, and what its failures mean here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::context::{Known, Named};
use crate::exit::{Exit, Failure};
use crate::server_file::ServerFile;

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Longest line of a streamed answer, in bytes: the largest value as text, and its entry around it.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Characters that stay as they are in a path.
const PATH_PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~');

/// Which server to talk to.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// Address of the server [default: KVASIR_SERVER, the one that holds --data, the selected context,
    /// http://127.0.0.1:8000]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Server by its name, see `kvasir context` [default: KVASIR_CONTEXT]
    #[arg(long, value_name = "NAME", conflicts_with = "server")]
    pub(crate) context: Option<String>,
    /// Data folder of a server on this machine [default: kvasir-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// File with the token to show, if KVASIR_TOKEN does not hold it
    #[arg(long, value_name = "FILE", env = "KVASIR_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// A server and the token it is shown.
#[derive(Debug)]
pub(crate) struct Client {
    base: String,
    token: Option<SecretString>,
    /// Where verbs on keys work, if that is not the default database.
    database: Option<String>,
    http: reqwest::Client,
}

impl Target {
    /// The client that the flags, the environment and the data folder make.
    ///
    /// # Errors
    ///
    /// For a token file that cannot be read.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let token = token_of_environment(self.token_file.as_deref())?;
        let (base, own) = match self.place()? {
            Place::Address(server) => (server.trim_end_matches('/').to_owned(), None),
            Place::Context(named) => {
                let own = if token.is_none() {
                    named.token()?
                } else {
                    None
                };
                (named.server, own)
            }
            Place::Folder(folder) => match ServerFile::read(&folder)? {
                Some(local) => (local.base().to_owned(), Some(local.token)),
                None => (LOOPBACK.to_owned(), None),
            },
        };
        let token = token.or(own);
        Client::new(base, token)
    }

    /// As [`Target::client`], with the database that verbs on keys work on: the first of flag,
    /// environment, the context in use, `default`.
    ///
    /// # Errors
    ///
    /// As [`Target::client`].
    pub(crate) fn client_on(&self, database: Option<&str>) -> Result<Client, Failure> {
        let mut client = self.client()?;
        client.database = Some(self.database(database)?).filter(|name| name != DEFAULT_DATABASE);
        Ok(client)
    }

    /// The database that is meant: the first of flag, environment, the context in use, `default`.
    ///
    /// # Errors
    ///
    /// As [`Target::place`].
    #[expect(
        clippy::disallowed_methods,
        reason = "the command's own variable, which is no setting"
    )]
    pub(crate) fn database(&self, flag: Option<&str>) -> Result<String, Failure> {
        if let Some(name) = flag {
            return Ok(name.to_owned());
        }
        let variable = std::env::var("KVASIR_DATABASE").ok();
        if let Some(name) = variable.filter(|name| !name.is_empty()) {
            return Ok(name);
        }
        let of_context = match self.place()? {
            Place::Context(named) => named.database,
            Place::Address(_) | Place::Folder(_) => None,
        };
        Ok(of_context.unwrap_or_else(|| DEFAULT_DATABASE.to_owned()))
    }

    /// Where the server is: the first of flag, environment, data folder, selected context.
    ///
    /// # Errors
    ///
    /// For a context that does not exist.
    #[expect(
        clippy::disallowed_methods,
        reason = "the command's own variables, which are no settings"
    )]
    pub(crate) fn place(&self) -> Result<Place, Failure> {
        let variable = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        let of_context = |name: &str| -> Result<Place, Failure> {
            let known = Known::read()?.ok_or_else(|| {
                Failure::usage("contexts need a place: set HOME or XDG_CONFIG_HOME")
            })?;
            Ok(Place::Context(known.named(name)?.clone()))
        };
        if let Some(server) = &self.server {
            return Ok(Place::Address(server.clone()));
        }
        if let Some(name) = &self.context {
            return of_context(name);
        }
        if let Some(folder) = &self.data {
            return Ok(Place::Folder(folder.clone()));
        }
        if let Some(server) = variable("KVASIR_SERVER") {
            return Ok(Place::Address(server));
        }
        if let Some(name) = variable("KVASIR_CONTEXT") {
            return of_context(&name);
        }
        let known = Known::read()?;
        Ok(match known.as_ref().and_then(Known::selected) {
            Some(named) => Place::Context(named.clone()),
            None => Place::Folder("kvasir-data".into()),
        })
    }
}

/// Where a server is.
#[derive(Debug)]
pub(crate) enum Place {
    /// At an address.
    Address(String),
    /// At the address of a context.
    Context(Named),
    /// Wherever the server of a data folder listens, if one runs.
    Folder(PathBuf),
}

/// The database of those who name none.
const DEFAULT_DATABASE: &str = "default";

/// Where a server listens unless told otherwise.
const LOOPBACK: &str = "http://127.0.0.1:8000";

#[expect(
    clippy::disallowed_methods,
    reason = "a token in the arguments would be seen by other users"
)]
fn token_of_environment(file: Option<&Path>) -> Result<Option<SecretString>, Failure> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        return Ok(Some(text.trim().into()));
    }
    let token = std::env::var("KVASIR_TOKEN").ok();
    Ok(token.filter(|token| !token.is_empty()).map(Into::into))
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8000`.
    pub(crate) fn new(base: String, token: Option<SecretString>) -> Result<Client, Failure> {
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_MAX);
        if base.starts_with("http://") {
            // The system's authorities are of no use here. On an empty base, as in the container,
            // there are none, and looking for them fails.
            http = http.tls_certs_only([]);
        }
        let http = http.build().context("cannot make an HTTP client")?;
        Ok(Client {
            base,
            token,
            database: None,
            http,
        })
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// A request for a path with its query that shows no token.
    pub(crate) fn bare_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// The database that verbs on keys work on.
    pub(crate) fn database(&self) -> &str {
        self.database.as_deref().unwrap_or(DEFAULT_DATABASE)
    }

    /// A request for a path with its query.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.bare_request(method, path);
        if let Some(database) = &self.database {
            request = request.header("kvasir-database", database);
        }
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    /// Sends a request; an answer that is no success is a failure.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(refused(status, &body))
    }

    /// What a broken connection means.
    pub(crate) fn unreachable(&self, error: reqwest::Error) -> Failure {
        let exit = if error.is_builder() {
            Exit::Usage
        } else {
            Exit::Unreachable
        };
        Failure {
            exit,
            error: anyhow::Error::new(error)
                .context(format!("cannot talk to the server at {}", self.base)),
        }
    }

    /// The lines of an answer, as they come.
    pub(crate) fn lines(
        &self,
        response: Response,
    ) -> impl Stream<Item = Result<String, Failure>> + Unpin {
        let state = (Box::pin(response.bytes_stream()), Vec::new(), false);
        Box::pin(futures_util::stream::try_unfold(
            state,
            move |(mut parts, mut held, mut is_end): (_, Vec<u8>, bool)| async move {
                loop {
                    if let Some(at) = held.iter().position(|byte| *byte == b'\n') {
                        let rest = held.split_off(at + 1);
                        held.pop();
                        let line = String::from_utf8_lossy(&held).into_owned();
                        return Ok(Some((line, (parts, rest, is_end))));
                    }
                    if is_end {
                        return Ok(None);
                    }
                    match parts.next().await {
                        Some(Ok(part)) => held.extend_from_slice(&part),
                        Some(Err(error)) => return Err(self.unreachable(error)),
                        None => {
                            is_end = true;
                            if !held.is_empty() {
                                held.push(b'\n');
                            }
                        }
                    }
                    if held.len() > LINE_BYTES_MAX {
                        return Err(Failure::new(
                            Exit::Failed,
                            "a line of the answer is too long",
                        ));
                    }
                }
            },
        ))
    }
}

/// A segment of a path, escaped.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, PATH_PLAIN).to_string()
}

/// What an answer that is no success means.
pub(crate) fn refused(status: StatusCode, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
    }
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let sentence = problem
        .and_then(|problem| problem.detail.or(problem.title))
        .unwrap_or_else(|| match String::from_utf8_lossy(body).trim() {
            "" => status.canonical_reason().unwrap_or("refused").to_owned(),
            text => text.chars().take(500).collect(),
        });
    let exit = match status.as_u16() {
        401 | 403 => Exit::Denied,
        404 | 410 => Exit::NotFound,
        409 | 412 => Exit::Conflict,
        400 | 405 | 411 | 413 | 414 | 415 | 422 | 431 => Exit::Usage,
        502..=504 => Exit::Unreachable,
        _ => Exit::Failed,
    };
    Failure::new(
        exit,
        format!("the server answered {}: {sentence}", status.as_u16()),
    )
}

/// Runs a client verb to its end.
///
/// # Errors
///
/// Those of the verb; 130 is not used, an interrupted verb ends like any other program.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_exit_codes() {
        for (status, exit) in [
            (400, Exit::Usage),
            (401, Exit::Denied),
            (403, Exit::Denied),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (412, Exit::Conflict),
            (500, Exit::Failed),
            (503, Exit::Unreachable),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(refused(status, b"").exit, exit, "{status}");
        }
    }

    #[test]
    fn the_sentence_of_a_problem_is_shown() {
        let failure = refused(StatusCode::NOT_FOUND, br#"{"detail":"no such key"}"#);
        assert_eq!(failure.to_string(), "the server answered 404: no such key");
    }

    #[test]
    fn separators_inside_a_segment_are_escaped() {
        assert_eq!(segment("a/b?c.d"), "a%2Fb%3Fc.d");
    }
}
