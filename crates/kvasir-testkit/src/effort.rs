//! How much random testing a run does, and from which seed.
//!
//! A plain run is cheap and the same every time. `KVASIR_TEST_EFFORT=50` does fifty times as much,
//! `KVASIR_TEST_SEED=7` begins elsewhere; both stand in the message of a failure.

use std::env;
use std::str::FromStr;

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
    pub fn from_env() -> Effort {
        Effort {
            seed: number("KVASIR_TEST_SEED").unwrap_or(0),
            factor: number("KVASIR_TEST_EFFORT").unwrap_or(1),
        }
    }

    /// This many, times the effort.
    pub fn times(self, plain: u32) -> u32 {
        plain.saturating_mul(self.factor)
    }
}

/// `KVASIR_CRASH_KILLS`: how often a crash test kills, whatever the effort.
///
/// # Panics
///
/// If it is not a number.
pub fn crash_kills() -> Option<u32> {
    number("KVASIR_CRASH_KILLS")
}

/// `KVASIR_FUZZ_SECONDS`: how long each fuzz target gets inputs, whatever the effort.
///
/// # Panics
///
/// If it is not a number.
pub fn fuzz_seconds() -> Option<u64> {
    number("KVASIR_FUZZ_SECONDS")
}

#[allow(
    clippy::disallowed_methods,
    reason = "tests have no configuration but their environment"
)]
fn number<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let number = text.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{name} is not a number: {text}")))
}
