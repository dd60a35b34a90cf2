//! The Deno dialect, line by line of the contract's checklist. Expectations come from the KV
//! Connect protocol text and from what denokv 0.14, Deno 2.9 and `@deno/kv` 0.14 send and accept.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod client;
mod entries;
mod hostile;
mod metadata;
mod queues;
mod reads;
mod tokens;
mod values;
mod watches;
mod writes;
