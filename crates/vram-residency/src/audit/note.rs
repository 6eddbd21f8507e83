//! Checkpoints: the size and root of a log, signed as a C2SP signed note.
//!
//! ```text
//! <origin>
//! <number of leaves>
//! <root, base64>
//! reopened                      only until the next checkpoint
//! cut <lines> <bytes>           only until the next checkpoint
//!
//! [em dash] <origin> <base64 of key hash (4 bytes) and Ed25519 signature (64)>
//! ```

use std::fmt;

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

use super::merkle::Hash;
use crate::key::{KeyError, KeyId, SigningKey, VerifyingKey};

/// What starts a signature line: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// Signature type of Ed25519 in signed notes.
const ED25519: u8 = 1;
/// The extension lines that are known, in their order.
const REOPENED: &str = "reopened";
const CUT: &str = "cut ";
/// Longest checkpoint that is read, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 16 << 10;
/// Longest origin in bytes.
pub const MAX_ORIGIN_BYTES: usize = 320;

/// The name of a log: printable ASCII without space or `+`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NoteError::Origin`] naming what is allowed.
    pub fn new(name: &str) -> Result<Self, NoteError> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'+';
        if name.is_empty() || name.len() > MAX_ORIGIN_BYTES || !name.bytes().all(allowed) {
            return Err(NoteError::Origin);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Size and root of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: Origin,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// The last leaf closed the log, and it is written to again.
    pub reopened: bool,
    /// What is cut off behind the last leaf.
    pub cut: Cut,
}

/// What a killed writer left that is not taken over. The checkpoint says so before
/// it is cut off, and the log's next event does after it: no kill in between hides
/// that something was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// Whole lines.
    pub lines: u64,
    /// Bytes of an unfinished last line.
    pub bytes: u64,
}

impl Cut {
    /// Whether nothing is cut off.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn line(self) -> String {
        format!("{CUT}{} {}", self.lines, self.bytes)
    }

    /// What a line says, if it says it as [`Cut::line`] does.
    fn parse(line: &str) -> Option<Self> {
        let (lines, bytes) = line.strip_prefix(CUT)?.split_once(' ')?;
        let cut = Self {
            lines: lines.parse().ok()?,
            bytes: bytes.parse().ok()?,
        };
        (!cut.is_empty() && cut.line() == line).then_some(cut)
    }
}

/// A checkpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// A name that a signed note cannot carry.
    #[error(
        "a log's name has 1 to {MAX_ORIGIN_BYTES} printable ASCII characters, no space and no '+'"
    )]
    Origin,
    /// The text is not a checkpoint.
    #[error("not a checkpoint: {0}")]
    Format(&'static str),
    /// It is signed, but by none of the keys that were given.
    #[error("the checkpoint of '{origin}' is signed by none of the trusted keys")]
    Foreign {
        /// The log it names.
        origin: String,
    },
    /// It is signed by a trusted key that is revoked.
    #[error("the checkpoint is signed by key {key_id}, which is revoked")]
    Revoked {
        /// The key.
        key_id: KeyId,
    },
    /// It is signed by a key after the log went over to another one.
    #[error("the checkpoint is signed by key {key_id} after another key replaced it")]
    Replaced {
        /// The key.
        key_id: KeyId,
    },
    /// A trusted key is named, but the signature is not its own.
    #[error("the signature of the checkpoint of '{origin}' is wrong")]
    Signature {
        /// The log it names.
        origin: String,
    },
}

impl Checkpoint {
    /// The text that is signed.
    fn text(&self) -> String {
        let root = Base64::encode_string(&self.root);
        let mut text = format!("{}\n{}\n{root}\n", self.origin, self.size);
        let cut = (!self.cut.is_empty()).then(|| self.cut.line());
        let reopened = self.reopened.then(|| REOPENED.to_owned());
        for line in reopened.into_iter().chain(cut) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// The signed note.
    ///
    /// # Errors
    /// [`KeyError`] when the key cannot sign.
    pub fn sign(&self, key: &SigningKey) -> Result<String, KeyError> {
        Ok(format!("{}\n{}", self.text(), self.signature(key)?))
    }

    /// The signed note with the signatures of two keys.
    pub(crate) fn sign_both(
        &self,
        one: &SigningKey,
        other: &SigningKey,
    ) -> Result<String, KeyError> {
        Ok(self.sign(one)? + &self.signature(other)?)
    }

    /// The note with the signature of `key` alone; none when it is not there.
    pub(crate) fn signed_by(note: &str, key: &VerifyingKey) -> Option<String> {
        let (text, signatures) = note.split_once("\n\n")?;
        let mut single = signatures.lines().map(|line| format!("{text}\n\n{line}\n"));
        single.find(|note| Self::open(note, std::slice::from_ref(key)).is_ok())
    }

    /// The line of a signature.
    fn signature(&self, key: &SigningKey) -> Result<String, KeyError> {
        let mut blob = key_hash(&self.origin, key.public()).to_vec();
        blob.extend(key.sign(self.text().as_bytes())?);
        let blob = Base64::encode_string(&blob);
        Ok(format!("{SIGNATURE_PREFIX}{} {blob}\n", self.origin))
    }

    /// Reads a signed note; one signature of a trusted key is needed.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(note: &str, trusted: &[VerifyingKey]) -> Result<Self, NoteError> {
        Self::open_by(note, trusted).map(|(_, checkpoint)| checkpoint)
    }

    /// What a note says, whoever signed it.
    pub(crate) fn claimed(note: &str) -> Result<Self, NoteError> {
        parse(note).map(|(checkpoint, _)| checkpoint)
    }

    /// As [`Checkpoint::open`], with the place of the key that signed.
    pub(crate) fn open_by(
        note: &str,
        trusted: &[VerifyingKey],
    ) -> Result<(usize, Self), NoteError> {
        let (checkpoint, signatures) = parse(note)?;
        let text = checkpoint.text();
        let mut error = NoteError::Foreign {
            origin: checkpoint.origin.to_string(),
        };
        for (name, hash, signature) in &signatures {
            let known = |(_, key): &(usize, &VerifyingKey)| {
                *name == checkpoint.origin.as_str() && *hash == key_hash(&checkpoint.origin, key)
            };
            let Some((at, key)) = trusted.iter().enumerate().find(known) else {
                continue;
            };
            if key.verifies(text.as_bytes(), signature) {
                return Ok((at, checkpoint));
            }
            error = NoteError::Signature {
                origin: checkpoint.origin.to_string(),
            };
        }
        Err(error)
    }
}

/// Names a key in signature lines: the start of SHA-256 over name and key.
fn key_hash(origin: &Origin, key: &VerifyingKey) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(origin.as_str())
        .chain_update([b'\n', ED25519])
        .chain_update(key.as_bytes())
        .finalize();
    let mut out = [0; 4];
    out.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    out
}

type Signature<'a> = (&'a str, [u8; 4], [u8; 64]);

fn parse(note: &str) -> Result<(Checkpoint, Vec<Signature<'_>>), NoteError> {
    let bad = NoteError::Format;
    if note.len() > MAX_CHECKPOINT_BYTES {
        return Err(bad("it is longer than 16 KiB"));
    }
    let (text, signatures) = note.split_once("\n\n").ok_or(bad("no signature"))?;
    let mut lines = text.split('\n');
    let mut line = || lines.next().ok_or(bad("a line is missing"));
    let (origin, size, root) = (line()?, line()?, line()?);
    let mut more = lines.next();
    let reopened = more == Some(REOPENED);
    if reopened {
        more = lines.next();
    }
    let cut = more.and_then(Cut::parse);
    if cut.is_some() {
        more = lines.next();
    }
    if more.is_some() {
        return Err(bad("unknown lines after the root"));
    }
    let number: u64 = size.parse().map_err(|_| bad("the size is no number"))?;
    if number.to_string() != size {
        return Err(bad("the size is not in its shortest form"));
    }
    let checkpoint = Checkpoint {
        origin: Origin::new(origin)?,
        size: number,
        root: decode(root).ok_or(bad("the root is not base64 of 32 bytes"))?,
        reopened,
        cut: cut.unwrap_or_default(),
    };
    let lines = signatures
        .strip_suffix('\n')
        .ok_or(bad("no final newline"))?;
    let parsed: Option<Vec<_>> = lines.split('\n').map(signature).collect();
    // Lines of other signature types are skipped, as the format asks.
    let parsed = parsed.ok_or(bad("a signature line is malformed"))?;
    Ok((checkpoint, parsed.into_iter().flatten().collect()))
}

/// The outer None is a malformed line, the inner one another type of signature.
#[expect(clippy::option_option, reason = "malformed and foreign lines differ")]
fn signature(line: &str) -> Option<Option<Signature<'_>>> {
    let (name, blob) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let blob = Base64::decode_vec(blob).ok()?;
    let (hash, signature) = blob.split_first_chunk::<4>()?;
    let signature: Option<[u8; 64]> = signature.try_into().ok();
    Some(signature.map(|signature| (name, *hash, signature)))
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    let len = Base64::decode(text, &mut out).ok()?.len();
    (len == N).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RootKey;

    fn key(seed: &[u8]) -> SigningKey {
        SigningKey::new(&RootKey::from_token(seed).unwrap()).unwrap()
    }

    #[test]
    fn a_note_opens_with_its_key_only_and_every_change_is_refused() {
        let ours = key(b"0123456789abcdef0123456789abcdef");
        let other = key(b"fedcba9876543210fedcba9876543210");
        let checkpoint = Checkpoint {
            origin: Origin::new("example.org/log").unwrap(),
            size: 20_852_163,
            root: [7; 32],
            reopened: false,
            cut: Cut::default(),
        };
        let note = checkpoint.sign(&ours).unwrap();
        let trusted = [ours.public().clone()];
        assert_eq!(Checkpoint::open(&note, &trusted), Ok(checkpoint.clone()));
        let again = Checkpoint {
            reopened: true,
            ..checkpoint
        };
        let signed = again.sign(&ours).unwrap();
        assert_eq!(Checkpoint::open(&signed, &trusted), Ok(again.clone()));
        for bad in ["", "Reopened\n", "reopened\nreopened\n", "reopened\n\n"] {
            let bad = signed.replace("reopened\n", bad);
            assert!(Checkpoint::open(&bad, &trusted).is_err(), "{bad}");
        }
        let cutting = Checkpoint {
            cut: Cut {
                lines: 3,
                bytes: 17,
            },
            ..again
        };
        let signed = cutting.sign(&ours).unwrap();
        assert!(signed.contains("\nreopened\ncut 3 17\n\n"), "{signed}");
        assert_eq!(Checkpoint::open(&signed, &trusted), Ok(cutting));
        for bad in [
            "",
            "cut 3 16\n",
            "cut 03 17\n",
            "cut 0 0\n",
            "cut 3\n",
            "cut 3 17\nmore\n",
        ] {
            let bad = signed.replace("cut 3 17\n", bad);
            assert!(Checkpoint::open(&bad, &trusted).is_err(), "{bad}");
        }
        let foreign = Checkpoint::open(&note, &[other.public().clone()]);
        assert!(matches!(foreign, Err(NoteError::Foreign { .. })));
        let larger = note.replace("20852163", "20852164");
        let wrong = Checkpoint::open(&larger, &trusted);
        assert!(matches!(wrong, Err(NoteError::Signature { .. })));
        let cut = Checkpoint::open(note.lines().next().unwrap(), &trusted);
        assert!(matches!(cut, Err(NoteError::Format(_))), "{cut:?}");
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            assert!(Checkpoint::open(&changed, &trusted).is_err(), "byte {at}");
        }
    }

    #[test]
    fn names_that_would_break_the_format_are_refused() {
        for bad in ["", "two words", "a+b", "line\n", "\u{e9}", &"x".repeat(321)] {
            assert_eq!(Origin::new(bad), Err(NoteError::Origin), "{bad:?}");
        }
    }
}
