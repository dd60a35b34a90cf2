//! The kit stamped on every backend.

kvasir_testkit::conformance_suite!(memory, crate::beds::memory);
kvasir_testkit::conformance_suite!(embedded, crate::beds::embedded);

#[cfg(feature = "sqlite")]
kvasir_testkit::conformance_suite!(sqlite, crate::beds::sqlite);
#[cfg(feature = "sql")]
kvasir_testkit::conformance_suite!(mariadb, crate::beds::mariadb);
#[cfg(feature = "sql")]
kvasir_testkit::conformance_suite!(galera, crate::beds::galera);
#[cfg(feature = "sql")]
kvasir_testkit::conformance_suite!(postgres, crate::beds::postgres);

pub(crate) use memory::CASES;
