//! The registers of one warp.

use super::lanes::{Lanes, Word, blend};
use crate::ptx::decode::Code;
use crate::ptx::inst::{PredSrc, Reg, Slot, Width};

/// What a register holds before it is written: never zero, so that a kernel
/// that relies on a fresh register fails its test.
const UNSET: u64 = 0xbad0_bad1_bad2_bad3;

pub(crate) struct Regs {
    b16: Vec<Lanes<u16>>,
    b32: Vec<Lanes<u32>>,
    b64: Vec<Lanes<u64>>,
    preds: Vec<u32>,
    /// The carry flag `CC.CF` of each lane.
    pub(crate) carry: u32,
}

/// A register word that knows its file.
pub(crate) trait InFile: Word {
    fn file(regs: &Regs) -> &[Lanes<Self>];
    fn file_mut(regs: &mut Regs) -> &mut [Lanes<Self>];
}

macro_rules! in_file {
    ($ty:ty, $field:ident) => {
        impl InFile for $ty {
            fn file(regs: &Regs) -> &[Lanes<Self>] {
                &regs.$field
            }
            fn file_mut(regs: &mut Regs) -> &mut [Lanes<Self>] {
                &mut regs.$field
            }
        }
    };
}

in_file!(u16, b16);
in_file!(u32, b32);
in_file!(u64, b64);

fn index(slot: Slot) -> usize {
    slot as usize
}

#[expect(
    clippy::indexing_slicing,
    reason = "slots are handed out by the decoder, which also sizes the files; a wrong one must not go on silently"
)]
impl Regs {
    pub(crate) fn new(code: &Code) -> Regs {
        let [n16, n32, n64, preds] = code.slots.map(index);
        Regs {
            b16: vec![[0; 32]; n16],
            b32: vec![[0; 32]; n32],
            b64: vec![[0; 32]; n64],
            preds: vec![0; preds],
            carry: 0,
        }
    }

    /// Makes the registers those of a warp that has not started.
    pub(crate) fn reset(&mut self, code: &Code) {
        self.b16.fill([UNSET as u16; 32]);
        self.b32.fill([UNSET as u32; 32]);
        self.b64.fill([UNSET; 32]);
        self.preds.fill(UNSET as u32);
        self.preds[index(code.true_slot)] = u32::MAX;
        self.carry = 0;
    }

    pub(crate) fn get<T: InFile>(&self, slot: Slot) -> &Lanes<T> {
        &T::file(self)[index(slot)]
    }

    pub(crate) fn set<T: InFile>(&mut self, slot: Slot, value: &Lanes<T>, mask: u32) {
        blend(&mut T::file_mut(self)[index(slot)], value, mask);
    }

    pub(crate) fn pred(&self, slot: Slot) -> u32 {
        self.preds[index(slot)]
    }

    pub(crate) fn set_pred(&mut self, slot: Slot, value: u32, mask: u32) {
        let place = &mut self.preds[index(slot)];
        *place = *place & !mask | value & mask;
    }
}

impl Regs {
    pub(crate) fn pred_src(&self, src: PredSrc) -> u32 {
        let value = self.pred(src.slot);
        if src.negated { !value } else { value }
    }

    /// A register of any width, zero-extended.
    pub(crate) fn get_any(&self, reg: Reg) -> Lanes<u64> {
        match reg.width {
            Width::W16 => self.get::<u16>(reg.slot).map(u64::from),
            Width::W32 => self.get::<u32>(reg.slot).map(u64::from),
            Width::W64 => *self.get::<u64>(reg.slot),
        }
    }

    /// Writes the low bits of `value` to a register of any width.
    pub(crate) fn set_any(&mut self, reg: Reg, value: &Lanes<u64>, mask: u32) {
        match reg.width {
            Width::W16 => self.set(reg.slot, &value.map(|v| v as u16), mask),
            Width::W32 => self.set(reg.slot, &value.map(|v| v as u32), mask),
            Width::W64 => self.set(reg.slot, value, mask),
        }
    }
}
