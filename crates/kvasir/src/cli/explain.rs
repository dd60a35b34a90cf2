//! `kvasir explain`: what an error code means, and what to do.

use clap::Args;
use kvasir_api::codes::{self, Code};
use serde_json::json;

use super::output::{Form, Printer};
use crate::exit::{Exit, Failure};

/// Explain an error code of the server, or an exit code of this command.
///
/// The code of a failed request is in its header X-Kvasir-Error. Without a code all are listed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir explain conflict
  kvasir explain 6

Exit codes: 0 done, 2 usage, 3 no such code")]
pub(super) struct Explain {
    /// The code, such as too_large, or an exit code
    code: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// The exit codes, with cause and remedy.
const EXITS: [(Exit, &str, &str); 9] = [
    (Exit::Done, "Everything was done.", "Nothing is to be done."),
    (
        Exit::Failed,
        "It failed in a way that has no code of its own.",
        "Read the sentence on standard error.",
    ),
    (
        Exit::Usage,
        "The arguments or the configuration are wrong.",
        "Add --help to the verb, or run `kvasir config check`.",
    ),
    (
        Exit::NotFound,
        "What was asked for does not exist.",
        "Look at the spelling; `kvasir ls` lists what is there.",
    ),
    (
        Exit::Denied,
        "A credential is missing or does not allow it.",
        "Give a token with enough rights; the page of tokens in the console tells what is missing.",
    ),
    (
        Exit::Conflict,
        "Somebody else changed it meanwhile, or it is there already.",
        "Look at the present state and try again.",
    ),
    (
        Exit::Unreachable,
        "The server or database cannot be reached.",
        "Look at the address, and whether the server runs: `kvasir health`.",
    ),
    (
        Exit::Partly,
        "A part was done, and a part was not.",
        "Read on standard error which; the same command goes on where it can.",
    ),
    (
        Exit::Damaged,
        "Stored data is damaged.",
        "Keep a copy of the folder, and run `kvasir store verify`.",
    ),
];

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut printer = Printer::new(&self.form);
        let Some(wanted) = &self.code else {
            printer.begin(&["code", "cause"])?;
            for code in codes::ALL {
                let cells = [code.name.to_owned(), code.cause.to_owned()];
                printer.row(&json_of(code), &cells)?;
            }
            return printer.end();
        };
        if let Some((exit, cause, remedy)) = exit_of(wanted) {
            let number = exit as u8;
            let json = json!({"exitCode": number, "cause": cause, "remedy": remedy});
            return printer.one(&json, || format!("exit code {number}\n\n{cause}\n{remedy}"));
        }
        let code = codes::find(wanted).ok_or_else(|| unknown(wanted))?;
        printer.one(&json_of(code), || told(code))
    }
}

fn exit_of(wanted: &str) -> Option<(Exit, &'static str, &'static str)> {
    let number: u8 = wanted.parse().ok()?;
    EXITS.into_iter().find(|(exit, ..)| *exit as u8 == number)
}

fn json_of(code: &Code) -> serde_json::Value {
    json!({
        "code": code.name,
        "statuses": code.statuses,
        "cause": code.cause,
        "remedy": code.remedy,
        "more": code.more,
    })
}

fn told(code: &Code) -> String {
    let statuses: Vec<_> = code.statuses.iter().map(u16::to_string).collect();
    let mut text = format!(
        "{} (status {})\n\n{}\n{}",
        code.name,
        statuses.join(" or "),
        code.cause,
        code.remedy
    );
    if !code.more.is_empty() {
        text += "\n\n";
        text += code.more;
    }
    text
}

fn unknown(wanted: &str) -> Failure {
    /// How alike two words are to be taken for one misspelt.
    const LIKENESS_MIN: f64 = 0.7;
    let likeness = |code: &&Code| strsim::jaro_winkler(code.name, wanted);
    let nearest = codes::ALL
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let hint = match nearest.filter(|code| likeness(code) >= LIKENESS_MIN) {
        Some(code) => format!("; did you mean {}?", code.name),
        None => "; `kvasir explain` lists all".to_owned(),
    };
    Failure::new(
        Exit::NotFound,
        format!("there is no error code {wanted:?}{hint}"),
    )
}
