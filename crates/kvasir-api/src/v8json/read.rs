//! V8 payloads, formats 13 to 16, to JSON, in one pass from payload to text.
//!
//! There is no tree in between: each value is written as it is read. Of the objects met only their
//! places in the payload are kept, so that a back reference can be shown by reading its object
//! again; how much may be read again is bounded by the size of the payload. Whatever this reader
//! does not understand, or JSON could not give back (cycles, holes, host objects), ends the pass,
//! and the whole payload is shown as one `v8` form instead.

use std::ops::Range;

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use kvasir_kv::number::V8_FORMATS_READ;
use num_bigint::{BigInt, Sign};

use super::number;
use super::{BIGINT_BYTES_MAX, Form, JSON_DEPTH_MAX, MARKER, Rendered};

/// Most bytes of JSON for each byte of payload, beyond [`OUTPUT_BYTES_FREE`]. Tags that say much
/// in one byte (`undefined` in arrays) could otherwise make 35 bytes of each.
const OUTPUT_FACTOR_MIXED: usize = 8;

/// The same for [`Form::Typed`], where every small integer takes 27 bytes for two.
const OUTPUT_FACTOR_TYPED: usize = 40;

/// Output that every value may make, in bytes.
const OUTPUT_BYTES_FREE: usize = 64 * 1024;

/// Farthest a JavaScript date reaches from 1970, in milliseconds.
const DATE_MS_MAX: f64 = 8.64e15;

/// A payload as JSON.
pub(super) fn render(payload: &[u8], form: Form) -> Rendered {
    let mut pass = Pass::new(payload, form);
    match pass.whole() {
        Some(()) => Rendered {
            text: pass.out.into(),
            tagged: pass.tagged,
        },
        None => tag_text("v8", &BASE64.encode(payload), form),
    }
}

/// A tagged form whose value is a string.
pub(super) fn tag(name: &str, text: &str, form: Form) -> Rendered {
    tag_text(name, text, form)
}

/// A tagged form whose value is bytes.
pub(super) fn tag_bytes(name: &str, bytes: &[u8], form: Form) -> Rendered {
    let mut pass = Pass::new(&[], form);
    pass.buffer(name, bytes);
    Rendered {
        text: pass.out.into(),
        tagged: true,
    }
}

fn tag_text(name: &str, text: &str, form: Form) -> Rendered {
    let mut pass = Pass::new(&[], form);
    pass.open_tag(name);
    pass.json_string(text);
    pass.close_tag();
    Rendered {
        text: Bytes::from(pass.out),
        tagged: true,
    }
}

/// An object met before: where it begins, and whether it is still being read.
struct Met {
    at: usize,
    open: bool,
}

struct Pass<'a> {
    input: &'a [u8],
    at: usize,
    form: Form,
    out: Vec<u8>,
    out_max: usize,
    tagged: bool,
    /// Nesting of the JSON at `out`'s end.
    depth: usize,
    met: Vec<Met>,
    /// Whether an object is being read again for a back reference; its parts have numbers already.
    again: bool,
    /// Bytes that may still be read again.
    again_bytes: usize,
}

/// `None` ends the pass; see the module.
type Step<T = ()> = Option<T>;

impl<'a> Pass<'a> {
    fn new(input: &'a [u8], form: Form) -> Pass<'a> {
        let factor = match form {
            Form::Mixed => OUTPUT_FACTOR_MIXED,
            Form::Typed => OUTPUT_FACTOR_TYPED,
        };
        Pass {
            input,
            at: 0,
            form,
            out: Vec::with_capacity(input.len() * 2),
            out_max: input.len().saturating_mul(factor) + OUTPUT_BYTES_FREE,
            tagged: false,
            depth: 0,
            met: Vec::new(),
            again: false,
            again_bytes: input.len() + OUTPUT_BYTES_FREE,
        }
    }

    fn whole(&mut self) -> Step {
        let [0xff, format, ..] = self.input else {
            return None;
        };
        if !V8_FORMATS_READ.contains(format) {
            return None;
        }
        self.at = 2;
        // Bytes at the top are a stored encoding of their own; shown as such they would be written
        // back as bytes and not as V8.
        if self.form == Form::Mixed && matches!(self.peek(), Some(b'B' | b'~')) {
            let before = self.at;
            let (_, _, kind) = self.array_buffer()?;
            if kind == Some("Uint8Array") {
                return None;
            }
            self.at = before;
            self.met.clear();
        }
        self.value()?;
        (self.at == self.input.len()).then_some(())
    }

    // Reading.

    fn byte(&mut self) -> Step<u8> {
        let byte = *self.input.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// The next tag, behind padding.
    fn peek(&mut self) -> Step<u8> {
        while self.input.get(self.at) == Some(&0) {
            self.at += 1;
        }
        self.input.get(self.at).copied()
    }

    /// Steps over the next tag if it is this one.
    fn took(&mut self, tag: u8) -> bool {
        let found = self.peek() == Some(tag);
        if found {
            self.at += 1;
        }
        found
    }

    fn bytes(&mut self, len: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let bytes = self.input.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn varint(&mut self) -> Step<u64> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if place == 9 && bits > 1 {
                return None;
            }
            number |= bits << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn len(&mut self) -> Step<usize> {
        self.varint()?.try_into().ok()
    }

    fn double(&mut self) -> Step<f64> {
        Some(f64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn int32(&mut self) -> Step<i32> {
        let raw = u32::try_from(self.varint()?).ok()?;
        Some(((raw >> 1) as i32) ^ -((raw & 1) as i32))
    }

    /// The string behind its tag.
    fn string(&mut self) -> Step<String> {
        self.peek()?;
        let tag = self.byte()?;
        self.string_of(tag)
    }

    fn string_of(&mut self, tag: u8) -> Step<String> {
        let len = self.len()?;
        let bytes = self.bytes(len)?;
        match tag {
            b'"' if bytes.is_ascii() => String::from_utf8(bytes.to_vec()).ok(),
            b'"' => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            b'S' => String::from_utf8(bytes.to_vec()).ok(),
            b'c' if len % 2 == 0 => {
                let units = bytes
                    .chunks_exact(2)
                    .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
                char::decode_utf16(units).collect::<Result<_, _>>().ok()
            }
            _ => None,
        }
    }

    /// Notes that an object begins at `at`; gives its number to [`Pass::done`].
    fn meet(&mut self, at: usize) -> Option<usize> {
        if self.again {
            return None;
        }
        self.met.push(Met { at, open: true });
        Some(self.met.len() - 1)
    }

    fn done(&mut self, number: Option<usize>) {
        if let Some(number) = number {
            self.met[number].open = false;
        }
    }

    // Writing.

    fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn json_string(&mut self, text: &str) {
        let written = serde_json::to_writer(&mut self.out, text);
        debug_assert!(written.is_ok(), "writing to memory does not fail");
    }

    fn open_tag(&mut self, name: &str) {
        self.open_tag_without_value(name);
        self.push(",\"value\":");
    }

    fn open_tag_without_value(&mut self, name: &str) {
        self.tagged = true;
        self.push("{\"type\":\"");
        self.push(name);
        self.push("\"");
    }

    fn close_tag(&mut self) {
        if self.form == Form::Mixed {
            self.push(",\"");
            self.push(MARKER);
            self.push("\":1");
        }
        self.push("}");
    }

    /// Writes a leaf that is JSON in itself.
    fn plain(&mut self, name: &str, json: &str) {
        match self.form {
            Form::Mixed => self.push(json),
            Form::Typed => {
                self.open_tag(name);
                self.push(json);
                self.close_tag();
            }
        }
    }

    fn plain_string(&mut self, text: &str) {
        match self.form {
            Form::Mixed => self.json_string(text),
            Form::Typed => {
                self.open_tag("string");
                self.json_string(text);
                self.close_tag();
            }
        }
    }

    fn number(&mut self, number: f64) {
        match number::special(number) {
            // JavaScript reads this as what it is.
            Some("-0") if self.form == Form::Typed => self.plain("number", "-0"),
            Some(text) => {
                self.open_tag("number");
                self.json_string(text);
                self.close_tag();
            }
            None if self.form == Form::Mixed => number::push_json(&mut self.out, number),
            None => {
                self.open_tag("number");
                number::push_json(&mut self.out, number);
                self.close_tag();
            }
        }
    }

    /// A tagged form whose value is bytes.
    fn buffer(&mut self, name: &str, bytes: &[u8]) {
        match self.form {
            Form::Mixed => {
                self.open_tag(name);
                self.push("\"");
                let text = BASE64.encode(bytes);
                self.push(&text);
            }
            Form::Typed => {
                self.open_tag_without_value(name);
                let head = format!(",\"byteLength\":{},\"value\":\"", bytes.len());
                self.push(&head);
                let text = BASE64URL_NOPAD.encode(bytes);
                self.push(&text);
            }
        }
        self.push("\"");
        self.close_tag();
    }

    // One value.

    /// Reads one value and writes it.
    fn value(&mut self) -> Step {
        // A tag takes up to three levels: form, list, pair.
        if self.depth + 3 > JSON_DEPTH_MAX || self.out.len() > self.out_max {
            return None;
        }
        self.depth += 1;
        self.one_value()?;
        self.depth -= 1;
        Some(())
    }

    fn one_value(&mut self) -> Step {
        self.peek()?;
        let start = self.at;
        match self.byte()? {
            // A count of objects that old writers put in front; without meaning.
            b'?' => {
                self.varint()?;
                self.value()?;
            }
            b'_' => {
                self.open_tag_without_value("undefined");
                self.close_tag();
            }
            b'0' => self.plain("null", "null"),
            b'T' => self.plain("boolean", "true"),
            b'F' => self.plain("boolean", "false"),
            b'I' => {
                let number = self.int32()?;
                self.number(f64::from(number));
            }
            b'U' => {
                let number = u32::try_from(self.varint()?).ok()?;
                self.number(f64::from(number));
            }
            b'N' => {
                let number = self.double()?;
                self.number(number);
            }
            b'Z' => self.bigint()?,
            tag @ (b'"' | b'S' | b'c') => {
                let text = self.string_of(tag)?;
                self.plain_string(&text);
            }
            b'D' => {
                self.met_leaf(start);
                self.date()?;
            }
            b'R' => {
                self.met_leaf(start);
                self.regexp()?;
            }
            b'B' | b'~' => {
                self.at = start;
                let (bytes, whole, kind) = self.array_buffer()?;
                if !whole {
                    return None;
                }
                let bytes = &self.input[bytes];
                self.buffer(kind.unwrap_or("ArrayBuffer"), bytes);
            }
            b'o' => {
                let met = self.meet(start);
                self.object()?;
                self.done(met);
            }
            b'A' => {
                let met = self.meet(start);
                self.array()?;
                self.done(met);
            }
            b';' => {
                let met = self.meet(start);
                self.map()?;
                self.done(met);
            }
            b'\'' => {
                let met = self.meet(start);
                self.set()?;
                self.done(met);
            }
            b'r' => {
                let met = self.meet(start);
                self.error()?;
                self.done(met);
            }
            b'^' => self.reference()?,
            b'a' => {
                let met = self.meet(start);
                self.full_sparse_array()?;
                self.done(met);
            }
            // Holes, boxed primitives, host and shared objects, unknown tags.
            _ => return None,
        }
        Some(())
    }

    fn met_leaf(&mut self, start: usize) {
        let number = self.meet(start);
        self.done(number);
    }

    /// A back reference: its object is read and written again.
    fn reference(&mut self) -> Step {
        let number = self.len()?;
        // A view of a buffer that something else refers to as well.
        if self.peek() == Some(b'V') {
            return None;
        }
        let met = self.met.get(number).filter(|met| !met.open)?;
        let behind = std::mem::replace(&mut self.at, met.at);
        let outer = std::mem::replace(&mut self.again, true);
        let begin = self.at;
        self.one_value()?;
        self.again_bytes = self.again_bytes.checked_sub(self.at - begin)?;
        self.again = outer;
        self.at = behind;
        Some(())
    }

    fn bigint(&mut self) -> Step {
        let bitfield = self.len()?;
        let len = bitfield >> 1;
        let digits = self.bytes(len)?;
        if len > BIGINT_BYTES_MAX {
            return None;
        }
        let sign = if bitfield & 1 == 1 {
            Sign::Minus
        } else {
            Sign::Plus
        };
        let text = BigInt::from_bytes_le(sign, digits).to_string();
        self.open_tag("bigint");
        self.json_string(&text);
        self.close_tag();
        Some(())
    }

    fn date(&mut self) -> Step {
        let ms = self.double()?;
        self.open_tag("Date");
        if ms.is_nan() {
            self.push("null");
        } else if ms.fract() == 0.0 && ms.abs() <= DATE_MS_MAX {
            let text = date_text(ms as i64)?;
            self.json_string(&text);
        } else {
            return None;
        }
        self.close_tag();
        Some(())
    }

    fn regexp(&mut self) -> Step {
        let source = self.string()?;
        let flags = regexp_flags(self.varint()?)?;
        self.open_tag("RegExp");
        match self.form {
            Form::Mixed => {
                self.push("{\"source\":");
                self.json_string(&source);
                self.push(",\"flags\":");
                self.json_string(&flags);
                self.push("}");
            }
            Form::Typed => self.json_string(&format!("/{source}/{flags}")),
        }
        self.close_tag();
        Some(())
    }

    /// Where the bytes of a buffer and of the view on it are, whether the view is all of a buffer
    /// of fixed length, and the kind of view.
    fn array_buffer(&mut self) -> Step<(Range<usize>, bool, Option<&'static str>)> {
        let start = self.at;
        let tag = self.byte()?;
        let len = self.len()?;
        if tag == b'~' {
            self.varint()?;
        }
        let begin = self.at;
        self.bytes(len)?;
        let buffer = self.meet(start);
        let mut whole = tag == b'B';
        if !self.took(b'V') {
            self.done(buffer);
            return Some((begin..begin + len, whole, None));
        }
        // From here on the buffer stays open: read again it would come out as its view, so nothing
        // may refer to it but that view.
        let (kind, element_bytes) = view_kind(self.byte()?)?;
        let (offset, view_len, flags) = (self.len()?, self.len()?, self.varint()?);
        whole &= offset == 0 && view_len == len && flags == 0 && len % element_bytes == 0;
        // The view is an object of its own; its buffer stands right before its tag.
        self.met_leaf(start);
        Some((begin..begin + len, whole, Some(kind)))
    }

    fn object(&mut self) -> Step {
        if self.form == Form::Typed {
            self.open_tag("json_object");
        }
        self.members(b'{')?;
        if self.form == Form::Typed {
            self.close_tag();
        }
        Some(())
    }

    /// The members of an object up to its end tag.
    fn members(&mut self, end: u8) -> Step {
        self.push("{");
        let (mut read, mut written) = (0u64, 0u64);
        while !self.took(end) {
            let key = self.key()?;
            // A user's object with our marker in it would be taken for a tagged form.
            if self.form == Form::Mixed && key == MARKER {
                return None;
            }
            read += 1;
            if self.form == Form::Mixed && self.took(b'_') {
                continue;
            }
            if written > 0 {
                self.push(",");
            }
            written += 1;
            self.json_string(&key);
            self.push(":");
            self.value()?;
        }
        if self.varint()? != read {
            return None;
        }
        self.push("}");
        Some(())
    }

    fn key(&mut self) -> Step<String> {
        self.peek()?;
        match self.byte()? {
            b'I' => Some(self.int32()?.to_string()),
            b'U' => Some(u32::try_from(self.varint()?).ok()?.to_string()),
            b'N' => {
                let number = self.double()?;
                if number::special(number).is_some() || number.fract() != 0.0 {
                    return None;
                }
                let mut text = Vec::new();
                number::push_json(&mut text, number);
                String::from_utf8(text).ok()
            }
            tag => self.string_of(tag),
        }
    }

    fn array(&mut self) -> Step {
        let len = self.len()?;
        if self.form == Form::Typed {
            self.open_tag("json_array");
        }
        self.push("[");
        for place in 0..len {
            if place > 0 {
                self.push(",");
            }
            self.value()?;
        }
        self.push("]");
        if self.form == Form::Typed {
            self.close_tag();
        }
        // Properties beside the elements have no place in JSON.
        (self.took(b'$') && self.varint()? == 0 && self.len()? == len).then_some(())
    }

    /// A sparse array that has all of its elements in their order, and nothing else. V8 writes every
    /// array so that it has read from such bytes itself: whatever a Deno program reads and stores again.
    fn full_sparse_array(&mut self) -> Step {
        // Nothing stands behind it: each element is read before the next is believed.
        let len = self.varint()?;
        if self.form == Form::Typed {
            self.open_tag("json_array");
        }
        self.push("[");
        for place in 0..len {
            self.peek()?;
            let index = match self.byte()? {
                b'I' => u64::try_from(self.int32()?).ok()?,
                b'U' => self.varint()?,
                _ => return None,
            };
            if index != place {
                return None;
            }
            if place > 0 {
                self.push(",");
            }
            self.value()?;
        }
        self.push("]");
        if self.form == Form::Typed {
            self.close_tag();
        }
        (self.took(b'@') && self.varint()? == len && self.varint()? == len).then_some(())
    }

    fn map(&mut self) -> Step {
        self.open_tag(match self.form {
            Form::Mixed => "Map",
            Form::Typed => "json_map",
        });
        self.push("[");
        self.depth += 2;
        let mut pairs = 0u64;
        while !self.took(b':') {
            if pairs > 0 {
                self.push(",");
            }
            pairs += 1;
            self.push("[");
            self.value()?;
            self.push(",");
            self.value()?;
            self.push("]");
        }
        self.depth -= 2;
        self.push("]");
        self.close_tag();
        (self.varint()? == 2 * pairs).then_some(())
    }

    fn set(&mut self) -> Step {
        self.open_tag(match self.form {
            Form::Mixed => "Set",
            Form::Typed => "json_set",
        });
        self.push("[");
        self.depth += 1;
        let mut values = 0u64;
        while !self.took(b',') {
            if values > 0 {
                self.push(",");
            }
            values += 1;
            self.value()?;
        }
        self.depth -= 1;
        self.push("]");
        self.close_tag();
        (self.varint()? == values).then_some(())
    }

    fn error(&mut self) -> Step {
        let (mut name, mut message, mut stack, mut cause) = ("Error", None, None, None);
        loop {
            match self.byte()? {
                b'E' => name = "EvalError",
                b'R' => name = "RangeError",
                b'F' => name = "ReferenceError",
                b'S' => name = "SyntaxError",
                b'T' => name = "TypeError",
                b'U' => name = "URIError",
                b'm' => message = Some(self.string()?),
                b's' => stack = Some(self.string()?),
                b'c' => {
                    // Written to the side, because it comes before what is shown first.
                    let begin = self.out.len();
                    self.depth += 1;
                    self.value()?;
                    self.depth -= 1;
                    cause = Some(self.out.split_off(begin));
                }
                b'.' => break,
                _ => return None,
            }
        }
        let typed = self.form == Form::Typed;
        self.open_tag(if typed { name } else { "Error" });
        self.push("{");
        let mut first = true;
        let name = (!typed).then(|| name.to_owned());
        for (member, text) in [("name", name), ("message", message), ("stack", stack)] {
            let Some(text) = text else { continue };
            self.push(if first { "\"" } else { ",\"" });
            first = false;
            self.push(member);
            self.push("\":");
            self.json_string(&text);
        }
        if let Some(cause) = cause {
            self.push(if first { "\"cause\":" } else { ",\"cause\":" });
            self.out.extend_from_slice(&cause);
        }
        self.push("}");
        self.close_tag();
        Some(())
    }
}

/// A date as JavaScript's `toISOString` writes it, for years 0 to 9999.
fn date_text(ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(ms).ok()?;
    let date = time.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    if !(0..=9999).contains(&date.year()) {
        return None;
    }
    Some(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        date.month(),
        date.day(),
        date.hour(),
        date.minute(),
        date.second(),
        date.millisecond(),
    ))
}

/// Letters of regular expression flags with their bits, in the order JavaScript shows them. The
/// bit between `s` and `d` is one that only V8's own tests use.
pub(super) const REGEXP_FLAGS: [(char, u64); 8] = [
    ('d', 128),
    ('g', 1),
    ('i', 2),
    ('m', 4),
    ('s', 32),
    ('u', 16),
    ('v', 256),
    ('y', 8),
];

fn regexp_flags(bits: u64) -> Option<String> {
    let known: u64 = REGEXP_FLAGS.iter().map(|(_, bit)| bit).sum();
    if bits & !known != 0 {
        return None;
    }
    let set = REGEXP_FLAGS.iter().filter(|(_, bit)| bits & bit != 0);
    Some(set.map(|(letter, _)| letter).collect())
}

/// Kinds of views: subtag, name, bytes of an element.
pub(super) const VIEWS: [(u8, &str, usize); 12] = [
    (b'b', "Int8Array", 1),
    (b'B', "Uint8Array", 1),
    (b'C', "Uint8ClampedArray", 1),
    (b'w', "Int16Array", 2),
    (b'W', "Uint16Array", 2),
    (b'd', "Int32Array", 4),
    (b'D', "Uint32Array", 4),
    (b'f', "Float32Array", 4),
    (b'F', "Float64Array", 8),
    (b'q', "BigInt64Array", 8),
    (b'Q', "BigUint64Array", 8),
    (b'?', "DataView", 1),
];

fn view_kind(subtag: u8) -> Option<(&'static str, usize)> {
    VIEWS
        .iter()
        .find(|(tag, ..)| *tag == subtag)
        .map(|(_, name, bytes)| (*name, *bytes))
}
