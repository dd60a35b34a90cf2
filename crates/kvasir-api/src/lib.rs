//! The HTTP dialects of Kvasir and the kit they share.
//!
//! A dialect translates between one wire format and the nouns of `kvasir-kv`. Each has the same
//! files: `handlers` (one function per route), `wire` (requests and answers, all limits), `error`
//! (how a failure looks there). The kit: [`context`] (what handlers hold), [`error`] (one request
//! error), [`mount`] (which dialect serves a request, and rendering its errors), [`body`]
//! (bounded bodies), [`request`] (what is known about a request before its dialect sees it),
//! [`json`], [`key_json`] and [`v8json`] (values and keys as JSON), [`stream`] (long answers),
//! [`query`], [`problem`] and [`time`] (how the dialects that are ours look on the wire), [`codes`]
//! (what every error code means), [`openapi`] (the description of all routes), [`audit`] (who administered
//! what), [`trash`] (what was removed below a prefix and can be brought back).
//!
//! A dialect never imports another one, and nothing here knows a backend.

pub mod audit;
pub mod backups;
pub mod body;
pub mod codes;
pub mod context;
pub mod databases;
pub mod dump;
pub mod error;
pub mod json;
pub mod key_json;
pub mod mount;
pub mod openapi;
pub mod problem;
pub mod query;
pub mod queue;
pub mod request;
pub mod stream;
pub mod time;
pub mod trash;
pub mod v8json;

pub mod accounts;
pub mod admin;
pub mod classworks;
pub mod deno;
pub mod edgekv;
pub mod kopano;
pub mod rest;

pub use context::{Caller, Ctx};
pub use error::ApiError;
pub use mount::{Dialect, Site};
pub use request::RequestInfo;
