//! When work is done by itself.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::Cron;
use kvasir_kv::UnixMillis;

/// Moments by minute, hour, day, month and weekday, in UTC; or never.
#[derive(Clone, Debug, Default)]
pub struct Plan(Option<(String, Cron)>);

impl Plan {
    /// The plan in this text; an empty one is never.
    ///
    /// # Errors
    ///
    /// The sentence for whoever wrote it.
    pub fn parse(text: &str) -> Result<Plan, BadPlan> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Plan(None));
        }
        let bad = |why: String| BadPlan {
            text: text.to_owned(),
            why,
        };
        let cron = Cron::from_str(text).map_err(|error| bad(error.to_string()))?;
        let plan = Plan(Some((text.to_owned(), cron)));
        // February 30th is well-formed too.
        match plan.next(UnixMillis(0)) {
            Some(_) => Ok(plan),
            None => Err(bad("it never comes".to_owned())),
        }
    }

    /// The text; none for never.
    pub fn text(&self) -> Option<&str> {
        self.0.as_ref().map(|(text, _)| text.as_str())
    }

    /// The first moment after this one.
    pub fn next(&self, after: UnixMillis) -> Option<UnixMillis> {
        let (_, cron) = self.0.as_ref()?;
        let after: DateTime<Utc> = DateTime::from_timestamp_millis(after.0)?;
        let next = cron.find_next_occurrence(&after, false).ok()?;
        Some(UnixMillis(next.timestamp_millis()))
    }
}

/// A text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no schedule such as \"30 3 * * *\", half past three each night: {why}")]
pub struct BadPlan {
    text: String,
    why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z, a Thursday.
    const START: i64 = 1_767_225_600_000;

    #[test]
    fn plans_tell_their_next_moment() {
        let hour = 3_600_000;
        for (text, after_ms) in [
            ("30 3 * * *", 3 * hour + hour / 2),
            ("0 * * * *", hour),
            ("*/15 * * * *", hour / 4),
            ("0 0 * * SUN", 3 * 24 * hour),
            ("0 0 1 2 *", 31 * 24 * hour),
            ("@daily", 24 * hour),
        ] {
            let plan = Plan::parse(text).unwrap();
            assert_eq!(
                plan.next(UnixMillis(START)),
                Some(UnixMillis(START + after_ms)),
                "{text}"
            );
        }
        assert_eq!(Plan::parse("  ").unwrap().next(UnixMillis(START)), None);
    }

    #[test]
    fn texts_that_are_no_plan_are_refused() {
        for text in ["tomorrow", "61 * * * *", "* * * *", "0 0 30 2 *"] {
            assert!(Plan::parse(text).is_err(), "{text}");
        }
    }
}
