//! Tagged forms back to the values they stand for.

use bytes::Bytes;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use kvasir_kv::Value;
use kvasir_kv::number::V8_FORMATS_READ;
use num_bigint::BigInt;

use super::dom::Json;
use super::read::{REGEXP_FLAGS, VIEWS};
use super::write::V8Writer;
use super::{BIGINT_BYTES_MAX, Form, MARKER, number};

/// Most characters of a bigint's digits: those of [`BIGINT_BYTES_MAX`] bytes, and a sign.
const BIGINT_DIGITS_MAX: usize = BIGINT_BYTES_MAX * 5 / 2;

/// A tagged form does not say what value it stands for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TagError(String);

fn wrong<T>(text: impl Into<String>) -> Result<T, TagError> {
    Err(TagError(text.into()))
}

/// The value that JSON text from a REST client stands for: the text itself, or, if there are tagged
/// forms in it, the V8 value, `u64` or bytes they describe.
///
/// # Errors
///
/// If the text is not JSON, or an object with the member [`super::MARKER`] is not one of the forms
/// of the table in [`super`].
pub fn parse(text: &Bytes) -> Result<Value, TagError> {
    if !may_hold_marker(text) {
        return Ok(Value::json(text.clone()));
    }
    let tree = read_tree(text)?;
    if !holds_marker(&tree) {
        return Ok(Value::json(text.clone()));
    }
    to_value(&tree, Form::Mixed)
}

/// The value that JSON text in [`Form::Typed`] stands for. Reads what `kv-utils` writes today and
/// what it wrote before (`Array`, `Map`, `Set` and `object` with plain JSON inside).
///
/// # Errors
///
/// If the text is not JSON, or a value in it is not of that form.
pub fn parse_typed(text: &[u8]) -> Result<Value, TagError> {
    to_value(&read_tree(text)?, Form::Typed)
}

fn read_tree(text: &[u8]) -> Result<Json<'_>, TagError> {
    serde_json::from_slice(text).or_else(|error| wrong(format!("the value is not JSON: {error}")))
}

/// A quick look for the marker, so that ordinary JSON is not parsed a second time.
fn may_hold_marker(text: &[u8]) -> bool {
    let needle = format!("\"{MARKER}\"");
    text.windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

fn holds_marker(tree: &Json<'_>) -> bool {
    match tree {
        Json::Array(list) => list.iter().any(holds_marker),
        Json::Object(members) => members
            .iter()
            .any(|(key, value)| key == MARKER || holds_marker(value)),
        _ => false,
    }
}

/// A whole value; some forms stand for stored encodings other than V8 and are allowed only here.
fn to_value(tree: &Json<'_>, form: Form) -> Result<Value, TagError> {
    if let Some(tag) = Tag::of(tree, form)? {
        match tag.name {
            "u64" | "KvU64" => {
                return tag
                    .text()?
                    .parse()
                    .map(Value::u64)
                    .or_else(|_| wrong("the value of a `u64` is a string of digits below 2^64"));
            }
            "Uint8Array" => return Ok(Value::bytes(tag.bytes()?)),
            "v8" => {
                let payload = tag.bytes()?;
                return match payload.as_slice() {
                    [0xff, format, ..] if V8_FORMATS_READ.contains(format) => {
                        Ok(Value::v8(payload))
                    }
                    _ => wrong(
                        "the value of a `v8` is the base64 of a V8 payload of format 13 to 16",
                    ),
                };
            }
            // JSON text that has no V8 form, in exports.
            "json" if form == Form::Typed => {
                return Ok(Value::json(tag.text()?.to_owned().into_bytes()));
            }
            _ => {}
        }
    }
    let mut writer = V8Writer::new(64);
    write(tree, form, &mut writer)?;
    Ok(Value::v8(writer.finish()))
}

fn write(tree: &Json<'_>, form: Form, writer: &mut V8Writer) -> Result<(), TagError> {
    if let Some(tag) = Tag::of(tree, form)? {
        return tag.write(writer);
    }
    match tree {
        Json::Array(list) => {
            writer.begin_array(list.len());
            for element in list {
                write(element, form, writer)?;
            }
            writer.end_array(list.len());
        }
        Json::Object(members) => {
            writer.begin_object();
            for (key, value) in members {
                writer.key(key);
                write(value, form, writer)?;
            }
            writer.end_object(members.len());
        }
        leaf => leaf.write(writer),
    }
    Ok(())
}

/// One tagged form.
struct Tag<'t> {
    name: &'t str,
    value: Option<&'t Json<'t>>,
    form: Form,
}

impl<'t> Tag<'t> {
    /// The form that `tree` is. In [`Form::Typed`] everything has to be one.
    fn of(tree: &'t Json<'t>, form: Form) -> Result<Option<Tag<'t>>, TagError> {
        let marker = tree.member(MARKER);
        if form == Form::Mixed && marker.is_none() {
            return Ok(None);
        }
        let Some(name) = tree.member("type").and_then(Json::as_str) else {
            return wrong("a tagged form has a `type`");
        };
        if let (Form::Mixed, Json::Object(members)) = (form, tree) {
            if marker != Some(&Json::Number(1.0)) {
                return wrong(format!(
                    "`{MARKER}` is reserved for tagged forms, where it is 1"
                ));
            }
            let known = ["type", "value", MARKER];
            if let Some((other, _)) = members.iter().find(|(key, _)| !known.contains(&&**key)) {
                return wrong(format!("a tagged form has no member `{other}`"));
            }
        }
        Ok(Some(Tag {
            name,
            value: tree.member("value"),
            form,
        }))
    }

    fn bad<T>(&self, what: &str) -> Result<T, TagError> {
        wrong(format!("the value of a `{}` is {what}", self.name))
    }

    fn text(&self) -> Result<&'t str, TagError> {
        match self.value.and_then(Json::as_str) {
            Some(text) => Ok(text),
            None => self.bad("a string"),
        }
    }

    fn list(&self) -> Result<&'t [Json<'t>], TagError> {
        match self.value {
            Some(Json::Array(list)) => Ok(list),
            _ => self.bad("a list"),
        }
    }

    /// Base64 in either alphabet, padded or not.
    fn bytes(&self) -> Result<Vec<u8>, TagError> {
        let text = self.text()?.as_bytes();
        [BASE64, BASE64_NOPAD, BASE64URL_NOPAD, BASE64URL]
            .iter()
            .find_map(|alphabet| alphabet.decode(text).ok())
            .map_or_else(|| self.bad("base64"), Ok)
    }

    fn write(&self, writer: &mut V8Writer) -> Result<(), TagError> {
        match self.name {
            "undefined" => writer.tag(b'_'),
            "number" => match self.value {
                Some(Json::Number(number)) => writer.number(*number),
                Some(Json::String(text)) => match number::from_special(text) {
                    Some(number) => writer.number(number),
                    None => return self.bad("a number, NaN, Infinity, -Infinity or -0"),
                },
                _ => return self.bad("a number, NaN, Infinity, -Infinity or -0"),
            },
            "bigint" => writer.bigint(&self.bigint()?),
            "Date" => {
                writer.tag(b'D');
                writer.double(self.date_ms()?);
            }
            "RegExp" => self.write_regexp(writer)?,
            "Map" | "json_map" => self.write_map(writer)?,
            "Set" | "json_set" => {
                let list = self.list()?;
                writer.tag(b'\'');
                for value in list {
                    self.write_inner(value, writer)?;
                }
                writer.tag(b',');
                writer.count(list.len());
            }
            "ArrayBuffer" => {
                self.write_buffer(writer)?;
            }
            "Error" | "EvalError" | "RangeError" | "ReferenceError" | "SyntaxError"
            | "TypeError" | "URIError" => self.write_error(writer)?,
            name => {
                if let Some((subtag, _, element_bytes)) =
                    VIEWS.iter().find(|(_, view, _)| *view == name)
                {
                    return self.write_view(*subtag, *element_bytes, writer);
                }
                if self.form == Form::Mixed {
                    return wrong(format!("there is no tagged form of the type `{name}` here"));
                }
                return self.write_typed(writer);
            }
        }
        Ok(())
    }

    /// What stands inside this form: values of the same form, except in the older `kv-utils` forms.
    fn write_inner(&self, value: &Json<'_>, writer: &mut V8Writer) -> Result<(), TagError> {
        if self.form == Form::Typed && matches!(self.name, "Map" | "Set") {
            value.write(writer);
            return Ok(());
        }
        write(value, self.form, writer)
    }

    /// Forms of values that plain JSON can say.
    fn write_typed(&self, writer: &mut V8Writer) -> Result<(), TagError> {
        match (self.name, self.value) {
            ("null", _) => writer.null(),
            ("boolean", Some(Json::Bool(value))) => writer.bool(*value),
            ("string", Some(Json::String(text))) => writer.string(text),
            ("json_array", Some(Json::Array(list))) => {
                writer.begin_array(list.len());
                for element in list {
                    write(element, self.form, writer)?;
                }
                writer.end_array(list.len());
            }
            ("json_object", Some(Json::Object(members))) => {
                writer.begin_object();
                for (key, value) in members {
                    writer.key(key);
                    write(value, self.form, writer)?;
                }
                writer.end_object(members.len());
            }
            ("Array", Some(plain @ Json::Array(_))) | ("object", Some(plain @ Json::Object(_))) => {
                plain.write(writer);
            }
            ("boolean" | "string" | "json_array" | "json_object" | "Array" | "object", _) => {
                return self.bad("of another type than it says");
            }
            (name, _) => return wrong(format!("there is no type `{name}` here")),
        }
        Ok(())
    }

    fn bigint(&self) -> Result<BigInt, TagError> {
        let text = self.text()?;
        if text.len() > BIGINT_DIGITS_MAX {
            return self.bad("too long; write it as `v8`");
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        match text.parse() {
            Ok(number) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
            _ => self.bad("a string of decimal digits"),
        }
    }

    fn date_ms(&self) -> Result<f64, TagError> {
        match self.value {
            Some(Json::Null) => Ok(f64::NAN),
            Some(Json::String(text)) => match text.parse::<jiff::Timestamp>() {
                Ok(time) => Ok(time.as_millisecond() as f64),
                Err(_) => self.bad("an RFC 3339 time such as 2026-01-02T03:04:05.678Z, or null"),
            },
            _ => self.bad("an RFC 3339 time such as 2026-01-02T03:04:05.678Z, or null"),
        }
    }

    fn write_regexp(&self, writer: &mut V8Writer) -> Result<(), TagError> {
        let member = |name| self.value.and_then(|value| value.member(name)?.as_str());
        let parts = match self.form {
            Form::Mixed => member("source").zip(member("flags")),
            Form::Typed => self
                .text()?
                .strip_prefix('/')
                .and_then(|text| text.rsplit_once('/')),
        };
        let Some((source, letters)) = parts else {
            return self.bad("a regular expression: its source and its flags");
        };
        let mut bits = 0;
        for letter in letters.chars() {
            match REGEXP_FLAGS.iter().find(|(known, _)| *known == letter) {
                Some((_, bit)) if bits & bit == 0 => bits |= bit,
                _ => return self.bad("a regular expression whose flags are some of dgimsuvy"),
            }
        }
        writer.tag(b'R');
        writer.string(source);
        writer.varint(bits);
        Ok(())
    }

    fn write_map(&self, writer: &mut V8Writer) -> Result<(), TagError> {
        let list = self.list()?;
        writer.tag(b';');
        for pair in list {
            let Json::Array(pair) = pair else {
                return self.bad("a list of pairs");
            };
            let [key, value] = pair.as_slice() else {
                return self.bad("a list of pairs");
            };
            self.write_inner(key, writer)?;
            self.write_inner(value, writer)?;
        }
        writer.tag(b':');
        writer.count(2 * list.len());
        Ok(())
    }

    fn write_buffer(&self, writer: &mut V8Writer) -> Result<usize, TagError> {
        let bytes = self.bytes()?;
        writer.tag(b'B');
        writer.count(bytes.len());
        writer.raw(&bytes);
        Ok(bytes.len())
    }

    fn write_view(
        &self,
        subtag: u8,
        element_bytes: usize,
        writer: &mut V8Writer,
    ) -> Result<(), TagError> {
        let len = self.write_buffer(writer)?;
        if len % element_bytes != 0 {
            return self.bad("base64 of whole elements");
        }
        writer.tag(b'V');
        writer.tag(subtag);
        // From the start, all of it, a buffer of fixed length.
        writer.count(0);
        writer.count(len);
        writer.count(0);
        Ok(())
    }

    fn write_error(&self, writer: &mut V8Writer) -> Result<(), TagError> {
        let Some(value @ Json::Object(_)) = self.value else {
            return self.bad("an object with `message` and `stack`");
        };
        let name = match self.form {
            Form::Mixed => value.member("name").and_then(Json::as_str),
            Form::Typed => Some(self.name),
        };
        writer.tag(b'r');
        match name {
            Some("EvalError") => writer.tag(b'E'),
            Some("RangeError") => writer.tag(b'R'),
            Some("ReferenceError") => writer.tag(b'F'),
            Some("SyntaxError") => writer.tag(b'S'),
            Some("TypeError") => writer.tag(b'T'),
            Some("URIError") => writer.tag(b'U'),
            Some("Error") | None => {}
            Some(_) => return self.bad("an error whose name JavaScript knows"),
        }
        if let Some(message) = value.member("message").and_then(Json::as_str) {
            writer.tag(b'm');
            writer.string(message);
        }
        if let Some(cause) = value.member("cause") {
            writer.tag(b'c');
            write(cause, self.form, writer)?;
        }
        if let Some(stack) = value.member("stack").and_then(Json::as_str) {
            writer.tag(b's');
            writer.string(stack);
        }
        writer.tag(b'.');
        Ok(())
    }
}
