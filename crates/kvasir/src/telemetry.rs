//! What the server tells about itself: logs, metrics, health, slow requests, traces.
//!
//! [`account`] follows one request from its head to the end of its answer and tells the others what
//! became of it. Nothing here holds up a request.

pub mod account;
pub mod logs;
pub mod probes;
pub mod process;
pub mod requests;
pub mod series;
pub mod slow;
pub mod traces;
