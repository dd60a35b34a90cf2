//! `kvasir config show|check|default|schema|reload`: what is in force, what is wrong, what there is,
//! and taking over what changed.

use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgMatches, Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::client::block_on;
use super::frame::Frame;
use super::output::{Form, Printer};
use super::settings;
use crate::config::{Config, DEFAULT_TOML};
use crate::exit::Failure;

/// Look at settings.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir config default
  kvasir config show

Exit codes: 0 done, 2 something is wrong with the configuration, 4 denied, 6 unreachable")]
pub(super) struct ConfigVerbs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(Show),
    Check(Check),
    Default(Default),
    Schema(Schema),
    Reload(Reload),
}

/// Show every setting with its value and where it came from. Secrets are shown as <set>.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir config show
  kvasir config show --limits.head 3s -o csv

Exit codes: 0 done, 2 something is wrong with the configuration")]
struct Show {
    /// Configuration file in TOML
    #[arg(long, value_name = "FILE", env = "KVASIR_CONFIG")]
    config: Option<PathBuf>,
    /// Ask the running server instead of reading the sources
    #[arg(long, conflicts_with = "config")]
    running: bool,
    #[command(flatten)]
    frame: Frame,
}

/// Check the configuration without starting anything.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir config check
  kvasir config check --limits.head 3s

Exit codes: 0 all is well, 2 something is wrong, and where")]
struct Check {
    /// Configuration file in TOML
    #[arg(long, value_name = "FILE", env = "KVASIR_CONFIG")]
    config: Option<PathBuf>,
}

/// Print a configuration file with every setting and its default.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir config default
  kvasir config default > kvasir.toml

Exit codes: 0 done")]
struct Default {}

/// Print the JSON schema of the configuration file, for editors.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir config schema
  kvasir config schema > kvasir.schema.json

Exit codes: 0 done")]
struct Schema {}

/// Make the running server read its settings again.
///
/// It answers which changes are in force and which wait for a restart. If anything is wrong with
/// the settings, nothing is changed. SIGHUP does the same.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir config reload
  kvasir config reload --server http://127.0.0.1:8000 --json

Exit codes: 0 done, 1 failed, 2 something is wrong with the configuration, 4 denied, 6 unreachable")]
struct Reload {
    #[command(flatten)]
    frame: Frame,
}

impl ConfigVerbs {
    pub(super) fn run(self, matches: Option<&ArgMatches>) -> Result<(), Failure> {
        let of_verb = matches.and_then(|matches| matches.subcommand());
        let of_verb = of_verb.map(|(_, matches)| matches);
        match self.verb {
            Verb::Show(show) => show.run(of_verb),
            Verb::Check(check) => {
                let sources = settings::sources(of_verb, check.config);
                let (config, layers) = Config::load(&sources)?;
                Ok(config.check(&layers)?)
            }
            Verb::Reload(reload) => reload.run(),
            Verb::Schema(Schema {}) => {
                let schema = crate::config::json_schema::json_schema();
                let text = serde_json::to_string_pretty(&schema).context("cannot write JSON")?;
                Printer::new(&Form::default()).bytes(format!("{text}\n").as_bytes())
            }
            Verb::Default(Default {}) => {
                Printer::new(&Form::default()).bytes(DEFAULT_TOML.as_bytes())
            }
        }
    }
}

impl Show {
    fn run(self, matches: Option<&ArgMatches>) -> Result<(), Failure> {
        if self.running {
            return self.run_on_server();
        }
        let (_, layers) = Config::load(&settings::sources(matches, self.config))?;
        let mut printer = Printer::new(&self.frame.form);
        printer.begin(&["setting", "value", "origin"])?;
        for (path, value, origin) in layers.effective() {
            let origin = origin.to_string();
            let json = json!({"setting": path, "value": value, "origin": origin});
            let value = value.unwrap_or_default();
            printer.row(&json, &[path, value, origin])?;
        }
        printer.end()
    }
}

impl Show {
    fn run_on_server(self) -> Result<(), Failure> {
        block_on(async {
            let answer = self.frame.call(Method::GET, "/settings", None).await?;
            let mut printer = Printer::new(&self.frame.form);
            printer.begin(&["setting", "value", "origin"])?;
            for row in answer["settings"].as_array().into_iter().flatten() {
                let cell = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                let cells = ["setting", "value", "origin"].map(cell);
                let [setting, origin] = [&row["setting"], &row["origin"]];
                let json = json!({"setting": setting, "value": row["value"], "origin": origin});
                printer.row(&json, &cells)?;
            }
            printer.end()
        })
    }
}

impl Reload {
    fn run(self) -> Result<(), Failure> {
        block_on(async {
            let answer = self
                .frame
                .call(Method::POST, "/config/reload", None)
                .await?;
            let paths = |name: &str| -> Vec<String> {
                let paths = answer[name].as_array().into_iter().flatten();
                paths
                    .filter_map(|path| Some(path.as_str()?.to_owned()))
                    .collect()
            };
            let (applied, waiting) = (paths("applied"), paths("waiting"));
            self.frame.tell(&answer, || {
                let said = |paths: &[String]| match paths {
                    [] => "nothing".to_owned(),
                    paths => paths.join(", "),
                };
                format!(
                    "in force: {}\nwaiting for a restart: {}",
                    said(&applied),
                    said(&waiting)
                )
            })
        })
    }
}
