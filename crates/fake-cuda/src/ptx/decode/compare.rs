//! Comparisons and selections.

use super::Decoder;
use super::mods::Mods;
use crate::ptx::ast::Arg;
use crate::ptx::error::PtxError;
use crate::ptx::inst::{BoolOp, Class, Cmp, Kind, PredSrc, SetDst, Setp, Ty, Width};

pub(super) fn decode(
    d: &mut Decoder,
    base: &str,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Option<Kind>, PtxError> {
    let kind = match base {
        "setp" => setp(d, m, args)?,
        "set" => set(d, m, args)?,
        "selp" => selp(d, m, args)?,
        "slct" => slct(d, m, args)?,
        _ => return Ok(None),
    };
    Ok(Some(kind))
}

/// The comparison and, for `lo ls hi hs`, that it is an unsigned one by name.
fn comparison(m: &mut Mods<'_>) -> Result<(Cmp, bool), PtxError> {
    m.need(|p| {
        Some(match p {
            "eq" => (Cmp::Eq, false),
            "ne" => (Cmp::Ne, false),
            "lt" => (Cmp::Lt, false),
            "le" => (Cmp::Le, false),
            "gt" => (Cmp::Gt, false),
            "ge" => (Cmp::Ge, false),
            "lo" => (Cmp::Lt, true),
            "ls" => (Cmp::Le, true),
            "hi" => (Cmp::Gt, true),
            "hs" => (Cmp::Ge, true),
            _ => return None,
        })
    })
}

fn bool_op(m: &mut Mods<'_>) -> Option<BoolOp> {
    m.eat_map(|p| match p {
        "and" => Some(BoolOp::And),
        "or" => Some(BoolOp::Or),
        "xor" => Some(BoolOp::Xor),
        _ => None,
    })
}

fn operand_type(m: &mut Mods<'_>, cmp: Cmp, unsigned: bool) -> Result<(Width, Class), PtxError> {
    let ordered = !matches!(cmp, Cmp::Eq | Cmp::Ne);
    let ty = m.need(|p| {
        Ty::parse(p).filter(|t| match t.class {
            Class::Bits => !ordered,
            Class::Unsigned => true,
            Class::Signed => !unsigned,
            Class::Float => t.bits == 32 && !unsigned,
            Class::Pred => false,
        })
    })?;
    Ok((m.width(ty)?, ty.class))
}

fn combine(
    d: &Decoder,
    m: &Mods<'_>,
    op: Option<BoolOp>,
    arg: Option<&Arg>,
) -> Result<Option<(BoolOp, PredSrc)>, PtxError> {
    match (op, arg) {
        (None, None) => Ok(None),
        (Some(op), Some(arg)) => Ok(Some((op, d.scope.pred_src(m, arg)?))),
        _ => Err(m.arity()),
    }
}

fn setp(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let (cmp, unsigned) = comparison(m)?;
    let op = bool_op(m);
    let (w, class) = operand_type(m, cmp, unsigned)?;
    let [dst, a, b, rest @ ..] = args else {
        return Err(m.arity());
    };
    if rest.len() > 1 {
        return Err(m.arity());
    }
    let combine = combine(d, m, op, rest.first())?;
    let dst = match dst {
        Arg::Pair(p, q) => {
            let named = |name: &str| {
                if name == "_" {
                    Ok(None)
                } else {
                    d.scope.named_pred(m, name).map(Some)
                }
            };
            SetDst::Pred {
                p: named(p)?,
                q: named(q)?,
            }
        }
        one => SetDst::Pred {
            p: d.scope.pred_dst(m, one)?,
            q: None,
        },
    };
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::Setp(Box::new(Setp {
        w,
        cmp,
        class,
        combine,
        dst,
        a,
        b,
    })))
}

/// `set.CMP[.BOOL].u32|s32.TYPE`: all ones or zero.
fn set(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let (cmp, unsigned) = comparison(m)?;
    let op = bool_op(m);
    m.int(&[32])?;
    let (w, class) = operand_type(m, cmp, unsigned)?;
    let [dst, a, b, rest @ ..] = args else {
        return Err(m.arity());
    };
    if rest.len() > 1 {
        return Err(m.arity());
    }
    let combine = combine(d, m, op, rest.first())?;
    let dst = SetDst::Word {
        d: d.scope.dst(m, dst, Width::W32)?,
    };
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::Setp(Box::new(Setp {
        w,
        cmp,
        class,
        combine,
        dst,
        a,
        b,
    })))
}

fn any_width(m: &mut Mods<'_>) -> Result<Width, PtxError> {
    let ty = m.ty()?;
    m.width(ty)
}

fn selp(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let w = any_width(m)?;
    let [dst, a, b, p] = args else {
        return Err(m.arity());
    };
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::Selp {
        w,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        p: d.scope.pred_src(m, p)?,
    })
}

fn slct(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let w = any_width(m)?;
    m.need(|p| (p == "s32").then_some(()))?;
    let [dst, a, b, c] = args else {
        return Err(m.arity());
    };
    let (a, b, c) = (
        d.scope.src(m, a, w)?,
        d.scope.src(m, b, w)?,
        d.scope.src(m, c, Width::W32)?,
    );
    Ok(Kind::Slct {
        w,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        c,
    })
}
