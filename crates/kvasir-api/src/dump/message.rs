//! One message of a queue as a line of an export, and back.
//!
//! `{"message": {"id", "payload", "encoding", "dueMs", "backoffMs", "undelivered", "attempts"}}`;
//! payload and undelivered keys are base64. Messages stand behind the entries of their database.

use data_encoding::BASE64;
use kvasir_kv::limits::KEY_BYTES_MAX;
use kvasir_kv::{Encoding, Key, UnixMillis, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{LineError, bytes, encoding, wrong};
use crate::queue::{MESSAGE_ID_DIGITS, Moved, NewMessage, backoff_default_ms};

/// Most steps of a backoff schedule; denokv takes ten.
const BACKOFF_STEPS_MAX: usize = 100;

/// Most undelivered keys of a message; denokv takes ten.
const UNDELIVERED_KEYS_MAX: usize = 100;

/// A message in the queue of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageLine {
    /// Its id, 32 hexadecimal digits. A message of an id that was taken in once is left alone;
    /// without an id it is enqueued as a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Base64 of what is delivered.
    pub payload: String,
    /// How to read the payload: `v8` if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// When it is due, in milliseconds since 1970.
    pub due_ms: i64,
    /// Pauses before further deliveries, in milliseconds; five if nothing is said.
    #[serde(default)]
    pub backoff_ms: Option<Vec<u32>>,
    /// Base64 of the keys under which the payload is stored if no delivery succeeds.
    #[serde(default)]
    pub undelivered: Vec<String>,
    /// How often it was delivered.
    #[serde(default)]
    pub attempts: u32,
}

impl MessageLine {
    /// The line of a message.
    pub fn of(moved: &Moved) -> MessageLine {
        let message = &moved.message;
        let base64 = |key: &Key| BASE64.encode(key.as_bytes());
        MessageLine {
            id: Some(moved.id.clone()),
            payload: BASE64.encode(&message.payload.bytes),
            encoding: Some(message.payload.encoding.name().to_owned()),
            due_ms: message.due.0,
            backoff_ms: Some(message.backoff_ms.clone()),
            undelivered: message.undelivered.iter().map(base64).collect(),
            attempts: moved.attempts,
        }
    }

    /// The message of a line, and its id if it has one.
    ///
    /// # Errors
    ///
    /// If a member does not say what it should.
    pub fn into_message(self) -> Result<(Option<String>, u32, NewMessage), LineError> {
        if let Some(id) = &self.id {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if id.len() != MESSAGE_ID_DIGITS || !id.bytes().all(is_digit) {
                return wrong("the id of a message is 32 hexadecimal digits");
            }
        }
        let encoding = match self.encoding.as_deref() {
            None => Encoding::V8,
            Some(name) => encoding(name)?,
        };
        let payload = Value {
            encoding,
            bytes: bytes(&self.payload)?,
        };
        let fits = match encoding {
            Encoding::U64 => payload.as_u64().is_some(),
            Encoding::Json => serde_json::from_slice::<&RawValue>(&payload.bytes).is_ok(),
            Encoding::V8 | Encoding::Bytes => true,
        };
        if !fits {
            return wrong("the payload is not what `encoding` says");
        }
        let backoff_ms = self.backoff_ms.unwrap_or_else(backoff_default_ms);
        if backoff_ms.len() > BACKOFF_STEPS_MAX {
            return wrong("a backoff schedule has up to 100 steps");
        }
        if self.undelivered.len() > UNDELIVERED_KEYS_MAX {
            return wrong("a message has up to 100 undelivered keys");
        }
        let mut undelivered = Vec::with_capacity(self.undelivered.len());
        for key in &self.undelivered {
            let key = bytes(key)?;
            if key.len() > KEY_BYTES_MAX {
                return wrong("a key has up to 2048 bytes");
            }
            undelivered.push(Key::new(key));
        }
        let message = NewMessage {
            payload,
            due: UnixMillis(self.due_ms),
            backoff_ms,
            undelivered,
        };
        Ok((self.id, self.attempts, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let moved = Moved {
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            attempts: 2,
            message: NewMessage {
                payload: Value::bytes(vec![0, 255]),
                due: UnixMillis(-5),
                backoff_ms: vec![],
                undelivered: vec![Key::from_strings(["a"])],
            },
        };
        let text = serde_json::to_string(&MessageLine::of(&moved)).unwrap();
        let again: MessageLine = serde_json::from_str(&text).unwrap();
        let (id, attempts, message) = again.into_message().unwrap();
        assert_eq!((id, attempts), (Some(moved.id), 2));
        assert_eq!(message, moved.message);
    }

    #[test]
    fn lines_that_are_no_messages_are_refused() {
        let many = vec!["\"AA==\""; 101].join(",");
        for rest in [
            r#""id":"0123""#.to_owned(),
            r#""id":"0123456789ABCDEF0123456789abcdef""#.to_owned(),
            r#""encoding":"xml""#.to_owned(),
            r#""encoding":"u64""#.to_owned(),
            r#""encoding":"json""#.to_owned(),
            r#""undelivered":["?"]"#.to_owned(),
            format!(r#""undelivered":[{many}]"#),
            format!(r#""backoffMs":[{}]"#, vec!["1"; 101].join(",")),
            format!(r#""undelivered":["{}"]"#, BASE64.encode(&[0; 2049])),
        ] {
            let text = format!(r#"{{"payload":"AA==","dueMs":0,{rest}}}"#);
            let line: MessageLine = serde_json::from_str(&text).unwrap();
            assert!(line.into_message().is_err(), "{text}");
        }
    }
}
