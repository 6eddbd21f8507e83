//! Readers of one load that wait for each other's turns, and loads that share staging
//! memory: who fails keeps nobody waiting, and gives back what it had.
//!
//! requirement: CAP-9, TP-9

use std::io::{self, ErrorKind};

use sha2::{Digest as _, Sha256};
use vram_digest::nh;

use super::explore;
use super::rig::Rig;
use crate::SealRequest;
use crate::device::{
    Device, DeviceError, Extent, StagingRoom, StagingShare, UPLOAD_ALIGN, UploadPlan,
};
use crate::error::Error;
use crate::format::ReadAt;
use crate::load::{LoadError, OrderedSha256, Source, Staging};
use crate::policy::Policy;
use crate::sim::SimDevice;
use crate::sync::{Arc, thread};

/// The smallest slot of staging memory.
const SLOT: usize = UPLOAD_ALIGN as usize;

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[test]
fn chunks_are_hashed_in_file_order_whoever_comes_first() {
    let bytes: Vec<u8> = (0..30).collect();
    let expected = sha256(&bytes);
    explore(move || {
        let order = OrderedSha256::new();
        thread::scope(|scope| {
            for (i, chunk) in bytes.chunks(10).enumerate().rev() {
                let order = &order;
                scope.spawn(move || order.update(i as u64 * 10, chunk));
            }
        });
        assert_eq!(order.finish(), expected);
    });
}

/// A wait that nothing ends is told by the scheduler.
#[test]
fn a_turn_that_never_comes_keeps_nobody_waiting() {
    explore(|| {
        let order = OrderedSha256::new();
        thread::scope(|scope| {
            for offset in [10, 20] {
                let order = &order;
                scope.spawn(move || order.update(offset, &[7; 10]));
            }
            order.abandon();
        });
    });
}

/// Bytes whose first chunk cannot be read once they are loaded.
struct Torn<'b>(&'b [u8]);

impl ReadAt for Torn<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, out)
    }
}

impl Source for Torn<'_> {
    fn name(&self) -> String {
        "torn".to_owned()
    }

    fn read_piece(
        &self,
        offset: u64,
        out: &mut [u8],
        _: &dyn crate::clock::Clock,
    ) -> io::Result<()> {
        match offset {
            0 => Err(ErrorKind::Unsupported.into()),
            _ => self.read_exact_at(offset, out),
        }
    }
}

/// Two chunks each: with two cores or more, a reader waits for the turn of the one
/// that fails. No scope around the loads: the scheduler's, one in another of the same
/// thread, ends the inner one when the outer one's thread ends.
#[test]
fn a_load_that_fails_ends_and_leaves_another_beside_it_alone() {
    let bytes = Arc::new(vec![7; 2 * SLOT + 100]);
    let expected = sha256(&bytes);
    explore(move || {
        let rig = Rig::with_memory(1, 8 << 20, Policy::default());
        let staging = Staging::of([0, 0]);
        let other = {
            let (rig, bytes, staging) = (Arc::clone(&rig), Arc::clone(&bytes), staging.clone());
            thread::spawn(move || {
                let request = SealRequest::source(Torn(&bytes)).with_content_digest();
                rig.manager.seal(request.staging(&staging)).map(drop)
            })
        };
        let request = SealRequest::bytes(&bytes).with_content_digest();
        let shard = rig.manager.seal(request.staging(&staging)).unwrap();
        assert_eq!(shard.record().content_sha256, Some(expected));
        let error = other.join().unwrap().unwrap_err();
        assert!(
            matches!(error, Error::Load(LoadError::Read { .. })),
            "{error}"
        );
        drop(shard);
        rig.assert_empty();
    });
}

/// Two readers of one session; in one that fails, the first gives its slot back unused.
fn session(sim: &SimDevice, room: &Arc<StagingRoom>, fails: bool) {
    let len = SLOT as u64 + 100;
    let buffer = sim.allocate(len).unwrap().id;
    let plan = UploadPlan {
        extent: Extent {
            buffer,
            start: 0,
            len,
        },
        key: &nh::Key::from_bytes(&[7; nh::KEY_BYTES]),
        slot_bytes: SLOT,
        slots: 2,
        room: Arc::clone(room),
    };
    let upload = sim.upload(plan).unwrap();
    thread::scope(|scope| {
        for (offset, len) in [(0, SLOT), (SLOT as u64, 100)] {
            let upload = upload.as_ref();
            scope.spawn(move || {
                let slot = upload.slot().unwrap();
                if !(fails && offset == 0) {
                    upload.submit(slot, offset, len).unwrap();
                }
            });
        }
    });
    match upload.finish() {
        Ok(measured) => assert!(!fails && measured.tags.len() == 2),
        Err(error) => assert!(
            fails && matches!(error, DeviceError::Incomplete { .. }),
            "{error}"
        ),
    }
}

/// There is room for one slot beside those that each session has of its own.
#[test]
fn sessions_share_their_room_and_give_all_of_it_back() {
    explore(|| {
        let room = Arc::new(StagingRoom::new(SLOT));
        let sim = SimDevice::new(8 << 20);
        thread::scope(|scope| {
            for fails in [false, true] {
                let (sim, room) = (&sim, &room);
                scope.spawn(move || session(sim, room, fails));
            }
        });
        let share = StagingShare::of(&room);
        assert!(share.take(SLOT) && !share.take(1));
    });
}
