//! `kvasir dev-issuer`: an OpenID issuer on loopback, for trying the Kopano dialect.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kvasir_auth::oidc::dev::DevIssuer;
use kvasir_kv::Clock;
use kvasir_store::SystemClock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;

/// Make access tokens for trying the Kopano dialect, on loopback only.
///
/// Whoever asks gets a token for whatever user they name, so this never listens on an address that
/// others can reach.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct DevIssuerArgs {
    /// Loopback address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
}

const HELP: &str = "\
Examples:
  kvasir dev-issuer
  kvasir dev-issuer --listen 127.0.0.1:0

Then: curl 'http://127.0.0.1:8090/token?user=alice&client=app'

Exit codes: 0 stopped by a signal, 1 failed, 2 not a loopback address";

impl DevIssuerArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        if !self.listen.ip().is_loopback() {
            return Err(Failure::usage(format!(
                "{} is not a loopback address, and this issuer trusts everybody",
                self.listen
            )));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        runtime
            .context("cannot start the runtime")?
            .block_on(serve(self.listen))
    }
}

#[expect(clippy::print_stdout, reason = "the address is what this verb answers")]
async fn serve(addr: SocketAddr) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr}"))?;
    let addr = listener.local_addr().context("the socket has no address")?;
    let issuer = Arc::new(DevIssuer::new(format!("http://{addr}"))?);
    println!("kvasir dev-issuer ready http={addr}");
    println!(
        "\n  kvasir serve --iss http://{addr}\n  curl 'http://{addr}/token?user=alice&client=app'"
    );
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted.context("cannot accept")?.0,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        let issuer = Arc::clone(&issuer);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&issuer, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that goes away is no news.
            let _ = server.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

fn answer(issuer: &DevIssuer, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, content_type, body) = match request.uri().path() {
        "/.well-known/openid-configuration" => (
            StatusCode::OK,
            "application/json",
            issuer.discovery().to_string(),
        ),
        "/jwks" => (
            StatusCode::OK,
            "application/json",
            issuer.jwks().to_string(),
        ),
        "/token" => token(issuer, request.uri().query().unwrap_or_default()),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "ask for /token?user=NAME\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// `/token?user=U[&client=C][&scope=S ...]`
fn token(issuer: &DevIssuer, query: &str) -> (StatusCode, &'static str, String) {
    let mut user = String::new();
    let mut client = "app".to_owned();
    let mut scopes = kvasir_api::kopano::DEFAULT_SCOPE.to_owned();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "user" => user = value.into_owned(),
            "client" => client = value.into_owned(),
            "scope" => scopes = value.into_owned(),
            _ => {}
        }
    }
    if user.is_empty() {
        return (
            StatusCode::BAD_REQUEST,
            "text/plain",
            "say whom: /token?user=NAME\n".to_owned(),
        );
    }
    let scopes: Vec<String> = scopes.split_whitespace().map(str::to_owned).collect();
    match issuer.token(&user, &client, &scopes, SystemClock.now()) {
        Ok(token) => (StatusCode::OK, "text/plain", token),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain",
            error.to_string(),
        ),
    }
}
