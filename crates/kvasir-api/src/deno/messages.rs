//! The protobuf messages of the data path, package `com.deno.kv.datapath`.
//!
//! Written by hand from the protocol's field table, because six messages do not need a generator.
//! Byte fields are [`Bytes`], so that keys and values are slices of the request and not copies.
//! Numbers are checked in [`super::wire`]; enums are plain `i32` until then.

#![expect(
    missing_docs,
    reason = "the field table of the protocol says what these are"
)]

use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

#[derive(Clone, PartialEq, Message)]
pub struct SnapshotRead {
    #[prost(message, repeated, tag = "1")]
    pub ranges: Vec<ReadRange>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ReadRange {
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
    #[prost(int32, tag = "3")]
    pub limit: i32,
    #[prost(bool, tag = "4")]
    pub reverse: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct SnapshotReadOutput {
    #[prost(message, repeated, tag = "1")]
    pub ranges: Vec<ReadRangeOutput>,
    #[prost(bool, tag = "2")]
    pub read_disabled: bool,
    #[prost(bool, tag = "4")]
    pub read_is_strongly_consistent: bool,
    #[prost(int32, tag = "8")]
    pub status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ReadRangeOutput {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<KvEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub struct KvEntry {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(int32, tag = "3")]
    pub encoding: i32,
    #[prost(bytes = "bytes", tag = "4")]
    pub versionstamp: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct AtomicWrite {
    #[prost(message, repeated, tag = "1")]
    pub checks: Vec<Check>,
    #[prost(message, repeated, tag = "2")]
    pub mutations: Vec<Mutation>,
    #[prost(message, repeated, tag = "3")]
    pub enqueues: Vec<Enqueue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Check {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub versionstamp: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct Mutation {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(message, optional, tag = "2")]
    pub value: Option<KvValue>,
    #[prost(int32, tag = "3")]
    pub mutation_type: i32,
    #[prost(int64, tag = "4")]
    pub expire_at_ms: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub sum_min: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub sum_max: Bytes,
    #[prost(bool, tag = "7")]
    pub sum_clamp: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct KvValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    #[prost(int32, tag = "2")]
    pub encoding: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Enqueue {
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: Bytes,
    #[prost(int64, tag = "2")]
    pub deadline_ms: i64,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub keys_if_undelivered: Vec<Bytes>,
    #[prost(uint32, repeated, tag = "4")]
    pub backoff_schedule: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AtomicWriteOutput {
    #[prost(int32, tag = "1")]
    pub status: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub versionstamp: Bytes,
    #[prost(uint32, repeated, tag = "4")]
    pub failed_checks: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Watch {
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<WatchKey>,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchKey {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchOutput {
    #[prost(int32, tag = "1")]
    pub status: i32,
    #[prost(message, repeated, tag = "2")]
    pub keys: Vec<WatchKeyOutput>,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchKeyOutput {
    #[prost(bool, tag = "1")]
    pub changed: bool,
    #[prost(message, optional, tag = "2")]
    pub entry_if_changed: Option<KvEntry>,
}

/// `SnapshotReadStatus::SR_SUCCESS`.
pub const SR_SUCCESS: i32 = 1;
/// `AtomicWriteStatus::AW_SUCCESS`.
pub const AW_SUCCESS: i32 = 1;
/// `AtomicWriteStatus::AW_CHECK_FAILURE`.
pub const AW_CHECK_FAILURE: i32 = 2;
/// `AtomicWriteStatus::AW_WRITE_DISABLED`.
pub const AW_WRITE_DISABLED: i32 = 5;

/// `MutationType::M_SET`.
pub const M_SET: i32 = 1;
/// `MutationType::M_DELETE`.
pub const M_DELETE: i32 = 2;
/// `MutationType::M_SUM`.
pub const M_SUM: i32 = 3;
/// `MutationType::M_MAX`.
pub const M_MAX: i32 = 4;
/// `MutationType::M_MIN`.
pub const M_MIN: i32 = 5;
/// `MutationType::M_SET_SUFFIX_VERSIONSTAMPED_KEY`.
pub const M_SET_SUFFIX_VERSIONSTAMPED_KEY: i32 = 9;

/// How often each of the fields 1 to 3 appears at the top of a message, without decoding it.
///
/// An empty element takes two bytes on the wire and a hundred in memory, so counts are checked
/// before anything is built. Damage further in is left to the decoder.
pub fn count_elements(mut message: Bytes) -> Result<[usize; 3], prost::DecodeError> {
    let mut counts = [0; 3];
    while !message.is_empty() {
        let (field, wire_type) = decode_key(&mut message)?;
        if let (1..=3, WireType::LengthDelimited) = (field, wire_type) {
            counts[field as usize - 1] += 1;
        }
        skip_field(wire_type, field, &mut message, DecodeContext::default())?;
    }
    Ok(counts)
}
