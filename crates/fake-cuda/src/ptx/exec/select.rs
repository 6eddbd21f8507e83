//! Comparisons, predicates, conversions, packing.

use super::alu::by_width;
use super::lanes::{Lanes, Word, map1, map3, mask2};
use super::regs::{InFile, Regs};
use super::{CONST_WINDOW, LOCAL_WINDOW, SHARED_WINDOW};
use crate::ptx::inst::{BoolOp, Class, Cmp, Kind, Reg, SetDst, Setp, Space, Ty, Width};

/// Runs `kind` if it belongs here; says whether it did.
pub(super) fn run(r: &mut Regs, kind: &Kind, mask: u32) -> bool {
    match kind {
        Kind::Setp(setp) => compare(r, setp, mask),
        Kind::Selp { w, d, a, b, p } => {
            let pick = r.pred_src(*p);
            by_width!(*w, T => {
                let mut v = *r.get::<T>(*b);
                super::lanes::blend(&mut v, r.get::<T>(*a), pick);
                r.set(*d, &v, mask);
            });
        }
        Kind::Slct { w, d, a, b, c } => by_width!(*w, T => {
            let v = map3(r.get::<T>(*a), r.get::<T>(*b), r.get::<u32>(*c), |a, b, c| {
                if c.signed() >= 0 { a } else { b }
            });
            r.set(*d, &v, mask);
        }),
        Kind::PredOp { op, d, a, b } => {
            let value = apply(*op, r.pred_src(*a), r.pred_src(*b));
            r.set_pred(*d, value, mask);
        }
        Kind::PredMov { d, a } => r.set_pred(*d, r.pred_src(*a), mask),
        Kind::Cvt {
            from,
            to,
            sat,
            d,
            a,
        } => {
            let v = map1(&r.get_any(*a), |x| convert(x, *from, *to, *sat, d.width));
            r.set_any(*d, &v, mask);
        }
        Kind::Pack { d, parts } => {
            let v = pack(r, parts);
            r.set_any(*d, &v, mask);
        }
        Kind::Unpack { parts, a } => unpack(r, parts, *a, mask),
        Kind::Isspacep { space, d, a } => {
            let lanes = *r.get::<u64>(*a);
            r.set_pred(
                *d,
                mask2(&lanes, &lanes, |a, _| window_of(a) == *space),
                mask,
            );
        }
        _ => return false,
    }
    true
}

/// The state space that a generic address points into.
pub(super) fn window_of(addr: u64) -> Space {
    match addr {
        SHARED_WINDOW.. => Space::Shared,
        LOCAL_WINDOW.. => Space::Local,
        CONST_WINDOW.. => Space::Const,
        _ => Space::Global,
    }
}

fn apply(op: BoolOp, a: u32, b: u32) -> u32 {
    match op {
        BoolOp::And => a & b,
        BoolOp::Or => a | b,
        BoolOp::Xor => a ^ b,
    }
}

fn compare(r: &mut Regs, s: &Setp, mask: u32) {
    let holds = if s.class == Class::Float {
        mask2(r.get::<u32>(s.a), r.get::<u32>(s.b), |a, b| {
            compare_floats(s.cmp, a, b)
        })
    } else {
        by_width!(s.w, T => compare_words::<T>(s.cmp, s.class == Class::Signed, r.get(s.a), r.get(s.b)))
    };
    let combined = |value: u32| match s.combine {
        None => value,
        Some((op, p)) => apply(op, value, r.pred_src(p)),
    };
    let (yes, no) = (combined(holds), combined(!holds));
    match s.dst {
        SetDst::Pred { p, q } => {
            if let Some(p) = p {
                r.set_pred(p, yes, mask);
            }
            if let Some(q) = q {
                r.set_pred(q, no, mask);
            }
        }
        SetDst::Word { d } => {
            let mut v = [0_u32; 32];
            super::lanes::blend(&mut v, &[u32::MAX; 32], yes);
            r.set(d, &v, mask);
        }
    }
}

fn compare_words<T: InFile>(cmp: Cmp, signed: bool, a: &Lanes<T>, b: &Lanes<T>) -> u32 {
    match cmp {
        Cmp::Eq => mask2(a, b, |a, b| a == b),
        Cmp::Ne => mask2(a, b, |a, b| a != b),
        Cmp::Lt => mask2(a, b, |a, b| a.less(b, signed)),
        Cmp::Le => mask2(a, b, |a, b| !b.less(a, signed)),
        Cmp::Gt => mask2(a, b, |a, b| b.less(a, signed)),
        Cmp::Ge => mask2(a, b, |a, b| !a.less(b, signed)),
    }
}

/// Ordered comparisons: false when either side is not a number (`ne` too).
fn compare_floats(cmp: Cmp, a: u32, b: u32) -> bool {
    let Some(order) = f32::from_bits(a).partial_cmp(&f32::from_bits(b)) else {
        return false;
    };
    match cmp {
        Cmp::Eq => order.is_eq(),
        Cmp::Ne => order.is_ne(),
        Cmp::Lt => order.is_lt(),
        Cmp::Le => order.is_le(),
        Cmp::Gt => order.is_gt(),
        Cmp::Ge => order.is_ge(),
    }
}

/// The low `ty.bits` of `value`, extended as `ty` says.
fn extend(value: u64, ty: Ty) -> i128 {
    let drop = 64_u32.saturating_sub(ty.bits);
    if ty.signed() {
        i128::from((value << drop).cast_signed() >> drop)
    } else {
        i128::from(value << drop >> drop)
    }
}

fn convert(value: u64, from: Ty, to: Ty, sat: bool, width: Width) -> u64 {
    let mut value = extend(value, from);
    if sat {
        let bits = to.bits.min(64);
        let (low, high) = if to.signed() {
            let half = 1_i128 << bits.saturating_sub(1);
            (half.wrapping_neg(), half.wrapping_sub(1))
        } else {
            (0, (1_i128 << bits).wrapping_sub(1))
        };
        value = value.clamp(low, high);
    }
    // A destination register wider than the type is extended as the type says.
    let wide = extend(value as u64, to) as u64;
    let drop = 64_u32.saturating_sub(width.bytes().saturating_mul(8));
    wide << drop >> drop
}

fn pack(r: &Regs, parts: &[Reg]) -> Lanes<u64> {
    let mut out = [0_u64; 32];
    let mut at = 0_u32;
    for &part in parts {
        for (o, v) in out.iter_mut().zip(r.get_any(part)) {
            *o |= v.checked_shl(at).unwrap_or(0);
        }
        at = at.saturating_add(part.width.bytes().saturating_mul(8));
    }
    out
}

fn unpack(r: &mut Regs, parts: &[Option<Reg>], a: Reg, mask: u32) {
    let value = r.get_any(a);
    let count = u32::try_from(parts.len()).unwrap_or(1);
    let each = a
        .width
        .bytes()
        .saturating_mul(8)
        .checked_div(count)
        .unwrap_or(0);
    let mut at = 0_u32;
    for part in parts {
        if let Some(part) = part {
            let v = map1(&value, |v| v.checked_shr(at).unwrap_or(0));
            r.set_any(*part, &v, mask);
        }
        at = at.saturating_add(each);
    }
}
