//! What the two JSON readers (safetensors header, index) share: a way to carry
//! our own errors through serde, the rule that no key stands twice, and values
//! of one kind each.
//!
//! A text is checked where it lies before anything of it is kept, and one where
//! something else belongs is told of by its first characters: serde's own types
//! copy it, and repeat all of it in the error, escaped to six times its length.
//! So all but texts are asked for by `deserialize_any`, which lets the visitor
//! answer whatever stands there.

use super::error::{Excerpt, FormatError};
use super::limits::{Bound, Limits, bound};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Number;
use std::cell::RefCell;
use std::fmt;

/// Characters that the error about a text of the wrong kind repeats.
const SHOWN: usize = 80;

/// What every part of a JSON document is read under.
pub(super) struct Reader<'l> {
    pub(super) limits: &'l Limits,
    fault: RefCell<Option<FormatError>>,
    /// What stands around the fault.
    place: RefCell<Option<String>>,
}

impl<'l> Reader<'l> {
    /// Reads `text` as one JSON value by `read`, nothing after it but spaces.
    pub(super) fn run<'t, T>(
        limits: &'l Limits,
        text: &'t [u8],
        read: impl FnOnce(&Self, &mut Json<'t>) -> Result<T, serde_json::Error>,
    ) -> Result<T, FormatError> {
        let reader = Self {
            limits,
            fault: RefCell::default(),
            place: RefCell::default(),
        };
        // serde_json stops at 128 nested levels; the visitors used here never
        // descend further than three, and skipped values no further than
        // `json_depth`.
        let mut json = serde_json::Deserializer::from_slice(text);
        let result = read(&reader, &mut json).and_then(|value| json.end().map(|()| value));
        result.map_err(|error| {
            let fault = reader.fault.take().unwrap_or_else(|| explain(&error));
            match reader.place.take() {
                Some(place) => fault.within(|| place),
                None => fault,
            }
        })
    }

    /// Names what stands around a failure; of several places, the innermost.
    pub(super) fn within<T, E>(
        &self,
        place: impl FnOnce() -> String,
        result: Result<T, E>,
    ) -> Result<T, E> {
        if result.is_err() {
            self.place.borrow_mut().get_or_insert_with(place);
        }
        result
    }

    /// Stops the reading with `fault`.
    pub(super) fn stop<E: Error>(&self, fault: FormatError) -> E {
        self.fault.replace(Some(fault));
        E::custom("refused")
    }

    /// Lifts a check's result into serde's error type.
    pub(super) fn check<T, E: Error>(&self, result: Result<T, FormatError>) -> Result<T, E> {
        result.map_err(|fault| self.stop(fault))
    }

    /// Refuses the `count`-th element of a list that may not have so many.
    pub(super) fn count<E: Error>(
        &self,
        field: &'static str,
        count: usize,
        bound: Bound,
    ) -> Result<(), E> {
        self.check(bound.check_count(field, count))
    }

    /// Refuses a second value for `slot`.
    pub(super) fn once<T, E: Error>(
        &self,
        slot: &Option<T>,
        what: &'static str,
        name: impl FnOnce() -> String,
    ) -> Result<(), E> {
        match slot {
            None => Ok(()),
            Some(_) => Err(self.stop(FormatError::Duplicate {
                what,
                name: name().as_str().into(),
            })),
        }
    }
}

/// The JSON deserializer over bytes in memory.
pub(super) type Json<'t> = serde_json::Deserializer<serde_json::de::SliceRead<'t>>;

/// Turns serde's message into ours; its text may quote the file, so it is cut
/// and escaped.
fn explain(error: &serde_json::Error) -> FormatError {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |p| p.0);
    FormatError::Json {
        line: u64::try_from(error.line()).unwrap_or(u64::MAX),
        column: u64::try_from(error.column()).unwrap_or(u64::MAX),
        reason: Excerpt::new(reason),
    }
}

/// Refuses a text where `visitor` wants something else.
fn no_text<'de, V: Visitor<'de>, E: Error>(visitor: &V, text: &str) -> Result<V::Value, E> {
    let end = text.char_indices().nth(SHOWN);
    let front = end.and_then(|(end, _)| text.get(..end)).unwrap_or(text);
    Err(E::invalid_type(Unexpected::Str(front), visitor))
}

/// A value filled key by key from a JSON object.
pub(super) trait Fields<'de> {
    /// What stands there, for messages ("a tensor's description").
    const EXPECTING: &'static str;

    /// What is kept of a key.
    type Key;

    /// Checks a key, of which nothing was copied.
    fn key<E: Error>(&self, key: &str) -> Result<Self::Key, E>;

    /// Takes the value of `key` from `map`.
    fn field<A: MapAccess<'de>>(&mut self, key: Self::Key, map: &mut A) -> Result<(), A::Error>;
}

/// Reads an object into the `Fields` it wraps.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Fields<'de>> DeserializeSeed<'de> for Object<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<T, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de, T: Fields<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        no_text(&self, text)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        while let Some(key) = map.next_key_seed(Key(&self.0))? {
            self.0.field(key, &mut map)?;
        }
        Ok(self.0)
    }
}

/// Reads a key of an object.
struct Key<'f, T>(&'f T);

impl<'de, T: Fields<'de>> DeserializeSeed<'de> for Key<'_, T> {
    type Value = T::Key;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<T::Key, D::Error> {
        de.deserialize_str(self)
    }
}

impl<'de, T: Fields<'de>> Visitor<'de> for Key<'_, T> {
    type Value = T::Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T::Key, E> {
        self.0.key(text)
    }
}

/// Reads a text by a function that checks it before it copies any of it.
pub(super) struct Text<'r, F> {
    pub(super) reader: &'r Reader<'r>,
    pub(super) take: F,
}

impl<'de, T, F> DeserializeSeed<'de> for Text<'_, F>
where
    F: FnOnce(&str) -> Result<T, FormatError>,
{
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<T, D::Error> {
        de.deserialize_str(self)
    }
}

impl<T, F> Visitor<'_> for Text<'_, F>
where
    F: FnOnce(&str) -> Result<T, FormatError>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        self.reader.check((self.take)(text))
    }
}

/// Reads a number.
pub(super) struct AnyNumber;

impl<'de> DeserializeSeed<'de> for AnyNumber {
    type Value = Number;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Number, D::Error> {
        de.deserialize_any(self)
    }
}

impl Visitor<'_> for AnyNumber {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
        let found = Number::from_f64(number);
        found.ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        no_text(&self, text)
    }
}

/// Reads a list of whole numbers, each by a function that may refuse it.
pub(super) struct Numbers<'r, F> {
    pub(super) reader: &'r Reader<'r>,
    /// What stands there, for messages.
    pub(super) expecting: &'static str,
    pub(super) each: F,
}

impl<'de, F> DeserializeSeed<'de> for Numbers<'_, F>
where
    F: FnMut(u64) -> Result<(), FormatError>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de, F> Visitor<'de> for Numbers<'_, F>
where
    F: FnMut(u64) -> Result<(), FormatError>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        no_text(&self, text)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(number) = list.next_element_seed(AnyNumber)? {
            let whole = number.as_u64().ok_or_else(|| {
                let found = format!("number {number}");
                A::Error::invalid_value(Unexpected::Other(&found), &"a whole number")
            })?;
            self.reader.check((self.each)(whole))?;
        }
        Ok(())
    }
}

/// Passes over the value of an unknown key: arrays and objects in each other
/// down to `json_depth`. (`IgnoredAny` would take any depth.)
pub(super) struct Skipped<'r> {
    reader: &'r Reader<'r>,
    depth: usize,
}

impl<'r> Skipped<'r> {
    pub(super) const fn new(reader: &'r Reader<'r>) -> Self {
        Self { reader, depth: 0 }
    }

    /// What stands one level further in.
    fn inner<E: Error>(&self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        let reader = self.reader;
        let limits = reader.limits;
        reader.count(
            "nesting in an unknown key",
            depth,
            bound!(limits.json_depth),
        )?;
        Ok(Self { reader, depth })
    }

    /// The same level again.
    const fn again(&self) -> Self {
        Self { ..*self }
    }
}

impl<'de> DeserializeSeed<'de> for Skipped<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skipped<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while list.next_element_seed(inner.again())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while map.next_key_seed(inner.again())?.is_some() {
            map.next_value_seed(inner.again())?;
        }
        Ok(())
    }
}
