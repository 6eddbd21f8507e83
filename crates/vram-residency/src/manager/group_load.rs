//! Loading the members of a group: several devices at the same time, and
//! again after a failure without reading the good members twice.

use std::collections::BTreeMap;

use tracing::{Span, info_span};

use super::VramManager;
use super::failure::About;
use super::seal::Checked;
use crate::error::{Error, InputError, Result, VerifyError};
use crate::load::{CancelToken, MAX_AT_ONCE, Overall, SealRequest, Together};
use crate::random::bytes;
use crate::seal::{GroupId, ShardPosition};
use crate::shard::{SealedGroup, SealedShard};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, one_more, thread};
use crate::trace;

/// A model of several shards on its way into memory. Dropping it frees what
/// was sealed.
#[must_use = "nothing is loaded until GroupLoad::run"]
pub struct GroupLoad<'a> {
    manager: VramManager,
    group: GroupId,
    total: u32,
    overall: Arc<Overall>,
    members: Vec<Member<'a>>,
}

enum Member<'a> {
    Waiting(Box<Checked<'a>>),
    Sealed(SealedShard),
    Failed,
}

/// The members of one device, by their position in the group.
type Queue<'a> = Vec<(usize, Box<Checked<'a>>)>;

/// What the threads of one run share.
struct Run<'r, 'a> {
    manager: &'r VramManager,
    overall: &'r Arc<Overall>,
    halt: CancelToken,
    /// Ends the loads in flight with the first failure.
    halts: bool,
    at_once: usize,
    failed: AtomicBool,
    queues: Mutex<Vec<Queue<'a>>>,
    done: Mutex<Vec<(usize, Member<'a>)>>,
    errors: Mutex<Vec<(usize, Error)>>,
}

impl VramManager {
    /// Checks the requests of one model and prepares to load them. Nothing is
    /// read or taken yet (requirement: API-F17, PM-1).
    ///
    /// # Errors
    /// The first refused request's error.
    pub fn group_load<'a>(&self, requests: Vec<SealRequest<'a>>) -> Result<GroupLoad<'a>> {
        let total = u32::try_from(requests.len())
            .ok()
            .filter(|total| *total > 0);
        let total = total.ok_or(InputError::Group("a group has at least one shard"))?;
        let id = bytes(self.inner.random.as_ref()).map_err(Error::from);
        let id = self.recorded("group_load", About::default(), id)?;
        let mut load = GroupLoad {
            manager: self.clone(),
            group: GroupId::from_bytes(id),
            total,
            overall: Arc::default(),
            members: Vec::with_capacity(requests.len()),
        };
        for (index, request) in (0..total).zip(requests) {
            let member = load.check(index, request)?;
            load.members.push(member);
        }
        Ok(load)
    }
}

impl<'a> GroupLoad<'a> {
    fn check(&self, index: u32, request: SealRequest<'a>) -> Result<Member<'a>> {
        if request.dedupe {
            return Err(InputError::Group("members cannot be deduplicated").into());
        }
        let position = ShardPosition::new(index, self.total)?;
        let checked = self.manager.check(request, Some((self.group, position)))?;
        self.overall.join(checked.bytes());
        Ok(Member::Waiting(Box::new(checked)))
    }

    /// Positions of the members whose load failed.
    #[must_use]
    pub fn failed(&self) -> Vec<u32> {
        let members = (0..).zip(&self.members);
        let failed = members.filter(|(_, member)| matches!(member, Member::Failed));
        failed.map(|(index, _)| index).collect()
    }

    /// How many members are sealed.
    #[must_use]
    pub fn sealed(&self) -> usize {
        let sealed = |member: &&Member<'_>| matches!(member, Member::Sealed(_));
        self.members.iter().filter(sealed).count()
    }

    /// Loads every member that waits: those of one device in order, several
    /// devices at the same time. After a failure no further load starts; those
    /// in flight end, and what they sealed stays.
    ///
    /// # Errors
    /// The failed member's error, of several the first in the group's order.
    pub fn run(&mut self) -> Result<()> {
        self.run_with(false)
    }

    /// The same, but a failure ends the loads in flight too.
    pub(super) fn run_or_halt(&mut self) -> Result<()> {
        self.run_with(true)
    }

    /// Gives a failed member a new request; the next [`GroupLoad::run`] loads it.
    ///
    /// # Errors
    /// [`InputError::Group`] when that member did not fail, or the request's
    /// own error.
    pub fn replace(&mut self, index: u32, request: SealRequest<'a>) -> Result<()> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        if !matches!(self.members.get(at), Some(Member::Failed)) {
            return Err(InputError::Group("only a failed member can be replaced").into());
        }
        let member = self.check(index, request)?;
        self.put(at, member);
        Ok(())
    }

    /// The group, once every member is sealed.
    ///
    /// # Errors
    /// [`InputError::Group`], and [`VerifyError::Quarantined`] where a member was
    /// condemned meanwhile; what was sealed is freed.
    pub fn finish(self) -> Result<SealedGroup> {
        let sealed = self.members.into_iter().map(|member| match member {
            Member::Sealed(shard) => Ok(shard),
            Member::Waiting(_) | Member::Failed => {
                Err(InputError::Group("not every member is sealed"))
            }
        });
        let shards = sealed.collect::<Result<Vec<SealedShard>, _>>()?;
        // One that was condemned while others still loaded took only those along
        // that were there.
        if let Some(bad) = shards.iter().find(|shard| shard.is_quarantined()) {
            let shard_id = bad.id().clone();
            return Err(VerifyError::Quarantined { shard_id }.into());
        }
        Ok(SealedGroup::new(self.group, shards))
    }

    fn put(&mut self, at: usize, member: Member<'a>) {
        if let Some(place) = self.members.get_mut(at) {
            *place = member;
        }
    }

    /// Takes the waiting members out, by device.
    fn queues(&mut self) -> Vec<Queue<'a>> {
        let mut queues: BTreeMap<u32, Queue<'a>> = BTreeMap::new();
        for (at, place) in self.members.iter_mut().enumerate() {
            match std::mem::replace(place, Member::Failed) {
                Member::Waiting(checked) => {
                    let queue = queues.entry(checked.ordinal()).or_default();
                    queue.push((at, checked));
                }
                other => *place = other,
            }
        }
        // Taken from the end: the first device's turn comes first.
        queues.into_values().rev().collect()
    }

    fn run_with(&mut self, halts: bool) -> Result<()> {
        let span = info_span!("group_load", members = self.members.len());
        trace::operation(&span, || self.load_members(halts))
    }

    fn load_members(&mut self, halts: bool) -> Result<()> {
        let span = Span::current();
        let queues = self.queues();
        let at_once = queues.len().clamp(1, MAX_AT_ONCE);
        let run = Run {
            manager: &self.manager,
            overall: &self.overall,
            halt: CancelToken::new(),
            halts,
            at_once,
            failed: AtomicBool::new(false),
            queues: Mutex::new(queues),
            done: Mutex::default(),
            errors: Mutex::default(),
        };
        thread::scope(|scope| {
            for _ in 1..at_once {
                // Without another thread the ones there are do its work.
                let (run, span) = (&run, span.clone());
                let work = move || span.in_scope(|| run.work());
                let _ = one_more(scope, work);
            }
            run.work();
        });
        let done = run.done.into_inner();
        let mut errors = run
            .errors
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        for (at, member) in done.unwrap_or_else(PoisonError::into_inner) {
            self.put(at, member);
        }
        // A load that was ended because of another's failure is not the cause.
        errors.sort_by_key(|(at, error)| (is_halt(error), *at));
        match errors.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}

fn is_halt(error: &Error) -> bool {
    matches!(error, Error::Load(crate::load::LoadError::Cancelled { .. }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Run<'_, 'a> {
    /// Loads device after device until none is left.
    fn work(&self) {
        loop {
            let Some(queue) = lock(&self.queues).pop() else {
                break;
            };
            for (at, checked) in queue {
                let member = if self.failed.load(Ordering::Acquire) {
                    Member::Waiting(checked)
                } else {
                    self.seal(at, checked)
                };
                lock(&self.done).push((at, member));
            }
        }
    }

    fn seal(&self, at: usize, mut checked: Box<Checked<'a>>) -> Member<'a> {
        let bytes = checked.bytes();
        let counted = checked.control_mut().join(Together {
            overall: Arc::clone(self.overall),
            halt: self.halt.clone(),
            at_once: self.at_once,
        });
        match self.manager.seal_checked(*checked) {
            Ok(shard) => Member::Sealed(shard),
            Err(error) => {
                self.failed.store(true, Ordering::Release);
                if self.halts {
                    self.halt.cancel();
                }
                self.overall.take_back(counted.load(Ordering::Relaxed));
                self.overall.leave(bytes);
                lock(&self.errors).push((at, error));
                Member::Failed
            }
        }
    }
}
