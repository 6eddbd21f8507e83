//! What a tag covers. The library only ever writes statements; this reads them,
//! by the table in `docs/design.md` and nothing else, so that two records with
//! one statement, or a field that no statement holds, cannot go unseen.

use std::str;

use vram_digest::FileDigest;
use vram_residency::clock::Timestamp;
use vram_residency::device::{DeviceKind, DriverInfo, MemoryKind, Protection, Uuid, Witness};
use vram_residency::key::{KeyId, SealTag};
use vram_residency::seal::{
    GroupId, InstanceId, RECORD_SCHEMA, Record, SIGNED_RECORD_SCHEMA, ShardPosition,
};
use vram_residency::signed::SignerId;
use vram_residency::verify::check_record;

use crate::vectors::SEALED;

/// Every statement of a record is that record's only, and a tag goes with no
/// statement but its own.
pub(crate) fn run(data: &[u8]) -> bool {
    // Longer ones are records that the JSON reader refuses for their length.
    let Some(mut record) = read(data).filter(|_| data.len() <= 8 << 10) else {
        return false;
    };
    assert_eq!(record.statement(), data, "two statements of one record");
    let again = Record::from_json(&record.to_json().expect("written")).expect("read back");
    assert_eq!(again, record);
    for vector in SEALED.iter() {
        record.tag = vector.record.tag.clone();
        let believed = check_record(&record, &vector.key).is_ok();
        assert_eq!(believed, record == vector.record);
        assert_eq!(believed, data == vector.statement);
    }
    true
}

/// Asserts that the statement of `record` tells every field but the tag.
pub(crate) fn says(record: &Record) {
    let mut read = read(&record.statement()).expect("a statement can be read");
    read.tag = record.tag.clone();
    assert_eq!(read, *record);
}

/// Reads a statement; the tag of the record is zero. `None`: it is none.
fn read(data: &[u8]) -> Option<Record> {
    let mut from = Reader(data);
    let has_signer = has_signer(&mut from)?;
    let key_id = KeyId::from_bytes(from.bytes()?);
    let key_salt = from.bytes()?;
    let instance = InstanceId::from_bytes(from.bytes()?);
    let sequence = from.int64()?;
    let sealed_at = Timestamp::from_nanos(from.int64()?);
    let sealed = from.flag()?;
    let shard_id = from.text()?.parse().ok()?;
    let model_ref = from.text()?.parse().ok()?;
    let worker_id = from.text()?.parse().ok()?;
    let vram_bytes = from.int64()?;
    let digest = FileDigest::from_bytes(from.bytes()?);
    let content_sha256 = from.option(Reader::bytes)?;
    let position = from.option(|from| {
        let (index, total) = (from.int32()?, from.int32()?);
        ShardPosition::new(index, total).ok()
    })?;
    let group = from.option(|from| Some(GroupId::from_bytes(from.bytes()?)))?;
    let device_kind = match from.byte()? {
        1 => DeviceKind::Cuda,
        2 => DeviceKind::Simulated,
        _ => return None,
    };
    let gpu_device = from.int32()?;
    let device_uuid = Uuid::from_bytes(from.bytes()?);
    let driver = from.option(|from| {
        let version = from.int32()?;
        let library = from.text()?.to_owned();
        Some(DriverInfo { version, library })
    })?;
    let witness = witness(&mut from)?;
    let (schema, signer) = if has_signer {
        let signer = SignerId::try_from(from.text()?.to_owned()).ok()?;
        (SIGNED_RECORD_SCHEMA, Some(signer))
    } else {
        (RECORD_SCHEMA, None)
    };
    from.0.is_empty().then_some(Record {
        schema: schema.to_owned(),
        shard_id,
        model_ref,
        sealed,
        vram_bytes,
        digest,
        content_sha256,
        device_kind,
        gpu_device,
        device_uuid,
        driver,
        position,
        group,
        sealed_at,
        sequence,
        instance,
        worker_id,
        witness,
        signer,
        key_id,
        key_salt,
        tag: SealTag::from_bytes([0; 32]),
    })
}

/// The start, of which the version tells whether a signer stands at the end.
fn has_signer(from: &mut Reader<'_>) -> Option<bool> {
    let (magic, version) = (from.bytes()?, from.bytes()?);
    if (magic, from.bytes()?) != (*b"VRAMSEAL", [1, 1]) {
        return None;
    }
    match version {
        [1, 0] => Some(false),
        [2, 0] => Some(true),
        _ => None,
    }
}

fn witness(from: &mut Reader<'_>) -> Option<Witness> {
    let memory = match from.byte()? {
        0 => MemoryKind::Unknown,
        1 => MemoryKind::Device,
        2 => MemoryKind::Host,
        3 => MemoryKind::Managed,
        4 => MemoryKind::Simulated,
        _ => return None,
    };
    let flags = from.byte().filter(|flags| *flags < 8)?;
    let ordinal = from.int32()?;
    let protection = match from.byte()? {
        0 => Protection::ReadWrite,
        1 => Protection::ReadOnly,
        _ => return None,
    };
    Some(Witness {
        memory,
        managed: flags & 1 != 0,
        host_pointer: flags & 2 != 0,
        ordinal,
        pinned_on_device: flags & 4 != 0,
        protection,
    })
}

/// What is left to read.
struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    fn take(&mut self, len: usize) -> Option<&'d [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn int32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn int64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'d str> {
        let len = usize::try_from(self.int32()?).ok()?;
        str::from_utf8(self.take(len)?).ok()
    }

    /// The outer `None` is a statement that cannot be read.
    #[expect(clippy::option_option, reason = "no value and no reading differ")]
    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Some(None)
        }
    }
}
