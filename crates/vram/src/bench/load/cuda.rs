//! The load onto a device that the user named; where that is a GPU, beside
//! copies from pinned memory and a load without any check.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vram_residency::capacity::Sharing;
use vram_residency::device::Device;
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;
use vram_residency::{SealedShard, VramManager};

use super::super::sample::timed;
use super::subject::Subject;
use super::{Bound, Show, Target, in_turn, of_name};
use crate::device::Card;
use crate::failure::Failure;

/// Slots of the loads without checks: those of a sealed load.
const SLOT_BYTES: usize = 8 << 20;
/// Most readers of a sealed load.
const READERS: usize = 16;
/// Most slots of a sealed load.
const SLOTS: usize = 24;

const ROOF: &str = "copy of pinned memory to the device";
const PLAIN: &str = "load without any check, cached";
const LOAD: &str = "sealed load, cached, named device";

/// What a sealed load should reach of the roof, and take of the time of a load
/// without checks; and the pinned memory that it may hold, in MiB.
const OF_ROOF: f64 = 0.95;
const OF_PLAIN: f64 = 1.03;
const PINNED_MIB: f64 = 256.0;

/// Measures in turn, and holds the sealed load against the other two.
pub(super) fn measure(
    subject: &Subject,
    device: &Arc<dyn Device>,
    show: Show<'_>,
) -> Result<Vec<Target>, Failure> {
    let manager = VramManager::builder()
        .device_with(Arc::clone(device), None, Sharing::Dedicated)
        .key(RootKey::generate(&OsRandom)?)
        .build()?;
    let gpu = Card::of(device.as_ref());
    let pinned = AtomicU64::new(0);
    let mut turns = vec![subject.turn("file read, cached, again", || subject.read())];
    if let Some(gpu) = &gpu {
        turns.push(subject.turn(ROOF, || roof(subject, gpu)));
        turns.push(subject.turn(PLAIN, || plain(subject, gpu)));
    }
    turns.push(subject.turn(LOAD, || sealed(subject, &manager, device, &pinned)));
    let rates = in_turn(subject.runs(), turns)?;
    let mut targets = Vec::new();
    if gpu.is_some() {
        let load = of_name(&rates, LOAD)?.median();
        let of = |name| of_name(&rates, name).map(|rate| rate.median());
        let at_most = Bound::AtMost;
        targets = vec![
            Target::new(
                "sealed load, share of the pinned copy",
                load / of(ROOF)?,
                "",
                Bound::AtLeast(OF_ROOF),
            ),
            Target::new(
                "sealed load, time of a load without checks",
                of(PLAIN)? / load,
                "x",
                at_most(OF_PLAIN),
            ),
            Target::new(
                "pinned memory of the sealed load",
                mib(pinned.into_inner()),
                "MiB",
                at_most(PINNED_MIB),
            ),
        ];
    }
    rates.into_iter().try_for_each(show)?;
    Ok(targets)
}

#[expect(clippy::cast_precision_loss, reason = "MiB for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Copies as many bytes as the file has out of pinned memory; the memory on
/// both sides is there before.
fn roof(subject: &Subject, gpu: &Card<'_>) -> Result<Duration, Failure> {
    let room = gpu.room(subject.bytes() as u64)?;
    let copies = room.copies(SLOT_BYTES, SLOTS)?;
    // Takes the pinned memory.
    copies.roof()?;
    timed(|| Ok(copies.roof()?))
}

/// A sealed load without what makes it one: memory is taken on both sides, the
/// file read and copied. Nothing is hashed, compared or protected.
fn plain(subject: &Subject, gpu: &Card<'_>) -> Result<Duration, Failure> {
    let readers = subject.team().get().min(READERS);
    let mut room = None;
    timed(|| {
        let room = room.insert(gpu.room(subject.bytes() as u64)?);
        let copies = room.copies(SLOT_BYTES, readers.saturating_mul(2).min(SLOTS))?;
        copies.load(readers, |offset, out| {
            let read = subject.file().read_exact_at(out, offset);
            read.map_err(|error| Failure::new(format!("cannot read the file: {error}")))
        })
    })
}

/// The sealed load, and the most pinned memory that was held meanwhile.
fn sealed(
    subject: &Subject,
    manager: &VramManager,
    device: &Arc<dyn Device>,
    pinned: &AtomicU64,
) -> Result<Duration, Failure> {
    let most = Arc::new(AtomicU64::new(0));
    let (seen, asked) = (Arc::clone(&most), Arc::clone(device));
    let request = subject.request().progress(move |_| {
        let held = Card::of(asked.as_ref()).map_or(0, |gpu| gpu.pinned_bytes());
        seen.fetch_max(held, Ordering::Relaxed);
    });
    let mut last: Option<SealedShard> = None;
    let time = subject.seal(manager, &mut last, request)?;
    pinned.fetch_max(most.load(Ordering::Relaxed), Ordering::Relaxed);
    Ok(time)
}
