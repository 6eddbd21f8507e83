//! Logic, shifts and bit fields.

use super::Decoder;
use super::mods::Mods;
use crate::ptx::ast::Arg;
use crate::ptx::error::PtxError;
use crate::ptx::inst::{BoolOp, Class, CountOp, Kind, Op1, Op2, PrmtMode, ShiftOp, Ty, Width};

const ANY: [u32; 3] = [16, 32, 64];
const WIDE: [u32; 2] = [32, 64];

pub(super) fn decode(
    d: &mut Decoder,
    base: &str,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Option<Kind>, PtxError> {
    let kind = match base {
        "and" | "or" | "xor" => logic(d, base, m, args)?,
        "not" => not(d, m, args)?,
        "cnot" => unary(d, Op1::Cnot, &ANY, m, args)?,
        "brev" => unary(d, Op1::Brev, &WIDE, m, args)?,
        "shl" | "shr" => shift(d, base, m, args)?,
        "shf" => funnel(d, m, args)?,
        "lop3" => lop3(d, m, args)?,
        "prmt" => prmt(d, m, args)?,
        "popc" => count(d, CountOp::Popc, m, args)?,
        "clz" => count(d, CountOp::Clz, m, args)?,
        "bfind" => bfind(d, m, args)?,
        "bfe" => bfe(d, m, args)?,
        "bfi" => bfi(d, m, args)?,
        _ => return Ok(None),
    };
    Ok(Some(kind))
}

fn logic(d: &mut Decoder, base: &str, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let [dst, a, b] = args else {
        return Err(m.arity());
    };
    if m.eat("pred") {
        let op = match base {
            "and" => BoolOp::And,
            "or" => BoolOp::Or,
            _ => BoolOp::Xor,
        };
        let (a, b) = (d.scope.pred_src(m, a)?, d.scope.pred_src(m, b)?);
        let dst = d.scope.pred_dst(m, dst)?.ok_or_else(|| m.arity())?;
        return Ok(Kind::PredOp { op, d: dst, a, b });
    }
    let op = match base {
        "and" => Op2::And,
        "or" => Op2::Or,
        _ => Op2::Xor,
    };
    let w = m.bits(&ANY)?;
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::Op2 {
        w,
        op,
        signed: false,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
    })
}

fn not(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let [dst, a] = args else {
        return Err(m.arity());
    };
    if !m.eat("pred") {
        return unary(d, Op1::Not, &ANY, m, args);
    }
    let mut a = d.scope.pred_src(m, a)?;
    a.negated = !a.negated;
    let dst = d.scope.pred_dst(m, dst)?.ok_or_else(|| m.arity())?;
    Ok(Kind::PredMov { d: dst, a })
}

fn unary(
    d: &mut Decoder,
    op: Op1,
    bits: &[u32],
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Kind, PtxError> {
    let w = m.bits(bits)?;
    let [dst, a] = args else {
        return Err(m.arity());
    };
    Ok(Kind::Op1 {
        w,
        op,
        d: d.scope.dst(m, dst, w)?,
        a: d.scope.src(m, a, w)?,
    })
}

fn shift(d: &mut Decoder, base: &str, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let left = base == "shl";
    let known = |t: &Ty| match t.class {
        Class::Bits => true,
        Class::Unsigned | Class::Signed => !left,
        _ => false,
    };
    let ty = m.need(|p| Ty::parse(p).filter(known))?;
    let w = m.width(ty)?;
    let [dst, a, b] = args else {
        return Err(m.arity());
    };
    let op = if left { ShiftOp::Left } else { ShiftOp::Right };
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, Width::W32)?);
    Ok(Kind::Shift {
        w,
        op,
        signed: ty.signed(),
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
    })
}

fn funnel(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let right = m.need(|p| match p {
        "l" => Some(false),
        "r" => Some(true),
        _ => None,
    })?;
    let clamp = m.need(|p| match p {
        "wrap" => Some(false),
        "clamp" => Some(true),
        _ => None,
    })?;
    let w = m.bits(&[32])?;
    let [dst, a, b, c] = args else {
        return Err(m.arity());
    };
    let (a, b, c) = (
        d.scope.src(m, a, w)?,
        d.scope.src(m, b, w)?,
        d.scope.src(m, c, w)?,
    );
    Ok(Kind::Shf {
        right,
        clamp,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        c,
    })
}

fn lop3(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let w = m.bits(&[32])?;
    let [dst, a, b, c, Arg::Imm(lut)] = args else {
        return Err(m.arity());
    };
    let lut = u8::try_from(*lut).map_err(|_| m.syntax("table does not fit 8 bits"))?;
    let (a, b, c) = (
        d.scope.src(m, a, w)?,
        d.scope.src(m, b, w)?,
        d.scope.src(m, c, w)?,
    );
    Ok(Kind::Lop3 {
        lut,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        c,
    })
}

fn prmt(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let w = m.bits(&[32])?;
    let mode = m.eat_map(|p| match p {
        "f4e" => Some(PrmtMode::Forward4),
        "b4e" => Some(PrmtMode::Backward4),
        "rc8" => Some(PrmtMode::Rc8),
        "ecl" => Some(PrmtMode::EdgeLeft),
        "ecr" => Some(PrmtMode::EdgeRight),
        "rc16" => Some(PrmtMode::Rc16),
        _ => None,
    });
    let [dst, a, b, c] = args else {
        return Err(m.arity());
    };
    let (a, b, c) = (
        d.scope.src(m, a, w)?,
        d.scope.src(m, b, w)?,
        d.scope.src(m, c, w)?,
    );
    let mode = mode.unwrap_or(PrmtMode::Index);
    Ok(Kind::Prmt {
        mode,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        c,
    })
}

fn count(d: &mut Decoder, op: CountOp, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let w = m.bits(&WIDE)?;
    let [dst, a] = args else {
        return Err(m.arity());
    };
    Ok(Kind::Count {
        w,
        op,
        signed: false,
        d: d.scope.dst(m, dst, Width::W32)?,
        a: d.scope.src(m, a, w)?,
    })
}

fn bfind(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let op = if m.eat("shiftamt") {
        CountOp::BfindShift
    } else {
        CountOp::Bfind
    };
    let (w, signed) = m.int(&WIDE)?;
    let [dst, a] = args else {
        return Err(m.arity());
    };
    Ok(Kind::Count {
        w,
        op,
        signed,
        d: d.scope.dst(m, dst, Width::W32)?,
        a: d.scope.src(m, a, w)?,
    })
}

fn bfe(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let (w, signed) = m.int(&WIDE)?;
    let [dst, a, b, c] = args else {
        return Err(m.arity());
    };
    let (pos, len) = (
        d.scope.src(m, b, Width::W32)?,
        d.scope.src(m, c, Width::W32)?,
    );
    let a = d.scope.src(m, a, w)?;
    Ok(Kind::Bfe {
        w,
        signed,
        d: d.scope.dst(m, dst, w)?,
        a,
        pos,
        len,
    })
}

fn bfi(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let w = m.bits(&WIDE)?;
    let [dst, a, b, pos, len] = args else {
        return Err(m.arity());
    };
    let (pos, len) = (
        d.scope.src(m, pos, Width::W32)?,
        d.scope.src(m, len, Width::W32)?,
    );
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::Bfi {
        w,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        pos,
        len,
    })
}
