//! What the tests of all crates share: servers, waits, models, checkers.
//!
//! - [`conformance`] holds every promise of `Store` as a test for all backends.
//! - [`model`] is the rules written a second time, [`history`] judges what concurrent clients saw.
//! - [`script`] runs generated operations on a backend and `memory`, [`crowd`] many clients at once.
//! - [`crash`] kills real stores while clients write, [`sim`] is an engine with planted faults that
//!   proves the judge.
//! - [`fuzz`] is the short form of fuzzing, [`effort`] how much of all this a run does.
//! - [`server`] starts the real `kvasir` binary, [`raw`] speaks broken HTTP to it, [`oidc`] is an
//!   identity provider, [`s3`] a store of objects, [`wait`] bounds every wait.
//!
//! Only tests depend on this crate; it may panic where a test would.
//!
//! ```no_run
//! # async fn example() {
//! use kvasir_testkit::server::TestServer;
//!
//! let mut server = TestServer::start("target/debug/kvasir").await;
//! let response = kvasir_testkit::raw::exchange(server.addr(), "GET / HTTP/9.9\r\n\r\n").await;
//! assert_eq!(response.status, 400);
//! server.kill().await;
//! server.restart().await;
//! # }
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, run on real clocks and read their own environment"
)]

pub mod conformance;
pub mod crash;
pub mod crowd;
pub mod databases;
pub mod effort;
pub mod fuzz;
pub mod history;
pub mod model;
pub mod oidc;
pub mod raw;
pub mod s3;
pub mod script;
pub mod server;
pub mod sim;
pub mod skip;
pub mod wait;
pub mod workload;

pub use server::{ServerOptions, TestServer};
pub use skip::skip;
pub use wait::{DEADLINE, eventually, within};
