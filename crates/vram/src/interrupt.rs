//! SIGINT, SIGTERM and SIGHUP (a terminal that goes away): the first ends the
//! work in an orderly way, the second ends the process. SIGUSR1 and SIGUSR2
//! are kept for the scrubber.

use std::ffi::c_int;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use vram_residency::load::CancelToken;

use crate::failure::{Exit, Failure};

/// A second signal within this time is the first one sent twice, to us and to
/// our group as timeout(1) does, and no order to drop everything.
const DOUBLED: Duration = Duration::from_millis(500);

/// What a signal asks of the scrubber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// To read nothing until further notice.
    Pause,
    /// To go on.
    Resume,
}

/// The last order that nobody has taken yet: of two, the later one counts.
pub(crate) struct Orders(Arc<AtomicUsize>);

impl Orders {
    const NONE: usize = 0;
    const PAUSE: usize = 1;
    const RESUME: usize = 2;

    /// Orders by these two signals, from now on.
    fn listen(pause: c_int, resume: c_int) -> io::Result<Self> {
        let last = Arc::new(AtomicUsize::new(Self::NONE));
        for (signal, order) in [(pause, Self::PAUSE), (resume, Self::RESUME)] {
            signal_hook::flag::register_usize(signal, Arc::clone(&last), order)?;
        }
        Ok(Self(last))
    }

    /// What the last signal since the last call asked for.
    pub(crate) fn take(&self) -> Option<Order> {
        match self.0.swap(Self::NONE, Ordering::SeqCst) {
            Self::PAUSE => Some(Order::Pause),
            Self::RESUME => Some(Order::Resume),
            _ => None,
        }
    }
}

/// Listens until the process ends.
pub(crate) struct Interrupt {
    token: CancelToken,
    arrived: Receiver<()>,
    orders: Orders,
}

impl Interrupt {
    /// Starts to listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Self::listen_for(SIGUSR1, SIGUSR2)
    }

    /// The same with other signals to pause the scrubber and let it go on.
    pub(crate) fn listen_for(pause: c_int, resume: c_int) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("cannot listen for signals: {error}"));
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        // Those of the scrubber may come before it is there and must not be
        // lost, and a file that may not grow is an error of its write: none
        // may kill us before the memory is wiped.
        let orders = Orders::listen(pause, resume).map_err(failed)?;
        signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(failed)?;
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
            orders,
        })
    }

    /// Cancelled by the first signal.
    pub(crate) const fn token(&self) -> &CancelToken {
        &self.token
    }

    /// SIGUSR1 and SIGUSR2, from before there was a scrubber.
    pub(crate) const fn orders(&self) -> &Orders {
        &self.orders
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

/// After a signal nothing more is begun.
pub(crate) fn go_on(cancelled: &CancelToken, before: &str) -> Result<(), Failure> {
    if cancelled.is_cancelled() {
        return Err(Failure::new(format!("cancelled before {before}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::consts::{SIGURG, SIGWINCH};
    use signal_hook::low_level::raise;

    /// Signals that do nothing by themselves, and that no other test here sends.
    #[test]
    fn of_two_orders_the_later_one_counts() {
        let orders = Orders::listen(SIGURG, SIGWINCH).unwrap();
        assert_eq!(orders.take(), None);
        let both = [(SIGURG, Order::Pause), (SIGWINCH, Order::Resume)];
        for ((first, _), (second, order)) in [(both[1], both[0]), (both[0], both[1])] {
            raise(first).unwrap();
            raise(second).unwrap();
            assert_eq!(orders.take(), Some(order));
            assert_eq!(orders.take(), None, "an order is taken once");
        }
    }
}
