//! Parallel reads straight into staging slots, keyed tags of what was read,
//! and the device's copies and hashing behind them.

use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;

use tracing::{Span, debug, debug_span, trace};
use vram_digest::{BlockHash, nh};

use super::order::OrderedSha256;
use super::retry;
use super::{Control, LoadError, Source, Staging};
use crate::device::{Arriving, Device, DeviceKind, Extent, Slot, UPLOAD_ALIGN, Upload, UploadPlan};
use crate::error::{Error, VerifyError};
use crate::sync::{Mutex, MutexGuard, OnceLock, PoisonError, one_more, thread};

/// How much staging memory a load uses.
struct Shape {
    slot_bytes: usize,
    slots: usize,
    readers: usize,
}

impl Shape {
    fn of(kind: DeviceKind, source: &dyn Source, staging: &Staging) -> Self {
        let (slot_bytes, most) = staging.shape(kind);
        let chunks = source.len().div_ceil(slot_bytes as u64);
        let chunks = usize::try_from(chunks).unwrap_or(usize::MAX).max(1);
        // A GPU's bus wants every core to read, and slots that are with the
        // device meanwhile.
        let readers = cores().get().min(16).div_ceil(staging.devices());
        let readers = readers.min(chunks);
        let slots = readers.saturating_mul(2).min(most).min(chunks);
        Self {
            slot_bytes,
            slots,
            readers,
        }
    }
}

/// Asked once: the answer comes from files under `/proc` and `/sys`, which cost
/// more than sealing a small shard.
pub(crate) fn cores() -> NonZeroUsize {
    static CORES: OnceLock<NonZeroUsize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}

/// What a finished load proved: the device holds what the source gave.
pub(crate) struct Loaded {
    /// SHA-256 of each 4 KiB block, measured in device memory.
    pub(crate) level0: Vec<BlockHash>,
    /// Keyed tag of each 1 MiB segment, equal on both sides.
    pub(crate) tags: Vec<nh::Tag>,
    /// Plain SHA-256 of the source, when asked for.
    pub(crate) content: Option<[u8; 32]>,
}

/// Loads all of `source` into `extent` and compares the device's keyed tags
/// with those of the bytes that were read (design 4.1).
pub(crate) fn load(
    source: &dyn Source,
    device: &dyn Device,
    extent: Extent,
    key: &nh::Key,
    control: &Control,
    content: bool,
) -> Result<Loaded, Error> {
    let (kind, staging) = (device.info().kind, control.staging());
    let shape = Shape::of(kind, source, staging);
    let plan = UploadPlan {
        extent,
        key,
        slot_bytes: shape.slot_bytes,
        slots: shape.slots,
        room: staging.room(kind),
    };
    let (readers, slots) = (shape.readers, shape.slots);
    let span = debug_span!("load", bytes = extent.len, readers, slots);
    let _entered = span.enter();
    let upload = device.upload(plan)?;
    let run = Run::new(source, upload.as_ref(), key, control, extent.len, content);
    let read = run.read_all(readers);
    let (tags, content) = read.map_err(|error| control.told(&source.name(), error))?;
    control.check(&source.name())?;
    debug!("every byte was read and handed to the device");
    let measured = upload.finish()?;
    let blocks = measured.level0.len();
    debug!(blocks, "the device hashed what it holds");
    // A verdict comes before whatever else may be wrong with the source.
    compare(&tags, &measured.tags)?;
    debug!(segments = tags.len(), "source and device agree");
    source.check_unchanged()?;
    Ok(Loaded {
        level0: measured.level0,
        tags: measured.tags,
        content,
    })
}

/// The copy is good only if every segment's tag is the same on both sides.
fn compare(source: &[nh::Tag], device: &[nh::Tag]) -> Result<(), VerifyError> {
    let differs = |(_, (a, b)): &(usize, (&nh::Tag, &nh::Tag))| a != b;
    let mut bad = source.iter().zip(device).enumerate().filter(differs);
    let first = bad.next().map(|(segment, _)| segment);
    let missing = source.len().abs_diff(device.len());
    let segments = bad
        .count()
        .saturating_add(missing)
        .saturating_add(usize::from(first.is_some()));
    if segments == 0 {
        return Ok(());
    }
    let first = first.unwrap_or(device.len()) as u64;
    let first_offset = first.saturating_mul(UPLOAD_ALIGN);
    Err(VerifyError::Copy {
        segments: segments as u64,
        first_offset,
    })
}

/// State that the reader threads of one load share.
struct Run<'a> {
    source: &'a dyn Source,
    upload: &'a dyn Upload,
    key: &'a nh::Key,
    control: &'a Control,
    len: u64,
    next: Mutex<u64>,
    failed: Mutex<Option<Error>>,
    tags: Mutex<Arriving<nh::Tag>>,
    order: Option<OrderedSha256>,
}

/// A source or a progress callback that panics must not leave the other
/// readers waiting for their turn.
struct AbandonOnPanic<'o>(&'o OrderedSha256);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandon();
        }
    }
}

impl<'a> Run<'a> {
    fn new(
        source: &'a dyn Source,
        upload: &'a dyn Upload,
        key: &'a nh::Key,
        control: &'a Control,
        len: u64,
        content: bool,
    ) -> Self {
        Self {
            source,
            upload,
            key,
            control,
            len,
            next: Mutex::new(0),
            failed: Mutex::new(None),
            tags: Mutex::new(Arriving::new(len.div_ceil(UPLOAD_ALIGN), nh::Tag::ZERO)),
            order: content.then(OrderedSha256::new),
        }
    }

    /// Reads everything with so many threads: the tags of what was read and,
    /// where it is asked for, its plain digest.
    fn read_all(self, readers: usize) -> Result<(Vec<nh::Tag>, Option<[u8; 32]>), Error> {
        let span = Span::current();
        thread::scope(|scope| {
            for _ in 1..readers {
                // Without another thread the ones there are do its work.
                let (run, span) = (&self, span.clone());
                let work = move || span.in_scope(|| run.reader());
                let _ = one_more(scope, work);
            }
            self.reader();
        });
        let failed = self.failed.into_inner();
        match failed.unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok((
                self.tags
                    .into_inner()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
                self.order.map(|order| order.finish()),
            )),
        }
    }

    fn reader(&self) {
        let _guard = self.order.as_ref().map(AbandonOnPanic);
        while self.failed().is_none() {
            match self.one_chunk() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.failed().get_or_insert(error);
                    if let Some(order) = &self.order {
                        order.abandon();
                    }
                }
            }
        }
    }

    fn failed(&self) -> MutexGuard<'_, Option<Error>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, tags and submits one slot; false when nothing is left.
    fn one_chunk(&self) -> Result<bool, Error> {
        if *self.next.lock().unwrap_or_else(PoisonError::into_inner) >= self.len {
            return Ok(false);
        }
        self.control.check(&self.source.name())?;
        // The slot comes first: a claimed chunk must never wait for a slot that
        // only a later chunk could give back.
        let mut slot = self.upload.slot()?;
        let Some((offset, len)) = self.fill(&mut slot)? else {
            return Ok(false);
        };
        let Some(bytes) = slot.bytes().get(..len) else {
            return Err(Error::Internal("a staging slot is shorter than its chunk"));
        };
        self.tag(offset, bytes)?;
        if let Some(order) = &self.order {
            order.update(offset, bytes);
        }
        self.upload.submit(slot, offset, len)?;
        trace!(offset, len, "a chunk was read and submitted");
        self.control.advance(len as u64);
        Ok(true)
    }

    /// Claims the next chunk and reads it. Sequential sources are read while
    /// the claim is held, so that reads stay in order.
    fn fill(&self, slot: &mut Slot) -> Result<Option<(u64, usize)>, Error> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = *next;
        let left = self.len.saturating_sub(offset);
        let capacity = slot.bytes().len();
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(capacity);
        if len == 0 {
            return Ok(None);
        }
        *next = offset.saturating_add(len as u64);
        let mut held = self.source.is_sequential().then_some(next);
        let Some(out) = slot.bytes_mut().get_mut(..len) else {
            return Err(Error::Internal("a staging slot is shorter than its chunk"));
        };
        let read = self.read(offset, out);
        if let (Err(_), Some(next)) = (&read, &mut held) {
            // Nothing can be read after what was missed: who waits for the claim
            // would tell of that, and not of what went wrong.
            **next = self.len;
        }
        drop(held);
        read?;
        Ok(Some((offset, len)))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), LoadError> {
        let piece_end = offset.saturating_add(out.len() as u64);
        let named = |source: io::Error| match source.kind() {
            ErrorKind::UnexpectedEof => {
                // A source whose length does not show it ended somewhere in the piece.
                let end = self.source.end().filter(|end| *end < piece_end);
                let end = end.unwrap_or(offset);
                LoadError::Short {
                    name: self.source.name(),
                    offset: end,
                    expected: self.len.saturating_sub(end),
                }
            }
            _ => LoadError::Read {
                name: self.source.name(),
                offset,
                source,
            },
        };
        let clock = self.control.clock.as_ref();
        // A sequential source cannot be asked for the same bytes twice.
        let retries = !self.source.is_sequential();
        let go_on = || self.failed().is_none() && self.control.check("").is_ok();
        let read = || self.source.read_piece(offset, out, clock);
        retry::transient(read, || retries && go_on()).map_err(named)
    }

    fn tag(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut tags = vec![nh::Tag::ZERO; nh::tag_count(bytes.len())];
        nh::tags(self.key, bytes, &mut tags)
            .map_err(|_| Error::Internal("a chunk and its tags differ in number"))?;
        let mut all = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(all.put(offset / UPLOAD_ALIGN, &tags)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::PatternSource;

    #[test]
    fn a_load_has_readers_and_slots_for_its_length() {
        for devices in 1..=8 {
            let staging = Staging::of(0..devices);
            for kind in [DeviceKind::Simulated, DeviceKind::Cuda] {
                let (slot_bytes, most) = staging.shape(kind);
                for len in [1, 3 << 20, 1 << 30, 1 << 40] {
                    let shape = Shape::of(kind, &PatternSource::new(len, 0), &staging);
                    assert!(shape.readers >= 1 && (1..=most).contains(&shape.slots));
                    assert_eq!(shape.slot_bytes, slot_bytes);
                }
            }
        }
    }

    /// Ends before anything was read, and then says what no reader should hear.
    struct Ended(Mutex<bool>);

    impl crate::format::ReadAt for Ended {
        fn len(&self) -> u64 {
            4 << 20
        }

        fn read_exact_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            let ended = std::mem::replace(&mut *self.0.lock().unwrap(), true);
            let again = ErrorKind::Unsupported;
            let kind = if ended {
                again
            } else {
                ErrorKind::UnexpectedEof
            };
            Err(kind.into())
        }
    }

    impl Source for Ended {
        fn name(&self) -> String {
            "pipe".to_owned()
        }

        /// As a file does that is as long as ever by the time it is asked.
        fn end(&self) -> Option<u64> {
            Some(4 << 20)
        }

        fn is_sequential(&self) -> bool {
            true
        }
    }

    #[test]
    fn who_waited_for_the_end_of_a_pipe_reads_no_further() {
        use crate::clock::SystemClock;
        use crate::format::ReadAt;
        use crate::load::CancelToken;
        use crate::sim::SimDevice;

        let device = SimDevice::new(8 << 20);
        let source = Ended(Mutex::new(false));
        let len = source.len();
        let buffer = device.allocate(len).unwrap().id;
        let start = 0;
        let key = nh::Key::from_bytes(&[7; nh::KEY_BYTES]);
        let plan = UploadPlan {
            extent: Extent { buffer, start, len },
            key: &key,
            slot_bytes: 1 << 20,
            slots: 2,
            room: std::sync::Arc::default(),
        };
        let upload = device.upload(plan).unwrap();
        let clock = std::sync::Arc::new(SystemClock::new());
        let control = Control::new(CancelToken::new(), None, clock, None, len);
        let run = Run::new(&source, upload.as_ref(), &key, &control, len, false);
        let fill = || run.fill(&mut upload.slot().unwrap());
        let first = fill().unwrap_err();
        assert!(
            matches!(&first, Error::Load(LoadError::Short { offset: 0, expected, .. }) if *expected == len),
            "{first}"
        );
        // As one does that waited for the claim meanwhile.
        assert_eq!(fill().unwrap(), None);
    }
}
