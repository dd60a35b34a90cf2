//! JSON and V8 values, each as the other: what lets REST and Deno see one another's data.
//!
//! JSON that comes in over REST is stored as the text it is, and becomes V8 when a Deno client
//! reads it ([`to_v8`]). A V8 value, a `u64` or bytes become JSON when REST reads them
//! ([`render`]). What JSON can say is said in plain JSON and nothing else: `null`, booleans, finite
//! numbers, strings, arrays, objects. Everything else becomes a *tagged form*, an object with
//! exactly these members:
//!
//! ```json
//! {"type": "bigint", "value": "12345678901234567890", "$kvasir": 1}
//! ```
//!
//! | V8 or stored value | `type` | `value` |
//! | --- | --- | --- |
//! | `undefined` | `undefined` | none; as a member of an object the member is left out |
//! | bigint | `bigint` | decimal digits |
//! | `NaN`, `Infinity`, `-Infinity`, `-0` | `number` | that text |
//! | `Date` | `Date` | `2026-01-02T03:04:05.678Z`, `null` for an invalid date |
//! | `Map` / `Set` | `Map` / `Set` | list of `[key, value]` / list of values |
//! | `RegExp` | `RegExp` | `{"source", "flags"}` |
//! | `Error` and its kin | `Error` | `{"name", "message", "stack", "cause"}` |
//! | `ArrayBuffer`, `DataView`, typed arrays | `ArrayBuffer`, `Uint8Array`, ... | base64 |
//! | stored bytes | `Uint8Array` | base64 |
//! | stored `u64` | `u64` | decimal digits |
//! | anything else: host objects, cycles, holes, lone surrogates, boxed primitives, a member called `$kvasir`, damage | `v8` | base64 of the whole payload |
//!
//! The member `$kvasir` is what tells a tagged form from a user's own object with a `type` and a
//! `value`: JSON without that member is never interpreted. JSON with it is turned back into the
//! value it stands for ([`parse`]), so what REST reads can be written back and is the same again
//! for every client. Two things are lost by such a round trip: members that were `undefined`, and
//! the identity of an object that was referred to twice (both references get an equal object).
//!
//! [`Form::Typed`] is the form of JSON-lines exports, in which every value is tagged; see
//! [`Form`].
//!
//! Nothing here panics or needs more than a small multiple of its input, whatever the input is.

mod dom;
pub mod key;
mod number;
mod read;
mod tagged;
mod write;

use bytes::Bytes;
use kvasir_kv::{Encoding, Value};

pub use tagged::{TagError, parse, parse_typed};

/// The member that marks a tagged form. JSON without it is stored and served as it is.
pub const MARKER: &str = "$kvasir";

/// Deepest nesting of arrays and objects in JSON that is made or understood here; values nested
/// deeper are shown as `v8`. One less than what common JSON readers take, with room for an envelope
/// around the value.
pub const JSON_DEPTH_MAX: usize = 120;

/// Longest bigint that is shown as digits, in bytes of its magnitude. Longer ones are shown as
/// `v8`, because turning them into digits costs the square of their length.
pub const BIGINT_BYTES_MAX: usize = 4096;

/// How values are written as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Plain JSON where JSON can say it, tagged forms for the rest. What REST speaks.
    Mixed,
    /// Every value is `{"type", "value"}`, with the names of the JSON lines that the `kv-utils`
    /// package for Deno reads and writes. What exports are made of.
    Typed,
}

/// A value as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// JSON text.
    pub text: Bytes,
    /// Whether a tagged form is in it, so that plain JSON could not say it.
    pub tagged: bool,
}

/// The value as JSON by the table above. Never fails.
pub fn render(value: &Value) -> Rendered {
    render_as(value, Form::Mixed)
}

/// The value as JSON in one of the two forms. Never fails.
pub fn render_as(value: &Value, form: Form) -> Rendered {
    match (value.encoding, form) {
        (Encoding::Json, Form::Mixed) => Rendered {
            text: value.bytes.clone(),
            tagged: false,
        },
        (Encoding::Json, Form::Typed) => match to_v8(&value.bytes) {
            Ok(payload) => read::render(&payload, form),
            Err(_) => read::tag("json", &String::from_utf8_lossy(&value.bytes), form),
        },
        (Encoding::V8, _) => read::render(&value.bytes, form),
        (Encoding::Bytes, _) => read::tag_bytes("Uint8Array", &value.bytes, form),
        (Encoding::U64, _) => match value.as_u64() {
            Some(number) => {
                let name = if form == Form::Mixed { "u64" } else { "KvU64" };
                read::tag(name, &number.to_string(), form)
            }
            // Backends refuse such a value; should one appear, its bytes are shown.
            None => read::tag_bytes("Uint8Array", &value.bytes, form),
        },
    }
}

/// JSON text as a V8 payload of format 15, which every client reads.
///
/// Tagged forms are not looked at: they are turned into values when they are written, by
/// [`parse`].
///
/// # Errors
///
/// If the text is not JSON, is nested deeper than 127 levels, or holds a number or an escape that
/// has no meaning (`1e999`, half a surrogate pair).
pub fn to_v8(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let tree: dom::Json<'_> = serde_json::from_slice(json)?;
    let mut writer = write::V8Writer::new(json.len());
    tree.write(&mut writer);
    Ok(writer.finish())
}

/// What a Deno client gets for a value: JSON becomes V8, everything else stays as it is.
///
/// JSON text that has no V8 form (see [`to_v8`]) is handed out as the bytes of the text.
pub fn for_deno(value: &Value) -> Value {
    if value.encoding != Encoding::Json {
        return value.clone();
    }
    match to_v8(&value.bytes) {
        Ok(payload) => Value::v8(payload),
        Err(_) => Value::bytes(value.bytes.clone()),
    }
}

/// Takes bytes as a V8 payload through JSON and back, in both forms. For fuzzing: what comes out is
/// JSON, and once a value has gone this way it stays the same.
#[doc(hidden)]
pub fn fuzz_payload(bytes: &[u8]) {
    let value = Value::v8(bytes.to_vec());
    for form in [Form::Mixed, Form::Typed] {
        let rendered = render_as(&value, form);
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&rendered.text).is_ok();
        assert!(is_json, "{:?}", rendered.text);
        let back = |text: &Bytes| match form {
            Form::Mixed => parse(text),
            Form::Typed => parse_typed(text),
        };
        // Payloads of other formats are shown, but not taken back.
        if let Ok(again) = back(&rendered.text) {
            let third = back(&render_as(&again, form).text);
            assert_eq!(third.as_ref(), Ok(&again));
        }
    }
}

/// Takes bytes as JSON to V8 and back. For fuzzing: a second round changes nothing.
#[doc(hidden)]
pub fn fuzz_json(text: &[u8]) {
    if let Ok(payload) = to_v8(text) {
        let first = render(&Value::v8(payload.clone()));
        if !first.tagged {
            assert_eq!(to_v8(&first.text).ok(), Some(payload));
        }
    }
    // Either of these refuses or takes it; neither panics.
    drop(parse(&Bytes::copy_from_slice(text)));
    drop(parse_typed(text));
}

#[cfg(test)]
mod tests;
