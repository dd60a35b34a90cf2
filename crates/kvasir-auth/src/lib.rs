//! Who is asking, and what they may do.
//!
//! Every dialect brings its own proof (bearer token, signature, session), and each proof becomes a
//! [`Principal`] with [`Grant`]s. [`Access`] keeps the issued tokens in the system keyspace and
//! decides who may ask without one; [`rate`] says how often.
//!
//! Nothing here knows routes or renders answers. Secrets are types that cannot be printed.

pub mod access;
pub mod edgegrid;
pub mod issued;
pub mod jwt;
pub mod last_use;
pub mod network;
pub mod oidc;
pub mod password;
pub mod principal;
pub mod rate;
pub mod token;

pub use access::{Access, AccessSettings, Approach, Denied, NewToken, RateSettings, TooSoon};
pub use issued::Issued;
pub use last_use::LastUse;
pub use network::{Network, Sources};
pub use password::{PasswordError, Passwords};
pub use principal::{Grant, Mismatch, Principal, Verb, Verbs};
pub use rate::{Quota, Rates};
pub use token::{Token, TokenId};
