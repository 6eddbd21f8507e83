//! Shared memory of one block, with a shadow that finds races.
//!
//! Every byte remembers who wrote it last and who read it since. Two accesses
//! by different threads, at least one of them a write, are in order only when
//! a barrier stands between them: a block barrier, or a warp barrier when both
//! threads are of one warp. Lanes in lock-step are *not* in order: hardware
//! since Volta does not promise it.

use crate::ptx::error::{Access, FaultKind};

/// Who touches shared memory, and after how many barriers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Toucher {
    pub(super) thread: u16,
    /// Block barriers so far, counted on over all blocks of the launch.
    pub(super) block_epoch: u32,
    /// Warp barriers so far.
    pub(super) warp_epoch: u32,
}

impl Toucher {
    fn warp(self) -> u16 {
        self.thread / 32
    }
}

/// One past access, or several that cannot be told apart any more.
#[derive(Clone, Copy, Debug)]
struct Mark {
    who: Toucher,
    /// More threads of the warp, or of several warps, than `who.thread`.
    more: More,
    atomic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    None,
    SameWarp,
    OtherWarps,
}

impl Mark {
    /// Is every access of this mark ordered before `now`, or made by its thread?
    fn ordered_before(&self, now: Toucher) -> bool {
        if self.who.block_epoch != now.block_epoch {
            return true;
        }
        match self.more {
            More::OtherWarps => false,
            _ if self.who.warp() != now.warp() => false,
            _ if self.who.warp_epoch != now.warp_epoch => true,
            More::None => self.who.thread == now.thread,
            More::SameWarp => false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Shadow {
    write: Option<Mark>,
    read: Option<Mark>,
}

/// What a block fills its fresh shared memory with: never zero.
const FRESH: u8 = 0xcd;

pub(super) struct Shared {
    bytes: Vec<u8>,
    shadow: Vec<Shadow>,
}

impl Shared {
    pub(super) fn new(len: usize) -> Shared {
        Shared {
            bytes: vec![FRESH; len],
            shadow: vec![Shadow::default(); len],
        }
    }

    /// Fresh contents for the next block. Shadows of older blocks are ordered
    /// before everything that comes, because the block epoch moves on.
    pub(super) fn refresh(&mut self) {
        self.bytes.fill(FRESH);
    }

    fn range(
        &self,
        addr: u64,
        len: usize,
        access: Access,
    ) -> Result<std::ops::Range<usize>, FaultKind> {
        let start = usize::try_from(addr).ok();
        let range = start.and_then(|s| Some(s..s.checked_add(len)?));
        range
            .filter(|r| r.end <= self.bytes.len())
            .ok_or_else(|| FaultKind::OutOfBounds {
                access,
                space: "shared",
                addr,
                len: u32::try_from(len).unwrap_or(u32::MAX),
            })
    }

    pub(super) fn read(
        &mut self,
        who: Toucher,
        addr: u64,
        out: &mut [u8],
    ) -> Result<(), FaultKind> {
        let range = self.range(addr, out.len(), Access::Read)?;
        for at in range.clone() {
            let Some(shadow) = self.shadow.get_mut(at) else {
                continue;
            };
            if let Some(write) = shadow.write.filter(|w| !w.ordered_before(who)) {
                let earlier = if write.atomic {
                    Access::Atomic
                } else {
                    Access::Write
                };
                return Err(race(at, earlier, write.who, Access::Read, who));
            }
            shadow.read = Some(merge(shadow.read, who));
        }
        if let Some(bytes) = self.bytes.get(range) {
            out.copy_from_slice(bytes);
        }
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        who: Toucher,
        addr: u64,
        bytes: &[u8],
        access: Access,
    ) -> Result<(), FaultKind> {
        let range = self.range(addr, bytes.len(), access)?;
        let atomic = access == Access::Atomic;
        for at in range.clone() {
            let Some(shadow) = self.shadow.get_mut(at) else {
                continue;
            };
            if let Some(read) = shadow.read.filter(|r| !r.ordered_before(who)) {
                return Err(race(at, Access::Read, read.who, access, who));
            }
            let clash = |w: &Mark| !(w.ordered_before(who) || w.atomic && atomic);
            if let Some(write) = shadow.write.filter(clash) {
                let earlier = if write.atomic {
                    Access::Atomic
                } else {
                    Access::Write
                };
                return Err(race(at, earlier, write.who, access, who));
            }
            let fresh = Mark {
                who,
                more: More::None,
                atomic,
            };
            shadow.write = Some(if atomic {
                Mark {
                    atomic,
                    ..merge(shadow.write, who)
                }
            } else {
                fresh
            });
        }
        if let Some(place) = self.bytes.get_mut(range) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Reads the old value of a read-modify-write; the write checks the order.
    pub(super) fn peek(&self, addr: u64, out: &mut [u8]) -> Result<(), FaultKind> {
        let range = self.range(addr, out.len(), Access::Atomic)?;
        if let Some(bytes) = self.bytes.get(range) {
            out.copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// Adds an access to those that the mark stands for already.
fn merge(old: Option<Mark>, who: Toucher) -> Mark {
    let fresh = Mark {
        who,
        more: More::None,
        atomic: false,
    };
    let Some(old) = old.filter(|o| !o.ordered_before(who)) else {
        return fresh;
    };
    let more = if old.more == More::OtherWarps || old.who.warp() != who.warp() {
        More::OtherWarps
    } else {
        More::SameWarp
    };
    Mark {
        who,
        more,
        atomic: false,
    }
}

fn race(
    offset: usize,
    earlier: Access,
    first: Toucher,
    later: Access,
    second: Toucher,
) -> FaultKind {
    FaultKind::SharedRace {
        offset: u32::try_from(offset).unwrap_or(u32::MAX),
        earlier,
        first: u32::from(first.thread),
        later,
        second: u32::from(second.thread),
    }
}
