//! Two devices under one manager, and a shard's life there.

use std::collections::BTreeMap;
use std::sync::Arc;

use vram_residency::audit::{Body, Event, MemorySink, Severity, Sink};
use vram_residency::capacity::Sharing;
use vram_residency::device::{Device, DeviceError};
use vram_residency::key::RootKey;
use vram_residency::policy::Policy;
use vram_residency::{Error, Mode, Result, SealRequest, SealedShard, VramManager};
use vram_residency_cuda::{Cuda, CudaDevice, FinishAfter as _};

use super::holdings::{Holdings, WORKERS, broken, stack};
use super::{Fault, Scenario};
use crate::common::fake::Fake;

/// How far a run got before its first error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Open,
    /// Sealing, verifying, leasing, moving and freeing: the manager's work.
    Manager,
    /// The caller's own use of a device: an event, an export.
    Device,
}

/// What one run came to.
#[derive(Debug)]
pub struct Run {
    pub error: Option<(Stage, Error)>,
    /// Bytes that the ledgers, or errors outside them, count as stranded.
    pub stranded: [u64; WORKERS],
    /// What the driver held before the devices were closed.
    pub open_holdings: Option<Holdings>,
    /// Devices whose context broke before they were closed.
    pub broken: Vec<u64>,
    pub events: Vec<Event>,
    /// Uses of each call when the devices had been opened, and before they were
    /// closed.
    pub opened: BTreeMap<String, u64>,
    pub worked: BTreeMap<String, u64>,
}

impl Run {
    /// Events that tell of a failure.
    pub fn alarms(&self) -> Vec<String> {
        let events = self.events.iter();
        let alarms = events.filter(|event| event.body.severity() != Severity::Info);
        alarms.map(|event| event.body.event_type()).collect()
    }

    /// Devices whose loss was recorded.
    pub fn lost(&self) -> Vec<u32> {
        let lost = |event: &Event| match event.body {
            Body::DeviceLost { gpu_device, .. } => Some(gpu_device),
            _ => None,
        };
        self.events.iter().filter_map(lost).collect()
    }

    /// Bytes that events call stranded.
    pub fn told_stranded(&self) -> u64 {
        let told = |event: &Event| match event.body {
            Body::VramStranded { stranded_bytes, .. } => stranded_bytes,
            _ => 0,
        };
        self.events.iter().map(told).sum()
    }
}

struct House {
    manager: VramManager,
    first: Arc<CudaDevice>,
    sink: Arc<MemorySink>,
    /// Bytes of the caller's own that could not be freed.
    stranded: u64,
}

fn open(cuda: &Cuda, policy: Policy) -> Result<House> {
    let first = Arc::new(cuda.device(0)?);
    let second = Arc::new(cuda.device(1)?);
    let sink = Arc::new(MemorySink::new());
    let shared = Arc::clone(&first) as Arc<dyn Device>;
    let manager = VramManager::builder()
        .device_with(shared, None, Sharing::Dedicated)
        .device_with(second as Arc<dyn Device>, None, Sharing::Dedicated)
        .policy(policy)
        .key(RootKey::from_token(&test_listener::secret())?)
        .sink(Arc::clone(&sink) as Arc<dyn Sink>)
        .build()?;
    Ok(House {
        manager,
        first,
        sink,
        stranded: 0,
    })
}

/// An error, and where it came from.
type Staged = std::result::Result<(), (Stage, Error)>;

impl House {
    /// Lives a shard's life up to its freeing; `held` keeps what must be freed.
    fn live(&mut self, whole: bool, bytes: &[u8], held: &mut Option<SealedShard>) -> Staged {
        let at = |error| (Stage::Manager, error);
        let manager = &self.manager;
        let shard = held.insert(manager.seal(SealRequest::bytes(bytes)).map_err(at)?);
        if !whole {
            return Ok(());
        }
        let _ = manager.verify_sealed(shard, Mode::Full).map_err(at)?;
        let _ = manager.verify_sealed(shard, Mode::Keyed).map_err(at)?;
        let lease = manager.lease(shard, Mode::Full).map_err(at)?;
        let outside = |error: DeviceError| (Stage::Device, error.into());
        let event = self.first.event().map_err(outside)?;
        let finished = lease.finish_after(&event);
        finished.map_err(|failed| outside(failed.source))?;
        drop(event);
        let moved = manager.migrate_shard(shard, 1).map_err(at)?;
        let moved = held.insert(moved);
        let _ = manager.verify_sealed(moved, Mode::Full).map_err(at)?;
        self.share().map_err(outside)
    }

    /// Exports memory of the caller's own to another process that never comes.
    fn share(&mut self) -> std::result::Result<(), DeviceError> {
        if !self.first.can_export() {
            return Ok(());
        }
        let buffer = self.first.allocate(4096)?.id;
        let exported = self.first.export_fd(buffer).map(drop);
        let freed = self.first.free(buffer).map_err(|failed| {
            self.stranded += failed.stranded;
            failed.source
        });
        exported.and(freed)
    }

    /// After a fault: a device that is lost says so without asking the driver,
    /// and every other one does the whole of its work.
    fn aftermath(&self, fake: &Fake, at: &Fault<'_>) {
        for ordinal in 0..2 {
            let before = fake.trace();
            let request = SealRequest::bytes(b"weights").device(ordinal);
            let sealed = self.manager.seal(request);
            let lost = self.sink.events().into_iter().any(
                |event| matches!(event.body, Body::DeviceLost { gpu_device, .. } if gpu_device == ordinal),
            );
            match sealed {
                Ok(shard) => {
                    assert!(!lost, "{at:?}: device {ordinal} is lost and was used");
                    let checked = self.manager.verify_sealed(&shard, Mode::Full);
                    assert!(checked.is_ok(), "{at:?}: {checked:?}");
                    let freed = self.manager.deallocate(&shard);
                    assert!(freed.is_ok(), "{at:?}: {freed:?}");
                }
                Err(error) => {
                    assert!(lost, "{at:?}: device {ordinal} is not usable: {error}");
                    let told = matches!(&error, Error::Device(source) if source.is_loss());
                    assert!(told, "{at:?}: {error}");
                    let again = self.manager.seal(SealRequest::bytes(b"w").device(ordinal));
                    assert!(again.is_err(), "{at:?}: the loss was forgotten");
                    // The first attempt may be the one that met the loss.
                    if self.latched_before(ordinal, &before, fake) {
                        assert_eq!(fake.trace(), before, "{at:?}: a lost device was asked");
                    }
                }
            }
        }
    }

    /// Asked once more, a lost device makes no call at all.
    fn latched_before(&self, ordinal: u32, before: &[(String, u64)], fake: &Fake) -> bool {
        let now = fake.trace();
        let _ = self.manager.seal(SealRequest::bytes(b"w").device(ordinal));
        assert_eq!(fake.trace(), now, "device {ordinal} was asked again");
        before == now
    }

    fn stranded(&self) -> [u64; WORKERS] {
        let mut stranded = [self.stranded, 0];
        for (ordinal, sum) in (0..).zip(&mut stranded) {
            let capacity = self.manager.capacity(ordinal).unwrap();
            let all = capacity.used + capacity.free + capacity.stranded;
            assert_eq!(all, capacity.total);
            assert_eq!(capacity.used, 0, "the budget is not restored: {capacity:?}");
            *sum += capacity.stranded;
        }
        stranded
    }
}

/// Plays the scenario; the first error ends the work, and freeing follows.
pub fn play(fake: &Fake, cuda: &Cuda, scenario: &Scenario, fault: Option<&Fault<'_>>) -> Run {
    let bytes = crate::common::sample(scenario.bytes, 1);
    let application = stack(fake);
    let mut run = Run {
        error: None,
        stranded: [0; WORKERS],
        open_holdings: None,
        broken: Vec::new(),
        events: Vec::new(),
        opened: BTreeMap::new(),
        worked: BTreeMap::new(),
    };
    let policy = Policy {
        require_read_only: scenario.hidden.is_empty(),
        ..Policy::default()
    };
    let opened = open(cuda, policy);
    assert_eq!(stack(fake), application, "opening: {fault:?}");
    let mut house = match opened {
        Ok(house) => house,
        Err(error) => {
            run.error = Some((Stage::Open, error));
            run.broken = broken(fake);
            return run;
        }
    };
    run.opened = fake.trace().into_iter().collect();
    let mut held = None;
    let lived = house.live(scenario.whole_life, &bytes, &mut held);
    assert_eq!(stack(fake), application, "working: {fault:?}");
    let freed = held.map_or(Ok(()), |shard| house.manager.deallocate(&shard));
    assert_eq!(stack(fake), application, "freeing: {fault:?}");
    run.error = lived
        .and(freed.map_err(|error| (Stage::Manager, error)))
        .err();
    run.worked = fake.trace().into_iter().collect();
    run.broken = broken(fake);
    let uses = |name: &str| run.worked.get(name).copied().unwrap_or(0);
    if let Some(fault) = fault.filter(|fault| uses(fault.name) >= fault.nth) {
        fake.tell("clear");
        house.aftermath(fake, fault);
    }
    run.stranded = house.stranded();
    run.open_holdings = Some(Holdings::of(fake, scenario.granule));
    run.events = house.sink.events();
    drop(house);
    assert_eq!(stack(fake), application, "closing: {fault:?}");
    run
}
