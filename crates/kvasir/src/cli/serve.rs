//! `kvasir serve`: runs the server.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgMatches, Args};
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};

use super::settings;
use crate::config::{Config, Sources};
use crate::exit::Failure;
use crate::service_manager;
use crate::telemetry::logs;
use crate::wire::Server;

/// Run the server.
///
/// Every setting can be given as a flag too: `--limits.head 10s`. `kvasir config default` prints
/// all of them.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Serve {
    /// Data folder [default: kvasir-data]
    #[arg(long, id = "data", value_name = "DIR")]
    data: Option<String>,
    /// Address to listen on in the clear, repeatable; port 0 takes a free one [default:
    /// 127.0.0.1:8000]
    #[arg(long, id = "listen", value_name = "ADDR")]
    listen: Vec<String>,
    /// Address to listen on with TLS, repeatable [default: 127.0.0.1:8443 without --listen, else
    /// none]
    #[arg(long, id = "tls-listen", value_name = "ADDR")]
    tls_listen: Vec<String>,
    /// Where data lives: embedded:DIR, sqlite:FILE, mysql://…, postgres://… or memory: [default:
    /// embedded in the data folder]
    #[arg(long, id = "store", value_name = "URL")]
    store: Option<String>,
    /// OpenID issuer of the Kopano dialect
    #[arg(long, id = "iss", value_name = "URL")]
    iss: Option<String>,
    /// Exit with code 2 instead of making an administrator token, where one is needed and there is
    /// none
    #[arg(long)]
    no_bootstrap: bool,
    /// development, or production, which refuses what is convenient and unsafe [default:
    /// development]
    #[arg(long, id = "mode", value_name = "WORD")]
    mode: Option<String>,
    /// Configuration file in TOML
    #[arg(long, value_name = "FILE", env = "KVASIR_CONFIG")]
    config: Option<PathBuf>,
}

const HELP: &str = "\
Examples:
  kvasir serve
  kvasir serve --data /var/lib/kvasir --listen 127.0.0.1:8000 --tls-listen 127.0.0.1:8443

Exit codes: 0 stopped by a signal, 1 failed, 2 usage or configuration, 6 database unreachable,
8 data damaged";

impl Serve {
    pub(super) fn run(self, matches: Option<&ArgMatches>) -> Result<(), Failure> {
        let mut sources = settings::sources(matches, self.config);
        if self.no_bootstrap {
            let flag = ("server.bootstrap", "--no-bootstrap", "false");
            sources
                .flags
                .push((flag.0.into(), flag.1.into(), vec![flag.2.into()]));
        }
        serve(&sources)
    }
}

/// Serves until a signal comes.
pub(super) fn serve(sources: &Sources) -> Result<(), Failure> {
    let (config, layers) = Config::load(sources)?;
    logs::begin(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        // A file that may not grow is then an error of the write, not the end of the process.
        let too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        let _too_large = signal(too_large).context("cannot wait for signals")?;
        let mut hang_up = signal(SignalKind::hangup()).context("cannot wait for signals")?;
        let server = Server::start(&config, &layers, sources).await?;
        announce(&server);
        service_manager::ready();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => server.reload(),
            }
        }
        tracing::info!("stopping");
        service_manager::stopping();
        server.stop().await?;
        Ok(())
    })
}

/// Tells scripts and people that the server is ready. The first line is for scripts and exact.
#[expect(
    clippy::print_stdout,
    reason = "the announcement is what this verb answers"
)]
fn announce(server: &Server) {
    println!("{}", ready_line(&server.http, &server.https));
    let Some(addr) = server.http.first() else {
        return;
    };
    let base = format!("http://{addr}");
    if let Some(token) = &server.first_token {
        println!(
            "\n  There was no token, so an administrator token was made. It is shown only now:\n\n  {}",
            token.expose_secret()
        );
    }
    if let (Some(addr), Some(file)) = (server.https.first(), &server.authority_file) {
        println!(
            "\n  https://{addr} shows a certificate of the local authority {}",
            file.display()
        );
    }
    for (mount, addr) in &server.of_mounts {
        println!("\n  The mount {mount} is on http://{addr}");
    }
    if let Some(file) = &server.edgerc_file {
        println!("\n  EdgeKV takes the credential in {}", file.display());
    }
    println!(
        "\n  Address   {base}\n  Console   {base}/_/\n\nTry:\n  \
         curl -X PUT {base}/kv/hello -H 'Content-Type: application/json' -d '{{\"value\": \"world\"}}'\n  \
         curl {base}/kv/hello\n  \
         kvasir ls --server {base}"
    );
}

/// `kvasir ready http=ADDR[,ADDR] https=ADDR`; a part without addresses is left out.
fn ready_line(http: &[SocketAddr], https: &[SocketAddr]) -> String {
    let mut line = "kvasir ready".to_owned();
    for (scheme, addrs) in [("http", http), ("https", https)] {
        if !addrs.is_empty() {
            let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
            line += &format!(" {scheme}={}", addrs.join(","));
        }
    }
    line
}
