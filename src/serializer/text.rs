//! Values that have one obvious text, as that text.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::de::value::{BorrowedStrDeserializer, Error};
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Serialize, forward_to_deserialize_any};

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, &'static str> {
    let mut text = String::new();
    write!(text, "{}", Plain(value)).map_err(|_| {
        "text holds strings, characters, numbers, booleans and enum variants without fields; \
         use JSON or MessagePack for anything else"
    })?;
    Ok(text.into_bytes())
}

/// Serde writes what has a text into a formatter and refuses the rest.
struct Plain<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> fmt::Display for Plain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.serialize(f)
    }
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::custom("not UTF-8"))?;
    T::deserialize(Text(text))
}

struct Text<'de>(&'de str);

impl Text<'_> {
    fn parse<T: FromStr>(&self) -> Result<T, Error> {
        let expected = || Error::custom(format_args!("expected {}", std::any::type_name::<T>()));
        self.0.parse().map_err(|_| expected())
    }
}

macro_rules! parsed {
    ($($method:ident => $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.parse()?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    parsed! {
        deserialize_bool => visit_bool
        deserialize_i8 => visit_i8
        deserialize_i16 => visit_i16
        deserialize_i32 => visit_i32
        deserialize_i64 => visit_i64
        deserialize_i128 => visit_i128
        deserialize_u8 => visit_u8
        deserialize_u16 => visit_u16
        deserialize_u32 => visit_u32
        deserialize_u64 => visit_u64
        deserialize_u128 => visit_u128
        deserialize_f32 => visit_f32
        deserialize_f64 => visit_f64
        deserialize_char => visit_char
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.0))
    }

    forward_to_deserialize_any! {
        str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}
