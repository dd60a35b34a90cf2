//! How much random testing a run does, and from which seed.
//!
//! A plain run is cheap and the same every time. `KVASIR_TEST_EFFORT=50` does fifty times as much,
//! `KVASIR_TEST_SEED=7` begins elsewhere; both stand in the message of a failure.

use std::env;

/// What the environment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Where random numbers begin.
    pub seed: u64,
    /// How many times as much as a plain run.
    pub factor: u32,
}

impl Effort {
    /// `KVASIR_TEST_SEED`, else 0, and `KVASIR_TEST_EFFORT`, else 1.
    ///
    /// # Panics
    ///
    /// If one of them is not a number.
    #[allow(
        clippy::disallowed_methods,
        reason = "tests have no configuration but their environment"
    )]
    pub fn from_env() -> Effort {
        let number = |name: &str, default: u64| match env::var(name) {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
            Err(_) => default,
        };
        Effort {
            seed: number("KVASIR_TEST_SEED", 0),
            factor: u32::try_from(number("KVASIR_TEST_EFFORT", 1)).expect("effort below 2^32"),
        }
    }

    /// This many, times the effort.
    pub fn times(self, plain: u32) -> u32 {
        plain.saturating_mul(self.factor)
    }
}
