//! The `kvasir` command; see the library of the same name.

use std::process::ExitCode;

#[expect(
    clippy::disallowed_methods,
    reason = "this is where arguments are read"
)]
fn main() -> ExitCode {
    kvasir::cli::run(std::env::args_os().collect()).into()
}
