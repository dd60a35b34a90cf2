//! `If-Match` and `If-None-Match`: the versionstamp as entity tag.

use http::{HeaderMap, HeaderName, StatusCode, header};
use kvasir_kv::{AtomicWrite, Committed, Key, Mutation, Outcome, Versionstamp};

use crate::context::Ctx;
use crate::error::ApiError;

/// How often a write is tried whose condition names no single versionstamp while others change the
/// key. Each failed try means that another write to the key succeeded.
const WRITE_TRIES: usize = 16;

/// The conditions of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// The value of such a header.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`: any entry.
    Any,
    /// An entry with one of these tags. Tags that are no versionstamp match nothing.
    Of(Vec<Tag>),
}

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    stamp: Option<Versionstamp>,
    is_weak: bool,
}

impl Conditions {
    /// Reads both headers.
    ///
    /// # Errors
    ///
    /// 400 for what is no list of entity tags.
    pub(super) fn read(headers: &HeaderMap) -> Result<Conditions, ApiError> {
        Ok(Conditions {
            if_match: Tags::read(headers, header::IF_MATCH)?,
            if_none_match: Tags::read(headers, header::IF_NONE_MATCH)?,
        })
    }

    /// What a read answers instead of the entry, if anything: 304 or 412.
    pub(super) fn instead_of_reading(&self, current: Option<Versionstamp>) -> Option<StatusCode> {
        if self
            .if_match
            .as_ref()
            .is_some_and(|tags| !tags.matches_strongly(current))
        {
            Some(StatusCode::PRECONDITION_FAILED)
        } else if self
            .if_none_match
            .as_ref()
            .is_some_and(|tags| tags.matches_weakly(current))
        {
            Some(StatusCode::NOT_MODIFIED)
        } else {
            None
        }
    }

    fn allow_writing(&self, current: Option<Versionstamp>) -> bool {
        self.instead_of_reading(current).is_none()
    }

    /// The one state of the key for which a write is allowed, if there is just one: `Some(None)` is
    /// absence.
    fn only_state(&self) -> Option<Option<Versionstamp>> {
        match (&self.if_match, &self.if_none_match) {
            (None, Some(Tags::Any)) => Some(None),
            (Some(Tags::Of(tags)), None) => match tags.as_slice() {
                [
                    Tag {
                        stamp: Some(stamp),
                        is_weak: false,
                    },
                ] => Some(Some(*stamp)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Commits one mutation of `key` if the conditions hold at that moment.
    ///
    /// # Errors
    ///
    /// 412 if they do not hold, 503 if others keep changing the key, else as
    /// [`kvasir_kv::Store::commit`].
    pub(super) async fn commit(
        &self,
        ctx: &Ctx,
        key: &Key,
        mutation: Mutation,
        report_existed: bool,
    ) -> Result<Committed, ApiError> {
        let mut write = AtomicWrite::new().push(mutation);
        write.report_existed = report_existed;
        if *self == Conditions::default() {
            let outcome = ctx.keyspace.commit(write).await?;
            return outcome.committed().ok_or_else(precondition_failed);
        }
        if let Some(state) = self.only_state() {
            let outcome = ctx.keyspace.commit(checked(write, key, state)).await?;
            return outcome.committed().ok_or_else(precondition_failed);
        }
        for _ in 0..WRITE_TRIES {
            let current = ctx.keyspace.get(key).await?;
            let state = current.map(|entry| entry.versionstamp);
            if !self.allow_writing(state) {
                return Err(precondition_failed());
            }
            let write = checked(write.clone(), key, state);
            if let Outcome::Committed(committed) = ctx.keyspace.commit(write).await? {
                return Ok(committed);
            }
        }
        Err(ApiError::unavailable(
            "others keep changing this key; try again",
        ))
    }
}

fn checked(write: AtomicWrite, key: &Key, state: Option<Versionstamp>) -> AtomicWrite {
    match state {
        Some(stamp) => write.check(key.clone(), stamp),
        None => write.check_absent(key.clone()),
    }
}

/// 412.
pub(super) fn precondition_failed() -> ApiError {
    ApiError::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
        "the entry is not in the state that If-Match or If-None-Match asks for; nothing was changed",
    )
}

impl Tags {
    fn read(headers: &HeaderMap, name: HeaderName) -> Result<Option<Tags>, ApiError> {
        if !headers.contains_key(&name) {
            return Ok(None);
        }
        let mut tags = Vec::new();
        let mut is_any = false;
        for value in headers.get_all(&name) {
            let value = value.to_str().map_err(|_| bad_tags(&name))?;
            match value.trim() {
                "*" => is_any = true,
                list => read_list(list, &mut tags).ok_or_else(|| bad_tags(&name))?,
            }
        }
        match (is_any, tags.is_empty()) {
            (true, true) => Ok(Some(Tags::Any)),
            (false, false) => Ok(Some(Tags::Of(tags))),
            _ => Err(bad_tags(&name)),
        }
    }

    /// As `If-Match` compares.
    fn matches_strongly(&self, current: Option<Versionstamp>) -> bool {
        self.matches(current, |tag| !tag.is_weak)
    }

    /// As `If-None-Match` compares.
    fn matches_weakly(&self, current: Option<Versionstamp>) -> bool {
        self.matches(current, |_| true)
    }

    fn matches(&self, current: Option<Versionstamp>, counts: impl Fn(&Tag) -> bool) -> bool {
        match self {
            Tags::Any => current.is_some(),
            Tags::Of(tags) => {
                current.is_some() && tags.iter().any(|tag| counts(tag) && tag.stamp == current)
            }
        }
    }
}

/// Reads `"…", W/"…"`; `None` if it is no such list.
fn read_list(list: &str, tags: &mut Vec<Tag>) -> Option<()> {
    let mut rest = list;
    loop {
        let (is_weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        tags.push(Tag {
            stamp: tag.parse().ok(),
            is_weak,
        });
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return rest.is_empty().then_some(()),
        }
    }
}

fn bad_tags(name: &HeaderName) -> ApiError {
    ApiError::bad_request(format!(
        "the header {name} must be * or entity tags in quotes, such as \"00064a5f1c2d3e4f0000\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(pairs: &[(HeaderName, &str)]) -> Result<Conditions, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), value.parse().unwrap());
        }
        Conditions::read(&headers)
    }

    #[test]
    fn lists_of_tags_are_read_as_rfc_9110_writes_them() {
        let stamp = Versionstamp::new(5, 0);
        let list = format!("\"x\" , W/\"{stamp}\",\"{stamp}\"");
        for (name, value) in [
            (header::IF_MATCH, list.as_str()),
            (header::IF_NONE_MATCH, "*"),
        ] {
            assert!(conditions(&[(name, value)]).is_ok());
        }
        for bad in [
            "",
            "abc",
            "\"abc",
            "*, \"a\"",
            "\"a\" \"b\"",
            "\"a\",",
            ",",
            "w/\"a\"",
        ] {
            assert!(conditions(&[(header::IF_MATCH, bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn weak_tags_count_for_reading_only() {
        let stamp = Versionstamp::new(5, 0);
        let weak = format!("W/\"{stamp}\"");
        let if_match = conditions(&[(header::IF_MATCH, &weak)]).unwrap();
        let if_none = conditions(&[(header::IF_NONE_MATCH, &weak)]).unwrap();
        assert!(!if_match.allow_writing(Some(stamp)));
        assert_eq!(
            if_none.instead_of_reading(Some(stamp)),
            Some(StatusCode::NOT_MODIFIED)
        );
        assert_eq!(if_none.instead_of_reading(None), None);
    }
}
