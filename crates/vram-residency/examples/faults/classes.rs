//! The classes of faults. Each strike returns whether it was noticed.

use std::time::Duration;

use vram_residency::device::{Device, DeviceError, MemoryInfo, MemoryKind, Protection, Witness};
use vram_residency::error::VerifyError;
use vram_residency::load::PatternSource;
use vram_residency::sim::{Flip, Moment, POISON};
use vram_residency::{Error, Mode, Record, SealRequest, VramManager};

use crate::world::{TOKEN, World, device, manager};

/// What the threat model says of a class.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Always noticed.
    Detected,
    /// Nothing is wrong: an alarm is a false one.
    Clean,
    /// Cannot be seen by design; counted and said.
    Unseen,
}

impl Claim {
    pub(crate) fn holds(self, trials: u64, noticed: u64) -> bool {
        match self {
            Self::Detected => noticed == trials,
            Self::Clean | Self::Unseen => noticed == 0,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Detected => "claimed",
            Self::Clean => "must stay silent",
            Self::Unseen => "cannot be seen, by design",
        }
    }
}

pub(crate) struct Class {
    pub(crate) name: &'static str,
    pub(crate) claim: Claim,
    pub(crate) strike: fn(&mut World) -> bool,
}

const fn claimed(name: &'static str, strike: fn(&mut World) -> bool) -> Class {
    Class {
        name,
        claim: Claim::Detected,
        strike,
    }
}

const fn silent(name: &'static str, strike: fn(&mut World) -> bool) -> Class {
    Class {
        name,
        claim: Claim::Clean,
        strike,
    }
}

pub(crate) const CLASSES: &[Class] = &[
    silent("clean full passes", |w| clean(w, Mode::Full)),
    silent("clean keyed passes", |w| clean(w, Mode::Keyed)),
    silent("clean sweeps", |w| {
        clean(
            w,
            Mode::Sweep {
                budget: Duration::ZERO,
            },
        )
    }),
    silent("checker that errs once, memory intact", erring_checker),
    claimed("single flip, bit 0", |w| single(w, 0)),
    claimed("single flip, bit 1", |w| single(w, 1)),
    claimed("single flip, bit 2", |w| single(w, 2)),
    claimed("single flip, bit 3", |w| single(w, 3)),
    claimed("single flip, bit 4", |w| single(w, 4)),
    claimed("single flip, bit 5", |w| single(w, 5)),
    claimed("single flip, bit 6", |w| single(w, 6)),
    claimed("single flip, bit 7", |w| single(w, 7)),
    claimed("double flip in one byte", double_in_byte),
    claimed("double flip, same bit, two places", double_apart),
    claimed("first byte", |w| at(w, 0)),
    claimed("last byte", |w| at(w, w.len() - 1)),
    claimed("at a block border", border),
    claimed("torn copy: half of it never arrives", torn),
    claimed("truncated copy: the tail stays zero", truncated),
    claimed("stale buffer: the shard before it", stale_buffer),
    claimed("flip between copy and hash", before_hash),
    claimed("swapped 4 KiB blocks", |w| swapped(w, 4096)),
    claimed("swapped tensors", swapped_tensors),
    claimed("wrong shard: another model's bytes", wrong_shard),
    claimed("page answers from other memory", page_elsewhere),
    claimed("page of zeros", |w| stuck(w, 0)),
    claimed("page of ones", |w| stuck(w, 0xff)),
    claimed("flip between verification and lease", before_lease),
    claimed("launch that does nothing", idle_launch),
    claimed("lying memory info", lying_memory),
    claimed("witness: managed memory", |w| {
        witness(w, |wit| wit.managed = true)
    }),
    claimed("witness: host pointer", |w| {
        witness(w, |wit| wit.host_pointer = true)
    }),
    claimed("witness: other device", |w| {
        witness(w, |wit| wit.ordinal += 1)
    }),
    claimed("witness: writable again", |w| {
        witness(w, |wit| wit.protection = Protection::ReadWrite)
    }),
    claimed("witness: host memory", |w| {
        witness(w, |wit| wit.memory = MemoryKind::Host)
    }),
    claimed("edited record", edited_record),
    claimed("wrong rank in the record", |w| {
        edited(w, |r| r.position = rank(1))
    }),
    claimed("simulated record posing as CUDA", |w| {
        edited(w, |r| {
            r.device_kind = vram_residency::device::DeviceKind::Cuda
        })
    }),
    claimed("key swap: all but the key alike", key_swap),
    claimed("record replayed after a free", after_free),
    claimed("record replayed on a reused id", reused_id),
    claimed("record of another manager or boot", other_boot),
    claimed("record of another device", other_device),
    claimed("wrong model, expected digest given", unexpected),
    Class {
        name: "flip and restore inside one window",
        claim: Claim::Unseen,
        strike: window,
    },
];

fn rank(index: u32) -> Option<vram_residency::seal::ShardPosition> {
    vram_residency::seal::ShardPosition::new(index, 4).ok()
}

/// Several in a row: keyed references roll, sweeps begin new epochs.
fn clean(w: &mut World, mode: Mode) -> bool {
    w.mode = mode;
    let shard = w.seal();
    w.strike();
    let alarm = (0..3).any(|_| w.noticed(&shard));
    alarm || w.manager.verify_record(shard.record(), mode).is_err()
}

/// Wrong while the device looks, right again afterwards: the second opinion acquits,
/// whichever mode looked.
fn erring_checker(w: &mut World) -> bool {
    let offset = w.rng.below(w.len());
    let shard = w.seal();
    for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
        let bit = 5;
        w.sim.flip_at(Flip {
            moment,
            offset,
            bit,
        });
    }
    w.strike();
    w.noticed(&shard) || shard.is_quarantined()
}

fn at(w: &mut World, offset: u64) -> bool {
    let bit = u8::try_from(w.rng.below(8)).unwrap();
    let shard = w.seal();
    w.flip(offset, bit);
    w.noticed(&shard)
}

fn single(w: &mut World, bit: u8) -> bool {
    let offset = w.rng.below(w.len());
    let shard = w.seal();
    w.flip(offset, bit);
    w.noticed(&shard)
}

fn double_in_byte(w: &mut World) -> bool {
    let offset = w.rng.below(w.len());
    let first = u8::try_from(w.rng.below(8)).unwrap();
    let second = (first + 1 + u8::try_from(w.rng.below(7)).unwrap()) % 8;
    let shard = w.seal();
    w.flip(offset, first);
    w.flip(offset, second);
    w.noticed(&shard)
}

fn double_apart(w: &mut World) -> bool {
    let bit = u8::try_from(w.rng.below(8)).unwrap();
    let (a, step) = (w.rng.below(w.len()), w.rng.below(w.len().max(2) - 1) + 1);
    let b = (a + step) % w.len();
    let shard = w.seal();
    w.flip(a, bit);
    if b != a {
        w.flip(b, bit);
    }
    w.noticed(&shard)
}

fn border(w: &mut World) -> bool {
    let block = w.rng.below(w.len().div_ceil(4096)) * 4096;
    let offset = if w.rng.below(2) == 0 {
        block
    } else {
        (block + 4095).min(w.len() - 1)
    };
    at(w, offset)
}

/// What never arrived is what fresh memory holds, or another half.
fn torn(w: &mut World) -> bool {
    let half = w.bytes.len() / 2;
    let len = w.bytes.len() - half;
    let mut held = match w.rng.below(2) {
        0 => vec![POISON; len],
        _ => w.rng.bytes(len),
    };
    held[0] = !w.bytes[half];
    w.load_refused(half, held)
}

/// Memory is scrubbed before it is given away, so the tail may be zeros.
fn truncated(w: &mut World) -> bool {
    let from = usize::try_from(w.rng.below(w.len())).unwrap();
    w.bytes[from] |= 1;
    let held = vec![0; w.bytes.len() - from];
    w.load_refused(from, held)
}

/// Nothing arrives, and the memory holds the shard that lay there before.
fn stale_buffer(w: &mut World) -> bool {
    let old = w.seal();
    w.manager.deallocate(&old).unwrap();
    let mut fresh = w.rng.bytes(w.bytes.len());
    fresh[0] = !w.bytes[0];
    let held = std::mem::replace(&mut w.bytes, fresh);
    w.load_refused(0, held)
}

/// Puts two equal-sized pieces in each other's place.
fn swap(w: &mut World, a: usize, b: usize, len: usize) -> bool {
    let (first, second) = (w.bytes[a..a + len].to_vec(), w.bytes[b..b + len].to_vec());
    let one = w.overwrite(a as u64, &second);
    let two = w.overwrite(b as u64, &first);
    one || two
}

/// Contents long enough to hold several pieces.
fn grow(w: &mut World, len: usize) {
    if w.bytes.len() < len {
        w.bytes = w.rng.bytes(len);
    }
}

fn swapped(w: &mut World, piece: usize) -> bool {
    grow(w, 4 * piece);
    let shard = w.seal();
    let pieces = w.len() / piece as u64;
    let a = w.rng.below(pieces);
    let b = (a + 1 + w.rng.below(pieces - 1)) % pieces;
    let at = |i: u64| usize::try_from(i).unwrap() * piece;
    swap(w, at(a), at(b), piece) && w.noticed(&shard)
}

fn swapped_tensors(w: &mut World) -> bool {
    let spec = r#"{"a":{"dtype":"U8","shape":[5000],"data_offsets":[0,5000]},"b":{"dtype":"U8","shape":[5000],"data_offsets":[5000,10000]}}"#;
    let mut file = (spec.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(spec.as_bytes());
    let data = file.len();
    file.extend(w.rng.bytes(10_000));
    w.bytes = file;
    let shard = w.seal();
    swap(w, data, data + 5000, 5000) && w.noticed(&shard)
}

fn wrong_shard(w: &mut World) -> bool {
    let mut other = w.rng.bytes(w.bytes.len());
    other[0] = !w.bytes[0];
    let shard = w.seal();
    w.overwrite(0, &other) && w.noticed(&shard)
}

fn page_elsewhere(w: &mut World) -> bool {
    grow(w, 16_384);
    let shard = w.seal();
    let pages = w.len() / 4096;
    let page = w.rng.below(pages);
    let from = (page + 1 + w.rng.below(pages - 1)) % pages;
    w.sim.remap(w.buffer(), page, from).unwrap();
    w.strike();
    w.noticed(&shard)
}

fn stuck(w: &mut World, value: u8) -> bool {
    grow(w, 4096);
    let shard = w.seal();
    let page = w.rng.below(w.len() / 4096) * 4096;
    w.overwrite(page, &[value; 4096]) && w.noticed(&shard)
}

fn before_hash(w: &mut World) -> bool {
    let offset = w.rng.below(w.len());
    w.sim.flip_at(Flip {
        moment: Moment::AfterCopy,
        offset,
        bit: 5,
    });
    w.strike();
    let refused = w.manager.seal(SealRequest::bytes(&w.bytes));
    matches!(refused, Err(Error::Verify(VerifyError::Copy { .. }))) && w.manager.used_vram() == 0
}

fn before_lease(w: &mut World) -> bool {
    let offset = w.rng.below(w.len());
    let shard = w.seal();
    let passed = w.manager.verify_sealed(&shard, Mode::Full).is_ok();
    w.flip(offset, 2);
    let mode = if w.mode == Mode::Keyed {
        Mode::Keyed
    } else {
        Mode::Full
    };
    let refused = matches!(w.manager.lease(&shard, mode), Err(Error::Verify(_)));
    passed && refused && shard.leases() == 0
}

fn idle_launch(w: &mut World) -> bool {
    let shard = w.seal();
    w.sim.skip_kernels(true);
    w.strike();
    w.noticed(&shard)
}

/// Somebody else holds most of the device and the driver says it is all free:
/// the manager must not end up promising what is not there.
fn lying_memory(w: &mut World) -> bool {
    let others = w.sim.allocate((60 << 20) + w.rng.below(1 << 20)).unwrap();
    let total = 64 << 20;
    w.sim.lie_memory(Some(MemoryInfo { free: total, total }));
    w.strike();
    let refused = w
        .manager
        .seal(SealRequest::source(PatternSource::new(8 << 20, 1)));
    let refused = matches!(refused, Err(Error::Device(DeviceError::OutOfMemory { .. })));
    let clean = w.manager.used_vram() == 0 && w.sim.buffers() == [others.id];
    refused && clean
}

fn witness(w: &mut World, lie: fn(&mut Witness)) -> bool {
    let shard = w.seal();
    let mut witness = shard.record().witness;
    lie(&mut witness);
    w.sim.lie_witness(Some(witness));
    w.strike();
    w.noticed(&shard)
}

fn edited(w: &mut World, edit: impl FnOnce(&mut Record)) -> bool {
    let shard = w.seal();
    let mut record = shard.record().clone();
    edit(&mut record);
    w.strike();
    let refused = matches!(
        w.manager.verify_record(&record, w.mode),
        Err(Error::Verify(_))
    );
    refused && !shard.is_quarantined() && record != *shard.record()
}

fn edited_record(w: &mut World) -> bool {
    let choice = w.rng.below(9);
    edited(w, |record| match choice {
        0 => record.vram_bytes += 1,
        1 => record.sequence += 1,
        2 => record.gpu_device += 1,
        3 => record.sealed_at = vram_residency::clock::Timestamp::from_nanos(1),
        4 => record.shard_id = "other".parse().unwrap(),
        5 => record.model_ref = "other".parse().unwrap(),
        6 => record.worker_id = "other".parse().unwrap(),
        7 => record.key_salt[7] ^= 1,
        _ => record.content_sha256 = Some([7; 32]),
    })
}

/// Managers that differ in their key alone: salt, instance, device and record are
/// alike. One with the right key believes the tag; it only does not hold the shard.
fn key_swap(w: &mut World) -> bool {
    let other_token = [TOKEN, b"!"].concat();
    let twin = |token| manager(&w.sim, &mut w.rng.clone(), token);
    let (ours, same, other) = (twin(TOKEN), twin(TOKEN), twin(&other_token));
    let shard = ours.seal(SealRequest::bytes(&w.bytes)).unwrap();
    let theirs = other.seal(SealRequest::bytes(&w.bytes)).unwrap();
    // As it is, and with the name of the other key.
    let mut renamed = shard.record().clone();
    renamed.key_id = theirs.record().key_id;
    w.strike();
    let answer = |manager: &VramManager, record| manager.verify_record(record, w.mode).err();
    let unknown = |e: &Error| matches!(e, Error::Verify(VerifyError::UnknownKey { .. }));
    let tag = |e: &Error| matches!(e, Error::Verify(VerifyError::Tag { .. }));
    let not_held = |e: &Error| matches!(e, Error::Verify(VerifyError::NotHeld { .. }));
    answer(&other, shard.record()).as_ref().is_some_and(unknown)
        && answer(&other, &renamed).as_ref().is_some_and(tag)
        && answer(&same, shard.record()).as_ref().is_some_and(not_held)
}

fn after_free(w: &mut World) -> bool {
    let shard = w.seal();
    let record = shard.record().clone();
    w.manager.deallocate(&shard).unwrap();
    w.strike();
    let answer = w.manager.verify_record(&record, w.mode);
    matches!(answer, Err(Error::Verify(VerifyError::NotHeld { .. })))
}

/// The same id and the same bytes again: the old record is not the new shard's.
fn reused_id(w: &mut World) -> bool {
    let old = w.seal();
    let record = old.record().clone();
    w.manager.deallocate(&old).unwrap();
    let new = w.seal();
    w.strike();
    let answer = w.manager.verify_record(&record, w.mode);
    let refused = matches!(answer, Err(Error::Verify(VerifyError::NotHeld { .. })));
    refused && w.manager.verify_record(new.record(), w.mode).is_ok()
}

fn other_boot(w: &mut World) -> bool {
    let shard = w.seal();
    let again = w.reboot();
    w.strike();
    matches!(
        again.verify_record(shard.record(), w.mode),
        Err(Error::Verify(_))
    )
}

/// The same model sealed on two devices by managers that differ in nothing else;
/// the record of the one is shown to the other.
fn other_device(w: &mut World) -> bool {
    let (here, there) = (device(1), device(2));
    let twin = |sim| manager(sim, &mut w.rng.clone(), TOKEN);
    let (ours, theirs) = (twin(&here), twin(&there));
    let seal = |manager: &VramManager| {
        let request = SealRequest::bytes(&w.bytes).id("shard");
        manager.seal(request).unwrap()
    };
    let (shard, foreign) = (seal(&ours), seal(&theirs));
    w.strike();
    let refused = matches!(
        ours.verify_record(foreign.record(), w.mode),
        Err(Error::Verify(_))
    );
    refused && ours.verify_record(shard.record(), w.mode).is_ok()
}

fn unexpected(w: &mut World) -> bool {
    let digest = vram_digest::digest(&w.bytes).to_string();
    let at = usize::try_from(w.rng.below(w.len())).unwrap();
    w.bytes[at] ^= 0x20;
    w.strike();
    let refused = w.manager.seal(SealRequest::bytes(&w.bytes).expect(&digest));
    matches!(refused, Err(Error::Verify(VerifyError::Unexpected { .. })))
        && w.manager.used_vram() == 0
}

/// Wrong while an execution holds its lease, and right again before anybody looks: nothing
/// can see this, and we say so.
fn window(w: &mut World) -> bool {
    let offset = w.rng.below(w.len());
    let shard = w.seal();
    let Ok(lease) = w.manager.lease(&shard, w.mode) else {
        return true;
    };
    w.flip(offset, 1);
    lease.finish();
    w.flip(offset, 1);
    w.noticed(&shard)
}
