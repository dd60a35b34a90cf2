//! Messages of the data path to the nouns of the waist and back. All limits of KV Connect are here.

use bytes::{BufMut, Bytes, BytesMut};
use kvasir_kv::{
    Check, Encoding, Entry, Key, KeyRange, Mutation, RangeRead, Snapshot, SnapshotRead, SumBounds,
    UnixMillis, Value, Versionstamp,
};
use prost::Message;

use super::messages::{self as proto, count_elements};
use crate::error::ApiError;
use crate::queue::{NewMessage, backoff_default_ms};
use crate::v8json;

/// Largest key that is written, watched or named as undelivered, in bytes. Deno's limit.
pub const KEY_BYTES_MAX: usize = 2048;

/// Largest bound of a range and key of a check, in bytes. Deno's limit.
pub const BOUND_BYTES_MAX: usize = 2049;

/// Largest value and queue payload that Deno clients may write, in bytes. Other dialects may write
/// larger ones, which are read here in full.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Most ranges of a snapshot read.
pub const RANGES_MAX: usize = 10;

/// Largest sum of the limits of all ranges of a snapshot read.
pub const ENTRIES_MAX: usize = 1000;

/// Most checks of an atomic write. What Deno allows; its own server stops at 10.
pub const CHECKS_MAX: usize = 100;

/// Most mutations and enqueues of an atomic write.
pub const MUTATIONS_MAX: usize = 1000;

/// Most bytes of keys and values of an atomic write; the exact sum is [`Totals`].
pub const WRITE_BYTES_MAX: usize = 819_200;

/// Most keys of one watch.
pub const WATCHED_KEYS_MAX: usize = 10;

/// Largest request body, in bytes: more than any legal message needs.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of entries that one snapshot read may answer with. A full read of the largest entries that
/// Deno clients can write fits ([`ENTRIES_MAX`] of 64 KiB and their keys), and so it is refused
/// only where other dialects have written larger values.
pub const READ_BYTES_MAX: usize = 72 * 1024 * 1024;

/// Longest delay of a message, in milliseconds: 30 days, Deno's limit.
pub const DELAY_MS_MAX: i64 = 30 * 24 * 3600 * 1000;

/// Most keys that a message names for the case that it cannot be delivered.
pub const UNDELIVERED_KEYS_MAX: usize = 10;

/// Most steps of a backoff schedule. What the protocol's server allows; Deno itself stops at 5.
pub const BACKOFF_STEPS_MAX: usize = 10;

/// Longest step of a backoff schedule, in milliseconds.
pub const BACKOFF_STEP_MS_MAX: u32 = 3_600_000;

fn bad(text: impl Into<String>) -> ApiError {
    ApiError::bad_request(text.into())
}

fn at_most(what: &str, actual: usize, limit: usize) -> Result<(), ApiError> {
    if actual > limit {
        Err(bad(format!("{actual} {what}, over the limit of {limit}")))
    } else {
        Ok(())
    }
}

fn fits(what: &str, actual: usize, limit: usize) -> Result<(), ApiError> {
    if actual > limit {
        Err(bad(format!(
            "a {what} of {actual} bytes is over the limit of {limit}"
        )))
    } else {
        Ok(())
    }
}

fn decode<M: Message + Default>(body: Bytes) -> Result<M, ApiError> {
    M::decode(body).map_err(|error| bad(format!("the body is not the protobuf message: {error}")))
}

fn count(body: &Bytes) -> Result<[usize; 3], ApiError> {
    count_elements(body.clone())
        .map_err(|error| bad(format!("the body is not the protobuf message: {error}")))
}

/// A read request.
///
/// # Errors
///
/// 400 for bytes that are not the message, and for every limit.
pub fn snapshot_read(body: Bytes) -> Result<SnapshotRead, ApiError> {
    let [ranges, ..] = count(&body)?;
    at_most("ranges in one read", ranges, RANGES_MAX)?;
    let message: proto::SnapshotRead = decode(body)?;
    let mut wanted = 0;
    for range in &message.ranges {
        fits("start of a range", range.start.len(), BOUND_BYTES_MAX)?;
        fits("end of a range", range.end.len(), BOUND_BYTES_MAX)?;
        match usize::try_from(range.limit) {
            Ok(limit @ 1..) => wanted += limit,
            _ => return Err(bad("the limit of a range is at least 1")),
        }
    }
    at_most("entries in one read", wanted, ENTRIES_MAX)?;

    // Every range may fill its limit with the largest entries that Deno can write, and take its
    // share of what is left for larger ones.
    const ENTRY_BYTES: usize = VALUE_BYTES_MAX + BOUND_BYTES_MAX + 64;
    const { assert!(ENTRIES_MAX * ENTRY_BYTES < READ_BYTES_MAX) };
    let spare = (READ_BYTES_MAX - wanted * ENTRY_BYTES) / message.ranges.len().max(1);
    let ranges = message.ranges.into_iter().map(|range| {
        let limit = usize::try_from(range.limit).expect("checked to be positive");
        RangeRead {
            range: KeyRange::new(Key::new(range.start), Key::new(range.end)),
            limit,
            bytes_max: limit * ENTRY_BYTES + spare,
            reverse: range.reverse,
        }
    });
    Ok(SnapshotRead {
        ranges: ranges.collect(),
    })
}

/// The answer to a read, in the words of a protocol version.
///
/// # Errors
///
/// 400 if the answer was cut short, because the protocol has no word for that and a client would
/// take it for the end of the data.
pub fn snapshot_read_output(snapshot: Snapshot, version: u8) -> Result<Bytes, ApiError> {
    if snapshot.ranges.iter().any(|range| range.cut_by_bytes) {
        return Err(bad(format!(
            "the answer would be over the limit of {READ_BYTES_MAX} bytes; read fewer entries at once"
        )));
    }
    let ranges = snapshot.ranges.into_iter().map(|range| {
        let values = range.entries.into_iter().map(entry_output);
        proto::ReadRangeOutput {
            values: values.collect(),
        }
    });
    let output = proto::SnapshotReadOutput {
        ranges: ranges.collect(),
        read_disabled: false,
        read_is_strongly_consistent: version >= 2,
        status: if version >= 3 { proto::SR_SUCCESS } else { 0 },
    };
    Ok(encode(&output))
}

fn encode(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(message.encoded_len());
    let encoded = message.encode(&mut out);
    debug_assert!(encoded.is_ok(), "the buffer has the room");
    out.freeze()
}

/// An entry as Deno clients see it: JSON as V8.
fn entry_output(entry: Entry) -> proto::KvEntry {
    let value = match entry.value.encoding {
        Encoding::Json => v8json::for_deno(&entry.value),
        Encoding::V8 | Encoding::U64 | Encoding::Bytes => entry.value,
    };
    proto::KvEntry {
        key: entry.key.into_bytes(),
        value: value.bytes,
        encoding: i32::from(value.encoding.number()),
        versionstamp: Bytes::copy_from_slice(entry.versionstamp.as_bytes()),
    }
}

/// An atomic write as the waist takes it, and the messages that are enqueued with it.
#[derive(Debug, Default)]
pub struct Write {
    /// Checks and mutations.
    pub atomic: kvasir_kv::AtomicWrite,
    /// Messages.
    pub enqueues: Vec<NewMessage>,
}

/// Bytes that count against [`WRITE_BYTES_MAX`]: the keys of checks, keys and values of mutations,
/// payloads, undelivered keys, and four bytes for each backoff step.
#[derive(Default)]
struct Totals(usize);

/// A write request. With `v8_compat`, values of V8 format 16 are taken as format 15, which holds
/// the same bytes for all that fits into a value.
///
/// # Errors
///
/// 400 for bytes that are not the message, for every limit, and for mutations that make no sense
/// whatever the database holds.
pub fn atomic_write(body: Bytes, v8_compat: bool, now: UnixMillis) -> Result<Write, ApiError> {
    let [checks, mutations, enqueues] = count(&body)?;
    at_most("checks in one write", checks, CHECKS_MAX)?;
    at_most(
        "mutations and enqueues in one write",
        mutations + enqueues,
        MUTATIONS_MAX,
    )?;
    let message: proto::AtomicWrite = decode(body)?;
    let mut totals = Totals::default();
    let mut write = Write::default();
    for check in message.checks {
        fits("checked key", check.key.len(), BOUND_BYTES_MAX)?;
        totals.0 += check.key.len();
        write.atomic.checks.push(checked(check)?);
    }
    for mutation in message.mutations {
        fits("key", mutation.key.len(), KEY_BYTES_MAX)?;
        totals.0 += mutation.key.len();
        write
            .atomic
            .mutations
            .push(mutated(mutation, v8_compat, &mut totals)?);
    }
    for enqueue in message.enqueues {
        write
            .enqueues
            .push(enqueued(enqueue, v8_compat, now, &mut totals)?);
    }
    fits("write", totals.0, WRITE_BYTES_MAX)?;
    Ok(write)
}

fn checked(check: proto::Check) -> Result<Check, ApiError> {
    let versionstamp = match check.versionstamp.as_ref() {
        [] => None,
        bytes => match <[u8; 10]>::try_from(bytes) {
            Ok(bytes) => Some(Versionstamp::from_bytes(bytes)),
            Err(_) => {
                return Err(bad(format!(
                    "the versionstamp of a check has 10 bytes, or none for an absent key, not {}",
                    bytes.len()
                )));
            }
        },
    };
    Ok(Check {
        key: Key::new(check.key),
        versionstamp,
    })
}

fn mutated(
    mutation: proto::Mutation,
    v8_compat: bool,
    totals: &mut Totals,
) -> Result<Mutation, ApiError> {
    let key = Key::new(mutation.key);
    if mutation.mutation_type == proto::M_DELETE {
        totals.0 += mutation.value.map_or(0, |value| value.data.len());
        return Ok(Mutation::Delete { key });
    }
    let name = match mutation.mutation_type {
        proto::M_SET => "set",
        proto::M_SUM => "sum",
        proto::M_MAX => "max",
        proto::M_MIN => "min",
        proto::M_SET_SUFFIX_VERSIONSTAMPED_KEY => "setSuffixVersionstampedKey",
        other => return Err(bad(format!("there is no mutation of type {other}"))),
    };
    let Some(value) = mutation.value else {
        return Err(bad(format!("a '{name}' mutation needs a value")));
    };
    totals.0 += value.data.len();
    let value = stored_value(value, v8_compat)?;
    Ok(match mutation.mutation_type {
        proto::M_SUM => Mutation::Sum {
            key,
            operand: value,
            bounds: SumBounds {
                min: bound(mutation.sum_min)?,
                max: bound(mutation.sum_max)?,
                clamp: mutation.sum_clamp,
            },
        },
        proto::M_MAX => Mutation::Max {
            key,
            operand: value,
        },
        proto::M_MIN => Mutation::Min {
            key,
            operand: value,
        },
        proto::M_SET => Mutation::set_expiring(key, value, expiry(mutation.expire_at_ms)?),
        _ => Mutation::SetVersionstamped {
            prefix: key,
            suffix: Key::default(),
            value,
            expires_at: expiry(mutation.expire_at_ms)?,
        },
    })
}

/// A bound of a sum; none if it is empty.
fn bound(bytes: Bytes) -> Result<Option<Bytes>, ApiError> {
    fits("bound of a sum", bytes.len(), VALUE_BYTES_MAX)?;
    Ok((!bytes.is_empty()).then_some(bytes))
}

fn expiry(expire_at_ms: i64) -> Result<Option<UnixMillis>, ApiError> {
    match expire_at_ms {
        -1 | 0 => Ok(None),
        1.. => Ok(Some(UnixMillis(expire_at_ms))),
        _ => Err(bad(format!(
            "an expiry is a time in milliseconds since 1970, not {expire_at_ms}"
        ))),
    }
}

fn stored_value(value: proto::KvValue, v8_compat: bool) -> Result<Value, ApiError> {
    fits("value", value.data.len(), VALUE_BYTES_MAX)?;
    match value.encoding {
        1 => Ok(Value::v8(v8_payload(value.data, v8_compat))),
        2 if value.data.len() == 8 => Ok(Value {
            encoding: Encoding::U64,
            bytes: value.data,
        }),
        2 => Err(bad(format!(
            "a u64 value has 8 bytes, not {}",
            value.data.len()
        ))),
        3 => Ok(Value::bytes(value.data)),
        other => Err(bad(format!("there is no value encoding {other}"))),
    }
}

/// The payload as it is stored.
fn v8_payload(bytes: Bytes, v8_compat: bool) -> Bytes {
    match bytes.as_ref() {
        [0xff, 16, rest @ ..] if v8_compat => {
            let mut older = BytesMut::with_capacity(bytes.len());
            older.put_slice(&[0xff, 15]);
            older.put_slice(rest);
            older.freeze()
        }
        _ => bytes,
    }
}

fn enqueued(
    enqueue: proto::Enqueue,
    v8_compat: bool,
    now: UnixMillis,
    totals: &mut Totals,
) -> Result<NewMessage, ApiError> {
    fits("payload", enqueue.payload.len(), VALUE_BYTES_MAX)?;
    at_most(
        "undelivered keys of a message",
        enqueue.keys_if_undelivered.len(),
        UNDELIVERED_KEYS_MAX,
    )?;
    at_most(
        "backoff steps of a message",
        enqueue.backoff_schedule.len(),
        BACKOFF_STEPS_MAX,
    )?;
    totals.0 += enqueue.payload.len() + 4 * enqueue.backoff_schedule.len();
    for key in &enqueue.keys_if_undelivered {
        fits("undelivered key", key.len(), KEY_BYTES_MAX)?;
        totals.0 += key.len();
    }
    for step_ms in &enqueue.backoff_schedule {
        if *step_ms > BACKOFF_STEP_MS_MAX {
            return Err(bad(format!(
                "a backoff step of {step_ms} ms is over the limit of {BACKOFF_STEP_MS_MAX}"
            )));
        }
    }
    if enqueue.deadline_ms > now.0.saturating_add(DELAY_MS_MAX) {
        return Err(bad(format!(
            "a message may be delayed by at most {DELAY_MS_MAX} ms"
        )));
    }
    let backoff_ms = match enqueue.backoff_schedule {
        // The protocol cannot tell "none" from "not given".
        steps if steps.is_empty() => backoff_default_ms(),
        steps => steps,
    };
    let keys = enqueue.keys_if_undelivered.into_iter().map(Key::new);
    Ok(NewMessage {
        payload: Value::v8(v8_payload(enqueue.payload, v8_compat)),
        due: UnixMillis(enqueue.deadline_ms),
        backoff_ms,
        undelivered: keys.collect(),
    })
}

/// The answer to a write that was applied.
pub fn write_applied(versionstamp: Versionstamp) -> Bytes {
    encode(&proto::AtomicWriteOutput {
        status: proto::AW_SUCCESS,
        versionstamp: Bytes::copy_from_slice(versionstamp.as_bytes()),
        failed_checks: Vec::new(),
    })
}

/// The answer to a write whose checks failed.
pub fn write_conflict(failed_checks: Vec<u32>) -> Bytes {
    encode(&proto::AtomicWriteOutput {
        status: proto::AW_CHECK_FAILURE,
        versionstamp: Bytes::new(),
        failed_checks,
    })
}

/// The answer to a write where none are taken.
pub fn write_disabled() -> Bytes {
    encode(&proto::AtomicWriteOutput {
        status: proto::AW_WRITE_DISABLED,
        ..Default::default()
    })
}

/// The keys of a watch request.
///
/// # Errors
///
/// 400 for bytes that are not the message, and for every limit.
pub fn watch(body: Bytes) -> Result<Vec<Key>, ApiError> {
    let [keys, ..] = count(&body)?;
    at_most("watched keys", keys, WATCHED_KEYS_MAX)?;
    let message: proto::Watch = decode(body)?;
    for proto::WatchKey { key } in &message.keys {
        fits("watched key", key.len(), KEY_BYTES_MAX)?;
    }
    let keys = message
        .keys
        .into_iter()
        .map(|watched| Key::new(watched.key));
    Ok(keys.collect())
}

/// One frame of a watch: its length, then for each key the entry if it changed. `None` in the outer
/// option means that a key is as it was in the frame before.
pub fn watch_frame(keys: Vec<Option<Option<Entry>>>) -> Bytes {
    let keys = keys.into_iter().map(|change| proto::WatchKeyOutput {
        changed: change.is_some(),
        entry_if_changed: change.flatten().map(entry_output),
    });
    let output = proto::WatchOutput {
        status: proto::SR_SUCCESS,
        keys: keys.collect(),
    };
    let len = output.encoded_len();
    let mut frame = BytesMut::with_capacity(len + 4);
    frame.put_u32_le(u32::try_from(len).expect("ten values of 8 MiB are below 4 GiB"));
    let encoded = output.encode(&mut frame);
    debug_assert!(encoded.is_ok(), "the buffer has the room");
    frame.freeze()
}

/// The frame that only shows that the stream is alive.
pub const WATCH_PING: Bytes = Bytes::from_static(&[0; 4]);
