//! Reading a structure from a JSON object and nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::SignedError;
use crate::audit::Text;

/// A structure that must stand as an object: the parser would also take a list
/// of bare values, and with it no name would be checked.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Fields(PhantomData))
    }
}

impl<T: Serialize> Serialize for Object<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// Any value in which no object has a name twice.
struct Distinct;

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if !names.insert(name) {
                return Err(A::Error::custom("a name stands twice in an object"));
            }
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

/// Reads `text` as one object. The parser stops at 128 nested levels and, in what
/// is read and in what is skipped, at the second value of a name.
pub(crate) fn read<'t, T: Deserialize<'t>>(text: &'t [u8]) -> Result<T, String> {
    let object: Result<Object<T>, _> = serde_json::from_slice(text);
    let object = object.and_then(|object| {
        serde_json::from_slice::<Distinct>(text)?;
        Ok(object)
    });
    // Its message may quote the text, which is not ours.
    let object = object.map_err(|error| Text::new(&error.to_string()).to_string())?;
    Ok(object.0)
}

/// A bundle that cannot be read.
pub(super) fn malformed(reason: impl Into<String>) -> SignedError {
    SignedError::Bundle {
        reason: reason.into(),
    }
}
