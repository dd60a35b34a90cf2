//! The real `kvasir` binary: started, asked, overloaded, stopped, killed.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod access;
mod acme;
mod audit;
mod away;
mod backends;
mod backups;
mod canary;
mod classworks;
mod cli;
mod client_certificates;
mod crash;
mod crowds;
mod dashboard;
mod database_tls;
mod databases;
mod deno_crash;
mod doctor;
mod edgekv;
mod examples;
mod folder;
mod guide;
mod hostile;
mod kopano;
mod kopano_database;
mod life;
mod mounts;
mod moving;
mod nodes;
mod openapi;
mod outside;
mod overload;
mod packaging;
mod probes;
mod protocols;
mod refusals;
mod reload;
mod service_manager;
mod small_disk;
mod speak;
mod streams;
mod telemetry;
mod trash;
mod users;
mod verbs;

use kvasir_testkit::{ServerOptions, TestServer};

/// The binary under test.
const KVASIR: &str = env!("CARGO_BIN_EXE_kvasir");

fn options() -> ServerOptions {
    ServerOptions::new(KVASIR)
}

async fn server() -> TestServer {
    options().start().await
}

/// Runs the command without a server of its own and returns exit code, standard output and
/// standard error.
async fn run(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let output = tokio::process::Command::new(KVASIR)
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .current_dir(std::env::temp_dir())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = kvasir_testkit::within(kvasir_testkit::DEADLINE, "the command ends", output)
        .await
        .unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}
