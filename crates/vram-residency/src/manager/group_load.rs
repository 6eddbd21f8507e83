//! Loading the members of a group: several at the same time, and
//! again after a failure without reading the good members twice.

use tracing::info_span;

use super::VramManager;
use super::failure::About;
use super::seal::Checked;
use crate::error::{Error, InputError, Result, VerifyError};
use crate::load::{CancelToken, Overall, SealRequest, Staging, Together};
use crate::random::bytes;
use crate::seal::{GroupId, ShardPosition};
use crate::shard::{SealedGroup, SealedShard};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, each};
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
    /// The member whose error the last run told.
    told: Option<u32>,
}

enum Member<'a> {
    Waiting(Box<Checked<'a>>),
    Sealed(SealedShard),
    Failed,
}

/// A member whose turn comes.
struct Turn<'a> {
    at: usize,
    ordinal: u32,
    /// Taken when it comes.
    checked: Mutex<Option<Box<Checked<'a>>>>,
}

/// What the threads of one run share.
struct Run<'r> {
    manager: &'r VramManager,
    overall: &'r Arc<Overall>,
    halt: CancelToken,
    /// Ends the loads in flight with the first failure.
    halts: bool,
    staging: Staging,
    failed: AtomicBool,
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
            told: None,
        };
        for (index, request) in (0..total).zip(requests) {
            let member = load.check(index, request)?;
            load.members.push(member);
        }
        Ok(load)
    }
}

impl<'a> GroupLoad<'a> {
    fn check(&self, index: u32, mut request: SealRequest<'a>) -> Result<Member<'a>> {
        if request.dedupe {
            return Err(InputError::Group("members cannot be deduplicated").into());
        }
        let position = ShardPosition::new(index, self.total)?;
        request.tables_before = self.tables();
        let checked = self.manager.check(request, Some((self.group, position)))?;
        self.overall.join(checked.bytes());
        Ok(Member::Waiting(Box::new(checked)))
    }

    /// Memory that the tables of the members take: one bound holds them all.
    fn tables(&self) -> u64 {
        let memory = |member: &Member<'_>| match member {
            Member::Waiting(checked) => checked.tensors().memory(),
            Member::Sealed(shard) => shard.tensors().memory(),
            Member::Failed => 0,
        };
        self.members.iter().map(memory).fold(0, u64::saturating_add)
    }

    /// Positions of the members whose load failed.
    #[must_use]
    pub fn failed(&self) -> Vec<u32> {
        let members = (0..).zip(&self.members);
        let failed = members.filter(|(_, member)| matches!(member, Member::Failed));
        failed.map(|(index, _)| index).collect()
    }

    /// Position of the member whose error the last run gave: not every error says
    /// what it is about.
    #[must_use]
    pub const fn told(&self) -> Option<u32> {
        self.told
    }

    /// How many members are sealed.
    #[must_use]
    pub fn sealed(&self) -> usize {
        let sealed = |member: &&Member<'_>| matches!(member, Member::Sealed(_));
        self.members.iter().filter(sealed).count()
    }

    /// Loads every member that waits, several at the same time: of each device they
    /// start in order. After a failure no further load starts; those in flight end,
    /// and what they sealed stays.
    ///
    /// # Errors
    /// The failed member's error; of several the gravest
    /// ([`crate::error::Gravity`]), and then the first in the group's order.
    pub fn run(&mut self) -> Result<()> {
        self.run_with(false)
    }

    /// The same, but a failure ends the loads in flight too: for who tries nothing
    /// again.
    ///
    /// # Errors
    /// As [`GroupLoad::run`].
    pub fn run_or_halt(&mut self) -> Result<()> {
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

    /// Takes the waiting members out.
    fn turns(&mut self) -> Vec<Turn<'a>> {
        let mut turns = Vec::new();
        for (at, place) in self.members.iter_mut().enumerate() {
            match std::mem::replace(place, Member::Failed) {
                Member::Waiting(checked) => turns.push(Turn {
                    at,
                    ordinal: checked.ordinal(),
                    checked: Mutex::new(Some(checked)),
                }),
                other => *place = other,
            }
        }
        turns
    }

    fn run_with(&mut self, halts: bool) -> Result<()> {
        let correlation_id = self.manager.request_id();
        let span = info_span!("group_load", members = self.members.len(), correlation_id);
        trace::operation(&span, || self.load_members(halts))
    }

    fn load_members(&mut self, halts: bool) -> Result<()> {
        let turns = self.turns();
        let run = Run {
            manager: &self.manager,
            overall: &self.overall,
            halt: CancelToken::new(),
            halts,
            staging: Staging::of(turns.iter().map(|turn| turn.ordinal)),
            failed: AtomicBool::new(false),
            errors: Mutex::default(),
        };
        let (at_once, ordinal) = (run.staging.at_once(), |turn: &Turn<'_>| turn.ordinal);
        let members = each(&turns, at_once, ordinal, |turn| run.member(turn));
        let errors = run.errors.into_inner();
        for (turn, member) in turns.iter().zip(members) {
            self.put(turn.at, member);
        }
        let mut errors = errors.unwrap_or_else(PoisonError::into_inner);
        errors.sort_unstable_by_key(|(at, _)| *at);
        let told =
            errors
                .into_iter()
                .reduce(|first, other| match other.1.gravity() > first.1.gravity() {
                    true => other,
                    false => first,
                });
        self.told = told.as_ref().and_then(|(at, _)| u32::try_from(*at).ok());
        told.map_or(Ok(()), |(_, error)| Err(error))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_> {
    /// What a member becomes in its turn.
    fn member<'a>(&self, turn: &Turn<'a>) -> Member<'a> {
        match lock(&turn.checked).take() {
            Some(checked) if self.failed.load(Ordering::Acquire) => Member::Waiting(checked),
            Some(checked) => self.seal(turn.at, checked),
            None => Member::Failed,
        }
    }

    fn seal<'a>(&self, at: usize, mut checked: Box<Checked<'a>>) -> Member<'a> {
        let bytes = checked.bytes();
        let counted = checked.control_mut().join(Together {
            overall: Arc::clone(self.overall),
            halt: self.halt.clone(),
            staging: self.staging.clone(),
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
