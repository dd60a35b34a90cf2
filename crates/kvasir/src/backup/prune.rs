//! Which backups are kept: by count, age and size.

use kvasir_kv::UnixMillis;

use super::name::Name;
use super::target::Found;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// What is kept. A backup goes if any rule says so; 0 is no rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// So many of the newest.
    pub count: u32,
    /// Those that are not older.
    pub days: u32,
    /// The newest that have no more bytes together.
    pub bytes: u64,
}

/// The backups that need not be kept. `found` is sorted, the newest first. `verified` tells which were
/// found whole: the newest of these stays, and without one every backup does.
pub fn dispensable(
    found: &[Found],
    rules: Rules,
    now: UnixMillis,
    verified: impl Fn(&Name) -> bool,
) -> Vec<Name> {
    let Some(last) = found.iter().position(|one| verified(&one.name)) else {
        return Vec::new();
    };
    let mut bytes = 0u64;
    let mut gone = Vec::new();
    for (place, one) in (0u64..).zip(found) {
        bytes = bytes.saturating_add(one.bytes);
        let age_ms = now.0.saturating_sub(one.name.at().0);
        let is_over = |limit: u64, actual: u64| limit > 0 && actual > limit;
        let goes = is_over(rules.count.into(), place + 1)
            || is_over(rules.bytes, bytes)
            || (rules.days > 0 && age_ms > i64::from(rules.days) * DAY_MS);
        if goes && place != last as u64 {
            gone.push(one.name.clone());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use kvasir_kv::Versionstamp;

    use super::*;

    /// One a day, the newest first, 10 bytes each.
    fn found() -> Vec<Found> {
        let one = |day: i64| Found {
            name: Name::new(
                UnixMillis(day * DAY_MS),
                Versionstamp::new(day as u64, 0),
                false,
            ),
            bytes: 10,
        };
        (1..=5).rev().map(one).collect()
    }

    fn gone(rules: Rules, verified: &[usize]) -> Vec<usize> {
        let found = found();
        let is_verified = |name: &Name| verified.iter().any(|at| found[*at].name == *name);
        let gone = dispensable(&found, rules, UnixMillis(5 * DAY_MS), is_verified);
        let place = |name: &Name| found.iter().position(|one| one.name == *name).unwrap();
        gone.iter().map(place).collect()
    }

    #[test]
    fn each_rule_counts_for_itself() {
        let all: &[usize] = &[0, 1, 2, 3, 4];
        let rules = |count, days, bytes| Rules { count, days, bytes };
        assert!(gone(rules(0, 0, 0), all).is_empty());
        assert!(gone(rules(5, 0, 0), all).is_empty());
        assert_eq!(gone(rules(3, 0, 0), all), [3, 4]);
        assert!(gone(rules(0, 4, 0), all).is_empty());
        assert_eq!(gone(rules(0, 2, 0), all), [3, 4]);
        assert!(gone(rules(0, 0, 50), all).is_empty());
        assert_eq!(gone(rules(0, 0, 49), all), [4]);
        assert_eq!(gone(rules(4, 3, 20), all), [2, 3, 4]);
    }

    #[test]
    fn the_newest_that_was_found_whole_stays_whatever_the_rules_say() {
        let strict = Rules {
            count: 1,
            days: 1,
            bytes: 1,
        };
        assert_eq!(gone(strict, &[3]), [0, 1, 2, 4]);
        assert_eq!(gone(strict, &[0, 1]), [1, 2, 3, 4]);
        assert!(gone(strict, &[]).is_empty(), "nothing is known to be whole");
    }
}
