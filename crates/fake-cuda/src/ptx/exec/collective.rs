//! Operations across the lanes of a warp: shuffles, votes, matches, reductions.

use super::alu::by_width;
use super::lanes::{Lanes, Word, lanes_of};
use super::regs::{InFile, Regs};
use super::{Raise, warp::Active};
use crate::ptx::error::FaultKind;
use crate::ptx::inst::{Kind, ReduxOp, Shfl, ShflMode, Slot, VoteMode, Width};

/// Runs `kind` if it is a collective; says whether it was.
pub(super) fn run(r: &mut Regs, kind: &Kind, who: Active) -> Result<bool, Raise> {
    match *kind {
        Kind::Shfl(ref shfl) => {
            together(r, shfl.mask, who, "shfl.sync")?;
            shuffle(r, shfl, who)?;
        }
        Kind::Vote { mode, d, a, mask } => {
            together(r, mask, who, "vote.sync")?;
            vote(r, mode, d, r.pred_src(a), who.mask);
        }
        Kind::MatchAny { w, d, a, mask } => {
            together(r, mask, who, "match.any.sync")?;
            let v = by_width!(w, T => match_any::<T>(r.get(a), who.mask));
            r.set(d, &v, who.mask);
        }
        Kind::MatchAll { w, d, p, a, mask } => {
            together(r, mask, who, "match.all.sync")?;
            let v = by_width!(w, T => match_any::<T>(r.get(a), who.mask));
            let same = lanes_of(who.mask).all(|l| v.get(l) == Some(&who.mask));
            r.set(d, &[if same { who.mask } else { 0 }; 32], who.mask);
            if let Some(p) = p {
                r.set_pred(p, if same { u32::MAX } else { 0 }, who.mask);
            }
        }
        Kind::Redux {
            op,
            signed,
            d,
            a,
            mask,
        } => {
            together(r, mask, who, "redux.sync")?;
            let v = reduce(op, signed, r.get(a), who.mask);
            r.set(d, &[v; 32], who.mask);
        }
        Kind::ActiveMask { d } => r.set(d, &[who.mask; 32], who.mask),
        _ => return Ok(false),
    }
    Ok(true)
}

/// All lanes named by the mask (that have not exited) must be here together,
/// and every lane here must name itself.
pub(super) fn together(r: &Regs, mask: Slot, who: Active, what: &'static str) -> Result<(), Raise> {
    let masks = r.get::<u32>(mask);
    for lane in lanes_of(who.mask) {
        let expected = masks.get(lane).copied().unwrap_or(0);
        if expected & who.live != who.mask {
            let kind = FaultKind::Divergent {
                what,
                active: who.mask,
                expected,
            };
            return Err(Raise::at(kind, lane));
        }
    }
    Ok(())
}

fn shuffle(r: &mut Regs, s: &Shfl, who: Active) -> Result<(), Raise> {
    let (a, b, c) = (*r.get::<u32>(s.a), *r.get::<u32>(s.b), *r.get::<u32>(s.c));
    let mut out = [0_u32; 32];
    let mut valid = 0_u32;
    for lane in lanes_of(who.mask) {
        let pick = |v: &Lanes<u32>, l: usize| v.get(l).copied().unwrap_or(0);
        let (from, inside) = source(s.mode, lane as u32, pick(&b, lane), pick(&c, lane));
        if who.mask >> from & 1 == 0 {
            let kind = FaultKind::Divergent {
                what: "shfl.sync reading an absent lane",
                active: who.mask,
                expected: 1_u32.checked_shl(from).unwrap_or(0),
            };
            return Err(Raise::at(kind, lane));
        }
        if let Some(place) = out.get_mut(lane) {
            *place = pick(&a, from as usize);
        }
        valid |= u32::from(inside) << lane;
    }
    r.set(s.d, &out, who.mask);
    if let Some(p) = s.p {
        r.set_pred(p, valid, who.mask);
    }
    Ok(())
}

/// The lane that `lane` reads, and whether it was inside its segment.
fn source(mode: ShflMode, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let by = b & 31;
    let segment = c >> 8 & 31;
    let last = lane & segment | c & 31 & !segment;
    let (from, inside) = match mode {
        ShflMode::Up => {
            let from = i64::from(lane).wrapping_sub(i64::from(by));
            (from as u32, from >= i64::from(last))
        }
        ShflMode::Down => {
            let from = lane.wrapping_add(by);
            (from, from <= last)
        }
        ShflMode::Bfly => (lane ^ by, lane ^ by <= last),
        ShflMode::Idx => {
            let from = lane & segment | by & !segment;
            (from, from <= last)
        }
    };
    if inside {
        (from & 31, true)
    } else {
        (lane, false)
    }
}

fn vote(r: &mut Regs, mode: VoteMode, d: Slot, a: u32, mask: u32) {
    let yes = a & mask;
    let truth = |holds: bool| if holds { u32::MAX } else { 0 };
    match mode {
        VoteMode::All => r.set_pred(d, truth(yes == mask), mask),
        VoteMode::Any => r.set_pred(d, truth(yes != 0), mask),
        VoteMode::Uni => r.set_pred(d, truth(yes == mask || yes == 0), mask),
        VoteMode::Ballot => r.set(d, &[yes; 32], mask),
    }
}

fn match_any<T: InFile>(a: &Lanes<T>, mask: u32) -> Lanes<u32> {
    let mut out = [0_u32; 32];
    for (place, mine) in out.iter_mut().zip(a) {
        for lane in lanes_of(mask).filter(|&l| a.get(l) == Some(mine)) {
            *place |= 1 << lane;
        }
    }
    out
}

fn reduce(op: ReduxOp, signed: bool, a: &Lanes<u32>, mask: u32) -> u32 {
    let values = lanes_of(mask).filter_map(|l| a.get(l).copied());
    let join = |x: u32, y: u32| match op {
        ReduxOp::Add => x.wrapping_add(y),
        ReduxOp::Min if y.less(x, signed) => y,
        ReduxOp::Max if x.less(y, signed) => y,
        ReduxOp::Min | ReduxOp::Max => x,
        ReduxOp::And => x & y,
        ReduxOp::Or => x | y,
        ReduxOp::Xor => x ^ y,
    };
    values.reduce(join).unwrap_or(0)
}
