//! Integer arithmetic, and the few 32-bit float operations.

use super::Decoder;
use super::mods::Mods;
use crate::ptx::ast::Arg;
use crate::ptx::error::PtxError;
use crate::ptx::inst::{FloatOp, Kind, MadCarry, Op1, Op2, Op3, Width};

const ANY: [u32; 3] = [16, 32, 64];
const WIDE: [u32; 2] = [32, 64];

pub(super) fn decode(
    d: &mut Decoder,
    base: &str,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Option<Kind>, PtxError> {
    let kind = match base {
        "add" | "sub" | "mul" | "fma" if is_float(m) => float(d, base, m, args)?,
        "add" | "sub" if m.eat("cc") => add_carry(d, base == "sub", false, true, m, args)?,
        "addc" | "subc" => {
            let out = m.eat("cc");
            add_carry(d, base == "subc", true, out, m, args)?
        }
        "add" => binary(d, Op2::Add, m, args)?,
        "sub" => binary(d, Op2::Sub, m, args)?,
        "div" => binary(d, Op2::Div, m, args)?,
        "rem" => binary(d, Op2::Rem, m, args)?,
        "min" => binary(d, Op2::Min, m, args)?,
        "max" => binary(d, Op2::Max, m, args)?,
        "mul" => multiply(d, m, args)?,
        "mad" => multiply_add(d, m, args)?,
        "madc" => mad_carry(d, true, m, args)?,
        "mul24" | "mad24" => mul24(d, base == "mad24", m, args)?,
        "sad" => {
            let (w, signed) = m.int(&ANY)?;
            ternary(d, Op3::Sad, w, signed, m, args)?
        }
        "neg" => unary(d, Op1::Neg, m, args)?,
        "abs" => unary(d, Op1::Abs, m, args)?,
        "dp4a" => dp4a(d, m, args)?,
        _ => return Ok(None),
    };
    Ok(Some(kind))
}

fn is_float(m: &Mods<'_>) -> bool {
    matches!(m.peek(), Some("rn" | "f32"))
}

/// `add|sub|mul[.rn].f32`, `fma.rn.f32`: round to nearest even, denormals kept.
fn float(d: &mut Decoder, base: &str, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let rounded = m.eat("rn");
    m.need(|p| (p == "f32").then_some(()))?;
    let w = Width::W32;
    if base == "fma" {
        let [dst, a, b, c] = args else {
            return Err(m.arity());
        };
        if !rounded {
            return Err(m.refuse());
        }
        let c = d.scope.src(m, c, w)?;
        let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
        return Ok(Kind::Float {
            op: FloatOp::Fma,
            d: d.scope.dst(m, dst, w)?,
            a,
            b,
            c,
        });
    }
    let [dst, a, b] = args else {
        return Err(m.arity());
    };
    let op = match base {
        "add" => FloatOp::Add,
        "sub" => FloatOp::Sub,
        _ => FloatOp::Mul,
    };
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::Float {
        op,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        c: a,
    })
}

fn unary(d: &mut Decoder, op: Op1, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let (w, signed) = m.int(&ANY)?;
    let [dst, a] = args else {
        return Err(m.arity());
    };
    if !signed {
        return Err(m.refuse());
    }
    Ok(Kind::Op1 {
        w,
        op,
        d: d.scope.dst(m, dst, w)?,
        a: d.scope.src(m, a, w)?,
    })
}

fn binary(d: &mut Decoder, op: Op2, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let (w, signed) = m.int(&ANY)?;
    let [dst, a, b] = args else {
        return Err(m.arity());
    };
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::Op2 {
        w,
        op,
        signed,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
    })
}

fn ternary(
    d: &mut Decoder,
    op: Op3,
    w: Width,
    signed: bool,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Kind, PtxError> {
    let [dst, a, b, c] = args else {
        return Err(m.arity());
    };
    // The addend of `sad` and the sum are unsigned words of the same width.
    let (a, b, c) = (
        d.scope.src(m, a, w)?,
        d.scope.src(m, b, w)?,
        d.scope.src(m, c, w)?,
    );
    Ok(Kind::Op3 {
        w,
        op,
        signed,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        c,
    })
}

fn add_carry(
    d: &mut Decoder,
    sub: bool,
    carry_in: bool,
    carry_out: bool,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Kind, PtxError> {
    let (w, _) = m.int(&WIDE)?;
    let [dst, a, b] = args else {
        return Err(m.arity());
    };
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::AddCarry {
        w,
        sub,
        carry_in,
        carry_out,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
    })
}

fn double(w: Width) -> Width {
    if w == Width::W16 {
        Width::W32
    } else {
        Width::W64
    }
}

fn multiply(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    match m.bump() {
        Some("wide") => wide(d, false, m, args),
        Some("lo") => binary(d, Op2::MulLo, m, args),
        Some("hi") => binary(d, Op2::MulHi, m, args),
        _ => Err(m.refuse()),
    }
}

fn wide(d: &mut Decoder, add: bool, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let (w, signed) = m.int(&[16, 32])?;
    let (dst, a, b, c) = match (args, add) {
        ([dst, a, b], false) => (dst, a, b, None),
        ([dst, a, b, c], true) => (dst, a, b, Some(c)),
        _ => return Err(m.arity()),
    };
    let c = match c {
        Some(c) => Some(d.scope.src(m, c, double(w))?),
        None => None,
    };
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::Wide {
        w,
        signed,
        d: d.scope.dst(m, dst, double(w))?,
        a,
        b,
        c,
    })
}

fn multiply_add(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let op = match m.peek() {
        Some("wide") => {
            m.bump();
            return wide(d, true, m, args);
        }
        Some("lo") => Op3::MadLo,
        Some("hi") => Op3::MadHi,
        _ => return Err(m.refuse()),
    };
    m.bump();
    if m.peek() == Some("cc") {
        return mad_carry_tail(d, op == Op3::MadHi, false, m, args);
    }
    let (w, signed) = m.int(&ANY)?;
    ternary(d, op, w, signed, m, args)
}

fn mad_carry(
    d: &mut Decoder,
    carry_in: bool,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Kind, PtxError> {
    let hi = m.need(|p| match p {
        "hi" => Some(true),
        "lo" => Some(false),
        _ => None,
    })?;
    mad_carry_tail(d, hi, carry_in, m, args)
}

fn mad_carry_tail(
    d: &mut Decoder,
    hi: bool,
    carry_in: bool,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Kind, PtxError> {
    let carry_out = m.eat("cc");
    let (w, signed) = m.int(&WIDE)?;
    let [dst, a, b, c] = args else {
        return Err(m.arity());
    };
    let (a, b, c) = (
        d.scope.src(m, a, w)?,
        d.scope.src(m, b, w)?,
        d.scope.src(m, c, w)?,
    );
    let dst = d.scope.dst(m, dst, w)?;
    Ok(Kind::MadCarry(Box::new(MadCarry {
        w,
        hi,
        signed,
        carry_in,
        carry_out,
        d: dst,
        a,
        b,
        c,
    })))
}

fn mul24(d: &mut Decoder, add: bool, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let hi = m.need(|p| match p {
        "hi" => Some(true),
        "lo" => Some(false),
        _ => None,
    })?;
    let (w, signed) = m.int(&[32])?;
    let (dst, a, b, c) = match (args, add) {
        ([dst, a, b], false) => (dst, a, b, None),
        ([dst, a, b, c], true) => (dst, a, b, Some(c)),
        _ => return Err(m.arity()),
    };
    let c = match c {
        Some(c) => Some(d.scope.src(m, c, w)?),
        None => None,
    };
    let (a, b) = (d.scope.src(m, a, w)?, d.scope.src(m, b, w)?);
    Ok(Kind::Mul24 {
        hi,
        signed,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        c,
    })
}

fn dp4a(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let (w, a_signed) = m.int(&[32])?;
    let (_, b_signed) = m.int(&[32])?;
    let [dst, a, b, c] = args else {
        return Err(m.arity());
    };
    let (a, b, c) = (
        d.scope.src(m, a, w)?,
        d.scope.src(m, b, w)?,
        d.scope.src(m, c, w)?,
    );
    Ok(Kind::Dp4a {
        a_signed,
        b_signed,
        d: d.scope.dst(m, dst, w)?,
        a,
        b,
        c,
    })
}
