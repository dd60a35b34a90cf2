//! The kit proves itself: its checkers find every planted fault and blame no good store.

mod engine_crash;
mod planted_faults;
mod planted_histories;
mod tuple_properties;
