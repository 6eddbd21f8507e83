//! Reading a structure from a JSON object and nothing else.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
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

/// Reads `text` as one object. The parser stops at 128 nested levels and, for
/// the structures read here, at the second value of a name.
pub(super) fn read<'t, T: Deserialize<'t>>(text: &'t [u8]) -> Result<T, String> {
    let object: Object<T> = serde_json::from_slice(text)
        // Its message may quote the text, which is not ours.
        .map_err(|error| Text::new(&error.to_string()).to_string())?;
    Ok(object.0)
}

/// A bundle that cannot be read.
pub(super) fn malformed(reason: impl Into<String>) -> SignedError {
    SignedError::Bundle {
        reason: reason.into(),
    }
}
