//! The `kvasir` command; see the library of the same name.

use std::process::ExitCode;

/// Requests come in on one thread, are committed and freed on another, and answered on a third. The
/// system's allocator takes the lock of the first thread's arena for every such free; under 64
/// writers that was a tenth of the processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(
    clippy::disallowed_methods,
    reason = "this is where arguments are read"
)]
fn main() -> ExitCode {
    kvasir::cli::run(std::env::args_os().collect()).into()
}
