//! Bytes that leave the device are checked as they leave: what comes out is
//! what was sealed, or nothing.

mod common;

use std::io::{self, Write};

use common::{Rig, rig, weights};
use vram_residency::error::{Error, VerifyError};
use vram_residency::load::LoadError;
use vram_residency::manager::RunState;
use vram_residency::sim::{Moment, Op};
use vram_residency::{Mode, SealRequest, SealedShard};

const MIB: usize = 1 << 20;
const LEN: usize = 3 * MIB + 100;

fn sealed() -> (Rig, SealedShard, Vec<u8>) {
    let rig = rig(8 << 20);
    let bytes = weights(LEN, 1);
    let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
    (rig, shard, bytes)
}

// requirement: API-F24, DG-7
#[test]
fn a_damaged_run_never_leaves_the_device() {
    let (rig, shard, bytes) = sealed();
    // Damaged behind our back, and not verified in between.
    rig.flip_newest(&shard, 2 * MIB as u64 + 5000, 6);
    let mut out = Vec::new();
    let error = rig.manager.unseal_to(&shard, &mut out).unwrap_err();
    let Error::Verify(VerifyError::Contents { damage, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(damage.runs, [(2 * MIB as u64 / 4096 + 1, 1)]);
    assert!(
        out == bytes[..2 * MIB],
        "only whole good runs came out: {}",
        out.len()
    );
    assert!(shard.is_quarantined());
    assert!(matches!(rig.manager.state(), RunState::Stopped { .. }));
    let before = rig.device().calls(Op::Read);
    assert!(rig.manager.unseal_model(&shard).is_err());
    assert!(rig.manager.read_shard_at_offset(&shard, 0, 1).is_err());
    assert_eq!(
        rig.device().calls(Op::Read),
        before,
        "quarantined: not even read"
    );
}

// requirement: API-F28, VA-8
#[test]
fn a_range_is_checked_with_the_blocks_it_touches_and_no_others() {
    let (rig, shard, bytes) = sealed();
    rig.flip_newest(&shard, 8192, 0);
    // The run that is read back holds the damage, whatever part is wanted.
    assert!(rig.manager.read_shard_at_offset(&shard, 8200, 10).is_err());
    let (rig, shard) = {
        let (rig, shard, _) = sealed();
        rig.flip_newest(&shard, LEN as u64 - 1, 0);
        (rig, shard)
    };
    for (offset, len) in [(0, 1), (4095, 2), (MIB - 1, 2), (100, 2 * MIB)] {
        let part = rig
            .manager
            .read_shard_at_offset(&shard, offset as u64, len as u64);
        assert!(
            part.unwrap() == bytes[offset..offset + len],
            "{offset}, {len}"
        );
    }
    assert!(
        rig.manager
            .read_shard_at_offset(&shard, 5, 0)
            .unwrap()
            .is_empty()
    );
    assert!(!shard.is_quarantined(), "nobody looked at the damage");
}

/// Takes some bytes, then fails.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.0);
        self.0 -= n;
        if n == 0 {
            return Err(io::Error::other("no space left"));
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// requirement: API-F24
#[test]
fn a_writer_that_fails_is_not_the_shards_fault() {
    let (rig, shard, bytes) = sealed();
    let error = rig
        .manager
        .unseal_to(&shard, &mut Full(MIB + 7))
        .unwrap_err();
    assert!(
        matches!(error, Error::Load(LoadError::Write { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("no space left"), "{error}");
    assert!(!shard.is_quarantined());
    assert!(rig.manager.unseal_model(&shard).unwrap() == bytes);
}

// requirement: API-F24, DG-2
#[test]
fn a_fault_that_is_gone_again_blames_the_way_back_and_not_the_memory() {
    let (rig, shard, _) = sealed();
    // Wrong while it is read, and right again when the device checks itself.
    let flip = |moment| vram_residency::sim::Flip {
        moment,
        offset: 9000,
        bit: 2,
    };
    rig.flip_newest(&shard, 9000, 2);
    rig.device().flip_at(flip(Moment::BeforeCheck));
    let error = rig.manager.unseal_model(&shard).unwrap_err();
    assert!(
        matches!(error, Error::Verify(VerifyError::ReadBack { block: 2, .. })),
        "{error}"
    );
    assert!(!shard.is_quarantined());
    assert_eq!(rig.count("seal.checker_fault"), 1, "the way back is one");
    assert_eq!(rig.manager.state(), RunState::Running);
    rig.manager.lease(&shard, Mode::Full).unwrap().finish();
}
