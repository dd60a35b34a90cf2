//! What a check found.

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Good,
    /// Works, and is likely to hurt one day.
    Warning,
    /// Somebody has to do something.
    Bad,
    /// Could not be found out.
    Unknown,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Good => "good",
            State::Warning => "warning",
            State::Bad => "bad",
            State::Unknown => "unknown",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) state: State,
    pub(super) what: String,
    /// What to do; none where all is well.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn good(check: &'static str, what: impl Into<String>) -> Finding {
        Finding {
            check,
            state: State::Good,
            what: what.into(),
            remedy: None,
        }
    }

    pub(super) fn of(
        check: &'static str,
        state: State,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            check,
            state,
            what: what.into(),
            remedy: Some(remedy.into()),
        }
    }
}
