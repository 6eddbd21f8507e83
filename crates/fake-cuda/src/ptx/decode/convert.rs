//! Moves and conversions.

use super::Decoder;
use super::mods::Mods;
use crate::ptx::ast::Arg;
use crate::ptx::error::PtxError;
use crate::ptx::exec::{CONST_WINDOW, LOCAL_WINDOW, SHARED_WINDOW};
use crate::ptx::inst::{Class, Constant, Kind, Op1, Op2, Reg, Space, Ty, Width};

pub(super) fn decode(
    d: &mut Decoder,
    base: &str,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Option<Kind>, PtxError> {
    let kind = match base {
        "mov" => mov(d, m, args)?,
        "cvt" => cvt(d, m, args)?,
        "cvta" => cvta(d, m, args)?,
        "isspacep" => isspacep(d, m, args)?,
        _ => return Ok(None),
    };
    Ok(Some(kind))
}

fn mov(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let ty = m.ty()?;
    let [dst, a] = args else {
        return Err(m.arity());
    };
    if ty.class == Class::Pred {
        let a = d.scope.pred_src(m, a)?;
        let dst = d.scope.pred_dst(m, dst)?.ok_or_else(|| m.arity())?;
        return Ok(Kind::PredMov { d: dst, a });
    }
    let w = m.width(ty)?;
    match (dst, a) {
        (_, Arg::Vector(parts)) => {
            let parts = vector(d, m, ty, parts, false)?;
            let parts = parts.into_iter().flatten().collect();
            Ok(Kind::Pack {
                d: Reg {
                    width: w,
                    slot: d.scope.dst(m, dst, w)?,
                },
                parts,
            })
        }
        (Arg::Vector(parts), _) => {
            let parts = vector(d, m, ty, parts, true)?;
            let slot = d.scope.src(m, a, w)?;
            Ok(Kind::Unpack {
                parts,
                a: Reg { width: w, slot },
            })
        }
        _ => {
            let a = d.scope.src_or_place(m, a, w)?;
            Ok(Kind::Op1 {
                w,
                op: Op1::Mov,
                d: d.scope.dst(m, dst, w)?,
                a,
            })
        }
    }
}

/// The parts of a packed move: equal widths that fill the word.
fn vector(
    d: &mut Decoder,
    m: &Mods<'_>,
    ty: Ty,
    parts: &[Arg],
    sink: bool,
) -> Result<Vec<Option<Reg>>, PtxError> {
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let width = ty.bits.checked_div(count).and_then(Width::from_bits);
    let Some(width) = width.filter(|_| ty.class == Class::Bits && matches!(count, 2 | 4)) else {
        return Err(m.refuse());
    };
    let mut out = Vec::with_capacity(parts.len());
    for part in parts {
        out.push(match part {
            Arg::Sink if sink => None,
            _ if sink => Some(Reg {
                width,
                slot: d.scope.dst(m, part, width)?,
            }),
            _ => Some(Reg {
                width,
                slot: d.scope.src(m, part, width)?,
            }),
        });
    }
    Ok(out)
}

fn cvt(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let sat = m.eat("sat");
    let to = m.need(|p| Ty::parse(p).filter(|t| t.is_int()))?;
    let from = m.need(|p| Ty::parse(p).filter(|t| t.is_int()))?;
    let [dst, a] = args else {
        return Err(m.arity());
    };
    let dst = d.scope.reg(m, dst)?;
    let a = d.scope.any_src(m, a)?;
    let narrow = |reg: Reg, ty: Ty| reg.width.bytes() < ty.bytes();
    if narrow(dst, to) || narrow(a, from) {
        return Err(m.syntax("register is narrower than the type"));
    }
    Ok(Kind::Cvt {
        from,
        to,
        sat,
        d: dst,
        a,
    })
}

fn window(m: &mut Mods<'_>) -> Result<u64, PtxError> {
    m.need(|p| match p {
        "global" => Some(0),
        "shared" => Some(SHARED_WINDOW),
        "local" => Some(LOCAL_WINDOW),
        "const" => Some(CONST_WINDOW),
        _ => None,
    })
}

fn cvta(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let to = m.eat("to");
    let base = window(m)?;
    m.need(|p| (p == "u64").then_some(()))?;
    let [dst, a] = args else {
        return Err(m.arity());
    };
    let w = Width::W64;
    let a = d.scope.src_or_place(m, a, w)?;
    let dst = d.scope.dst(m, dst, w)?;
    if base == 0 {
        return Ok(Kind::Op1 {
            w,
            op: Op1::Mov,
            d: dst,
            a,
        });
    }
    let b = d.scope.constant(w, Constant::Bits(base));
    let op = if to { Op2::Sub } else { Op2::Add };
    Ok(Kind::Op2 {
        w,
        op,
        signed: false,
        d: dst,
        a,
        b,
    })
}

fn isspacep(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let space = m.need(|p| match p {
        "global" => Some(Space::Global),
        "shared" => Some(Space::Shared),
        "local" => Some(Space::Local),
        "const" => Some(Space::Const),
        _ => None,
    })?;
    let [dst, a] = args else {
        return Err(m.arity());
    };
    let a = d.scope.src(m, a, Width::W64)?;
    let dst = d.scope.pred_dst(m, dst)?.ok_or_else(|| m.arity())?;
    Ok(Kind::Isspacep { space, d: dst, a })
}
