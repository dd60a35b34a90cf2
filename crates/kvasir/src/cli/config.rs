//! `kvasir config show|check|default`: what is in force, what is wrong, what there is.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Subcommand};
use serde_json::json;

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

Exit codes: 0 done, 2 something is wrong with the configuration")]
pub(super) struct ConfigVerbs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(Show),
    Check(Check),
    Default(Default),
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
    #[command(flatten)]
    form: Form,
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

impl ConfigVerbs {
    pub(super) fn run(self, matches: Option<&ArgMatches>) -> Result<(), Failure> {
        let of_verb = matches.and_then(|matches| matches.subcommand());
        let of_verb = of_verb.map(|(_, matches)| matches);
        match self.verb {
            Verb::Show(show) => show.run(of_verb),
            Verb::Check(check) => {
                let sources = settings::sources(of_verb, check.config);
                Config::load(&sources)?;
                Ok(())
            }
            Verb::Default(Default {}) => {
                Printer::new(&Form::default()).bytes(DEFAULT_TOML.as_bytes())
            }
        }
    }
}

impl Show {
    fn run(self, matches: Option<&ArgMatches>) -> Result<(), Failure> {
        let (_, layers) = Config::load(&settings::sources(matches, self.config))?;
        let mut printer = Printer::new(&self.form);
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
