//! The bare server that everything is compared with: hyper and nothing else, in its own process.
//!
//! `/bytes/N` answers N bytes; everything else answers as many as a write of ours does. Request
//! bodies are read and dropped.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;

/// What a write of ours answers, to the byte or so.
const WRITTEN: &[u8] =
    br#"{"ok":true,"key":["bench","000000"],"versionstamp":"000000000000000000000000","expiresAt":null}"#;

/// Serves until killed. The first line on standard output is the address.
pub(crate) async fn serve() -> Result<()> {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("bare ready {}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(answer);
            let builder = auto::Builder::new(TokioExecutor::new());
            // A client that goes away is no news.
            let _ = builder
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    static SPACES: [u8; 64 * 1024] = [b' '; 64 * 1024];
    let wanted = request.uri().path().strip_prefix("/bytes/");
    let wanted = wanted.and_then(|size| size.parse::<usize>().ok());
    if request.method() != Method::GET {
        let _ = request.into_body().collect().await;
    }
    let body = match wanted {
        Some(bytes) => Bytes::from_static(&SPACES[..bytes.min(SPACES.len())]),
        None => Bytes::from_static(WRITTEN),
    };
    let mut response = Response::new(Full::new(body));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, json);
    Ok(response)
}
