//! Every backend against the contract of `Store`.

mod beds;
mod cases;
mod conformance;
