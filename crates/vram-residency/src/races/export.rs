//! Threads that read a shard back beside a writer that fails: what any of them found
//! out about the bytes is not lost with it.
//!
//! requirement: API-F24, DG-7, TP-9

use std::io::{self, Write};

use super::explore;
use super::rig::Rig;
use crate::error::{Error, VerifyError};
use crate::load::LoadError;
use crate::policy::Policy;
use crate::sim::Op;
use crate::sync::Arc;
use crate::{SealRequest, SealedShard, VramManager};

/// Two runs of an export.
const LEN: usize = (1 << 20) + 100;

/// Takes nothing.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("no space left"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_bad_block_that_was_read_condemns_although_the_writer_failed() {
    let bytes = Arc::new(vec![7; LEN]);
    explore(move || {
        let rig = Rig::with_memory(1, 4 << 20, Policy::default());
        let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
        let buffer = rig.sims[0].buffers()[0];
        rig.sims[0].flip_bit(buffer, LEN as u64 - 1, 1).unwrap();
        exported(&rig, &rig.manager, &shard);
        drop(shard);
        rig.assert_empty();
    });
}

/// The first run is good and cannot be written; the second is bad, if anybody read it.
fn exported(rig: &Rig, manager: &VramManager, shard: &SealedShard) {
    let before = rig.sims[0].calls(Op::Read);
    let error = manager.unseal_to(shard, &mut Full).unwrap_err();
    let runs = rig.sims[0].calls(Op::Read).saturating_sub(before);
    match &error {
        Error::Load(LoadError::Write { .. }) => {
            assert_eq!(runs, 1, "a bad block was read and passed over");
            assert!(!shard.is_quarantined());
        }
        Error::Verify(VerifyError::Contents { .. }) => assert!(shard.is_quarantined()),
        other => panic!("{other}"),
    }
}
