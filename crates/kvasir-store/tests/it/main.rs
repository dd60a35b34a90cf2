//! Every backend against the contract of `Store`, and the embedded one against faults.

mod agreement;
mod beds;
mod cases;
mod conformance;
#[cfg(feature = "embedded")]
mod faults;
mod histories;
//! Tests of the backends through their public face.

#[cfg(feature = "sql")]
mod cluster;
#[cfg(feature = "sql")]
mod sql;
