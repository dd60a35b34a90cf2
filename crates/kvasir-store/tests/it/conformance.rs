//! The kit stamped on every backend.

kvasir_testkit::conformance_suite!(memory, crate::beds::memory);

pub(crate) use memory::CASES;
