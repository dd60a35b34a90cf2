//! Moving data in from other programs' databases, and between our own stores.
//!
//! [`kopano`] and [`classworks`] turn the rows of the originals into entries, with the keys and
//! values of their dialects; [`legacy`] reads those rows, always from one snapshot and never
//! writing; [`copy`] makes one of our stores equal to another. Everything runs in bounded memory
//! and may be repeated.
//!
//! Nothing here prints; the verbs in `cli` do.

pub mod classworks;
pub mod copy;
pub mod datasource;
pub mod failure;
pub mod kopano;
pub mod legacy;
pub mod report;
