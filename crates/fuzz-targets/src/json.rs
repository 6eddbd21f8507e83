//! What every JSON decoder promises: no name twice, nothing that it ignores.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_json::Value;

/// Asserts that `text`, from which `accepted` was read, has no name twice and
/// tells what `accepted` tells, no more: no unknown name, no list of bare
/// values in the place of an object. An absent value may stand as `null`.
pub(crate) fn says_the_same(text: &str, accepted: &impl Serialize) {
    names_once(text);
    let mut given: Value = serde_json::from_str(text).expect("JSON");
    let mut meant = serde_json::to_value(accepted).expect("written");
    drop_nulls(&mut given);
    drop_nulls(&mut meant);
    assert_eq!(given, meant);
}

/// Asserts that no object in `text`, which was accepted, has a name twice.
pub(crate) fn names_once(text: &str) {
    if let Err(error) = serde_json::from_str::<NamesOnce>(text) {
        panic!("accepted, but {error}: {text}");
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Any JSON whose objects have no name twice.
struct NamesOnce;

impl<'de> Deserialize<'de> for NamesOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for NamesOnce {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without a name twice")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("'{name}' stands twice")));
            }
            map.next_value::<Self>()?;
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_twice_is_seen_at_every_depth_and_in_every_spelling() {
        let good = r#"{"a": [1, -1, 1.5, null, true, {"b": "c"}], "b": {"a": {}}}"#;
        assert!(serde_json::from_str::<NamesOnce>(good).is_ok());
        for bad in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": 1, "\u0061": 1}"#,
            r#"[{"x": [{"b": 1, "c": 2, "b": 3}]}]"#,
        ] {
            assert!(serde_json::from_str::<NamesOnce>(bad).is_err(), "{bad}");
        }
    }
}
