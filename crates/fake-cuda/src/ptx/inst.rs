//! Decoded instructions: what the decoder makes and the interpreter runs.
//!
//! Every operand is a *slot*: an index into one of the four register files of
//! a warp. Immediates, special registers and symbol addresses are slots too,
//! filled once when a warp starts, so that the inner loop never asks what kind
//! of operand it has.

use std::fmt;

/// Index of a register in its file.
pub(crate) type Slot = u32;

/// Register width: which register file an operand lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    W16,
    W32,
    W64,
}

impl Width {
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Width::W16 => 2,
            Width::W32 => 4,
            Width::W64 => 8,
        }
    }

    pub(crate) fn from_bits(bits: u32) -> Option<Width> {
        match bits {
            16 => Some(Width::W16),
            32 => Some(Width::W32),
            64 => Some(Width::W64),
            _ => None,
        }
    }
}

/// How a value is read: bits, unsigned, signed, floating point, predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Bits,
    Unsigned,
    Signed,
    Float,
    Pred,
}

/// A PTX type such as `.u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ty {
    pub(crate) class: Class,
    pub(crate) bits: u32,
}

impl Ty {
    /// Parses the name without its dot, as in `u32`. `None`: not a type we know.
    pub(crate) fn parse(name: &str) -> Option<Ty> {
        let (class, bits) = match name {
            "pred" => {
                return Some(Ty {
                    class: Class::Pred,
                    bits: 1,
                });
            }
            _ => (name.get(..1)?, name.get(1..)?),
        };
        let class = match class {
            "b" => Class::Bits,
            "u" => Class::Unsigned,
            "s" => Class::Signed,
            "f" => Class::Float,
            _ => return None,
        };
        let bits = match (bits, class) {
            ("8", Class::Float) => return None,
            ("8", _) => 8,
            ("16", Class::Float) => return None,
            ("16", _) => 16,
            ("32", _) => 32,
            ("64", _) => 64,
            _ => return None,
        };
        Some(Ty { class, bits })
    }

    pub(crate) fn bytes(self) -> u32 {
        self.bits / 8
    }

    pub(crate) fn signed(self) -> bool {
        self.class == Class::Signed
    }

    pub(crate) fn is_int(self) -> bool {
        matches!(self.class, Class::Unsigned | Class::Signed)
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            Class::Bits => "b",
            Class::Unsigned => "u",
            Class::Signed => "s",
            Class::Float => "f",
            Class::Pred => return f.write_str("pred"),
        };
        write!(f, "{class}{}", self.bits)
    }
}

/// A general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reg {
    pub(crate) width: Width,
    pub(crate) slot: Slot,
}

/// A predicate operand, possibly negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PredSrc {
    pub(crate) slot: Slot,
    pub(crate) negated: bool,
}

/// State space of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

/// Address of a memory operand: register (or constant slot) plus offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addr {
    pub(crate) base: Reg,
    pub(crate) offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op1 {
    Mov,
    Not,
    Cnot,
    Neg,
    Abs,
    Brev,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op2 {
    Add,
    Sub,
    MulLo,
    MulHi,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op3 {
    MadLo,
    MadHi,
    Sad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShiftOp {
    Left,
    Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountOp {
    Popc,
    Clz,
    Bfind,
    BfindShift,
}

/// Comparison; signedness is kept beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoolOp {
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrmtMode {
    Index,
    Forward4,
    Backward4,
    Rc8,
    EdgeLeft,
    EdgeRight,
    Rc16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReduxOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
}

/// Floating-point arithmetic, 32 bits, round to nearest even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatOp {
    Add,
    Sub,
    Mul,
    Fma,
}

/// What an instruction does. `d` is the destination, `a`, `b`, `c` are sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Op1 {
        w: Width,
        op: Op1,
        d: Slot,
        a: Slot,
    },
    Op2 {
        w: Width,
        op: Op2,
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Op3 {
        w: Width,
        op: Op3,
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Shift {
        w: Width,
        op: ShiftOp,
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Count {
        w: Width,
        op: CountOp,
        signed: bool,
        d: Slot,
        a: Slot,
    },
    /// `w` is the width of `a` and `b`; the result is twice as wide.
    Wide {
        w: Width,
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Option<Slot>,
    },
    AddCarry {
        w: Width,
        sub: bool,
        carry_in: bool,
        carry_out: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    MadCarry(Box<MadCarry>),
    Mul24 {
        hi: bool,
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Option<Slot>,
    },
    Bfe {
        w: Width,
        signed: bool,
        d: Slot,
        a: Slot,
        pos: Slot,
        len: Slot,
    },
    Bfi {
        w: Width,
        d: Slot,
        a: Slot,
        b: Slot,
        pos: Slot,
        len: Slot,
    },
    Lop3 {
        lut: u8,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Shf {
        right: bool,
        clamp: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Prmt {
        mode: PrmtMode,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Dp4a {
        a_signed: bool,
        b_signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Float {
        op: FloatOp,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Setp(Box<Setp>),
    Selp {
        w: Width,
        d: Slot,
        a: Slot,
        b: Slot,
        p: PredSrc,
    },
    Slct {
        w: Width,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    PredOp {
        op: BoolOp,
        d: Slot,
        a: PredSrc,
        b: PredSrc,
    },
    PredMov {
        d: Slot,
        a: PredSrc,
    },
    Cvt {
        from: Ty,
        to: Ty,
        sat: bool,
        d: Reg,
        a: Reg,
    },
    Pack {
        d: Reg,
        parts: Vec<Reg>,
    },
    Unpack {
        parts: Vec<Option<Reg>>,
        a: Reg,
    },
    Isspacep {
        space: Space,
        d: Slot,
        a: Slot,
    },
    Ld {
        space: Space,
        ty: Ty,
        dst: Vec<Option<Reg>>,
        addr: Addr,
    },
    St {
        space: Space,
        ty: Ty,
        src: Vec<Reg>,
        addr: Addr,
    },
    Atom(Box<Atom>),
    Bar {
        id: Slot,
    },
    BarWarp {
        mask: Slot,
    },
    Shfl(Box<Shfl>),
    Vote {
        mode: VoteMode,
        d: Slot,
        a: PredSrc,
        mask: Slot,
    },
    MatchAny {
        w: Width,
        d: Slot,
        a: Slot,
        mask: Slot,
    },
    MatchAll {
        w: Width,
        d: Slot,
        p: Option<Slot>,
        a: Slot,
        mask: Slot,
    },
    Redux {
        op: ReduxOp,
        signed: bool,
        d: Slot,
        a: Slot,
        mask: Slot,
    },
    ActiveMask {
        d: Slot,
    },
    Bra {
        target: u32,
    },
    Brx {
        index: Slot,
        targets: Vec<u32>,
    },
    Exit,
    Trap,
    /// Fences, prefetches, sleeps: they change no value in this machine.
    Nop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MadCarry {
    pub(crate) w: Width,
    pub(crate) hi: bool,
    pub(crate) signed: bool,
    pub(crate) carry_in: bool,
    pub(crate) carry_out: bool,
    pub(crate) d: Slot,
    pub(crate) a: Slot,
    pub(crate) b: Slot,
    pub(crate) c: Slot,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setp {
    pub(crate) w: Width,
    pub(crate) cmp: Cmp,
    pub(crate) class: Class,
    pub(crate) combine: Option<(BoolOp, PredSrc)>,
    pub(crate) dst: SetDst,
    pub(crate) a: Slot,
    pub(crate) b: Slot,
}

/// Where a comparison goes: one or two predicates, or all-ones in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetDst {
    Pred { p: Option<Slot>, q: Option<Slot> },
    Word { d: Slot },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Atom {
    pub(crate) space: Space,
    pub(crate) op: AtomOp,
    pub(crate) w: Width,
    pub(crate) signed: bool,
    pub(crate) d: Option<Slot>,
    pub(crate) addr: Addr,
    pub(crate) b: Slot,
    pub(crate) c: Option<Slot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shfl {
    pub(crate) mode: ShflMode,
    pub(crate) d: Slot,
    pub(crate) p: Option<Slot>,
    pub(crate) a: Slot,
    pub(crate) b: Slot,
    pub(crate) c: Slot,
    pub(crate) mask: Slot,
}

/// One decoded instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inst {
    pub(crate) guard: Option<PredSrc>,
    pub(crate) kind: Kind,
    /// Line of the PTX text, for fault messages.
    pub(crate) line: u32,
}

/// Special registers, constant for the life of a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    LaneId,
    WarpId,
    NumWarps,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    WarpSize,
    DynamicSharedSize,
    TotalSharedSize,
}

/// What a constant slot is filled with when a warp starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Constant {
    Bits(u64),
    Special(Special),
    /// Address of a module variable: the module's base plus this.
    Global(u64),
}
