//! Values: bytes and the encoding that says how to read them.

use std::fmt;

use bytes::Bytes;

/// How the bytes of a value are to be read.
///
/// The numbers are on disk; 1 to 3 are also on the KV Connect wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// A V8 structured-clone value, as JavaScript programs write it.
    V8 = 1,
    /// An unsigned 64-bit integer, exactly 8 bytes, little-endian.
    U64 = 2,
    /// Raw bytes.
    Bytes = 3,
    /// JSON text, kept as it came in.
    Json = 4,
}

impl Encoding {
    /// The encoding of a stored number.
    pub fn from_number(number: u8) -> Option<Encoding> {
        match number {
            1 => Some(Encoding::V8),
            2 => Some(Encoding::U64),
            3 => Some(Encoding::Bytes),
            4 => Some(Encoding::Json),
            _ => None,
        }
    }

    /// The stored number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The name used in metrics, exports and the console.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::V8 => "v8",
            Encoding::U64 => "u64",
            Encoding::Bytes => "bytes",
            Encoding::Json => "json",
        }
    }
}

/// Bytes and their encoding. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// How to read the bytes.
    pub encoding: Encoding,
    /// The bytes.
    pub bytes: Bytes,
}

impl Value {
    /// JSON text. Whoever calls this has checked that it is JSON.
    pub fn json(text: impl Into<Bytes>) -> Value {
        Value {
            encoding: Encoding::Json,
            bytes: text.into(),
        }
    }

    /// Raw bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Value {
        Value {
            encoding: Encoding::Bytes,
            bytes: bytes.into(),
        }
    }

    /// A V8 structured-clone value. Whoever calls this has it from a V8 serializer.
    pub fn v8(bytes: impl Into<Bytes>) -> Value {
        Value {
            encoding: Encoding::V8,
            bytes: bytes.into(),
        }
    }

    /// An unsigned 64-bit integer.
    pub fn u64(number: u64) -> Value {
        Value {
            encoding: Encoding::U64,
            bytes: Bytes::copy_from_slice(&number.to_le_bytes()),
        }
    }

    /// The number, if this is a well-formed [`Encoding::U64`].
    pub fn as_u64(&self) -> Option<u64> {
        match self.encoding {
            Encoding::U64 => Some(u64::from_le_bytes(self.bytes.as_ref().try_into().ok()?)),
            _ => None,
        }
    }

    /// Length of the bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes. An empty value is a value, not absence.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Shows encoding and length only: values belong to users and stay out of logs.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Value({}, {} bytes)",
            self.encoding.name(),
            self.bytes.len()
        )
    }
}
