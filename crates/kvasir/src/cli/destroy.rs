//! What destructive verbs have in common: they tell where, how much and a sample first, and go on
//! when somebody agreed.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use clap::Args;

use crate::exit::{Exit, Failure};

/// Most keys that go without a name being typed; CLI-5 of the operator's contract.
const UNTYPED_MAX: u64 = 1_000;

/// Keys that a plan shows.
pub(super) const SAMPLE: usize = 5;

/// Whether somebody agreed beforehand.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Consent {
    /// Only tell what would happen
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask, up to 1,000 keys
    #[arg(long)]
    pub(super) yes: bool,
    /// The name to be typed for more than 1,000 keys, so that nobody is asked
    #[arg(long, value_name = "NAME")]
    pub(super) confirm: Option<String>,
}

/// What is about to happen.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The verb: `removes`, `writes over`.
    pub(super) verb: &'a str,
    /// What it meets, and where: `1001 keys below users in http://...`.
    pub(super) what: String,
    /// How many keys.
    pub(super) count: u64,
    /// Some of them.
    pub(super) sample: &'a [String],
    /// What has to be typed when they are many.
    pub(super) typed: &'a str,
}

impl Plan<'_> {
    /// Goes on if somebody agreed or agrees now.
    ///
    /// # Errors
    ///
    /// If nobody did: a wrong use without a terminal, a failure on one.
    pub(super) fn agree(&self, consent: &Consent) -> Result<(), Failure> {
        let Plan { verb, what, .. } = self;
        let is_large = self.count > UNTYPED_MAX;
        let is_agreed = match is_large {
            true => consent.confirm.as_deref() == Some(self.typed),
            false => consent.yes || consent.confirm.as_deref() == Some(self.typed),
        };
        if is_agreed {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            let how = match is_large {
                true => format!("say --confirm {}", self.typed),
                false => "say --yes".to_owned(),
            };
            return Err(Failure::usage(format!(
                "this {verb} {what}; {how}, or look first with --dry-run"
            )));
        }
        let question = match is_large {
            true => format!("Type {} to go on: ", self.typed),
            false => "Go on? [y/N] ".to_owned(),
        };
        let such_as = match self.sample {
            [] => String::new(),
            sample => format!(", such as {}", sample.join(", ")),
        };
        let mut terminal = std::io::stderr();
        let mut answer = String::new();
        write!(terminal, "This {verb} {what}{such_as}. {question}")
            .and_then(|()| terminal.flush())
            .and_then(|()| std::io::stdin().read_line(&mut answer))
            .context("cannot ask")?;
        let agreed = match is_large {
            true => answer.trim() == self.typed,
            false => matches!(answer.trim(), "y" | "Y" | "yes"),
        };
        match agreed {
            true => Ok(()),
            false => Err(Failure::new(Exit::Failed, "nothing was changed")),
        }
    }
}
