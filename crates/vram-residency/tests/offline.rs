//! Checking a file against a record on a machine without the device.

mod common;

use std::io::{Error as IoError, ErrorKind, Read};

use common::{rig, root_key, weights};
use vram_residency::SealRequest;
use vram_residency::load::LoadError;
use vram_residency::seal::Record;
use vram_residency::verify::{check_digest, check_file, check_record};

/// Gives its bytes a few at a time, with an answer of the test's own before each.
struct Halting<'b> {
    left: &'b [u8],
    answers: Vec<ErrorKind>,
}

impl Read for Halting<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if let Some(kind) = self.answers.pop() {
            return Err(IoError::from(kind));
        }
        let few = out.len().min(1000);
        self.left.read(&mut out[..few])
    }
}

fn sealed(bytes: &[u8]) -> Record {
    let rig = rig(4 << 20);
    let shard = rig.manager.seal(SealRequest::bytes(bytes)).unwrap();
    shard.record().clone()
}

// requirement: API-F21
#[test]
fn a_file_is_read_to_its_end_in_small_pieces_and_past_interruptions() {
    // More than one read of the checker, and no multiple of it.
    let bytes = weights((1 << 20) + 77, 5);
    let record = sealed(&bytes);
    let key = root_key(1);
    let authentic = check_record(&record, &key).unwrap();
    let reader = Halting {
        left: &bytes,
        answers: vec![ErrorKind::Interrupted; 3],
    };
    let check = check_file(&authentic, "model", reader).unwrap();
    assert!(check.matches);
    assert_eq!(
        (check.len, check.actual),
        (record.vram_bytes, record.digest)
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_offset() {
    let bytes = weights(5000, 6);
    let record = sealed(&bytes);
    let key = root_key(1);
    let authentic = check_record(&record, &key).unwrap();
    let broken = Halting {
        left: &[],
        answers: vec![ErrorKind::PermissionDenied],
    };
    let reader = bytes[..3000].chain(broken);
    match check_file(&authentic, "model", reader).err().unwrap() {
        LoadError::Read {
            name,
            offset,
            source,
        } => {
            assert_eq!((name.as_str(), offset), ("model", 3000));
            assert_eq!(source.kind(), ErrorKind::PermissionDenied);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn length_and_digest_must_both_be_the_sealed_ones() {
    let record = sealed(&weights(5000, 7));
    let key = root_key(1);
    let authentic = check_record(&record, &key).unwrap();
    let other = vram_digest::digest(b"another");
    let matches = |digest, len| check_digest(&authentic, digest, len).matches;
    assert!(matches(record.digest, 5000));
    assert!(!matches(record.digest, 5001));
    assert!(!matches(other, 5000));
    assert!(!matches(other, 5001));
}
