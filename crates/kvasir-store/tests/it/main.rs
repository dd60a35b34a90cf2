//! Every backend against the contract of `Store`, and single ones against faults.

mod agreement;
mod beds;
mod cases;
#[cfg(feature = "sql")]
mod cluster;
mod conformance;
#[cfg(feature = "embedded")]
mod faults;
mod histories;
