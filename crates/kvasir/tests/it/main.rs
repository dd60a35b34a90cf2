//! Tests of the binary's library.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod moving;
