//! What the verbs that open a store directly have in common.

use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kvasir_kv::{Limits, limits};
use serde::Serialize;

use crate::exit::Failure;

/// Runs a verb to its end.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

/// Limits under which everything fits that any setting may have let in.
pub(super) fn widest_limits() -> Limits {
    Limits {
        value_bytes_max: limits::VALUE_BYTES_CEILING,
    }
}

/// A line that says how far the work is, on a terminal only.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new(what: &'static str) -> Bar {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{spinner} {prefix} {msg} ({elapsed})");
        bar.set_style(style.expect("the template is constant and valid"));
        bar.set_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar(bar)
    }

    pub(super) fn tell(&self, text: String) {
        self.0.set_message(text);
    }

    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// Prints what the verb is for.
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub(super) fn print(text: &str) {
    println!("{text}");
}

/// Prints a report for scripts.
pub(super) fn print_json(report: &impl Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(report)?);
    Ok(())
}
