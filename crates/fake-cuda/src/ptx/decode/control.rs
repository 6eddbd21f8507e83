//! Branches, barriers, the end of a thread.

use super::Decoder;
use super::mods::Mods;
use crate::ptx::ast::Arg;
use crate::ptx::error::PtxError;
use crate::ptx::inst::{Kind, Width};

pub(super) fn decode(
    d: &mut Decoder,
    base: &str,
    m: &mut Mods<'_>,
    args: &[Arg],
) -> Result<Option<Kind>, PtxError> {
    let kind = match base {
        "bra" => {
            m.eat("uni");
            let [Arg::Name(label)] = args else {
                return Err(m.arity());
            };
            d.jump(m.line(), vec![label.clone()]);
            Kind::Bra { target: 0 }
        }
        "brx" => indexed(d, m, args)?,
        "bar" | "barrier" => barrier(d, base, m, args)?,
        "exit" | "ret" => {
            m.eat("uni");
            plain(m, args, Kind::Exit)?
        }
        "trap" => plain(m, args, Kind::Trap)?,
        "nanosleep" => {
            m.need(|p| (p == "u32").then_some(()))?;
            let [time] = args else { return Err(m.arity()) };
            d.scope.src(m, time, Width::W32)?;
            Kind::Nop
        }
        _ => return Ok(None),
    };
    Ok(Some(kind))
}

fn plain(m: &Mods<'_>, args: &[Arg], kind: Kind) -> Result<Kind, PtxError> {
    if args.is_empty() {
        Ok(kind)
    } else {
        Err(m.arity())
    }
}

fn indexed(d: &mut Decoder, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    m.need(|p| (p == "idx").then_some(()))?;
    m.eat("uni");
    let [index, Arg::Name(list)] = args else {
        return Err(m.arity());
    };
    let labels = d.targets.get(list).cloned();
    let labels =
        labels.ok_or_else(|| m.syntax(format!("{list} is not a list of branch targets")))?;
    let index = d.scope.src(m, index, Width::W32)?;
    d.jump(m.line(), labels);
    Ok(Kind::Brx {
        index,
        targets: Vec::new(),
    })
}

/// `bar.sync a`, `barrier.sync[.aligned] a`, the same with `.cta`, and
/// `bar.warp.sync mask`. Partial barriers (a thread count) are refused.
fn barrier(d: &mut Decoder, base: &str, m: &mut Mods<'_>, args: &[Arg]) -> Result<Kind, PtxError> {
    let [operand] = args else {
        return Err(if args.len() == 2 {
            m.syntax("a barrier with a thread count is not supported")
        } else {
            m.arity()
        });
    };
    if base == "bar" && m.eat("warp") {
        m.need(|p| (p == "sync").then_some(()))?;
        return Ok(Kind::BarWarp {
            mask: d.scope.src(m, operand, Width::W32)?,
        });
    }
    m.eat("cta");
    m.need(|p| (p == "sync").then_some(()))?;
    if base == "barrier" {
        m.eat("aligned");
    }
    Ok(Kind::Bar {
        id: d.scope.src(m, operand, Width::W32)?,
    })
}
