//! Integration tests of the dialects: requests into a [`support::App`], answers compared with the
//! contracts.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod accounts;
mod accounts_conflicts;
mod classworks;
mod codes;
mod contested;
mod deno;
mod edgekv;
mod fuzz;
mod kopano;
mod support;

mod admin_audit;
mod admin_console;
mod admin_tokens;
mod admin_users;
mod kit;
mod openapi;
mod rest;
mod security;
mod token_sources;
mod trash;
