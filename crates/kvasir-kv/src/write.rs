//! Atomic writes: checks and mutations, all or nothing.

use crate::clock::{Clock, UnixMillis};
use crate::entry::Meta;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::limits::{self, Limits};
use crate::value::{Encoding, Value};
use crate::versionstamp::Versionstamp;

/// Checks and mutations that happen at one point of history, or not at all.
///
/// All checks look at the state before the write; then the mutations apply in order, each seeing
/// the effects of the earlier ones. No mutations, or no checks, or neither, is legal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtomicWrite {
    /// What must hold.
    pub checks: Vec<Check>,
    /// What changes.
    pub mutations: Vec<Mutation>,
    /// Whether [`Committed::existed`] is wanted. It costs a read per mutated key.
    pub report_existed: bool,
}

impl AtomicWrite {
    /// A write without checks and mutations.
    pub fn new() -> AtomicWrite {
        AtomicWrite::default()
    }

    /// Adds a check that `key` has this versionstamp.
    #[must_use]
    pub fn check(mut self, key: Key, versionstamp: Versionstamp) -> AtomicWrite {
        self.checks.push(Check {
            key,
            versionstamp: Some(versionstamp),
        });
        self
    }

    /// Adds a check that `key` is absent.
    #[must_use]
    pub fn check_absent(mut self, key: Key) -> AtomicWrite {
        self.checks.push(Check {
            key,
            versionstamp: None,
        });
        self
    }

    /// Adds a mutation.
    #[must_use]
    pub fn push(mut self, mutation: Mutation) -> AtomicWrite {
        self.mutations.push(mutation);
        self
    }

    /// This write and `other` as one: all checks of both, then the mutations of this one, then those
    /// of the other.
    #[must_use]
    pub fn and(mut self, other: AtomicWrite) -> AtomicWrite {
        self.checks.extend(other.checks);
        self.mutations.extend(other.mutations);
        self.report_existed |= other.report_existed;
        self
    }

    /// Asks for [`Committed::existed`].
    #[must_use]
    pub fn reporting_existed(mut self) -> AtomicWrite {
        self.report_existed = true;
        self
    }

    /// The same write for a store whose clock runs ahead of the one that its expiries were reckoned
    /// by, as a [`crate::SteadyClock`] does after a step back. Each backend commits this.
    #[must_use]
    pub fn timed_by(mut self, clock: &dyn Clock) -> AtomicWrite {
        let mut expiries = self
            .mutations
            .iter_mut()
            .filter_map(|mutation| match mutation {
                Mutation::Set { expires_at, .. }
                | Mutation::SetVersionstamped { expires_at, .. } => expires_at.as_mut(),
                _ => None,
            })
            .peekable();
        // Most writes expire never, and then nobody looks at the clock.
        if expiries.peek().is_some() {
            let lead = clock.lead_ms();
            expiries.for_each(|at| *at = UnixMillis(at.0.saturating_add(lead)));
        }
        self
    }

    /// The keys whose present state [`crate::plan`] needs. May name a key twice.
    pub fn needs(&self) -> impl Iterator<Item = &Key> {
        let checked = self.checks.iter().map(|check| &check.key);
        let mutated = self.mutations.iter().filter(move |mutation| {
            self.report_existed && !matches!(mutation, Mutation::SetVersionstamped { .. })
                || mutation.reads_before_writing()
        });
        checked.chain(mutated.map(Mutation::key))
    }

    /// Bytes of all keys and values.
    pub fn cost_bytes(&self) -> usize {
        self.checks
            .iter()
            .map(|check| check.key.len())
            .sum::<usize>()
            + self
                .mutations
                .iter()
                .map(Mutation::cost_bytes)
                .sum::<usize>()
    }

    /// Checks every limit that does not depend on what the store holds. Each backend calls this
    /// first, so that none accepts what another refuses.
    ///
    /// # Errors
    ///
    /// [`Error::TooMany`], [`Error::TooLarge`], or [`Error::Invalid`] for a `U64` that is not 8
    /// bytes long.
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        at_most("checks", self.checks.len(), limits::CHECKS_MAX)?;
        at_most("mutations", self.mutations.len(), limits::MUTATIONS_MAX)?;
        for check in &self.checks {
            fits("key", check.key.len(), limits::STORED_KEY_BYTES_MAX)?;
        }
        for mutation in &self.mutations {
            mutation.validate(limits)?;
        }
        fits("write", self.cost_bytes(), limits::WRITE_BYTES_MAX)
    }
}

fn at_most(what: &'static str, actual: usize, limit: usize) -> Result<()> {
    if actual > limit {
        Err(Error::TooMany {
            what,
            actual,
            limit,
        })
    } else {
        Ok(())
    }
}

fn fits(what: &'static str, actual: usize, limit: usize) -> Result<()> {
    if actual > limit {
        Err(Error::TooLarge {
            what,
            actual,
            limit,
        })
    } else {
        Ok(())
    }
}

/// A condition on the state before the write. An expired entry counts as absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The key.
    pub key: Key,
    /// The versionstamp it must have; `None` if it must be absent.
    pub versionstamp: Option<Versionstamp>,
}

/// One change of an atomic write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Stores a value, replacing value, expiry and meta.
    Set {
        /// The key.
        key: Key,
        /// The value.
        value: Value,
        /// When it expires; `None` for never.
        expires_at: Option<UnixMillis>,
        /// What to keep beside the value.
        meta: Option<Meta>,
        /// If the key exists, its creation time is carried over into the new entry's meta.
        keep_created: bool,
    },
    /// Stores a value under `prefix`, a string part with the 20 hex digits of the commit's
    /// versionstamp, and `suffix`.
    SetVersionstamped {
        /// Bytes before the versionstamp.
        prefix: Key,
        /// Bytes after it; empty for KV Connect.
        suffix: Key,
        /// The value.
        value: Value,
        /// When it expires; `None` for never.
        expires_at: Option<UnixMillis>,
    },
    /// Removes a key. An absent key is no error.
    Delete {
        /// The key.
        key: Key,
    },
    /// Adds to a number; an absent key takes the operand. Removes the expiry.
    Sum {
        /// The key.
        key: Key,
        /// `U64`, or a V8 or JSON number, or a V8 bigint.
        operand: Value,
        /// Bounds of the result, for V8 operands.
        bounds: SumBounds,
    },
    /// Keeps the smaller of stored number and operand. Removes the expiry.
    Min {
        /// The key.
        key: Key,
        /// `U64`, or a JSON number.
        operand: Value,
    },
    /// Keeps the larger of stored number and operand. Removes the expiry.
    Max {
        /// The key.
        key: Key,
        /// `U64`, or a JSON number.
        operand: Value,
    },
}

/// Bounds of a sum, as V8 values of the operand's type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SumBounds {
    /// Smallest result.
    pub min: Option<bytes::Bytes>,
    /// Largest result.
    pub max: Option<bytes::Bytes>,
    /// Take the nearest bound instead of refusing.
    pub clamp: bool,
}

impl Mutation {
    /// Stores a value without expiry and meta.
    pub fn set(key: Key, value: Value) -> Mutation {
        Mutation::Set {
            key,
            value,
            expires_at: None,
            meta: None,
            keep_created: false,
        }
    }

    /// Stores a value that expires.
    pub fn set_expiring(key: Key, value: Value, expires_at: Option<UnixMillis>) -> Mutation {
        Mutation::Set {
            key,
            value,
            expires_at,
            meta: None,
            keep_created: false,
        }
    }

    /// Removes a key.
    pub fn delete(key: Key) -> Mutation {
        Mutation::Delete { key }
    }

    /// The key, for [`Mutation::SetVersionstamped`] its prefix.
    pub fn key(&self) -> &Key {
        match self {
            Mutation::Set { key, .. }
            | Mutation::SetVersionstamped { prefix: key, .. }
            | Mutation::Delete { key }
            | Mutation::Sum { key, .. }
            | Mutation::Min { key, .. }
            | Mutation::Max { key, .. } => key,
        }
    }

    /// The value or operand, if there is one.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Mutation::Set { value, .. } | Mutation::SetVersionstamped { value, .. } => Some(value),
            Mutation::Sum { operand, .. }
            | Mutation::Min { operand, .. }
            | Mutation::Max { operand, .. } => Some(operand),
            Mutation::Delete { .. } => None,
        }
    }

    fn reads_before_writing(&self) -> bool {
        match self {
            Mutation::Set { keep_created, .. } => *keep_created,
            Mutation::Sum { .. } | Mutation::Min { .. } | Mutation::Max { .. } => true,
            Mutation::SetVersionstamped { .. } | Mutation::Delete { .. } => false,
        }
    }

    fn cost_bytes(&self) -> usize {
        self.stored_key_len() + self.value().map_or(0, Value::len)
    }

    fn stored_key_len(&self) -> usize {
        match self {
            Mutation::SetVersionstamped { prefix, suffix, .. } => {
                prefix.len() + VERSIONSTAMP_PART_BYTES + suffix.len()
            }
            other => other.key().len(),
        }
    }

    fn validate(&self, limits: &Limits) -> Result<()> {
        fits("key", self.stored_key_len(), limits::STORED_KEY_BYTES_MAX)?;
        if let Some(value) = self.value() {
            fits("value", value.len(), limits.value_bytes_max)?;
            if value.encoding == Encoding::U64 && value.len() != 8 {
                return Err(Error::Invalid(format!(
                    "a u64 has 8 bytes, not {}",
                    value.len()
                )));
            }
        }
        if let Mutation::Set {
            meta: Some(meta), ..
        } = self
        {
            fits("meta", meta.cost_bytes(), limits::META_BYTES_MAX)?;
        }
        Ok(())
    }
}

/// Bytes that a versionstamp takes as a string part of a key: type byte, 20 digits, terminator.
pub const VERSIONSTAMP_PART_BYTES: usize = 22;

/// What became of an atomic write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied and is durable.
    Committed(Committed),
    /// Checks failed and nothing was changed.
    Conflict {
        /// Indexes of all failing checks, rising.
        failed: Vec<u32>,
    },
}

impl Outcome {
    /// The commit, if the write was applied.
    pub fn committed(self) -> Option<Committed> {
        match self {
            Outcome::Committed(committed) => Some(committed),
            Outcome::Conflict { .. } => None,
        }
    }
}

/// A write that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its position in history; every entry it wrote carries it.
    pub versionstamp: Versionstamp,
    /// For each mutation whether its key existed right before it, if
    /// [`AtomicWrite::report_existed`] was set; else empty. Always `false` for
    /// [`Mutation::SetVersionstamped`].
    pub existed: Vec<bool>,
}
