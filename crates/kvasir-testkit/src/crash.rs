//! Kill the store while many clients write, open it again, and ask the checker.
//!
//! A *story* is one data folder through several kills. After each, everything there is is read and
//! becomes part of the history, so that the checker sees whether every acknowledged write is there,
//! every write whose answer was lost is there whole or not at all, and versionstamps still rise.
//!
//! [`engine`] kills a small process that holds the store itself, [`server`] kills the real server
//! and writes through its REST dialect.

pub mod engine;
pub mod line;
pub mod server;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::effort::{Effort, crash_kills};
use crate::history::{History, Report};

/// Kills of one data folder before a new one is begun: the history, which is read whole after each
/// kill, must not grow without end.
pub const KILLS_PER_STORY: u32 = 8;

/// How many clients write at the same time, as in the reliability tests of the specification.
pub const CLIENTS: u32 = 16;

/// How a run is split into stories, and the random choices in it.
#[derive(Debug)]
pub struct Plan {
    seed: u64,
    kills_left: u32,
    rng: StdRng,
}

impl Plan {
    /// So many kills, times the effort that the environment asks for, or as many as it names.
    pub fn from_env(kills: u32) -> Plan {
        let effort = Effort::from_env();
        Plan {
            seed: effort.seed,
            kills_left: crash_kills().unwrap_or_else(|| effort.times(kills)),
            rng: StdRng::seed_from_u64(effort.seed),
        }
    }

    /// The seed and number of kills of the next story.
    pub fn next_story(&mut self) -> Option<(u64, u32)> {
        let kills = self.kills_left.min(KILLS_PER_STORY);
        self.kills_left -= kills;
        let seed = self.rng.random();
        (kills > 0).then_some((seed, kills))
    }

    /// Judges a story.
    ///
    /// # Panics
    ///
    /// With the seed if the history is bad.
    pub fn judge(&self, history: &History) -> Report {
        match history.check() {
            Ok(report) => report,
            Err(violation) => panic!("KVASIR_TEST_SEED={}: {violation}", self.seed),
        }
    }
}

/// How long a round lasts until its kill: from before the first answer to well into the load.
fn life(rng: &mut StdRng) -> Duration {
    let longest = if rng.random_bool(0.3) { 20 } else { 400 };
    Duration::from_micros(rng.random_range(0..longest * 1_000))
}
