//! Decodes layered values into settings.
//!
//! Values from the file have types and keep them. Values from flags and the environment are text,
//! read as whatever the setting holds. An error names the place of the value it is about.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};

use super::ConfigError;
use super::layers::{Found, Given};

/// Values by name, one level of a path each.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Value(&'a Found),
    Table(BTreeMap<&'a str, Node<'a>>),
}

impl<'a> Node<'a> {
    /// The tree of values given by path.
    pub(super) fn tree(values: impl Iterator<Item = (&'a str, &'a Found)>) -> Node<'a> {
        let mut root = Node::Table(BTreeMap::new());
        for (path, found) in values {
            let mut node = &mut root;
            for name in path.split('.') {
                let Node::Table(table) = node else {
                    // A value and a table under one name: paths of settings never do that.
                    break;
                };
                node = table
                    .entry(name)
                    .or_insert_with(|| Node::Table(BTreeMap::new()));
            }
            *node = Node::Value(found);
        }
        root
    }
}

/// What is wrong with a value; the place is filled in where it is known.
#[derive(Debug)]
pub(super) struct DecodeError {
    place: Option<String>,
    what: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        DecodeError {
            place: None,
            what: what.to_string(),
        }
    }
}

impl From<DecodeError> for ConfigError {
    fn from(error: DecodeError) -> Self {
        ConfigError::new(
            error.place.unwrap_or_else(|| "configuration".into()),
            error.what,
        )
    }
}

/// Numbers of all widths are read as the widest; serde checks that they fit.
macro_rules! all_numbers {
    () => {
        all_numbers! {
            deserialize_i64: deserialize_i8 deserialize_i16 deserialize_i32
                deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64,
            deserialize_f64: deserialize_f32,
        }
    };
    ($($widest:ident: $($method:ident)*,)*) => {
        $($(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.$widest(visitor)
        })*)*
    };
}

impl<'de> de::Deserializer<'de> for Node<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self {
            Node::Table(table) => visitor.visit_map(Fields {
                fields: table.into_iter(),
                value: None,
            }),
            Node::Value(found) => match &found.given {
                Given::Typed(value) => value
                    .clone()
                    .deserialize_any(visitor)
                    .map_err(|error| de::Error::custom(error.message())),
                Given::Text(text) => visitor.visit_str(text),
                Given::Texts(texts) => visitor.visit_seq(SeqDeserializer::new(
                    texts.iter().map(|text| Text(text.as_str())),
                )),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self {
            Node::Value(Found {
                given: Given::Typed(value),
                ..
            }) => value
                .clone()
                .deserialize_enum(name, variants, visitor)
                .map_err(|error| de::Error::custom(error.message())),
            Node::Value(Found {
                given: Given::Text(text),
                ..
            }) => Text(text).deserialize_enum(name, variants, visitor),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self {
            // In one variable, several values are separated by commas.
            Node::Value(Found {
                given: Given::Text(text),
                ..
            }) => {
                let items = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                visitor.visit_seq(SeqDeserializer::new(items.map(Text)))
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.text() {
            Some(text) => Text(text).deserialize_bool(visitor),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.text() {
            Some(text) => Text(text).deserialize_i64(visitor),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.text() {
            Some(text) => Text(text).deserialize_f64(visitor),
            None => self.deserialize_any(visitor),
        }
    }

    all_numbers!();

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier
        ignored_any i128 u128
    }
}

impl Node<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Node::Value(Found {
                given: Given::Text(text),
                ..
            }) => Some(text),
            _ => None,
        }
    }
}

/// The members of a table; an error below one gets its place.
struct Fields<'a> {
    fields: std::collections::btree_map::IntoIter<&'a str, Node<'a>>,
    value: Option<Node<'a>>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some((name, value)) = self.fields.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        let name: StrDeserializer<'_, DecodeError> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let value = self.value.take().expect("a key was read before");
        let place = match &value {
            Node::Value(found) => Some(found.origin.to_string()),
            Node::Table(_) => None,
        };
        seed.deserialize(value).map_err(|error| DecodeError {
            place: error.place.or(place),
            what: error.what,
        })
    }
}

/// One value given as text.
struct Text<'a>(&'a str);

impl<'de> IntoDeserializer<'de, DecodeError> for Text<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> de::Deserializer<'de> for Text<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_str(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            "true" | "on" | "yes" | "1" => visitor.visit_bool(true),
            "false" | "off" | "no" | "0" => visitor.visit_bool(false),
            other => Err(de::Error::custom(format!(
                "{other:?} is neither true nor false"
            ))),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0.replace('_', "").parse() {
            Ok(number) => visitor.visit_i64(number),
            Err(_) => Err(de::Error::custom(format!(
                "{:?} is not a whole number",
                self.0
            ))),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0.parse() {
            Ok(number) => visitor.visit_f64(number),
            Err(_) => Err(de::Error::custom(format!("{:?} is not a number", self.0))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let word: StrDeserializer<'_, DecodeError> = self.0.into_deserializer();
        visitor.visit_enum(word)
    }

    all_numbers!();

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}
