//! Every backend against the contract of `Store`, and single ones against faults.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests are tests"
)]

mod agreement;
mod beds;
mod cases;
#[cfg(feature = "sql")]
mod cluster;
mod conformance;
#[cfg(feature = "embedded")]
mod damaged_records;
#[cfg(feature = "embedded")]
mod faults;
#[cfg(feature = "embedded")]
mod full_disk;
mod histories;
mod opening;
