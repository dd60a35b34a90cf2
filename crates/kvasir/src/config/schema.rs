//! Which settings there are, found out from the types that hold them.
//!
//! Decoding a struct tells its fields, and decoding a field tells its kind. So a decoder that
//! notes what is asked of it, and then refuses, learns the settings of a type one by one: each
//! round goes down to one setting that is not known yet. This holds for structs with named fields
//! of which each has a default, which is what all settings are.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path; a `*` stands for a name that is up to the operator.
    pub path: String,
    /// What it holds.
    pub kind: Kind,
}

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// Text, also addresses, paths and durations.
    Text,
    /// Several of something.
    List,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// The settings of `T`, in the order of its fields.
pub(super) fn settings_of<T: DeserializeOwned>() -> Vec<Setting> {
    let notes = RefCell::default();
    loop {
        let root = Asked {
            path: String::new(),
            notes: &notes,
        };
        // It always refuses: that is how a round ends.
        let _ = T::deserialize(root);
        let mut notes = notes.borrow_mut();
        if notes.known.contains("") {
            return std::mem::take(&mut notes.settings);
        }
    }
}

#[derive(Default)]
struct Notes {
    settings: Vec<Setting>,
    /// Paths below which nothing new is to be learnt.
    known: BTreeSet<String>,
}

/// A decoder at one path.
struct Asked<'n> {
    path: String,
    notes: &'n RefCell<Notes>,
}

/// The end of a round.
#[derive(Debug)]
struct Noted;

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("noted")
    }
}

impl std::error::Error for Noted {}

impl de::Error for Noted {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Noted
    }
}

impl Asked<'_> {
    fn note(self, kind: Kind) -> Noted {
        let mut notes = self.notes.borrow_mut();
        notes.known.insert(self.path.clone());
        notes.settings.push(Setting {
            path: self.path,
            kind,
        });
        Noted
    }
}

macro_rules! leaves {
    ($($method:ident => $kind:expr,)*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Noted> {
            Err(self.note($kind))
        })*
    };
}

impl<'de> de::Deserializer<'de> for Asked<'_> {
    type Error = Noted;

    leaves! {
        deserialize_bool => Kind::Bool,
        deserialize_i8 => Kind::Number,
        deserialize_i16 => Kind::Number,
        deserialize_i32 => Kind::Number,
        deserialize_i64 => Kind::Number,
        deserialize_u8 => Kind::Number,
        deserialize_u16 => Kind::Number,
        deserialize_u32 => Kind::Number,
        deserialize_u64 => Kind::Number,
        deserialize_f32 => Kind::Number,
        deserialize_f64 => Kind::Number,
        deserialize_char => Kind::Text,
        deserialize_str => Kind::Text,
        deserialize_string => Kind::Text,
        deserialize_bytes => Kind::Text,
        deserialize_byte_buf => Kind::Text,
        deserialize_any => Kind::Text,
        deserialize_identifier => Kind::Text,
        deserialize_ignored_any => Kind::Text,
        deserialize_unit => Kind::Text,
        deserialize_seq => Kind::List,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Noted> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: V,
    ) -> Result<V::Value, Noted> {
        Err(self.note(Kind::Text))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Noted> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Noted> {
        Err(self.note(Kind::List))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        _: V,
    ) -> Result<V::Value, Noted> {
        Err(self.note(Kind::List))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Noted> {
        Err(self.note(Kind::OneOf(variants)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Noted> {
        self.deserialize_struct("", &["*"], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Noted> {
        let below = |field: &str| match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        };
        let next = {
            let notes = self.notes.borrow();
            fields
                .iter()
                .find(|field| !notes.known.contains(&below(field)))
        };
        match next {
            Some(field) => visitor.visit_map(OneField {
                field,
                value: Some(Asked {
                    path: below(field),
                    notes: self.notes,
                }),
            }),
            None => {
                self.notes.borrow_mut().known.insert(self.path);
                Err(Noted)
            }
        }
    }
}

/// A struct of which only one field is given.
struct OneField<'n> {
    field: &'static str,
    value: Option<Asked<'n>>,
}

impl<'de> MapAccess<'de> for OneField<'_> {
    type Error = Noted;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Noted> {
        let name: StrDeserializer<'_, Noted> = self.field.into_deserializer();
        match &self.value {
            Some(_) => seed.deserialize(name).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Noted> {
        seed.deserialize(self.value.take().ok_or(Noted)?)
    }
}
