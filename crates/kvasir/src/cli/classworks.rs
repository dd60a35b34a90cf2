//! `kvasir classworks ls|info`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value as Json;

use super::admin::Administration;
use super::client::block_on;
use super::frame::Frame;
use super::output::Printer;
use crate::exit::Failure;

/// Look at the namespaces of the Classworks dialect and set what its page shows.
///
/// Works on the server that holds the data folder, or on the folder itself while none runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir classworks ls
  kvasir classworks info --title 高一1班

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Classworks {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(visible_alias = "list")]
    Ls(Ls),
    Info(Info),
}

/// List namespaces that hold keys, with their settings.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir classworks ls
  kvasir classworks ls --json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Ls {
    #[command(flatten)]
    frame: Frame,
}

/// Show title and text of the page at GET /, after setting those that are given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir classworks info
  kvasir classworks info --title 高一1班 --readme 作业

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Info {
    /// The heading
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// The text below it
    #[arg(long, value_name = "TEXT")]
    readme: Option<String>,
    #[command(flatten)]
    frame: Frame,
}

impl Classworks {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            match self.verb {
                Verb::Ls(ls) => ls.run().await,
                Verb::Info(info) => info.run().await,
            }
        })
    }
}

impl Ls {
    async fn run(self) -> Result<(), Failure> {
        let namespaces = self
            .frame
            .all("/classworks/namespaces", "namespaces")
            .await?;
        let mut printer = Printer::new(&self.frame.form);
        printer.begin(&["namespace", "name", "access"])?;
        for namespace in namespaces {
            let cells = ["namespace", "name", "accessType"]
                .map(|member| namespace[member].as_str().unwrap_or_default().to_owned());
            printer.row(&namespace, &cells)?;
        }
        printer.end()
    }
}

impl Info {
    async fn run(self) -> Result<(), Failure> {
        let target = &self.frame.target;
        let info = Administration::with(target, async |server| self.renewed(server).await).await?;
        let text = |member: &str| info[member].as_str().unwrap_or_default().to_owned();
        self.frame
            .tell(&info, || format!("{}\n{}", text("title"), text("readme")))
    }

    async fn renewed(&self, server: &Administration) -> Result<Json, Failure> {
        let path = "/classworks/info";
        let mut info = server.call(Method::GET, path, None).await?;
        if self.title.is_none() && self.readme.is_none() {
            return Ok(info);
        }
        for (member, given) in [("title", &self.title), ("readme", &self.readme)] {
            if let Some(given) = given {
                info[member] = given.as_str().into();
            }
        }
        server.call(Method::PUT, path, Some(&info)).await
    }
}
