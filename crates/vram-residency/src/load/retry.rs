//! Reads, and questions about names, that may succeed if they are tried again.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::{Control, Source};
use crate::format::ReadAt;

/// Waits before the second, third and last try of a read. Bounded: a disk that
/// fails for longer than this has failed.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
];

/// How often a failure is worth another try.
fn tries_left(error: &io::Error) -> usize {
    // The kernel and the device have already tried again; network file systems
    // give this error once after an interruption.
    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
        return 1;
    }
    match error.kind() {
        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => PAUSES.len(),
        _ => 0,
    }
}

/// Tries `read` again after `EINTR`, `EAGAIN` and time-outs (up to three times)
/// and after `EIO` (once), while `go_on` allows it.
pub(super) fn transient<T>(
    mut read: impl FnMut() -> io::Result<T>,
    go_on: impl Fn() -> bool,
) -> io::Result<T> {
    for (done, pause) in PAUSES.iter().enumerate() {
        match read() {
            Err(error) if done < tries_left(&error) && go_on() => {
                crate::sync::thread::sleep(*pause);
            }
            other => return other,
        }
    }
    read()
}

/// Asks the file system about a name; a failure of a moment is asked about
/// again as one of a read is, which takes a tenth of a second at most.
pub(super) fn asked<T>(ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    transient(ask, || true)
}

/// A source whose positioned reads are tried again after failures of a moment,
/// as those of a load are: what reads a source beside a load, for its header
/// above all, reads through this.
pub struct Retried<'s>(pub &'s dyn Source);

impl ReadAt for Retried<'_> {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        // A sequential source cannot be asked for the same bytes twice.
        let go_on = || !self.0.is_sequential();
        transient(|| self.0.read_exact_at(offset, out), go_on)
    }
}

/// The same while a load may go on. What ends it is the load's own word, and
/// not that of a read: ask [`Control::check`] afterwards.
pub(crate) struct Watched<'s>(pub(crate) &'s dyn Source, pub(crate) &'s Control);

impl ReadAt for Watched<'_> {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let goes_on = || self.1.check("").is_ok();
        if !goes_on() {
            return Err(ErrorKind::TimedOut.into());
        }
        let go_on = || !self.0.is_sequential() && goes_on();
        transient(|| self.0.read_exact_at(offset, out), go_on)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use rustix::io::Errno;

    /// How often a read that fails `failures` times with `error` is tried, and
    /// whether it succeeds in the end.
    fn tried(error: Errno, failures: u32, go_on: bool) -> (u32, bool) {
        let calls = Cell::new(0);
        let read = || {
            calls.update(|n: u32| n.saturating_add(1));
            if calls.get() <= failures {
                return Err(error.into());
            }
            Ok(())
        };
        let ok = transient(read, || go_on).is_ok();
        (calls.get(), ok)
    }

    #[test]
    fn transient_failures_are_tried_again_and_no_others() {
        for error in [Errno::INTR, Errno::AGAIN, Errno::TIMEDOUT] {
            assert_eq!(tried(error, 3, true), (4, true), "{error}");
            assert_eq!(tried(error, 4, true), (4, false), "{error}");
        }
        assert_eq!(tried(Errno::IO, 1, true), (2, true));
        assert_eq!(tried(Errno::IO, 2, true), (2, false));
        for error in [Errno::NOENT, Errno::BADF, Errno::NOSPC] {
            assert_eq!(tried(error, 1, true), (1, false), "{error}");
        }
    }

    #[test]
    fn nothing_is_tried_again_once_the_load_ended() {
        assert_eq!(tried(Errno::AGAIN, 1, false), (1, false));
    }
}
