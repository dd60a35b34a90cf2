//! Versionstamps: the position of a commit in the history of a store.

use std::fmt;
use std::str::FromStr;

use crate::clock::UnixMillis;

/// Ten bytes that grow with every commit and are never reused.
///
/// The first 8 bytes (big-endian) are a hybrid logical clock in microseconds since 1970, the last 2
/// the place within one group commit. So a versionstamp is also the time of the write, as far as
/// the clock was right; where it stepped back, the stamp still grows.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Versionstamp([u8; 10]);

impl Versionstamp {
    /// Before everything; never assigned to a commit.
    pub const ZERO: Versionstamp = Versionstamp([0; 10]);

    /// The stamp of the commit at place `order` of the group that got `micros`.
    pub fn new(micros: u64, order: u16) -> Versionstamp {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&micros.to_be_bytes());
        bytes[8..].copy_from_slice(&order.to_be_bytes());
        Versionstamp(bytes)
    }

    /// The stamp of these bytes.
    pub fn from_bytes(bytes: [u8; 10]) -> Versionstamp {
        Versionstamp(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 10] {
        &self.0
    }

    /// Reading of the hybrid clock, in microseconds since 1970.
    pub fn micros(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Place within the group commit.
    pub fn order(&self) -> u16 {
        u16::from_be_bytes([self.0[8], self.0[9]])
    }

    /// When the commit happened, to the millisecond.
    pub fn time(&self) -> UnixMillis {
        UnixMillis(i64::try_from(self.micros() / 1000).expect("2^64 / 1000 fits into 63 bits"))
    }
}

impl fmt::Display for Versionstamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 20];
        data_encoding::HEXLOWER.encode_mut(&self.0, &mut digits);
        f.write_str(str::from_utf8(&digits).expect("hexadecimal digits are text"))
    }
}

impl fmt::Debug for Versionstamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not 20 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a versionstamp is 20 hexadecimal digits")]
pub struct ParseVersionstampError;

impl FromStr for Versionstamp {
    type Err = ParseVersionstampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map_err(|_| ParseVersionstampError)?;
        Ok(Versionstamp(
            bytes.try_into().map_err(|_| ParseVersionstampError)?,
        ))
    }
}

/// Gives every group commit a reading above all earlier ones: `max(last + 1, now)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HybridClock {
    last_micros: u64,
}

impl HybridClock {
    /// Continues behind `last`, the newest versionstamp that the store holds.
    pub fn after(last: Versionstamp) -> HybridClock {
        HybridClock {
            last_micros: last.micros(),
        }
    }

    /// The reading for the next group, in microseconds.
    pub fn next(&mut self, now_micros: u64) -> u64 {
        self.last_micros = now_micros.max(self.last_micros + 1);
        self.last_micros
    }

    /// Continues behind `stamp` if that is further than here, as after an import.
    pub fn observe(&mut self, stamp: Versionstamp) {
        self.last_micros = self.last_micros.max(stamp.micros());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_when_the_clock_steps_back() {
        let mut clock = HybridClock::after(Versionstamp::new(1_000, 7));
        assert_eq!(clock.next(5_000), 5_000);
        assert_eq!(clock.next(2_000), 5_001);
        assert_eq!(clock.next(5_001), 5_002);
    }

    #[test]
    fn text_and_bytes_round_trip() {
        let stamp = Versionstamp::new(1_767_323_045_000_123, 513);
        let text = stamp.to_string();
        assert_eq!(text.len(), 20);
        assert_eq!(text.parse(), Ok(stamp));
        assert_eq!(stamp.time(), UnixMillis(1_767_323_045_000));
        assert_eq!(stamp.order(), 513);
        assert_eq!("abc".parse::<Versionstamp>(), Err(ParseVersionstampError));
        assert_eq!(
            "zz".repeat(10).parse::<Versionstamp>(),
            Err(ParseVersionstampError)
        );
    }
}
