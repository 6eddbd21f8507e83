//! Names in force, and the slots given to registers and constants.

use std::collections::BTreeMap;

use super::layout::{Frame, Place, PlaceSpace};
use super::mods::Mods;
use crate::ptx::ast::{Arg, Base, Variable};
use crate::ptx::error::PtxError;
use crate::ptx::inst::{Addr, Class, Constant, PredSrc, Reg, Slot, Space, Special, Ty, Width};

#[derive(Clone, Copy, Debug)]
enum Symbol {
    Reg(Reg),
    Pred(Slot),
}

pub(super) struct Scope {
    frames: Vec<BTreeMap<String, Symbol>>,
    places: BTreeMap<String, Place>,
    slots: [u32; 4],
    constants: Vec<(Width, Slot, Constant)>,
    true_pred: Slot,
}

fn file(width: Width) -> usize {
    match width {
        Width::W16 => 0,
        Width::W32 => 1,
        Width::W64 => 2,
    }
}

const PREDS: usize = 3;

impl Scope {
    pub(super) fn new(frame: &Frame) -> Scope {
        let mut scope = Scope {
            frames: Vec::new(),
            places: frame.places.clone(),
            slots: [0; 4],
            constants: Vec::new(),
            true_pred: 0,
        };
        scope.true_pred = scope.take(PREDS);
        scope
    }

    pub(super) fn enter(&mut self) {
        self.frames.push(BTreeMap::new());
    }

    pub(super) fn leave(&mut self) {
        self.frames.pop();
    }

    pub(super) fn slots(&self) -> [u32; 4] {
        self.slots
    }

    pub(super) fn constants(&self) -> Vec<(Width, Slot, Constant)> {
        self.constants.clone()
    }

    pub(super) fn true_pred(&self) -> Slot {
        self.true_pred
    }

    fn take(&mut self, file: usize) -> Slot {
        let Some(count) = self.slots.get_mut(file) else {
            return 0;
        };
        let slot = *count;
        *count = count.saturating_add(1);
        slot
    }

    pub(super) fn declare(&mut self, line: u32, ty: Ty, names: &[String]) -> Result<(), PtxError> {
        for name in names {
            let symbol = if ty.class == Class::Pred {
                Symbol::Pred(self.take(PREDS))
            } else {
                let width = Width::from_bits(ty.bits)
                    .ok_or_else(|| PtxError::unsupported(line, format!("register type .{ty}")))?;
                Symbol::Reg(Reg {
                    width,
                    slot: self.take(file(width)),
                })
            };
            let Some(frame) = self.frames.last_mut() else {
                return Err(PtxError::syntax(line, "register outside a body"));
            };
            if frame.insert(name.clone(), symbol).is_some() {
                return Err(PtxError::syntax(
                    line,
                    format!("register {name} is declared twice"),
                ));
            }
        }
        Ok(())
    }

    /// Variables were placed before decoding; here only their names are checked.
    pub(super) fn variable(&mut self, var: &Variable) -> Result<(), PtxError> {
        if self.places.contains_key(&var.name) {
            return Ok(());
        }
        Err(PtxError::syntax(
            var.line,
            format!("variable {} has no place", var.name),
        ))
    }

    fn find(&self, name: &str) -> Option<Symbol> {
        self.frames.iter().rev().find_map(|f| f.get(name)).copied()
    }

    pub(super) fn pred(&self, line: u32, name: &str) -> Result<Slot, PtxError> {
        match self.find(name) {
            Some(Symbol::Pred(slot)) => Ok(slot),
            _ => Err(PtxError::syntax(
                line,
                format!("{name} is not a predicate register"),
            )),
        }
    }

    /// The slot that holds `value` in every warp.
    pub(super) fn constant(&mut self, width: Width, value: Constant) -> Slot {
        let known = self
            .constants
            .iter()
            .find(|(w, _, v)| *w == width && *v == value);
        if let Some(&(_, slot, _)) = known {
            return slot;
        }
        let slot = self.take(file(width));
        self.constants.push((width, slot, value));
        slot
    }

    /// A general register of any width.
    pub(super) fn reg(&self, m: &Mods<'_>, arg: &Arg) -> Result<Reg, PtxError> {
        match arg {
            Arg::Name(name) => match self.find(name) {
                Some(Symbol::Reg(reg)) => Ok(reg),
                _ => Err(m.syntax(format!("{name} is not a general register"))),
            },
            _ => Err(m.syntax("expected a register")),
        }
    }

    /// A destination register of exactly this width.
    pub(super) fn dst(&self, m: &Mods<'_>, arg: &Arg, width: Width) -> Result<Slot, PtxError> {
        let reg = self.reg(m, arg)?;
        if reg.width != width {
            return Err(m.syntax("register width does not match the instruction type"));
        }
        Ok(reg.slot)
    }

    /// A source of exactly this width: register, immediate or special register.
    pub(super) fn src(&mut self, m: &Mods<'_>, arg: &Arg, width: Width) -> Result<Slot, PtxError> {
        Ok(match arg {
            Arg::Imm(value) => {
                let keep =
                    u64::MAX.checked_shr(64_u32.saturating_sub(width.bytes().saturating_mul(8)));
                self.constant(width, Constant::Bits(value & keep.unwrap_or(0)))
            }
            Arg::Name(name) if width == Width::W32 && self.find(name).is_none() => {
                let special = special(name).ok_or_else(|| {
                    m.syntax(format!(
                        "{name} is neither register nor known special register"
                    ))
                })?;
                self.constant(width, Constant::Special(special))
            }
            _ => self.dst(m, arg, width)?,
        })
    }

    /// A source of whatever width it has: special registers 32 bits, immediates 64.
    pub(super) fn any_src(&mut self, m: &Mods<'_>, arg: &Arg) -> Result<Reg, PtxError> {
        let width = match arg {
            Arg::Imm(_) => Width::W64,
            Arg::Name(name) if self.find(name).is_none() => Width::W32,
            _ => return self.reg(m, arg),
        };
        Ok(Reg {
            width,
            slot: self.src(m, arg, width)?,
        })
    }

    /// As [`Scope::src`], or the address of a variable (plus an offset), as `mov` takes it.
    pub(super) fn src_or_place(
        &mut self,
        m: &Mods<'_>,
        arg: &Arg,
        width: Width,
    ) -> Result<Slot, PtxError> {
        let (name, offset) = match arg {
            Arg::Name(name) => (name, 0),
            Arg::NameOffset(name, offset) => (name, *offset),
            _ => return self.src(m, arg, width),
        };
        if self.find(name).is_some() || width == Width::W16 {
            return self.src(m, arg, width);
        }
        let Some(place) = self.places.get(name).copied() else {
            return self.src(m, arg, width);
        };
        let at = place.offset.wrapping_add_signed(offset);
        match (place.space, width) {
            (PlaceSpace::Param, _) => Err(m.syntax("the address of a parameter cannot be taken")),
            (PlaceSpace::Global, Width::W64) => Ok(self.constant(width, Constant::Global(at))),
            (PlaceSpace::Global, _) => Err(m.syntax("a global address needs 64 bits")),
            _ => Ok(self.constant(width, Constant::Bits(at))),
        }
    }

    pub(super) fn pred_dst(&self, m: &Mods<'_>, arg: &Arg) -> Result<Option<Slot>, PtxError> {
        match arg {
            Arg::Sink => Ok(None),
            Arg::Name(name) => self.named_pred(m, name).map(Some),
            _ => Err(m.syntax("expected a predicate register")),
        }
    }

    pub(super) fn named_pred(&self, m: &Mods<'_>, name: &str) -> Result<Slot, PtxError> {
        match self.find(name) {
            Some(Symbol::Pred(slot)) => Ok(slot),
            _ => Err(m.syntax(format!("{name} is not a predicate register"))),
        }
    }

    pub(super) fn pred_src(&self, m: &Mods<'_>, arg: &Arg) -> Result<PredSrc, PtxError> {
        let (slot, negated) = match arg {
            Arg::Name(name) => (self.named_pred(m, name)?, false),
            Arg::Not(name) => (self.named_pred(m, name)?, true),
            Arg::Imm(value) => (self.true_pred, *value == 0),
            _ => return Err(m.syntax("expected a predicate")),
        };
        Ok(PredSrc { slot, negated })
    }

    /// An address operand in `space`.
    pub(super) fn addr(&mut self, m: &Mods<'_>, arg: &Arg, space: Space) -> Result<Addr, PtxError> {
        let Arg::Address { base, offset } = arg else {
            return Err(m.syntax("expected an address in brackets"));
        };
        let fixed = |slot| Reg {
            width: Width::W64,
            slot,
        };
        let base = match base {
            Base::Absolute(at) => fixed(self.constant(Width::W64, Constant::Bits(*at))),
            Base::Name(name) => match (self.find(name), self.places.get(name).copied()) {
                (Some(Symbol::Reg(reg)), _) => register_base(m, reg, space)?,
                (None, Some(place)) if space_of(place.space) == space => {
                    let constant = match place.space {
                        PlaceSpace::Global => Constant::Global(place.offset),
                        _ => Constant::Bits(place.offset),
                    };
                    fixed(self.constant(Width::W64, constant))
                }
                _ => return Err(m.syntax(format!("{name} is not an address in this space"))),
            },
        };
        Ok(Addr {
            base,
            offset: *offset,
        })
    }
}

/// Addresses are 64 bits; the block's own spaces may use 32.
fn register_base(m: &Mods<'_>, reg: Reg, space: Space) -> Result<Reg, PtxError> {
    let narrow = matches!(space, Space::Shared | Space::Local | Space::Const);
    match (reg.width, space) {
        (_, Space::Param) => Err(m.syntax("parameters are addressed by name")),
        (Width::W64, _) => Ok(reg),
        (Width::W32, _) if narrow => Ok(reg),
        _ => Err(m.syntax("address register has the wrong width")),
    }
}

fn space_of(place: PlaceSpace) -> Space {
    match place {
        PlaceSpace::Global => Space::Global,
        PlaceSpace::Const => Space::Const,
        PlaceSpace::Shared => Space::Shared,
        PlaceSpace::Local => Space::Local,
        PlaceSpace::Param => Space::Param,
    }
}

fn special(name: &str) -> Option<Special> {
    let axis = |tail: &str| ["x", "y", "z"].iter().position(|a| *a == tail);
    if let Some((base, tail)) = name.split_once('.') {
        let axis = axis(tail)?;
        return match base {
            "%tid" => Some(Special::Tid(axis)),
            "%ntid" => Some(Special::Ntid(axis)),
            "%ctaid" => Some(Special::Ctaid(axis)),
            "%nctaid" => Some(Special::Nctaid(axis)),
            _ => None,
        };
    }
    match name {
        "%laneid" => Some(Special::LaneId),
        "%warpid" => Some(Special::WarpId),
        "%nwarpid" => Some(Special::NumWarps),
        "%lanemask_eq" => Some(Special::LaneMaskEq),
        "%lanemask_le" => Some(Special::LaneMaskLe),
        "%lanemask_lt" => Some(Special::LaneMaskLt),
        "%lanemask_ge" => Some(Special::LaneMaskGe),
        "%lanemask_gt" => Some(Special::LaneMaskGt),
        "%dynamic_smem_size" => Some(Special::DynamicSharedSize),
        "%total_smem_size" => Some(Special::TotalSharedSize),
        "WARP_SZ" => Some(Special::WarpSize),
        _ => None,
    }
}
