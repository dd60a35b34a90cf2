//! The kit proves itself: its checkers find every planted fault and blame no good store.

mod engine_crash;
mod planted_histories;
