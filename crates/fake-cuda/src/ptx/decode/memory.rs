//! Loads, stores, atomics, fences.

use super::Decoder;
use super::mods::Mods;
use crate::ptx::ast::Arg;
use crate::ptx::error::PtxError;
use crate::ptx::inst::{Atom, AtomOp, Class, Kind, Reg, Space, Ty, Width};

pub(super) fn decode(
    d: &mut Decoder,
    base: &str,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Option<Kind>, PtxError> {
    let kind = match base {
        "ld" => load(d, m, args)?,
        "st" => store(d, m, args)?,
        "atom" => atomic(d, true, m, args)?,
        "red" => atomic(d, false, m, args)?,
        "membar" => membar(m, args)?,
        "fence" => fence(m, args)?,
        "prefetch" => prefetch(d, m, args)?,
        _ => return Ok(None),
    };
    Ok(Some(kind))
}

fn space(m: &mut Mods<'_>) -> Space {
    m.eat_map(|p| match p {
        "global" => Some(Space::Global),
        "shared" => Some(Space::Shared),
        "local" => Some(Space::Local),
        "const" => Some(Space::Const),
        "param" => Some(Space::Param),
        _ => None,
    })
    .unwrap_or(Space::Generic)
}

fn scope(m: &mut Mods<'_>) -> bool {
    m.eat("cta") || m.eat("gpu") || m.eat("sys")
}

/// `.weak`, `.volatile`, or an ordering with its scope. One machine, one order:
/// they change nothing here, but a wrong combination is refused.
fn ordering(m: &mut Mods<'_>, orders: &[&str]) -> Result<(), PtxError> {
    if m.eat("weak") || m.eat("volatile") {
        return Ok(());
    }
    if orders.iter().any(|o| m.eat(o)) && !scope(m) {
        return Err(m.refuse());
    }
    Ok(())
}

/// Cache advice: changes speed, not values.
fn advice(m: &mut Mods<'_>, operators: &[&str]) {
    let _taken = operators.iter().any(|o| m.eat(o));
    loop {
        let hint = m.peek().is_some_and(|p| {
            matches!(
                p,
                "L1::evict_normal"
                    | "L1::evict_unchanged"
                    | "L1::evict_first"
                    | "L1::evict_last"
                    | "L1::no_allocate"
                    | "L2::64B"
                    | "L2::128B"
                    | "L2::256B"
            )
        });
        if !hint {
            return;
        }
        m.bump();
    }
}

fn vector_len(m: &mut Mods<'_>) -> usize {
    if m.eat("v2") {
        2
    } else if m.eat("v4") {
        4
    } else {
        1
    }
}

/// At most 16 bytes go in one access.
fn element(m: &mut Mods<'_>, len: usize) -> Result<Ty, PtxError> {
    let max = if len == 4 { 32 } else { 64 };
    m.need(|p| Ty::parse(p).filter(|t| t.class != Class::Pred && t.bits <= max))
}

fn load(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    ordering(m, &["relaxed", "acquire"])?;
    let space = space(m);
    advice(m, &["ca", "cg", "cs", "lu", "cv"]);
    if m.eat("nc") && space != Space::Global {
        return Err(m.refuse());
    }
    advice(m, &[]);
    let len = vector_len(m);
    let ty = element(m, len)?;
    let [dst, addr] = args else {
        return Err(m.arity());
    };
    let dst = elements(m, dst, len, |m, arg| match arg {
        Arg::Sink => Ok(None),
        _ => wide_enough(m, d.scope.reg(m, arg)?, ty).map(Some),
    })?;
    let addr = d.scope.addr(m, addr, space)?;
    Ok(Kind::Ld {
        space,
        ty,
        dst,
        addr,
    })
}

fn store(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    ordering(m, &["relaxed", "release"])?;
    let space = space(m);
    if matches!(space, Space::Const | Space::Param) {
        return Err(m.refuse());
    }
    advice(m, &["wb", "cg", "cs", "wt"]);
    let len = vector_len(m);
    let ty = element(m, len)?;
    let [addr, src] = args else {
        return Err(m.arity());
    };
    let src = elements(m, src, len, |m, arg| {
        match (arg, Width::from_bits(ty.bits.max(16))) {
            (Arg::Imm(_), Some(width)) => Ok(Reg {
                width,
                slot: d.scope.src(m, arg, width)?,
            }),
            _ => wide_enough(m, d.scope.reg(m, arg)?, ty),
        }
    })?;
    let addr = d.scope.addr(m, addr, space)?;
    Ok(Kind::St {
        space,
        ty,
        src,
        addr,
    })
}

fn wide_enough(m: &Mods<'_>, reg: Reg, ty: Ty) -> Result<Reg, PtxError> {
    if reg.width.bytes() < ty.bytes() {
        return Err(m.syntax("register is narrower than the type"));
    }
    Ok(reg)
}

fn elements<T>(
    m: &Mods<'_>,
    arg: &Arg,
    len: usize,
    mut each: impl FnMut(&Mods<'_>, &Arg) -> Result<T, PtxError>,
) -> Result<Vec<T>, PtxError> {
    match (arg, len) {
        (Arg::Vector(parts), _) if parts.len() == len => parts.iter().map(|p| each(m, p)).collect(),
        (Arg::Vector(_), _) => Err(m.arity()),
        (one, 1) => Ok(vec![each(m, one)?]),
        _ => Err(m.arity()),
    }
}

fn atomic(d: &mut Decoder, result: bool, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let _ordered = ["relaxed", "acquire", "release", "acq_rel"]
        .iter()
        .any(|o| m.eat(o));
    scope(m);
    let space = space(m);
    if matches!(space, Space::Const | Space::Param | Space::Local) {
        return Err(m.refuse());
    }
    let op = m.need(atom_op)?;
    let ty = m.need(|p| Ty::parse(p).filter(|t| atom_type(op, *t)))?;
    let w = m.width(ty)?;
    let (dst, args) = match (args, result) {
        ([dst, rest @ ..], true) => (Some(dst), rest),
        (rest, false) => (None, rest),
        _ => return Err(m.arity()),
    };
    let (addr, b, c) = match (args, op) {
        ([addr, b, c], AtomOp::Cas) if result => (addr, b, Some(c)),
        ([addr, b], op) if op != AtomOp::Cas => (addr, b, None),
        _ => return Err(m.arity()),
    };
    let dst = match dst {
        None | Some(Arg::Sink) => None,
        Some(arg) => Some(d.scope.dst(m, arg, w)?),
    };
    let c = match c {
        Some(c) => Some(d.scope.src(m, c, w)?),
        None => None,
    };
    let b = d.scope.src(m, b, w)?;
    let addr = d.scope.addr(m, addr, space)?;
    Ok(Kind::Atom(Box::new(Atom {
        space,
        op,
        w,
        signed: ty.signed(),
        d: dst,
        addr,
        b,
        c,
    })))
}

fn atom_op(part: &str) -> Option<AtomOp> {
    Some(match part {
        "add" => AtomOp::Add,
        "min" => AtomOp::Min,
        "max" => AtomOp::Max,
        "and" => AtomOp::And,
        "or" => AtomOp::Or,
        "xor" => AtomOp::Xor,
        "exch" => AtomOp::Exch,
        "cas" => AtomOp::Cas,
        "inc" => AtomOp::Inc,
        "dec" => AtomOp::Dec,
        _ => return None,
    })
}

/// Which types PTX allows for which operation.
fn atom_type(op: AtomOp, ty: Ty) -> bool {
    let word = matches!(ty.bits, 32 | 64);
    match op {
        AtomOp::And | AtomOp::Or | AtomOp::Xor | AtomOp::Exch | AtomOp::Cas => {
            ty.class == Class::Bits && word
        }
        AtomOp::Inc | AtomOp::Dec => ty.class == Class::Unsigned && ty.bits == 32,
        AtomOp::Add => ty.is_int() && word && !(ty.signed() && ty.bits == 64),
        AtomOp::Min | AtomOp::Max => ty.is_int() && word,
    }
}

fn membar(m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    m.need(|p| matches!(p, "cta" | "gl" | "sys").then_some(()))?;
    if args.is_empty() {
        Ok(Kind::Nop)
    } else {
        Err(m.arity())
    }
}

fn fence(m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let _order = m.eat("sc") || m.eat("acq_rel");
    if !scope(m) {
        return Err(m.refuse());
    }
    if args.is_empty() {
        Ok(Kind::Nop)
    } else {
        Err(m.arity())
    }
}

fn prefetch(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let space = space(m);
    if !matches!(space, Space::Global | Space::Generic) {
        return Err(m.refuse());
    }
    m.need(|p| matches!(p, "L1" | "L2").then_some(()))?;
    let [addr] = args else { return Err(m.arity()) };
    d.scope.addr(m, addr, space)?;
    Ok(Kind::Nop)
}
