//! The kit stamped on every backend.

kvasir_testkit::conformance_suite!(memory, crate::beds::memory);
kvasir_testkit::conformance_suite!(embedded, crate::beds::embedded);

pub(crate) use memory::CASES;
