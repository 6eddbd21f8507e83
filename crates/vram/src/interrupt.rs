//! SIGINT, SIGTERM and SIGHUP (a terminal that goes away): the first ends the
//! work in an orderly way, the second ends the process. SIGUSR1 and SIGUSR2
//! are kept for the scrubber.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use vram_residency::load::CancelToken;

use crate::failure::{Exit, Failure};

/// A second signal within this time is the first one sent twice, to us and to
/// our group as timeout(1) does, and no order to drop everything.
const DOUBLED: Duration = Duration::from_millis(500);

/// Listens until the process ends.
pub(crate) struct Interrupt {
    token: CancelToken,
    arrived: Receiver<()>,
    /// SIGUSR1 arrived.
    pause: Arc<AtomicBool>,
    /// SIGUSR2 arrived.
    resume: Arc<AtomicBool>,
}

impl Interrupt {
    /// Starts to listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("cannot listen for signals: {error}"));
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        // Those of the scrubber may come before it is there and must not be
        // lost, and a file that may not grow is an error of its write: none
        // may kill us before the memory is wiped.
        let (pause, resume) = (Arc::default(), Arc::default());
        for (signal, flag) in [
            (SIGUSR1, &pause),
            (SIGUSR2, &resume),
            (SIGXFSZ, &Arc::default()),
        ] {
            signal_hook::flag::register(signal, Arc::clone(flag)).map_err(failed)?;
        }
        let token = CancelToken::new();
        let cancel = token.clone();
        let (sender, arrived) = channel();
        let listen = move || {
            let mut first = None;
            for _ in signals.forever() {
                let first = first.get_or_insert_with(Instant::now);
                if !cancel.is_cancelled() {
                    cancel.cancel();
                    // The receiver lives as long as the command.
                    let _ = sender.send(());
                } else if first.elapsed() > DOUBLED {
                    std::process::exit(Exit::Failure as i32);
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(listen).map_err(failed)?;
        Ok(Self {
            token,
            arrived,
            pause,
            resume,
        })
    }

    /// Cancelled by the first signal.
    pub(crate) const fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Whether SIGUSR1 arrived since the last call.
    pub(crate) fn take_pause(&self) -> bool {
        self.pause.swap(false, Ordering::SeqCst)
    }

    /// Whether SIGUSR2 arrived since the last call.
    pub(crate) fn take_resume(&self) -> bool {
        self.resume.swap(false, Ordering::SeqCst)
    }

    /// Waits; true when a signal arrived before `time` was over.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        if self.token.is_cancelled() {
            return true;
        }
        !matches!(
            self.arrived.recv_timeout(time),
            Err(RecvTimeoutError::Timeout)
        )
    }
}
