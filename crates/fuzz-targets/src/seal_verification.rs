//! Records from outside, put to a manager that holds shards.

use std::sync::LazyLock;

use vram_residency::manager::RunState;
use vram_residency::sim::SimDevice;
use vram_residency::{Error, Mode, Record, SealRequest, SealedShard, VramManager};

use crate::manager::manager;

struct Worker {
    manager: VramManager,
    held: [SealedShard; 2],
    /// Of a shard that was freed: its tag still holds.
    freed: Record,
}

static WORKER: LazyLock<Worker> = LazyLock::new(|| {
    let manager = manager(&[SimDevice::new(1 << 20)]);
    let seal = |id: &str, len| {
        let bytes = vec![len as u8; len];
        let request = SealRequest::bytes(&bytes).id(id);
        manager.seal(request).expect("sealed")
    };
    let freed = seal("freed", 5_000);
    let record = freed.record().clone();
    manager.deallocate(&freed).expect("freed");
    let held = [seal("first", 10_000), seal("second", 10_000)];
    Worker {
        held,
        freed: record,
        manager,
    }
});

/// The seeds, by name. `tests/replay` compares.
#[must_use]
pub fn seeds() -> [(&'static str, String); 3] {
    let json = |record: &Record| record.to_json().expect("JSON");
    let [first, second] = &WORKER.held;
    [
        ("first", json(first.record())),
        ("second", json(second.record())),
        ("freed", json(&WORKER.freed)),
    ]
}

/// A record is accepted when it is that of a shard that is held, to the last field,
/// and never otherwise; whatever is presented, no shard is harmed.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(record) = Record::from_json(&String::from_utf8_lossy(data)) else {
        return false;
    };
    let Worker { manager, held, .. } = &*WORKER;
    let genuine = held.iter().any(|shard| *shard.record() == record);
    match manager.verify_record(&record, Mode::Full) {
        Ok(verified) => {
            assert!(genuine, "a record of nothing that is held is accepted");
            let checked = verified.verification();
            assert_eq!(checked.bytes_checked, record.vram_bytes);
        }
        Err(Error::Verify(why)) => assert!(!genuine, "{why}"),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(manager.state(), RunState::Running);
    for shard in held {
        assert!(shard.is_sealed() && !shard.is_quarantined());
    }
    genuine
}
