//! Times on the wire.

use jiff::SignedDuration;
use jiff::civil::{self, DateTime};
use kvasir_kv::UnixMillis;

/// A time as RFC 3339 writes it, in UTC, with milliseconds if there are any. Times beyond the years
/// 1970 to 9999 are given as the nearest one.
///
/// `jiff::Timestamp` ends a day before the year does, to leave room for offsets; hence the civil time.
pub fn rfc3339(at: UnixMillis) -> String {
    format!("{}Z", civil_time(at))
}

/// As [`rfc3339`], always with three digits of milliseconds, as JavaScript writes times.
pub fn rfc3339_millis(at: UnixMillis) -> String {
    format!("{:.3}Z", civil_time(at))
}

/// The moment in UTC, within the years 1970 to 9999.
fn civil_time(at: UnixMillis) -> DateTime {
    const EPOCH: DateTime = civil::date(1970, 1, 1).at(0, 0, 0, 0);
    let since = at.0.clamp(0, UnixMillis::MAX_RFC3339.0);
    EPOCH.saturating_add(SignedDuration::from_millis(since))
}

/// A time written as RFC 3339; `None` for another text and for times beyond the years 1970 to 9999.
/// Fractions of a millisecond are cut off.
pub fn parse_rfc3339(text: &str) -> Option<UnixMillis> {
    let at: jiff::Timestamp = text.parse().ok()?;
    let at = UnixMillis(at.as_millisecond());
    (UnixMillis(0)..=UnixMillis::MAX_RFC3339)
        .contains(&at)
        .then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_up_to_the_year_9999_is_written() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1970-01-01T00:00:00Z"),
            (1_767_323_045_678, "2026-01-02T03:04:05.678Z"),
            (1_767_323_045_670, "2026-01-02T03:04:05.67Z"),
            (UnixMillis::MAX_RFC3339.0, "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(UnixMillis(ms)), text);
        }
    }
}
