//! `kvasir health`: whether a server is ready, for images without a shell.

use clap::Args;
use reqwest::Method;

use super::client::block_on;
use super::frame::Frame;

use crate::exit::Failure;

/// Ask a server whether it is ready.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir health
  kvasir health --server http://127.0.0.1:8000 --json

Exit codes: 0 ready, 1 failed, 2 usage, 6 not ready or unreachable")]
pub(super) struct Health {
    #[command(flatten)]
    frame: Frame,
}

impl Health {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.frame.target.client()?;
            client.send(client.request(Method::GET, "/readyz")).await?;
            let answer = serde_json::json!({"ready": true, "server": client.base()});
            self.frame
                .tell(&answer, || format!("{} is ready", client.base()))
        })
    }
}
