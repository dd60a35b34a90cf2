//! `[limits]`: what a client may take.

use std::time::Duration;

use kvasir_auth::access::RateSettings;
use serde::Deserialize;

use super::duration;
use crate::listen::{BodyPace, ConnectionLimits, Deadlines, Limits, ProtocolLimits};

/// `[limits]`: what a client may take before it is told off or cut off.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// From the connection to its first byte. Beyond it the connection is closed.
    #[serde(with = "duration")]
    pub first_byte: Duration,
    /// From the first byte of a request's head, or of a TLS handshake, to its last. Beyond it the
    /// connection is closed.
    #[serde(with = "duration")]
    pub head: Duration,
    /// Largest head of a request, in bytes. Above it the answer is 431.
    pub head_bytes: usize,
    /// Longest wait for the next part of a request's body. Beyond it the answer is 408.
    #[serde(with = "duration")]
    pub body_gap: Duration,
    /// Slowest rate at which bodies are sent and answers are taken, in bytes per second.
    pub bytes_per_second_min: u64,
    /// How long a connection may be quiet between two requests.
    #[serde(with = "duration")]
    pub idle: Duration,
    /// How long a client may take its answer too slowly. Beyond it the connection is closed.
    #[serde(with = "duration")]
    pub reader_stall: Duration,
    /// Most connections, over all listeners. A further one takes the place of an idle one.
    pub connections: usize,
    /// Most connections from one address, or one /64 network of IPv6.
    pub connections_per_address: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub http2_streams: u32,
    /// Most requests in progress. Above it the answer is 503 with `Retry-After`.
    pub requests_in_progress: usize,
    /// How long nine tenths of the writes may wait for their commit. Beyond it, while very many wait,
    /// the answer to new ones is 503 with `Retry-After`.
    #[serde(with = "duration")]
    pub queue_wait: Duration,
    /// Largest value, in bytes; at most 8 MiB. Above it the answer is 413.
    pub value_bytes: usize,
    /// How often one client may ask.
    pub rates: RateSettings,
}

impl Default for LimitSettings {
    fn default() -> Self {
        LimitSettings {
            first_byte: Duration::from_secs(5),
            head: Duration::from_secs(10),
            head_bytes: 32 * 1024,
            body_gap: Duration::from_secs(15),
            bytes_per_second_min: 1024,
            idle: Duration::from_secs(120),
            reader_stall: Duration::from_secs(30),
            connections: 4096,
            connections_per_address: 256,
            http2_streams: 100,
            requests_in_progress: 2048,
            queue_wait: Duration::from_millis(50),
            value_bytes: kvasir_kv::limits::VALUE_BYTES_DEFAULT,
            rates: RateSettings::default(),
        }
    }
}

impl LimitSettings {
    /// The part that concerns listeners.
    pub fn listeners(&self) -> Limits {
        Limits {
            connections: ConnectionLimits {
                total: self.connections,
                per_address: self.connections_per_address,
            },
            deadlines: Deadlines {
                first_byte: self.first_byte,
                head: self.head,
                idle: self.idle,
                reader_stall: self.reader_stall,
                bytes_per_second_min: self.bytes_per_second_min,
            },
            protocols: ProtocolLimits {
                head_bytes_max: self.head_bytes,
                http2_streams_max: self.http2_streams,
            },
        }
    }

    /// The part that concerns request bodies.
    pub fn body_pace(&self) -> BodyPace {
        BodyPace {
            gap: self.body_gap,
            bytes_per_second_min: self.bytes_per_second_min,
        }
    }

    /// The part that concerns stores.
    pub fn store(&self) -> kvasir_kv::Limits {
        kvasir_kv::Limits {
            value_bytes_max: self.value_bytes,
        }
    }
}
