//! Arithmetic and logic of one warp. Every function computes all 32 lanes and
//! writes back those of `mask`.

use super::lanes::{Lanes, Word, map1, map2, map3};
use super::regs::{InFile, Regs};
use crate::ptx::inst::{
    CountOp, FloatOp, Kind, MadCarry, Op1, Op2, Op3, PrmtMode, ShiftOp, Slot, Width,
};

/// Runs `$body` with `$t` standing for the word type of width `$w`.
macro_rules! by_width {
    ($w:expr, $t:ident => $body:expr) => {
        match $w {
            Width::W16 => {
                type $t = u16;
                $body
            }
            Width::W32 => {
                type $t = u32;
                $body
            }
            Width::W64 => {
                type $t = u64;
                $body
            }
        }
    };
}
pub(super) use by_width;

/// Runs `kind` if it is arithmetic; says whether it was.
pub(super) fn run(r: &mut Regs, kind: &Kind, mask: u32) -> bool {
    simple(r, kind, mask) || fields(r, kind, mask) || products(r, kind, mask)
}

/// One, two and three operands of one width, shifts, counts.
#[rustfmt::skip] // One line per pattern: the shape of a table.
fn simple(r: &mut Regs, kind: &Kind, mask: u32) -> bool {
    match *kind {
        Kind::Op1 { w, op, d, a } => by_width!(w, T => {
            let v = op1::<T>(op, r.get(a));
            r.set(d, &v, mask);
        }),
        Kind::Op2 { w, op, signed, d, a, b } => by_width!(w, T => {
            let v = op2::<T>(op, signed, r.get(a), r.get(b));
            r.set(d, &v, mask);
        }),
        Kind::Op3 { w, op, signed, d, a, b, c } => by_width!(w, T => {
            let v = op3::<T>(op, signed, r.get(a), r.get(b), r.get(c));
            r.set(d, &v, mask);
        }),
        Kind::Shift { w, op, signed, d, a, b } => by_width!(w, T => {
            let v = shift::<T>(op, signed, r.get(a), r.get(b));
            r.set(d, &v, mask);
        }),
        Kind::Count { w, op, signed, d, a } => by_width!(w, T => {
            let v = map1(r.get::<T>(a), |x| count(op, signed, x));
            r.set(d, &v, mask);
        }),
        _ => return false,
    }
    true
}

/// Three-input logic, funnel shifts, permutes, bit fields.
#[rustfmt::skip] // One line per pattern: the shape of a table.
fn fields(r: &mut Regs, kind: &Kind, mask: u32) -> bool {
    match *kind {
        Kind::Lop3 { lut, d, a, b, c } => {
            let v = lop3(lut, r.get(a), r.get(b), r.get(c));
            r.set(d, &v, mask);
        }
        Kind::Shf { right, clamp, d, a, b, c } => {
            let v = funnels(right, clamp, r.get(a), r.get(b), r.get(c));
            r.set(d, &v, mask);
        }
        Kind::Prmt { mode, d, a, b, c } => {
            let v = permutes(mode, r.get(a), r.get(b), r.get(c));
            r.set(d, &v, mask);
        }
        Kind::Bfe { w, signed, d, a, pos, len } => by_width!(w, T => {
            let v = map3(r.get::<T>(a), r.get(pos), r.get(len), |a, p, l| bfe(signed, a, p, l));
            r.set(d, &v, mask);
        }),
        Kind::Bfi { w, d, a, b, pos, len } => by_width!(w, T => {
            let field = map2(r.get::<u32>(pos), r.get::<u32>(len), |p, l| (p & 255, l & 255));
            let v = map3(r.get::<T>(a), r.get::<T>(b), &field, |a, b, (p, l)| bfi(a, b, p, l));
            r.set(d, &v, mask);
        }),
        _ => return false,
    }
    true
}

/// Wide and 24-bit products, carry chains, packed and float arithmetic.
#[rustfmt::skip] // One line per pattern: the shape of a table.
fn products(r: &mut Regs, kind: &Kind, mask: u32) -> bool {
    match *kind {
        Kind::Wide { w, signed, d, a, b, c } => wide(r, w, signed, [d, a, b], c, mask),
        Kind::AddCarry { w, sub, carry_in, carry_out, d, a, b } => by_width!(w, T => {
            let (v, carry) = carry_chain::<T>(r, sub, carry_in, r.get(a), r.get(b));
            r.set(d, &v, mask);
            if carry_out {
                r.carry = r.carry & !mask | carry & mask;
            }
        }),
        Kind::MadCarry(ref mad) => by_width!(mad.w, T => mad_carry::<T>(r, mad, mask)),
        Kind::Mul24 { hi, signed, d, a, b, c } => {
            let mut v = map2(r.get(a), r.get(b), |a, b| mul24(hi, signed, a, b));
            if let Some(c) = c {
                v = map2(&v, r.get(c), u32::wrapping_add);
            }
            r.set(d, &v, mask);
        }
        Kind::Dp4a { a_signed, b_signed, d, a, b, c } => {
            let v = map3(r.get(a), r.get(b), r.get(c), |a, b, c| dp4a(a_signed, b_signed, a, b, c));
            r.set(d, &v, mask);
        }
        Kind::Float { op, d, a, b, c } => {
            let v = map3(r.get(a), r.get(b), r.get(c), |a, b, c| float(op, a, b, c));
            r.set(d, &v, mask);
        }
        _ => return false,
    }
    true
}

fn op1<T: InFile>(op: Op1, a: &Lanes<T>) -> Lanes<T> {
    match op {
        Op1::Mov => *a,
        Op1::Not => map1(a, T::not),
        Op1::Cnot => map1(a, |x| T::from_u64(u64::from(x == T::default()))),
        Op1::Neg => map1(a, T::neg),
        Op1::Abs => map1(a, |x| if x.signed() < 0 { x.neg() } else { x }),
        Op1::Brev => map1(a, T::brev),
    }
}

fn op2<T: InFile>(op: Op2, signed: bool, a: &Lanes<T>, b: &Lanes<T>) -> Lanes<T> {
    match op {
        Op2::Add => map2(a, b, T::add),
        Op2::Sub => map2(a, b, T::sub),
        Op2::MulLo => map2(a, b, T::mul),
        Op2::MulHi => map2(a, b, |a, b| a.mul_hi(b, signed)),
        Op2::Div => map2(a, b, |a, b| a.div(b, signed)),
        Op2::Rem => map2(a, b, |a, b| a.rem(b, signed)),
        Op2::Min => map2(a, b, |a, b| if b.less(a, signed) { b } else { a }),
        Op2::Max => map2(a, b, |a, b| if a.less(b, signed) { b } else { a }),
        Op2::And => map2(a, b, T::and),
        Op2::Or => map2(a, b, T::or),
        Op2::Xor => map2(a, b, T::xor),
    }
}

fn op3<T: InFile>(op: Op3, signed: bool, a: &Lanes<T>, b: &Lanes<T>, c: &Lanes<T>) -> Lanes<T> {
    match op {
        Op3::MadLo => map3(a, b, c, |a, b, c| a.mul(b).add(c)),
        Op3::MadHi => map3(a, b, c, |a, b, c| a.mul_hi(b, signed).add(c)),
        Op3::Sad => map3(a, b, c, |a, b, c| {
            c.add(if a.less(b, signed) {
                b.sub(a)
            } else {
                a.sub(b)
            })
        }),
    }
}

fn shift<T: InFile>(op: ShiftOp, signed: bool, a: &Lanes<T>, b: &Lanes<u32>) -> Lanes<T> {
    match op {
        ShiftOp::Left => map2(a, b, T::shl),
        ShiftOp::Right => map2(a, b, |a, b| a.shr(b, signed)),
    }
}

fn count<T: Word>(op: CountOp, signed: bool, a: T) -> u32 {
    // `bfind` looks for the highest bit that differs from the sign.
    let b = if signed && a.signed() < 0 { a.not() } else { a };
    let last = T::BITS.wrapping_sub(1);
    match op {
        CountOp::Popc => a.popc(),
        CountOp::Clz => a.clz(),
        _ if b == T::default() => u32::MAX,
        CountOp::Bfind => last.wrapping_sub(b.clz()),
        CountOp::BfindShift => b.clz(),
    }
}

fn wide(r: &mut Regs, w: Width, signed: bool, [d, a, b]: [Slot; 3], c: Option<Slot>, mask: u32) {
    if w == Width::W16 {
        let mut v = map2(r.get::<u16>(a), r.get::<u16>(b), |a, b| {
            if signed {
                a.signed().wrapping_mul(b.signed()) as u32
            } else {
                u32::from(a).wrapping_mul(u32::from(b))
            }
        });
        if let Some(c) = c {
            v = map2(&v, r.get(c), u32::wrapping_add);
        }
        return r.set(d, &v, mask);
    }
    let mut v = map2(r.get::<u32>(a), r.get::<u32>(b), |a, b| {
        if signed {
            a.signed().wrapping_mul(b.signed()) as u64
        } else {
            u64::from(a).wrapping_mul(u64::from(b))
        }
    });
    if let Some(c) = c {
        v = map2(&v, r.get(c), u64::wrapping_add);
    }
    r.set(d, &v, mask);
}

fn carry_chain<T: InFile>(
    r: &Regs,
    sub: bool,
    carry_in: bool,
    a: &Lanes<T>,
    b: &Lanes<T>,
) -> (Lanes<T>, u32) {
    let mut out = [T::default(); 32];
    let mut carry = 0;
    for (lane, ((o, &a), &b)) in out.iter_mut().zip(a).zip(b).enumerate() {
        let flag = carry_in && r.carry >> lane & 1 == 1;
        let (value, flag) = if sub {
            a.sub_borrow(b, flag)
        } else {
            a.add_carry(b, flag)
        };
        *o = value;
        carry |= u32::from(flag) << lane;
    }
    (out, carry)
}

fn mad_carry<T: InFile>(r: &mut Regs, mad: &MadCarry, mask: u32) {
    let product = map2(r.get::<T>(mad.a), r.get::<T>(mad.b), |a, b| {
        if mad.hi {
            a.mul_hi(b, mad.signed)
        } else {
            a.mul(b)
        }
    });
    let (value, carry) = carry_chain::<T>(r, false, mad.carry_in, &product, r.get(mad.c));
    r.set(mad.d, &value, mask);
    if mad.carry_out {
        r.carry = r.carry & !mask | carry & mask;
    }
}

/// The common tables as plain expressions, the rest bit by bit of the table.
fn lop3(lut: u8, a: &Lanes<u32>, b: &Lanes<u32>, c: &Lanes<u32>) -> Lanes<u32> {
    match lut {
        0x96 => map3(a, b, c, |a, b, c| a ^ b ^ c),
        0xe8 => map3(a, b, c, |a, b, c| a & b | a & c | b & c),
        0xca => map3(a, b, c, |a, b, c| a & b | !a & c),
        _ => map3(a, b, c, |a, b, c| {
            (0..8_u32)
                .filter(|row| lut >> row & 1 == 1)
                .fold(0, |acc, row| {
                    let pick = |bit: u32, v: u32| if row >> bit & 1 == 1 { v } else { !v };
                    acc | pick(2, a) & pick(1, b) & pick(0, c)
                })
        }),
    }
}

/// The value that all lanes have, if they have one.
fn uniform(lanes: &Lanes<u32>) -> Option<u32> {
    let first = lanes.first().copied()?;
    lanes.iter().all(|lane| *lane == first).then_some(first)
}

/// Amounts are the same in all lanes of a hash: two vector shifts then.
fn funnels(right: bool, clamp: bool, a: &Lanes<u32>, b: &Lanes<u32>, c: &Lanes<u32>) -> Lanes<u32> {
    match uniform(c) {
        Some(by @ 1..=31) => {
            let rest = 32_u32.wrapping_sub(by);
            let (down, up) = if right { (by, rest) } else { (rest, by) };
            map2(a, b, |a, b| a.wrapping_shr(down) | b.wrapping_shl(up))
        }
        _ => map3(a, b, c, |a, b, c| funnel(right, clamp, a, b, c)),
    }
}

/// Byte swaps, whose selector is the same in all lanes, without sign copies.
fn permutes(mode: PrmtMode, a: &Lanes<u32>, b: &Lanes<u32>, c: &Lanes<u32>) -> Lanes<u32> {
    match (mode, uniform(c)) {
        (PrmtMode::Index, Some(c)) if c & 0x8888 == 0 => {
            let from = [0, 4, 8, 12].map(|at: u32| (c.wrapping_shr(at) & 7).wrapping_mul(8));
            map2(a, b, |a, b| {
                let bytes = u64::from(b) << 32 | u64::from(a);
                let byte = |from| bytes.wrapping_shr(from) as u32 & 0xff;
                let [zero, one, two, three] = from.map(byte);
                zero | one << 8 | two << 16 | three << 24
            })
        }
        _ => map3(a, b, c, |a, b, c| prmt(mode, a, b, c)),
    }
}

fn funnel(right: bool, clamp: bool, a: u32, b: u32, c: u32) -> u32 {
    let by = if clamp { c.min(32) } else { c & 31 };
    let both = u64::from(b) << 32 | u64::from(a);
    if right {
        (both >> by) as u32
    } else {
        (both << by >> 32) as u32
    }
}

fn prmt(mode: PrmtMode, a: u32, b: u32, c: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let byte = |i: u32| (bytes >> (i & 7).wrapping_mul(8)) as u32 & 0xff;
    let pick = |i: u32| -> u32 {
        let s = c & 3;
        match mode {
            PrmtMode::Index => {
                let selector = c >> i.wrapping_mul(4) & 0xf;
                let value = byte(selector);
                match (selector & 8, value & 0x80) {
                    (0, _) => value,
                    (_, 0) => 0,
                    _ => 0xff,
                }
            }
            PrmtMode::Forward4 => byte(s.wrapping_add(i)),
            PrmtMode::Backward4 => byte(s.wrapping_sub(i)),
            PrmtMode::Rc8 => byte(s),
            PrmtMode::EdgeLeft => byte(i.max(s)),
            PrmtMode::EdgeRight => byte(i.min(s)),
            PrmtMode::Rc16 => byte((s & 1).wrapping_mul(2).wrapping_add(i & 1)),
        }
    };
    (0..4).fold(0, |acc, i| acc | pick(i) << i.wrapping_mul(8))
}

fn mul24(hi: bool, signed: bool, a: u32, b: u32) -> u32 {
    let read = |v: u32| {
        if signed {
            i64::from((v << 8).cast_signed() >> 8)
        } else {
            i64::from(v & 0x00ff_ffff)
        }
    };
    let product = read(a).wrapping_mul(read(b));
    if hi {
        (product >> 16) as u32
    } else {
        product as u32
    }
}

fn bfe<T: Word>(signed: bool, a: T, pos: u32, len: u32) -> T {
    let (pos, len) = (pos & 255, len & 255);
    let last = T::BITS.wrapping_sub(1);
    let top = pos.wrapping_add(len).wrapping_sub(1).min(last);
    let sign = signed && len != 0 && a.shr(top, false).to_u64() & 1 == 1;
    let field = a.shr(pos, false);
    if len >= T::BITS {
        // Bits above the source repeat the sign.
        return if sign {
            field.or(T::default().not().shl(T::BITS.saturating_sub(pos)))
        } else {
            field
        };
    }
    let keep = T::default().not().shl(len).not();
    let missing = T::default()
        .not()
        .shl(T::BITS.saturating_sub(pos))
        .and(keep);
    let low = field.and(keep);
    if sign {
        low.or(keep.not()).or(missing)
    } else {
        low
    }
}

fn bfi<T: Word>(a: T, b: T, pos: u32, len: u32) -> T {
    let ones = T::default().not().shl(len).not().shl(pos);
    a.shl(pos).and(ones).or(b.and(ones.not()))
}

fn dp4a(a_signed: bool, b_signed: bool, a: u32, b: u32, c: u32) -> u32 {
    let read = |v: u8, signed: bool| {
        if signed {
            i32::from(v.cast_signed())
        } else {
            i32::from(v)
        }
    };
    let terms = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    terms.fold(c, |acc, (x, y)| {
        acc.wrapping_add(
            read(x, a_signed)
                .wrapping_mul(read(y, b_signed))
                .cast_unsigned(),
        )
    })
}

fn float(op: FloatOp, a: u32, b: u32, c: u32) -> u32 {
    let (a, b, c) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
    let value = match op {
        FloatOp::Add => a + b,
        FloatOp::Sub => a - b,
        FloatOp::Mul => a * b,
        FloatOp::Fma => a.mul_add(b, c),
    };
    value.to_bits()
}
