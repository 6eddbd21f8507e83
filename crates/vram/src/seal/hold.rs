//! Keeping shards resident and proving them again and again.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use serde::Serialize;
use vram_residency::verify::Verification;
use vram_residency::{Mode, VramManager};

use super::report;
use super::run::Held;
use super::scrubbing::Scrubbing;
use super::view::View;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Redraw of the live view, and how soon the scrubber's findings are noticed.
const TICK: Duration = Duration::from_secs(1);

/// One verification of a held shard.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    file: &'a str,
    shard_id: &'a str,
    verification: &'a Verification,
}

/// When and how held shards are verified again.
pub(super) struct Rounds {
    pub(super) every: Duration,
    pub(super) mode: Mode,
    /// Bytes a second that the scrubber reads in between; 0 is none.
    pub(super) scrub_rate: u64,
}

/// Verifies every shard in rounds, and scrubs in between, until a signal
/// arrives, a check fails or `keep` cannot keep the evidence of a round.
pub(super) fn hold(
    rounds: &Rounds,
    manager: &VramManager,
    held: &[Held],
    keep: &dyn Fn() -> Result<(), Failure>,
    (interrupt, output): (&Interrupt, &Output),
) -> Result<(), Failure> {
    let scrubbing = Scrubbing::start(manager, rounds.scrub_rate)?;
    let mut holding = Holding {
        rounds,
        manager,
        held,
        keep,
        interrupt,
        output,
        scrubbing,
        view: View::new(output),
        faults: Cell::new(0),
    };
    let ended = holding.run();
    // Also what it found in the last moment.
    let scrubbing = holding.scrubbing.take();
    let found = scrubbing.map_or(Ok(()), |scrubbing| scrubbing.end(held));
    holding.tell_faults();
    match (ended, found) {
        (Err(ended), Err(found)) => Err(ended.graver(found)),
        (ended, found) => ended.and(found),
    }
}

/// Everything that goes on while shards are held.
struct Holding<'a> {
    rounds: &'a Rounds,
    manager: &'a VramManager,
    held: &'a [Held],
    keep: &'a dyn Fn() -> Result<(), Failure>,
    interrupt: &'a Interrupt,
    output: &'a Output,
    scrubbing: Option<Scrubbing>,
    view: Option<View>,
    /// Errors of the checker that people were told of.
    faults: Cell<u64>,
}

impl Holding<'_> {
    fn run(&self) -> Result<(), Failure> {
        // A person at a terminal sees the view; programs read the lines.
        let is_watched = self.view.is_some() && std::io::stdout().is_terminal();
        let lines = self.output.is_json() || !is_watched;
        while !self.rest()? {
            let mut round = Vec::new();
            // A round can be long: signals are heeded before each shard of it.
            for one in self.held {
                if self.interrupt.token().is_cancelled() {
                    break;
                }
                self.heed_scrubber()?;
                round.push(self.verify(one)?);
            }
            (self.keep)()?;
            self.tell_faults();
            let mut told = self.held.iter().zip(&round).filter(|_| lines);
            told.try_for_each(|(one, verification)| line(one, verification, self.output))?;
        }
        Ok(())
    }

    fn verify(&self, one: &Held) -> Result<Verification, Failure> {
        let verified = self.manager.verify_sealed(&one.shard, self.rounds.mode);
        let verified = verified.map_err(|error| self.failure(&one.file, error))?;
        Ok(verified.into_verification())
    }

    /// Waits for the next round; true when a signal ended it.
    fn rest(&self) -> Result<bool, Failure> {
        let started = Instant::now();
        loop {
            let left = self.rounds.every.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(self.interrupt.token().is_cancelled());
            }
            self.heed_scrubber()?;
            if let Some(view) = &self.view {
                view.draw(self.manager, self.held, left, self.scrubbing.as_ref());
            }
            if self.interrupt.wait(left.min(TICK)) {
                return Ok(true);
            }
        }
    }

    /// A check that passed although the checker erred looks like any other; what erred
    /// the log and the audit log tell.
    fn tell_faults(&self) {
        let all = self.manager.metrics().checker_faults_total;
        let new = all.saturating_sub(self.faults.replace(all));
        if new > 0 {
            self.output.note(&format!(
                "the checker erred {new} time(s), {all} in all: a second opinion found good what it \
                 had found bad; see `--log warn` or `--audit`, and check the device if it happens again"
            ));
        }
    }

    /// What signals ask of the scrubber, and what it found.
    fn heed_scrubber(&self) -> Result<(), Failure> {
        self.tell_faults();
        let Some(scrubbing) = &self.scrubbing else {
            return Ok(());
        };
        scrubbing.obey(self.interrupt.orders(), self.output);
        scrubbing.check(self.held)
    }

    /// A shard that the scrubber just condemned fails in the round, too; what
    /// the scrubber found says where. What the round found out is told before what
    /// kept the scrubber from finding anything.
    fn failure(&self, file: &str, error: vram_residency::Error) -> Failure {
        let failure = Failure::about(file, error);
        let scrubbing = self.scrubbing.as_ref();
        let found = scrubbing.map_or(Ok(()), |scrubbing| scrubbing.check(self.held));
        match found {
            Err(found) => found.graver(failure),
            Ok(()) => failure,
        }
    }
}

fn line(one: &Held, verification: &Verification, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&Report {
            schema: "vram-residency/verification/v1",
            file: &one.file,
            shard_id: one.shard.id().as_str(),
            verification,
        });
    }
    let what = report::verification(verification);
    output.line(format!(
        "verified  {} {} {what}",
        verification.at,
        one.shard.id()
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::failure::Exit;
    use vram_residency::SealRequest;
    use vram_residency::key::RootKey;
    use vram_residency::sim::SimDevice;

    /// A shard of 3 MiB on a simulated device.
    fn held() -> (SimDevice, VramManager, [Held; 1]) {
        let device = SimDevice::new(8 << 20);
        let manager = VramManager::builder()
            .device(device.clone())
            .key(RootKey::from_token(&test_listener::secret()).unwrap())
            .build()
            .unwrap();
        let shard = manager.seal(SealRequest::bytes(&[7; 3 << 20])).unwrap();
        let verified = manager.verify_sealed(&shard, Mode::Full).unwrap();
        let held = [Held {
            file: "model".to_owned(),
            shard,
            verification: verified.into_verification(),
        }];
        (device, manager, held)
    }

    // requirement: PM-8
    #[test]
    fn what_the_scrubber_finds_ends_the_hold_and_is_named() {
        let (device, manager, held) = held();
        let buffer = device.buffers()[0];
        device.flip_bit(buffer, 2 << 20, 3).unwrap();
        // No round within an hour: only the scrubber can notice.
        let rounds = Rounds {
            every: Duration::from_secs(3600),
            mode: Mode::Full,
            scrub_rate: 1 << 40,
        };
        let output = Output::new(false, true, false);
        let interrupt = Interrupt::listen().unwrap();
        let failure = hold(&rounds, &manager, &held, &|| Ok(()), (&interrupt, &output));
        let failure = failure.unwrap_err();
        assert_eq!(failure.exit(), Exit::Verification);
        let (message, notes) = (failure.message(), failure.notes().join(" "));
        assert!(message.contains("file offset 2097152"), "{message}");
        assert!(message.starts_with("model: "), "{message}");
        assert!(notes.contains("bad 4 KiB block 512"), "{notes}");
    }

    /// The hold may end between what it found and when that is asked for.
    // requirement: PM-8
    #[test]
    fn what_the_scrubber_found_last_is_told_when_it_ends() {
        let (device, manager, held) = held();
        device.flip_bit(device.buffers()[0], 2 << 20, 3).unwrap();
        let scrubbing = Scrubbing::start(&manager, 1 << 40).unwrap().unwrap();
        while manager.state() == vram_residency::manager::RunState::Running {
            std::thread::sleep(Duration::from_millis(10));
        }
        let failure = scrubbing.end(&held).unwrap_err();
        assert_eq!(failure.exit(), Exit::Verification);
    }

    /// The round is over for another reason while the scrubber finds damage: the damage
    /// is what the command ends with.
    // requirement: PM-8, AU-3
    #[test]
    fn what_the_scrubber_found_is_told_before_what_else_ends_the_hold() {
        let (device, manager, held) = held();
        let rounds = Rounds {
            every: Duration::ZERO,
            mode: Mode::TagOnly,
            scrub_rate: 1 << 40,
        };
        let output = Output::new(false, true, false);
        let interrupt = Interrupt::listen().unwrap();
        let keep = || {
            device.flip_bit(device.buffers()[0], 2 << 20, 3).unwrap();
            while manager.state() == vram_residency::manager::RunState::Running {
                std::thread::yield_now();
            }
            Err(Failure::new("the disk is full"))
        };
        let failure = hold(&rounds, &manager, &held, &keep, (&interrupt, &output));
        let failure = failure.unwrap_err();
        assert_eq!(failure.exit(), Exit::Verification, "{}", failure.message());
        assert!(failure.message().contains("file offset 2097152"));
    }

    /// The device did not answer the scrubber, and then the round found damage.
    // requirement: PM-8, AU-3
    #[test]
    fn what_a_round_found_is_told_before_what_stopped_the_scrubber() {
        use vram_residency::device::DeviceError;
        let (device, manager, held) = held();
        let away = DeviceError::Unsupported { what: "scripted" };
        device.fail(vram_residency::sim::Op::Witness, 1, away);
        let rounds = Rounds {
            every: Duration::ZERO,
            mode: Mode::Full,
            scrub_rate: 1 << 40,
        };
        let interrupt = Interrupt::listen().unwrap();
        let holding = Holding {
            rounds: &rounds,
            manager: &manager,
            held: &held,
            keep: &|| Ok(()),
            interrupt: &interrupt,
            output: &Output::new(false, true, false),
            scrubbing: Scrubbing::start(&manager, rounds.scrub_rate).unwrap(),
            view: None,
            faults: Cell::new(0),
        };
        while manager.metrics().verify_failures_total == 0 {
            std::thread::yield_now();
        }
        device.flip_bit(device.buffers()[0], 2 << 20, 3).unwrap();
        let error = manager.verify_sealed(&held[0].shard, Mode::Full);
        let failure = holding.failure("model", error.err().unwrap());
        assert_eq!(failure.exit(), Exit::Verification, "{}", failure.message());
    }

    /// Cancels at the fourth verification that passes.
    struct Cancelling(vram_residency::load::CancelToken, AtomicU64);

    impl vram_residency::audit::Sink for Cancelling {
        fn record(
            &self,
            event: &vram_residency::audit::Event,
        ) -> Result<(), vram_residency::audit::AuditError> {
            let passed = matches!(event.body, vram_residency::audit::Body::SealVerified { .. });
            if passed && self.1.fetch_add(1, Ordering::SeqCst) == 3 {
                self.0.cancel();
            }
            Ok(())
        }

        fn flush(&self) -> Result<(), vram_residency::audit::AuditError> {
            Ok(())
        }
    }

    /// Many large shards take long: a signal ends the round after the one at hand.
    #[test]
    fn a_signal_ends_a_round_in_the_midst_of_it() {
        let interrupt = Interrupt::listen().unwrap();
        let token = interrupt.token().clone();
        let manager = VramManager::builder()
            .device(SimDevice::new(8 << 20))
            .key(RootKey::from_token(&test_listener::secret()).unwrap())
            .sink(Arc::new(Cancelling(token, AtomicU64::new(0))))
            .build()
            .unwrap();
        let seal = |file: &str| {
            let shard = manager.seal(SealRequest::bytes(&[7; 5000])).unwrap();
            let verified = manager.verify_sealed(&shard, Mode::Full).unwrap();
            Held {
                file: file.to_owned(),
                shard,
                verification: verified.into_verification(),
            }
        };
        let held = ["one", "two", "three"].map(seal);
        let rounds = Rounds {
            every: Duration::ZERO,
            mode: Mode::Full,
            scrub_rate: 0,
        };
        let kept = std::cell::Cell::new(0);
        let keep = || {
            kept.set(kept.get() + 1);
            match kept.get() {
                1..=5 => Ok(()),
                _ => Err(Failure::new("no signal ended it")),
            }
        };
        let output = Output::new(false, true, false);
        hold(&rounds, &manager, &held, &keep, (&interrupt, &output)).unwrap();
        assert_eq!(manager.metrics().verify_operations_total, 3 + 1);
        assert_eq!(kept.get(), 1, "what was verified is kept");
    }

    /// Rounds follow each other without a rest: what is ordered is heeded in them.
    // requirement: PM-8
    #[test]
    fn the_scrubber_is_paused_and_resumed_in_the_midst_of_rounds() {
        use signal_hook::consts::{SIGIO, SIGPROF};
        let (_device, manager, held) = held();
        let rounds = Rounds {
            every: Duration::ZERO,
            mode: Mode::Full,
            scrub_rate: 1,
        };
        let output = Output::new(false, true, false);
        let interrupt = Interrupt::listen_for(SIGIO, SIGPROF).unwrap();
        let holding = Holding {
            rounds: &rounds,
            manager: &manager,
            held: &held,
            keep: &|| Err(Failure::new("a round is over")),
            interrupt: &interrupt,
            output: &output,
            scrubbing: Scrubbing::start(&manager, rounds.scrub_rate).unwrap(),
            view: None,
            faults: Cell::new(0),
        };
        for (signal, paused) in [(SIGIO, true), (SIGPROF, false)] {
            signal_hook::low_level::raise(signal).unwrap();
            assert_eq!(holding.run().unwrap_err().message(), "a round is over");
            let said = holding.scrubbing.as_ref().unwrap().line(0);
            assert_eq!(said.contains("paused"), paused, "{said}");
        }
    }
}
