//! Names of backups: when, and what they hold. `20261121T150405Z-00060a24181e40000003.kvb`, with
//! `.age` behind it if the file is encrypted. Names sort as their moments do.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kvasir_kv::{UnixMillis, Versionstamp};

/// Length of a name without endings.
const STEM_BYTES: usize = 16 + 1 + 20;

/// A name that was looked at: it can stand in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name of a backup that is taken now.
    pub fn new(at: UnixMillis, versionstamp: Versionstamp, is_encrypted: bool) -> Name {
        let at = Timestamp::from_millisecond(at.0).unwrap_or_default();
        let at = at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
        let ending = if is_encrypted { ".kvb.age" } else { ".kvb" };
        Name(format!("{at}-{versionstamp}{ending}"))
    }

    /// The name in this text, if it is one.
    pub fn parse(text: &str) -> Option<Name> {
        let stem = text
            .strip_suffix(".age")
            .unwrap_or(text)
            .strip_suffix(".kvb")?;
        let is_fine = stem.len() == STEM_BYTES
            && stem.is_ascii()
            && moment(stem).is_some()
            && stem.as_bytes()[16] == b'-'
            && stem[17..]
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_fine.then(|| Name(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the backup was begun.
    pub fn at(&self) -> UnixMillis {
        moment(&self.0).unwrap_or_default()
    }

    /// The newest commit in it.
    pub fn versionstamp(&self) -> Versionstamp {
        self.0[17..STEM_BYTES].parse().unwrap_or_default()
    }

    /// Whether the file is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.ends_with(".age")
    }
}

fn moment(stem: &str) -> Option<UnixMillis> {
    let parsed = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S", stem.get(..15)?).ok()?;
    if stem.as_bytes().get(15) != Some(&b'Z') {
        return None;
    }
    let at = parsed.to_datetime().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(UnixMillis(at.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when_and_what() {
        let stamp = Versionstamp::new(1_700_000_000_000_000, 3);
        let name = Name::new(UnixMillis(1_700_000_001_500), stamp, true);
        assert_eq!(
            name.as_str(),
            "20231114T221321Z-00060a24181e40000003.kvb.age"
        );
        assert_eq!(Name::parse(name.as_str()), Some(name.clone()));
        assert_eq!(name.at(), UnixMillis(1_700_000_001_000));
        assert_eq!(name.versionstamp(), stamp);
        assert!(name.is_encrypted());
    }

    #[test]
    fn other_texts_are_no_names() {
        for text in [
            "",
            ".kvb",
            "../20231114T221321Z-00060a24181e40000003.kvb",
            "20231114T221321Z-00060a24181e40000003",
            "20231114T221321Z-00060A24181E40000003.kvb",
            "20231314T221321Z-00060a24181e40000003.kvb",
            "20231114T221321Z/00060a24181e40000003.kvb",
            "20231114T221321Z-00060a24181e40000003.kvb.age.age",
            ".20231114T221321Z-00060a24181e40000003.kvb.part",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
