//! `kvasir ui`: a link that logs one browser in to the console.

use clap::Args;
use reqwest::Method;
use serde::Deserialize;

use super::client::{Target, block_on};
use crate::exit::{Exit, Failure};

/// Print a link that logs a browser in to the console, once and within a minute.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Ui {
    #[command(flatten)]
    target: Target,
    /// Open the link in the browser of this desktop too
    #[arg(long)]
    open: bool,
}

const HELP: &str = "\
Examples:
  kvasir ui
  kvasir ui --data /var/lib/kvasir --open

Exit codes: 0 printed, 2 usage, 4 denied, 6 no server";

#[derive(Deserialize)]
struct Made {
    path: String,
}

impl Ui {
    #[expect(clippy::print_stdout, reason = "the link is what this verb answers")]
    pub(super) fn run(self) -> Result<(), Failure> {
        let link = block_on(async {
            let client = self.target.client()?;
            let request = client
                .request(Method::POST, "/_/api/v1/session/links")
                .header("content-type", "application/json")
                .body("{}");
            let answer = client.send(request).await?;
            let made: Made = answer
                .json()
                .await
                .map_err(|error| client.unreachable(error))?;
            Ok(format!("{}{}", client.base(), made.path))
        })?;
        println!("{link}");
        if self.open {
            let started = std::process::Command::new("xdg-open").arg(&link).spawn();
            if let Err(error) = started {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("cannot open a browser ({error}); open the link yourself"),
                ));
            }
        }
        Ok(())
    }
}
