//! A decorator around any device, real ones too: remembers what was allocated,
//! damages it from outside, and answers wrongly when a scenario says so.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use vram_digest::BlockHash;
use vram_residency::device::{
    self, Allocated, BufferId, Device, DeviceError, DeviceInfo, Extent, FreeError, MemoryInfo,
    Protection, Uuid, Witness,
};

use super::forward::forward;

#[derive(Default)]
pub(crate) struct Script {
    pub(crate) live: Vec<Allocated>,
    pub(crate) lie: Option<fn(Witness) -> Witness>,
    /// Another device answers for this one.
    pub(crate) replaced: bool,
    /// Bytes that others leave free.
    pub(crate) others_leave: Option<u64>,
    pub(crate) lose_at_check: bool,
    pub(crate) fail_free: bool,
    pub(crate) damage_copy: bool,
}

/// Clones share one script.
#[derive(Clone)]
pub(crate) struct Tap {
    pub(crate) inner: Arc<dyn Device>,
    pub(crate) info: DeviceInfo,
    script: Arc<Mutex<Script>>,
}

impl Tap {
    pub(crate) fn new(inner: Arc<dyn Device>) -> Self {
        let info = inner.info().clone();
        Self {
            inner,
            info,
            script: Arc::default(),
        }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Flips one bit of a sealed buffer through the device's own calls.
    pub(crate) fn flip(&self, buffer: BufferId, offset: u64) {
        let extent = Extent {
            buffer,
            start: offset,
            len: 1,
        };
        let mut byte = [0];
        self.inner.read(extent, 0, &mut byte).unwrap();
        self.inner.protect(buffer, Protection::ReadWrite).unwrap();
        self.inner.write(extent, 0, &[byte[0] ^ 0x10]).unwrap();
        self.inner.protect(buffer, Protection::ReadOnly).unwrap();
    }
}

fn lost() -> DeviceError {
    let text = "the scenario took it away".to_owned();
    DeviceError::Lost {
        op: "check",
        code: 719,
        text,
    }
}

impl Device for Tap {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn facts(&self) -> Result<DeviceInfo, DeviceError> {
        let mut info = self.info.clone();
        if self.script().replaced {
            info.uuid = Uuid::from_bytes([7; 16]);
        }
        Ok(info)
    }

    fn memory(&self) -> Result<MemoryInfo, DeviceError> {
        let honest = self.inner.memory()?;
        let left = self.script().others_leave.unwrap_or(u64::MAX);
        Ok(MemoryInfo {
            free: honest.free.min(left),
            ..honest
        })
    }

    fn allocate(&self, len: u64) -> Result<Allocated, DeviceError> {
        let allocated = self.inner.allocate(len)?;
        self.script().live.push(allocated);
        Ok(allocated)
    }

    fn free(&self, buffer: BufferId) -> Result<(), FreeError> {
        let mut script = self.script();
        let found = script.live.iter().position(|a| a.id == buffer);
        let granted = found.map_or(0, |at| script.live.remove(at).granted);
        if std::mem::take(&mut script.fail_free) {
            return Err(FreeError {
                stranded: granted,
                source: DeviceError::NoResult { op: "scrub" },
            });
        }
        drop(script);
        self.inner.free(buffer)
    }

    fn witness(&self, buffer: BufferId) -> Result<Witness, DeviceError> {
        let honest = self.inner.witness(buffer)?;
        Ok(self.script().lie.map_or(honest, |lie| lie(honest)))
    }

    fn block_digests(
        &self,
        extent: Extent,
        blocks: Range<u64>,
        out: &mut [BlockHash],
    ) -> Result<(), DeviceError> {
        if self.script().lose_at_check {
            return Err(lost());
        }
        self.inner.block_digests(extent, blocks, out)
    }

    fn copy_to(&self, from: Extent, to: &dyn Device, dest: Extent) -> Result<(), DeviceError> {
        self.inner.copy_to(from, to, dest)?;
        if std::mem::take(&mut self.script().damage_copy) {
            let mut byte = [0];
            to.read(dest, 5000, &mut byte)?;
            to.write(dest, 5000, &[!byte[0]])?;
        }
        Ok(())
    }

    forward!(inner: protect address upload read write fill keyed_tags as_any close);
}
