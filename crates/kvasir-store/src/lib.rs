//! Backends of Kvasir: everything between the `Store` trait and bytes on a disk or a wire.
//!
//! [`open()`] turns a URL into a store. Each backend is one module behind one cargo feature, and no
//! backend knows another. What they share stands beside them: [`watch`] wakes watchers,
//! `collect` cuts ranges and pages, [`sweeper`] removes expired entries, [`metrics`] counts.
//!
//! Nothing here knows HTTP, and nothing reads configuration: settings come in [`OpenOptions`].
//!
//! ```
//! use kvasir_kv::{AtomicWrite, Key, Mutation, Value};
//! use kvasir_store::{OpenOptions, open};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! let store = open("memory:", OpenOptions::default()).await.unwrap();
//! let key = Key::from_strings(["users", "john"]);
//! let write = AtomicWrite::new().push(Mutation::set(key.clone(), Value::json("1")));
//! store.commit(write).await.unwrap();
//!
//! assert_eq!(store.get(&key).await.unwrap().unwrap().value, Value::json("1"));
//! # });
//! ```

pub mod clock;
mod collect;
pub mod container;
pub mod content;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod fatal;
pub mod group;
pub mod memory;
pub mod metrics;
pub mod open;
pub mod record;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod sweeper;
pub mod timed;
pub mod watch;

pub use clock::SystemClock;
#[cfg(feature = "embedded")]
pub use embedded::{EmbeddedSettings, EmbeddedStore};
pub use fatal::{FatalError, FatalHook};
pub use memory::MemoryStore;
pub use metrics::StoreMetrics;
pub use open::{OpenError, OpenOptions, open};
pub use timed::Timed;
