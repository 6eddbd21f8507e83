//! Names that come from outside, parsed once: after this a [`ShardId`] is good.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::InputError;
use crate::hex;
use crate::random::{Random, RandomError, bytes};
use crate::text::is_hidden;

/// Longest shard id and worker id in bytes (requirement: IV-003).
pub const MAX_ID_BYTES: usize = 256;
/// Longest model reference in bytes.
pub const MAX_MODEL_REF_BYTES: usize = 1024;
/// Prefix of generated ids.
const GENERATED_PREFIX: &str = "orch-shard-";

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InputError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                check_identifier($field, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InputError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                check_identifier($field, &text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// A shard's name: 1..=256 ASCII letters, digits, dashes and underscores
    /// (requirement: IV-003, IV-005, VA-1). Never made from an address or a clock.
    ShardId,
    "shard id"
);

identifier!(
    /// The worker that seals: part of the key derivation and of every event.
    /// Same alphabet and length as [`ShardId`].
    WorkerId,
    "worker id"
);

impl ShardId {
    /// `orch-shard-` and 128 random bits in hex.
    ///
    /// # Errors
    /// [`RandomError`] of the source.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        Ok(Self(format!(
            "{GENERATED_PREFIX}{}",
            hex::encode(&bytes::<16>(random)?)
        )))
    }
}

fn check_identifier(field: &'static str, text: &str) -> Result<(), InputError> {
    if text.is_empty() {
        return Err(InputError::Empty { field });
    }
    if text.len() > MAX_ID_BYTES {
        return Err(InputError::TooLong {
            field,
            len: text.len(),
            max: MAX_ID_BYTES,
        });
    }
    if text.contains('\0') {
        return Err(InputError::NullByte { field });
    }
    if text.contains("..") || text.contains(['/', '\\']) {
        return Err(InputError::PathTraversal { field });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match text.chars().position(|c| !allowed(c)) {
        Some(position) => Err(InputError::Characters {
            field,
            position,
            allowed: "ASCII letters, digits, '-' and '_'",
        }),
        None => Ok(()),
    }
}

/// What the bytes are called outside: a model name, a file name. Printable
/// text up to 1024 bytes: no control characters, and none that cannot be seen or
/// turn the reading direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelRef(String);

impl ModelRef {
    /// The text; empty when the caller named none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ModelRef {
    type Error = InputError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const FIELD: &str = "model reference";
        if text.len() > MAX_MODEL_REF_BYTES {
            let len = text.len();
            return Err(InputError::TooLong {
                field: FIELD,
                len,
                max: MAX_MODEL_REF_BYTES,
            });
        }
        if text.contains('\0') {
            return Err(InputError::NullByte { field: FIELD });
        }
        match text.chars().position(is_hidden) {
            Some(position) => Err(InputError::Characters {
                field: FIELD,
                position,
                allowed: "text that can be seen: no control, invisible or direction-turning characters",
            }),
            None => Ok(Self(text)),
        }
    }
}

impl FromStr for ModelRef {
    type Err = InputError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<ModelRef> for String {
    fn from(model: ModelRef) -> Self {
        model.0
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::OsRandom;

    // requirement: VA-4, VA-7
    #[test]
    fn a_model_reference_holds_nothing_that_cannot_be_seen() {
        for good in [
            "",
            "mod\u{e8}le (e\u{301})",
            "\u{6a21}\u{578b}.gguf",
            "a\\b 'c'",
        ] {
            assert_eq!(good.parse::<ModelRef>().unwrap().as_str(), good);
        }
        for bad in ["a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{feff}b"] {
            let refused = bad.parse::<ModelRef>();
            let at = Err(InputError::Characters {
                field: "model reference",
                position: 1,
                allowed: "text that can be seen: no control, invisible or direction-turning characters",
            });
            assert_eq!(refused, at, "{bad:?}");
        }
    }

    // requirement: IV-003, IV-005, VA-1, VA-7
    #[test]
    fn ids_accept_the_alphabet_and_refuse_the_rest() {
        let longest = "a".repeat(256);
        for good in ["a", "shard-123", "A_b-9", longest.as_str()] {
            assert_eq!(good.parse::<ShardId>().unwrap().as_str(), good);
        }
        let refuse = |text: &str| text.parse::<ShardId>().unwrap_err();
        assert_eq!(refuse(""), InputError::Empty { field: "shard id" });
        assert!(matches!(
            refuse(&"a".repeat(257)),
            InputError::TooLong {
                len: 257,
                max: 256,
                ..
            }
        ));
        assert!(matches!(refuse("shard\0null"), InputError::NullByte { .. }));
        assert!(
            refuse("../etc/passwd")
                .to_string()
                .contains("path traversal")
        );
        for bad in [
            "@#$%",
            "a b",
            "a:b",
            "shard-\u{3b1}",
            "tab\t",
            "line\n",
            "\u{1b}[31m",
        ] {
            assert!(
                matches!(refuse(bad), InputError::Characters { .. }),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn generated_ids_are_valid_and_long() {
        let id = ShardId::generate(&OsRandom).unwrap();
        assert!(id.as_str().starts_with("orch-shard-") && id.as_str().len() > 20);
        assert_eq!(id.as_str().parse::<ShardId>().unwrap(), id);
    }

    #[test]
    fn model_references_are_printable() {
        assert!("meta/llama-3 8B.safetensors".parse::<ModelRef>().is_ok());
        assert!("a\0b".parse::<ModelRef>().is_err());
        assert!("a\nb".parse::<ModelRef>().is_err());
        assert!("x".repeat(1025).parse::<ModelRef>().is_err());
    }
}
