//! A process that is made to be killed; see `kvasir_testkit::crash::engine`.
//!
//! `kvasir-crash-writer URL SEED FIRST_CLIENT OPERATIONS CLOCK_STEP_MS`

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a helper of tests with nothing but its arguments"
)]

use std::process::ExitCode;

use kvasir_testkit::crash::engine::write_until_killed;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match &args[..] {
        [url, seed, first, operations, clock_step] => {
            match (
                seed.parse(),
                first.parse(),
                operations.parse(),
                clock_step.parse(),
            ) {
                (Ok(seed), Ok(first), Ok(operations), Ok(clock_step)) => {
                    write_until_killed(url, seed, first, operations, clock_step).await
                }
                _ => Err("an argument is not a number".to_owned()),
            }
        }
        _ => Err("usage: URL SEED FIRST_CLIENT OPERATIONS CLOCK_STEP_MS".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
