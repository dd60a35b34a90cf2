//! Every backend against the contract of `Store`, and the embedded one against faults.

mod agreement;
mod beds;
mod cases;
mod conformance;
#[cfg(feature = "embedded")]
mod faults;
mod histories;
