//! Scripted faults: calls that fail, bits that flip, answers that lie.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::device::{DeviceError, MemoryInfo, Witness};

/// The calls of a simulated device that can be counted and made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Op {
    /// `Device::facts`.
    Facts,
    /// `Device::memory`.
    Memory,
    /// `Device::allocate`.
    Allocate,
    /// `Device::free`: the memory is stranded.
    Free,
    /// `Device::protect`.
    Protect,
    /// `Device::witness`.
    Witness,
    /// `Device::upload`.
    Upload,
    /// `Upload::slot`.
    Slot,
    /// `Upload::submit`.
    Submit,
    /// `Upload::finish`: where asynchronous failures surface.
    Finish,
    /// `Device::read`.
    Read,
    /// `Device::write`.
    Write,
    /// `Device::fill`.
    Fill,
    /// `Device::block_digests`.
    BlockDigests,
    /// `Device::keyed_tags`.
    KeyedTags,
}

impl Op {
    /// Every operation, for sweeps that fail each of them in turn.
    pub const ALL: [Self; 15] = [
        Self::Facts,
        Self::Memory,
        Self::Allocate,
        Self::Free,
        Self::Protect,
        Self::Witness,
        Self::Upload,
        Self::Slot,
        Self::Submit,
        Self::Finish,
        Self::Read,
        Self::Write,
        Self::Fill,
        Self::BlockDigests,
        Self::KeyedTags,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Facts => "facts",
            Self::Memory => "memory",
            Self::Allocate => "allocate",
            Self::Free => "free",
            Self::Protect => "protect",
            Self::Witness => "witness",
            Self::Upload => "upload",
            Self::Slot => "slot",
            Self::Submit => "submit",
            Self::Finish => "finish",
            Self::Read => "read",
            Self::Write => "write",
            Self::Fill => "fill",
            Self::BlockDigests => "block_digests",
            Self::KeyedTags => "keyed_tags",
        }
    }
}

/// When a scripted flip strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moment {
    /// After a slot was copied and before the device hashed it.
    AfterCopy,
    /// When the buffer becomes read-only, that is after sealing.
    AfterSeal,
    /// Just before the device computes digests or tags for a check.
    BeforeCheck,
    /// Just after: with [`Moment::BeforeCheck`], a fault that is gone when
    /// anybody looks again.
    AfterCheck,
}

/// A scripted bit flip. `offset` counts from the first byte of the uploaded
/// extent, that is from the file's first byte. Each flip strikes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip {
    /// When.
    pub moment: Moment,
    /// Byte offset in the shard.
    pub offset: u64,
    /// Bit 0..=7 of that byte.
    pub bit: u8,
}

/// A part of the next load that never arrives: memory keeps what it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostCopy {
    /// Byte offset in the shard.
    pub offset: u64,
    /// What the memory holds there.
    pub held: Vec<u8>,
}

impl LostCopy {
    /// Where in the shard `range` meets it, and what stays there.
    fn within(&self, range: &Range<u64>) -> Option<(u64, &[u8])> {
        let end = self.offset.saturating_add(self.held.len() as u64);
        let (first, last) = (self.offset.max(range.start), end.min(range.end));
        let from = usize::try_from(first.saturating_sub(self.offset)).ok()?;
        let to = usize::try_from(last.saturating_sub(self.offset)).ok()?;
        Some((first, self.held.get(from..to)?))
    }
}

#[derive(Default)]
pub(super) struct Faults {
    calls: BTreeMap<Op, u64>,
    failures: Vec<(Op, u64, DeviceError)>,
    lost: Option<DeviceError>,
    pub(super) flips: Vec<Flip>,
    pub(super) lost_copies: Vec<LostCopy>,
    pub(super) witness: Option<Witness>,
    pub(super) memory: Option<MemoryInfo>,
    pub(super) ignore_protect: bool,
    pub(super) skip_kernels: bool,
}

impl Faults {
    pub(super) fn fail(&mut self, op: Op, nth: u64, error: DeviceError) {
        let at = self.calls(op).saturating_add(nth);
        self.failures.push((op, at, error));
    }

    pub(super) fn calls(&self, op: Op) -> u64 {
        self.calls.get(&op).copied().unwrap_or(0)
    }

    /// Counts the call and fails it if the script says so.
    pub(super) fn enter(&mut self, op: Op) -> Result<(), DeviceError> {
        let count = self.calls.entry(op).or_insert(0);
        *count = count.saturating_add(1);
        let count = *count;
        if let Some(fault) = &self.lost {
            return Err(fault.clone());
        }
        let due = self
            .failures
            .iter()
            .position(|(which, at, _)| *which == op && *at == count);
        let Some(due) = due else { return Ok(()) };
        let (_, _, error) = self.failures.swap_remove(due);
        if let DeviceError::Lost { code, text, .. } = &error {
            let text = text.clone();
            self.lost = Some(DeviceError::Lost {
                op: op.name(),
                code: *code,
                text,
            });
        }
        Err(error)
    }

    /// What lies in `range` of the extent where a copy was lost.
    pub(super) fn lost_in(&self, range: &Range<u64>) -> Vec<(u64, Vec<u8>)> {
        let lost = self
            .lost_copies
            .iter()
            .filter_map(|copy| copy.within(range));
        lost.map(|(offset, held)| (offset, held.to_vec())).collect()
    }

    /// Takes the flips of `moment` that lie in `start..end` of the extent.
    pub(super) fn take_flips(&mut self, moment: Moment, start: u64, end: u64) -> Vec<Flip> {
        let strikes =
            |flip: &Flip| flip.moment == moment && flip.offset >= start && flip.offset < end;
        let (due, later) = self.flips.iter().copied().partition(strikes);
        self.flips = later;
        due
    }
}
