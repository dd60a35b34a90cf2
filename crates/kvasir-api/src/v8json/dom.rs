//! JSON as a tree that borrows its strings from the text.
//!
//! A tree and not a single pass: V8 writes the length of an array before its elements, and refuses
//! an object that names a member twice, both of which are known only after reading on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::write::V8Writer;

/// A JSON value. Members keep their order; of a member named twice the later value counts, at the
/// place of the earlier one, as in JavaScript.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(f64),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// The value of a member, if this is an object that has it.
    pub(super) fn member(&self, name: &str) -> Option<&Json<'a>> {
        match self {
            Json::Object(members) => members
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// Writes the tree as plain JavaScript values, whatever its members are called.
    pub(super) fn write(&self, writer: &mut V8Writer) {
        match self {
            Json::Null => writer.null(),
            Json::Bool(value) => writer.bool(*value),
            Json::Number(number) => writer.number(*number),
            Json::String(text) => writer.string(text),
            Json::Array(list) => {
                writer.begin_array(list.len());
                for element in list {
                    element.write(writer);
                }
                writer.end_array(list.len());
            }
            Json::Object(members) => {
                writer.begin_object();
                for (key, value) in members {
                    writer.key(key);
                    value.write(writer);
                }
                writer.end_object(members.len());
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        /// Up to here looking at every earlier member is cheaper than hashing.
        const SCANNED_MEMBERS: usize = 8;
        let mut object: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        let mut places: HashMap<Cow<'de, str>, usize> = HashMap::new();
        while let Some((Name(key), value)) = members.next_entry()? {
            let place = if object.len() <= SCANNED_MEMBERS {
                object.iter().position(|(earlier, _)| *earlier == key)
            } else {
                if places.is_empty() {
                    places.extend((0..).zip(&object).map(|(at, (key, _))| (key.clone(), at)));
                }
                places.get(&key).copied()
            };
            match place {
                Some(place) => object[place].1 = value,
                None => {
                    if !places.is_empty() {
                        places.insert(key.clone(), object.len());
                    }
                    object.push((key, value));
                }
            }
        }
        Ok(Json::Object(object))
    }
}

/// A member's name, borrowed where it has no escapes. serde's own `Cow` never borrows.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}
