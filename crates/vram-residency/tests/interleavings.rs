//! What happens while something else happens: a sink that acts in the middle of
//! an operation stands in for another thread, at a chosen moment.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use vram_residency::audit::{AuditError, AuditMode, Event, Sink};
use vram_residency::clock::{Clock, ManualClock, Timestamp};
use vram_residency::error::{Error, Misuse, VerifyError};
use vram_residency::format::ReadAt;
use vram_residency::key::RootKey;
use vram_residency::load::Source;
use vram_residency::manager::RunState;
use vram_residency::policy::OnFailure;
use vram_residency::sim::{Flip, Moment, SimDevice, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

type Act = Box<dyn FnOnce() -> Result<(), AuditError> + Send>;

/// Runs an action at the n-th event of a type.
#[derive(Default)]
struct Hook {
    armed: Mutex<Option<(&'static str, usize, Act)>>,
    seen: Mutex<Vec<String>>,
}

impl Hook {
    fn arm(&self, event: &'static str, nth: usize, act: Act) {
        *self.armed.lock().unwrap() = Some((event, nth, act));
    }

    fn refuse_next(&self, event: &'static str) {
        let full = || {
            Err(AuditError {
                reason: "full".to_owned(),
            })
        };
        self.arm(event, 1, Box::new(full));
    }
}

impl Sink for Hook {
    fn record(&self, event: &Event) -> Result<(), AuditError> {
        let name = event.body.event_type();
        self.seen.lock().unwrap().push(name.clone());
        let mut armed = self.armed.lock().unwrap();
        let Some((wanted, nth, act)) = armed.take() else {
            return Ok(());
        };
        if name != wanted || nth > 1 {
            *armed = Some((wanted, nth - usize::from(name == wanted), act));
            return Ok(());
        }
        drop(armed);
        act()
    }

    fn flush(&self) -> Result<(), AuditError> {
        Ok(())
    }
}

struct World {
    sims: Vec<SimDevice>,
    hook: Arc<Hook>,
    manager: VramManager,
}

fn world(devices: u32, policy: Policy) -> World {
    let options = |i| SimOptions::new(1 << 20).ordinal(i);
    let sims: Vec<_> = (0..devices)
        .map(|i| SimDevice::with_options(options(i)))
        .collect();
    let hook = Arc::new(Hook::default());
    let mut builder = VramManager::builder()
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .policy(policy)
        .sink(hook.clone())
        .audit_mode(AuditMode::Required);
    for sim in &sims {
        builder = builder.device(sim.clone());
    }
    World {
        sims,
        hook,
        manager: builder.build().unwrap(),
    }
}

const WEIGHTS: [u8; 10_000] = [7; 10_000];

// requirement: WORKER-4122, PM-3
#[test]
fn a_lost_record_keeps_no_member_of_a_failed_group_usable() {
    for lost in [
        "shard.quarantined",
        "seal.verification_failed",
        "manager.stopped",
    ] {
        let world = world(4, Policy::default());
        let requests = (0..4).map(|i| SealRequest::bytes(&WEIGHTS).device(i));
        let group = world.manager.seal_group(requests.collect()).unwrap();
        let buffer = world.sims[0].buffers()[0];
        world.sims[0].flip_bit(buffer, 5, 1).unwrap();
        world.hook.refuse_next(lost);
        assert!(
            world
                .manager
                .verify_sealed(&group.shards()[0], Mode::Full)
                .is_err()
        );
        assert!(
            matches!(world.manager.state(), RunState::Stopped { .. }),
            "{lost}"
        );
        for shard in group.shards() {
            assert!(shard.is_quarantined(), "{lost}");
            assert!(world.manager.lease(shard, Mode::Full).is_err(), "{lost}");
        }
    }
}

#[test]
fn a_verification_that_was_not_recorded_is_not_reused() {
    let policy = Policy {
        max_lease_age: Some(Duration::from_secs(60)),
        ..Policy::default()
    };
    let world = world(1, policy);
    let shard = world.manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap();
    world.hook.refuse_next("seal.verified");
    assert!(matches!(
        world.manager.lease(&shard, Mode::Full),
        Err(Error::Audit(_))
    ));
    let lease = world.manager.lease(&shard, Mode::Full).unwrap();
    assert!(!lease.verification().reused);
    assert_eq!(shard.leases(), 1);
}

/// A world whose parts an action can reach.
fn shared(devices: u32, policy: Policy) -> (Arc<World>, Arc<OnceLock<SealedShard>>) {
    (Arc::new(world(devices, policy)), Arc::new(OnceLock::new()))
}

#[test]
fn a_shard_on_the_move_is_neither_moved_again_nor_leased() {
    let (world, place) = shared(3, Policy::default());
    let shard = world
        .manager
        .seal(SealRequest::bytes(&WEIGHTS).id("x"))
        .unwrap();
    assert!(place.set(shard).is_ok());
    let (theirs, there) = (Arc::clone(&world), Arc::clone(&place));
    let answers = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&answers);
    world.hook.arm(
        "shard.migrated",
        1,
        Box::new(move || {
            let shard = there.get().unwrap();
            let again = theirs.manager.migrate_shard(shard, 2).map(drop);
            let leased = theirs.manager.lease(shard, Mode::Full).map(drop);
            told.lock().unwrap().extend([again, leased]);
            Ok(())
        }),
    );
    let moved = world
        .manager
        .migrate_shard(place.get().unwrap(), 1)
        .unwrap();
    let answers = answers.lock().unwrap();
    assert_eq!(answers.len(), 2);
    let refused = |a: &Result<(), Error>| matches!(a, Err(Error::Misuse(Misuse::NotSealed)));
    assert!(answers.iter().all(refused), "{answers:?}");
    let used: Vec<u64> = (0..3)
        .map(|i| world.manager.capacity(i).unwrap().used)
        .collect();
    assert_eq!(used, [0, moved.record().vram_bytes, 0]);
}

#[test]
fn a_quarantine_follows_a_shard_that_moves() {
    use vram_residency::policy::OnFailure;
    let policy = Policy {
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    };
    let world = Arc::new(world(3, policy));
    let requests = (0..2).map(|i| SealRequest::bytes(&WEIGHTS).device(i));
    let group = Arc::new(world.manager.seal_group(requests.collect()).unwrap());
    let buffer = world.sims[1].buffers()[0];
    world.sims[1].flip_bit(buffer, 5, 1).unwrap();
    let (theirs, members) = (Arc::clone(&world), Arc::clone(&group));
    // While the first member is sealed on its new device, the second fails.
    world.hook.arm(
        "vram.sealed",
        1,
        Box::new(move || {
            assert!(
                theirs
                    .manager
                    .verify_sealed(&members.shards()[1], Mode::Full)
                    .is_err()
            );
            Ok(())
        }),
    );
    let moved = world.manager.migrate_shard(&group.shards()[0], 2);
    let quarantined = |e: &Error| matches!(e, Error::Verify(VerifyError::Quarantined { .. }));
    assert!(moved.as_ref().err().is_some_and(quarantined), "{moved:?}");
    assert!(group.shards()[0].is_quarantined());
    assert!(world.manager.lease(&group.shards()[0], Mode::Full).is_err());
    assert_eq!(world.manager.capacity(2).unwrap().used, 0);
}

#[test]
fn a_writer_may_free_the_shard_that_it_is_given() {
    struct Freeing<'a>(&'a World, &'a SealedShard);
    impl std::io::Write for Freeing<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.manager.deallocate(self.1).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let world = world(1, Policy::default());
    let shard = world.manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap();
    let written = world
        .manager
        .unseal_to(&shard, &mut Freeing(&world, &shard));
    assert_eq!(written.unwrap(), 10_000);
    assert_eq!(world.manager.used_vram(), 0);
}

#[test]
fn an_old_seal_is_refused_and_condemns_nothing() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1_000_000_000)));
    let policy = Policy {
        max_seal_age: Some(Duration::from_secs(10)),
        ..Policy::default()
    };
    let manager = VramManager::builder()
        .device(SimDevice::new(1 << 20))
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .policy(policy)
        .clock(clock.clone())
        .build()
        .unwrap();
    let shard = manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap();
    let refused = || {
        let refused = manager.lease(&shard, Mode::Full).err().unwrap();
        assert!(matches!(refused, Error::Policy(_)), "{refused}");
        assert!(!shard.is_quarantined());
        assert_eq!(manager.state(), RunState::Running);
    };
    clock.set_wall(Timestamp::from_nanos(12_000_000_001));
    refused();
    // The clock is put right again, and the shard is as good as before.
    clock.set_wall(Timestamp::from_nanos(2_000_000_000));
    assert!(manager.lease(&shard, Mode::Full).is_ok());
    // Time that passed has passed, whatever the clock on the wall is set to.
    clock.advance(11_000_000_000);
    clock.set_wall(Timestamp::from_nanos(2_000_000_000));
    refused();
}

/// A sink may free the shard whose checker erred: it waits for nobody.
// requirement: AU-9, MS-004
#[test]
fn a_shard_is_freed_while_a_fault_of_its_checker_is_recorded() {
    let (world, slot) = shared(1, Policy::default());
    let shard = world.manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap();
    let record = shard.record().clone();
    slot.set(shard).unwrap();
    for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
        world.sims[0].flip_at(Flip {
            moment,
            offset: 5,
            bit: 1,
        });
    }
    let (manager, there) = (world.manager.clone(), Arc::clone(&slot));
    let free = move || {
        manager.deallocate(there.get().unwrap()).unwrap();
        Ok(())
    };
    world.hook.arm("seal.checker_fault", 1, Box::new(free));
    let verified = world.manager.verify_record(&record, Mode::Full);
    assert!(verified.is_ok(), "the bytes were as sealed");
    assert!(!slot.get().unwrap().is_sealed());
    assert!(world.sims[0].buffers().is_empty());
}

/// A verification is as old as its check, however long its record took.
// requirement: DG-7, PM-6
#[test]
fn the_age_of_a_verification_begins_before_its_record() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1_000_000_000)));
    let hook = Arc::new(Hook::default());
    let manager = VramManager::builder()
        .device(SimDevice::new(1 << 20))
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .policy(Policy {
            max_lease_age: Some(Duration::from_secs(10)),
            ..Policy::default()
        })
        .sink(hook.clone())
        .clock(clock.clone())
        .build()
        .unwrap();
    let shard = manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap();
    let slow = Arc::clone(&clock);
    let record = move || {
        slow.advance(5_000_000_000);
        Ok(())
    };
    hook.arm("seal.verified", 1, Box::new(record));
    let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
    let reused = || {
        let lease = manager.lease(&shard, Mode::Full).unwrap();
        let verification = lease.verification();
        (verification.reused, verification.age_nanos)
    };
    clock.advance(5_000_000_000);
    assert_eq!(reused(), (true, 10_000_000_000));
    clock.advance(1);
    assert_eq!(reused(), (false, 0), "too old");
}

/// A shard on its way to another device is looked at there; nobody waits for it here.
// requirement: PM-4, PM-8
#[test]
fn the_scrubber_passes_by_a_shard_that_moves() {
    let world = world(2, Policy::default());
    let shard = world.manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap();
    let manager = world.manager.clone();
    let scrub = move || {
        assert!(manager.scrub_step(1 << 20).unwrap().is_none());
        Ok(())
    };
    // The copy is being measured, and the source held in place.
    world.hook.arm("vram.sealed", 1, Box::new(scrub));
    let moved = world.manager.migrate_shard(&shard, 1).unwrap();
    let step = world.manager.scrub_step(1 << 20).unwrap();
    assert_eq!(step.unwrap().shard_id, *moved.id());
}

/// A member that was just proved whole is condemned with its group before its
/// quarantine ends: the later word counts.
// requirement: PM-3, WORKER-4122
#[test]
fn a_group_that_fails_during_a_repair_stays_condemned() {
    let policy = Policy {
        allow_repair: true,
        ..Policy::default()
    };
    let world = world(2, policy);
    let requests = (0..2).map(|i| SealRequest::bytes(&WEIGHTS).device(i));
    let group = Arc::new(world.manager.seal_group(requests.collect()).unwrap());
    let (manager, members) = (world.manager.clone(), Arc::clone(&group));
    let sim = world.sims[0].clone();
    let strike = move || {
        let first = &members.shards()[0];
        // It may have failed with the second.
        let _ = manager.repair(first, &WEIGHTS.as_slice()).unwrap();
        sim.flip_bit(sim.buffers()[0], 5, 1).unwrap();
        assert!(manager.verify_sealed(first, Mode::Full).is_err());
        Ok(())
    };
    let second = &group.shards()[1];
    for flipped in [false, true] {
        if flipped {
            let buffer = world.sims[1].buffers()[0];
            world.sims[1].flip_bit(buffer, 9, 1).unwrap();
        }
        world
            .hook
            .arm("shard.repaired", 1, Box::new(strike.clone()));
        let answer = world.manager.repair(second, &WEIGHTS.as_slice());
        let error = answer.map(drop).unwrap_err();
        assert!(
            matches!(error, Error::Verify(VerifyError::Quarantined { .. })),
            "{error}"
        );
        assert!(second.is_quarantined());
        // Without another failure in between, a repair lifts it.
        let first = &group.shards()[0];
        for shard in [first, second] {
            let _ = world.manager.repair(shard, &WEIGHTS.as_slice()).unwrap();
        }
        assert!(!first.is_quarantined() && !second.is_quarantined());
    }
}

/// Runs `act` when it is first read, and gives nothing.
struct Acting<A: Fn() + Send + Sync>(A);

impl<A: Fn() + Send + Sync> ReadAt for Acting<A> {
    fn len(&self) -> u64 {
        WEIGHTS.len() as u64
    }

    fn read_exact_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
        (self.0)();
        Err(std::io::Error::other("a bad sector"))
    }
}

impl<A: Fn() + Send + Sync> Source for Acting<A> {
    fn name(&self) -> String {
        "acting".to_owned()
    }
}

/// A repair that fails acquits nobody, even if the damage went away by itself:
/// the group failed meanwhile, and that is not for this repair to undo.
// requirement: PM-3, WORKER-4122
#[test]
fn a_repair_that_fails_lifts_no_quarantine() {
    let policy = Policy {
        allow_repair: true,
        ..Policy::default()
    };
    let world = world(2, policy);
    let requests = (0..2).map(|i| SealRequest::bytes(&WEIGHTS).device(i));
    let group = world.manager.seal_group(requests.collect()).unwrap();
    let [first, second] = group.shards() else {
        panic!("two members")
    };
    let flip = |device: usize| {
        let sim = &world.sims[device];
        sim.flip_bit(sim.buffers()[0], 9, 1).unwrap();
    };
    flip(0);
    flip(1);
    let source = Acting(|| {
        assert!(world.manager.verify_sealed(first, Mode::Full).is_err());
        flip(1);
    });
    let error = world.manager.repair(second, &source).unwrap_err();
    assert!(matches!(error, Error::Load(_)), "{error}");
    assert!(first.is_quarantined() && second.is_quarantined());
}

/// The operator decided about the stop before it: this one is news.
// requirement: WORKER-4122
#[test]
fn a_stop_while_a_resumption_is_recorded_is_not_swallowed() {
    let world = Arc::new(world(1, Policy::default()));
    let shard = world.manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap();
    world.manager.stop("by hand").unwrap();
    let (manager, sim, record) = (
        world.manager.clone(),
        world.sims[0].clone(),
        shard.record().clone(),
    );
    let strike = move || {
        sim.flip_bit(sim.buffers()[0], 5, 1).unwrap();
        assert!(manager.verify_record(&record, Mode::Full).is_err());
        Ok(())
    };
    world.hook.arm("manager.resumed", 1, Box::new(strike));
    let error = world.manager.resume("all is well").unwrap_err();
    let told = |reason: &str| reason.contains("failed its verification");
    assert!(
        matches!(&error, Error::Misuse(Misuse::Stopped { reason }) if told(reason)),
        "{error}"
    );
    assert!(matches!(world.manager.state(), RunState::Stopped { .. }));
    let stops = || {
        let seen = world.hook.seen.lock().unwrap();
        seen.iter()
            .filter(|event| *event == "manager.stopped")
            .count()
    };
    let before = stops();
    let last = || world.hook.seen.lock().unwrap().last().cloned();
    assert_eq!(last().as_deref(), Some("manager.stopped"), "the last word");
    // One that cannot be recorded resumes nothing; the next one does.
    world.hook.refuse_next("manager.resumed");
    assert!(world.manager.resume("not recorded").is_err());
    assert!(matches!(world.manager.state(), RunState::Stopped { .. }));
    world.manager.stop("again").unwrap();
    assert_eq!(stops(), before, "it was stopped already");
    world.manager.resume("the shard is quarantined").unwrap();
    assert_eq!(world.manager.state(), RunState::Running);
}

/// A clock that frees a shard when it is next asked.
#[derive(Default)]
struct Freeing(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Clock for Freeing {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(1)
    }

    fn monotonic(&self) -> u64 {
        let armed = self.0.lock().unwrap().take();
        armed.into_iter().for_each(|free| free());
        1
    }
}

/// Nothing is wrong with a shard that its owner freed before its memory was looked at.
// requirement: AU-3, MS-004
#[test]
fn a_shard_that_is_freed_during_its_verification_did_not_fail_it() {
    let (clock, hook) = (Arc::new(Freeing::default()), Arc::new(Hook::default()));
    let manager = VramManager::builder()
        .device(SimDevice::new(1 << 20))
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .sink(hook.clone())
        .clock(clock.clone())
        .build()
        .unwrap();
    let shard = manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap();
    let record = shard.record().clone();
    let owner = manager.clone();
    let free = move || owner.deallocate(&shard).unwrap();
    *clock.0.lock().unwrap() = Some(Box::new(free));
    let error = manager.verify_record(&record, Mode::Full).err().unwrap();
    assert!(matches!(error, Error::Misuse(Misuse::NotSealed)), "{error}");
    let seen = hook.seen.lock().unwrap();
    assert!(!seen.iter().any(|name| name == "seal.verification_failed"));
    assert_eq!(manager.metrics().verify_failures_total, 0);
}

/// Between the check and the lease its group failed, or its owner freed it: the one is an
/// event of its own, the other the owner's own doing.
// requirement: AU-2, PM-3
#[test]
fn a_lease_that_came_too_late_is_told_unless_the_shard_was_freed() {
    for freed in [false, true] {
        let policy = Policy {
            on_failure: OnFailure::Isolate,
            ..Policy::default()
        };
        let world = Arc::new(world(2, policy));
        let requests = (0..2).map(|i| SealRequest::bytes(&WEIGHTS).device(i));
        let group = world.manager.seal_group(requests.collect()).unwrap();
        let group = Arc::new(group);
        let (there, members) = (Arc::clone(&world), Arc::clone(&group));
        let strike = move || {
            let [first, second] = members.shards() else {
                panic!("two members")
            };
            if freed {
                there.manager.deallocate(first).unwrap();
                return Ok(());
            }
            let buffer = there.sims[1].buffers()[0];
            there.sims[1].flip_bit(buffer, 5, 1).unwrap();
            assert!(there.manager.verify_sealed(second, Mode::Full).is_err());
            Ok(())
        };
        world.hook.arm("seal.verified", 1, Box::new(strike));
        let error = world.manager.lease(&group.shards()[0], Mode::Full).err();
        let error = error.unwrap();
        let late = matches!(error, Error::Verify(VerifyError::Quarantined { .. }));
        assert_eq!(late, !freed, "{error}");
        let seen = world.hook.seen.lock().unwrap();
        assert_eq!(seen.iter().any(|name| name == "lease.refused"), late);
    }
}
