//! Who is asking, and what they may do.
//!
//! Every dialect brings its own proof (bearer token, signature, session), and each proof becomes a
//! [`Principal`] with [`Grant`]s. [`Access`] keeps the issued tokens in the system keyspace.
//!
//! Nothing here knows routes or renders answers. Secrets are types that cannot be printed.

pub mod access;
pub mod edgegrid;
pub mod oidc;
pub mod password;
pub mod principal;
pub mod rate;

pub use access::{Access, AccessSettings, Denied};
pub use password::{PasswordError, Passwords};
pub use principal::{Grant, Principal, Verb, Verbs};
pub use rate::{Quota, Rates};
