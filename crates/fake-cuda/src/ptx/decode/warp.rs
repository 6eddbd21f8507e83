//! Operations across the lanes of a warp.

use super::Decoder;
use super::mods::Mods;
use crate::ptx::ast::Arg;
use crate::ptx::error::PtxError;
use crate::ptx::inst::{Kind, ReduxOp, Shfl, ShflMode, VoteMode, Width};

const W: Width = Width::W32;

pub(super) fn decode(
    d: &mut Decoder,
    base: &str,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Option<Kind>, PtxError> {
    let kind = match base {
        "shfl" => shuffle(d, m, args)?,
        "vote" => vote(d, m, args)?,
        "match" => matching(d, m, args)?,
        "redux" => redux(d, m, args)?,
        "activemask" => {
            m.bits(&[32])?;
            let [dst] = args else { return Err(m.arity()) };
            Kind::ActiveMask {
                d: d.scope.dst(m, dst, W)?,
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(kind))
}

fn sync(m: &mut Mods<'_>) -> Result<(), PtxError> {
    m.need(|p| (p == "sync").then_some(()))
}

fn shuffle(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    sync(m)?;
    let mode = m.need(|p| {
        Some(match p {
            "up" => ShflMode::Up,
            "down" => ShflMode::Down,
            "bfly" => ShflMode::Bfly,
            "idx" => ShflMode::Idx,
            _ => return None,
        })
    })?;
    m.bits(&[32])?;
    let [dst, a, b, c, mask] = args else {
        return Err(m.arity());
    };
    let (dst, p) = match dst {
        Arg::Pair(dst, p) => (Arg::Name(dst.clone()), Some(d.scope.named_pred(m, p)?)),
        one => (one.clone(), None),
    };
    let (a, b) = (d.scope.src(m, a, W)?, d.scope.src(m, b, W)?);
    let (c, mask) = (d.scope.src(m, c, W)?, d.scope.src(m, mask, W)?);
    Ok(Kind::Shfl(Box::new(Shfl {
        mode,
        d: d.scope.dst(m, &dst, W)?,
        p,
        a,
        b,
        c,
        mask,
    })))
}

fn vote(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    sync(m)?;
    let mode = m.need(|p| {
        Some(match p {
            "all" => VoteMode::All,
            "any" => VoteMode::Any,
            "uni" => VoteMode::Uni,
            "ballot" => VoteMode::Ballot,
            _ => return None,
        })
    })?;
    let [dst, a, mask] = args else {
        return Err(m.arity());
    };
    let dst = if mode == VoteMode::Ballot {
        m.bits(&[32])?;
        d.scope.dst(m, dst, W)?
    } else {
        m.need(|p| (p == "pred").then_some(()))?;
        d.scope.pred_dst(m, dst)?.ok_or_else(|| m.arity())?
    };
    let mask = d.scope.src(m, mask, W)?;
    Ok(Kind::Vote {
        mode,
        d: dst,
        a: d.scope.pred_src(m, a)?,
        mask,
    })
}

fn matching(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let all = m.need(|p| match p {
        "any" => Some(false),
        "all" => Some(true),
        _ => None,
    })?;
    sync(m)?;
    let w = m.bits(&[32, 64])?;
    let [dst, a, mask] = args else {
        return Err(m.arity());
    };
    let (a, mask) = (d.scope.src(m, a, w)?, d.scope.src(m, mask, W)?);
    match (all, dst) {
        (false, dst) => Ok(Kind::MatchAny {
            w,
            d: d.scope.dst(m, dst, W)?,
            a,
            mask,
        }),
        (true, Arg::Pair(dst, p)) => {
            let p = Some(d.scope.named_pred(m, p)?);
            Ok(Kind::MatchAll {
                w,
                d: d.scope.dst(m, &Arg::Name(dst.clone()), W)?,
                p,
                a,
                mask,
            })
        }
        (true, dst) => Ok(Kind::MatchAll {
            w,
            d: d.scope.dst(m, dst, W)?,
            p: None,
            a,
            mask,
        }),
    }
}

/// `add min max` on `.u32 .s32`, `and or xor` on `.b32`.
fn redux(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    sync(m)?;
    let op = m.need(|p| {
        Some(match p {
            "add" => ReduxOp::Add,
            "min" => ReduxOp::Min,
            "max" => ReduxOp::Max,
            "and" => ReduxOp::And,
            "or" => ReduxOp::Or,
            "xor" => ReduxOp::Xor,
            _ => return None,
        })
    })?;
    let signed = if matches!(op, ReduxOp::Add | ReduxOp::Min | ReduxOp::Max) {
        m.int(&[32])?.1
    } else {
        m.bits(&[32])?;
        false
    };
    let [dst, a, mask] = args else {
        return Err(m.arity());
    };
    let (a, mask) = (d.scope.src(m, a, W)?, d.scope.src(m, mask, W)?);
    Ok(Kind::Redux {
        op,
        signed,
        d: d.scope.dst(m, dst, W)?,
        a,
        mask,
    })
}
