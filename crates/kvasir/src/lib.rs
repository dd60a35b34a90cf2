//! The `kvasir` binary: command line, configuration, wiring, listeners, telemetry.
//!
//! Begin with [`wire`], which builds a server from its settings, one function per step. [`config`]
//! is where settings come from, [`listen`] where connections come in, [`cli`] what people type.
//!
//! This is the only crate that reads configuration, environment and arguments. It is a library so
//! that its tests can reach it; nobody else should depend on it.

pub mod backup;
pub mod cli;
pub mod config;
pub mod console;
pub mod edgerc;
pub mod exit;
pub mod listen;
pub mod moving;
pub mod outgoing;
pub mod replace;
pub mod server_file;
pub mod service_manager;
pub mod telemetry;
pub mod tls;
pub mod wire;
