//! Conformance suite, generators, history checker and test servers (dev only)
