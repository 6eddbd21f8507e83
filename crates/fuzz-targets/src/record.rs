//! Seal records in JSON, of a shard and of a group.

use vram_residency::seal::Record;
use vram_residency::shard::GroupRecord;
use vram_residency::verify::check_record;

use crate::vectors::SEALED;
use crate::{json, statement};

/// What is accepted is written and read back as it was, an independent reading
/// of its statement gives it back, and its tag holds only for what was sealed.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    group(text) || shard(text)
}

/// The members of a group record are records of their own, in order.
fn group(text: &str) -> bool {
    let Ok(group) = GroupRecord::from_json(text) else {
        return false;
    };
    json::says_the_same(text, &group);
    for (at, member) in group.members.iter().enumerate() {
        let place = member.position.expect("a place in the group");
        assert_eq!(
            (place.index as usize, place.total as usize),
            (at, group.members.len())
        );
        assert_eq!(member.group, Some(group.group));
        assert!(shard(&member.to_json().expect("written")), "a member alone");
    }
    true
}

fn shard(text: &str) -> bool {
    let Ok(record) = Record::from_json(text) else {
        return false;
    };
    let again = Record::from_json(&record.to_json().expect("written")).expect("read back");
    assert_eq!(again, record);
    assert_eq!(again.tag.as_bytes(), record.tag.as_bytes());
    json::says_the_same(text, &record);
    statement::says(&record);
    for vector in SEALED.iter() {
        if check_record(&record, &vector.key).is_ok() {
            let known = SEALED.iter().any(|sealed| sealed.record == record);
            assert!(known, "forged");
        }
    }
    true
}
