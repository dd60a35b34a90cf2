//! Whether the chain is whole.

use std::str::FromStr;

use futures_util::StreamExt;
use kvasir_kv::{Keyspace, Result};
use serde::Serialize;
use utoipa::ToSchema;

use super::line::{self, HashedLine, Head, NO_HASH};

/// What became of reading the whole chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditVerdict)]
pub struct Verdict {
    /// Whether every line is there and as it was written.
    pub intact: bool,
    /// How many lines were read.
    pub lines: u64,
    /// Number of the oldest line that is to be there; older ones went with time.
    pub first: u64,
    /// Number of the newest; 0 if there never was one.
    pub last: u64,
    /// Hash of the newest line. Noted elsewhere as `last:hash`, it shows later whether somebody has
    /// written the whole chain anew.
    pub hash: String,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
}

/// What is wrong with the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AuditFault)]
pub struct Fault {
    /// The line it is about.
    pub number: u64,
    /// One sentence.
    pub what: String,
}

/// A line that was noted before: `NUMBER:HASH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    number: u64,
    hash: String,
}

/// The text is no noted line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write the number of a line, a colon and its hash of 64 hexadecimal digits")]
pub struct ParseKnownError;

impl FromStr for Known {
    type Err = ParseKnownError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (number, hash) = text.split_once(':').ok_or(ParseKnownError)?;
        let is_hash = hash.len() == NO_HASH.len()
            && hash
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let number = number.parse().map_err(|_| ParseKnownError)?;
        match is_hash {
            true => Ok(Known {
                number,
                hash: hash.to_owned(),
            }),
            false => Err(ParseKnownError),
        }
    }
}

/// The first fault counts.
#[derive(Default)]
struct Faults(Option<Fault>);

impl Faults {
    fn tell(&mut self, number: u64, what: &str) {
        let what = what.to_owned();
        self.0.get_or_insert(Fault { number, what });
    }
}

pub(super) async fn verify(system: &Keyspace, known: Option<&Known>) -> Result<Verdict> {
    let mut pages = system.scan_snapshot(&line::all(), false);
    let mut head: Option<Head> = None;
    let (mut faults, mut lines) = (Faults::default(), 0);
    let (mut next, mut previous) = (1, NO_HASH.to_owned());
    while let Some(page) = pages.next().await {
        for entry in page?.entries {
            // It stands before all lines.
            if entry.key == Head::key() {
                match Head::read(&entry) {
                    Ok(found) => {
                        (next, previous) = (found.first, found.before.clone());
                        head = Some(found);
                    }
                    Err(_) => faults.tell(0, "the record of where the chain begins was changed"),
                }
                continue;
            }
            lines += 1;
            let number = line::number_of(&entry.key).unwrap_or_default();
            if lines == 1 && head.is_none() {
                faults.tell(0, "the record of where the chain begins is missing");
                next = number;
            }
            if number < next {
                faults.tell(number, "a line stands before the beginning of the chain");
                continue;
            }
            if number > next {
                faults.tell(next, "the line is missing");
            }
            next = number + 1;
            match HashedLine::read(&entry) {
                Err(_) => faults.tell(number, "the line was changed"),
                Ok(found) => {
                    if found.line.previous != previous {
                        faults.tell(number, "the line does not follow the one before it");
                    }
                    let noted = known.filter(|known| known.number == number);
                    if noted.is_some_and(|known| known.hash != found.hash) {
                        faults.tell(number, "the line is another one than was noted");
                    }
                    previous = found.hash;
                }
            }
        }
    }
    let head = head.unwrap_or_default();
    if next < head.next {
        faults.tell(next, "the last lines are missing");
    } else if next > head.next || previous != head.hash {
        faults.tell(
            next - 1,
            "the end of the chain is another one than was written",
        );
    }
    if let Some(known) = known.filter(|known| known.number >= head.next) {
        faults.tell(known.number, "the noted line is missing");
    }
    Ok(Verdict {
        intact: faults.0.is_none(),
        lines,
        first: head.first,
        last: head.next.saturating_sub(1),
        hash: head.hash,
        fault: faults.0,
    })
}
