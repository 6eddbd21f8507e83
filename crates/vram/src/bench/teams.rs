//! The same work on one core and on all, in turn: what else the machine does
//! then hits both alike.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use super::Plan;
use super::pin::Pinned;
use super::sample::Turn;
use crate::failure::Failure;

/// One row whose work handles the plan's bytes on `team`; on one core it takes
/// each core in turn.
pub(super) fn turn<'w>(
    plan: &Plan,
    name: &'static str,
    team: NonZeroUsize,
    mut work: impl FnMut() -> Result<Duration, Failure> + 'w,
) -> Turn<'w> {
    let mut rounds = 0..;
    Turn {
        name,
        cores: team.get(),
        bytes: plan.bytes,
        work: Box::new(move || {
            let _pinned = Pinned::to(team, rounds.next().unwrap_or(0))?;
            work()
        }),
    }
}

/// One row on one core, one on all where there are more; the work is told its
/// cores.
pub(super) fn turns<'w>(
    plan: &Plan,
    name: &'static str,
    work: impl FnMut(NonZeroUsize) -> Result<Duration, Failure> + 'w,
) -> Vec<Turn<'w>> {
    let work = Rc::new(RefCell::new(work));
    let row = |team: NonZeroUsize| {
        let work = Rc::clone(&work);
        turn(plan, name, team, move || (*work.borrow_mut())(team))
    };
    plan.teams().into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::in_turn;

    #[test]
    fn one_core_and_all_take_turns() {
        let two = NonZeroUsize::new(2).unwrap();
        let plan = Plan {
            bytes: 1000,
            runs: 2,
            cores: two,
        };
        let mut seen = Vec::new();
        let rows = turns(&plan, "row", |team| {
            seen.push(team.get());
            Ok(Duration::from_secs(2))
        });
        let rates = in_turn(plan.runs, rows).unwrap();
        let cores: Vec<usize> = rates.iter().map(|rate| rate.cores()).collect();
        assert_eq!(cores, [1, 2]);
        assert_eq!(seen, [1, 2, 1, 2, 1, 2]);
    }
}
