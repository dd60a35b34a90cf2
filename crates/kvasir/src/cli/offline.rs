//! What the verbs that open a store directly have in common.

use std::future::Future;

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
