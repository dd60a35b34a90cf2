//! The waist of Kvasir: a few nouns and one trait.
//!
//! Everything above (HTTP dialects) speaks to everything below (backends) in these words: an
//! ordered map of [`Key`] to [`Entry`], read by [`SnapshotRead`], changed by [`AtomicWrite`],
//! observed by watches. [`Store`] is what a backend implements, [`Keyspace`] is what a handler
//! holds, and [`plan`](plan::plan) is the one pure function that decides what an atomic write
//! does, so that backends cannot disagree.
//!
//! Nothing here does IO, reads a clock, knows HTTP or needs an async runtime.
//!
//! ```
//! use kvasir_kv::{AtomicWrite, Key, Mutation, Part, Value};
//!
//! let key = Key::from_parts(&[Part::from("users"), Part::from("john")]);
//! let write = AtomicWrite::new()
//!     .check_absent(key.clone())
//!     .push(Mutation::set(key.clone(), Value::json(r#"{"name":"John"}"#)));
//!
//! assert_eq!(write.checks.len(), 1);
//! assert_eq!(key.parts().unwrap()[1], Part::from("john"));
//! ```

pub mod clock;
pub mod entry;
pub mod error;
pub mod key;
pub mod keyspace;
pub mod limits;
pub mod number;
pub mod plan;
pub mod read;
pub mod spent;
pub mod store;
pub mod tuple;
pub mod value;
pub mod versionstamp;
pub mod write;

pub use clock::{Clock, ManualClock, SteadyClock, UnixMillis};
pub use entry::{Entry, Meta};
pub use error::{Cause, Error, Result};
pub use key::{Key, KeyRange};
pub use keyspace::{Keyspace, KeyspaceName};
pub use limits::Limits;
pub use plan::{Change, Plan, plan};
pub use read::{RangeRead, RangeResult, Snapshot, SnapshotRead};
pub use store::{Capabilities, ChangeStream, Changes, Page, PageStream, Store, WatchStream};
pub use tuple::Part;
pub use value::{Encoding, Value};
pub use versionstamp::{HybridClock, Versionstamp};
pub use write::{AtomicWrite, Check, Committed, Mutation, Outcome, SumBounds};
