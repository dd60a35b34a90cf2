//! The kit proves itself: its checkers find every planted fault and blame no good store.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod engine_crash;
mod planted_faults;
mod planted_histories;
mod tuple_properties;
