//! Constructors that promise a GPU, and leases that end with device work.

mod common;

use std::sync::Arc;

use common::{Machine, sample};
use vram_residency::audit::{MemorySink, Severity, Sink};
use vram_residency::device::{Device, DeviceError};
use vram_residency::key::RootKey;
use vram_residency::{Error, Mode, SealRequest, VramManager};
use vram_residency_cuda::{FinishAfter as _, HardwareConstructors as _};

const TOKEN: &[u8] = b"a worker token of thirty-two bytes or more";

// requirement: API-F4, API-F5, API-F6, API-F7, POL-6, DM-11
#[test]
fn they_work_on_a_gpu_and_never_yield_a_simulator() {
    let sink: Arc<dyn Sink> = Arc::new(MemorySink::new());
    let made = [
        VramManager::from_gpu_device(0),
        VramManager::new_with_token(TOKEN, 0),
        VramManager::new_production(TOKEN, 0, "worker-1", sink),
    ];
    let gpu = Machine::gpu().is_some();
    for manager in made {
        match manager {
            Ok(manager) => {
                assert!(gpu, "a manager without a GPU");
                assert_eq!(manager.devices().len(), 1);
            }
            Err(Error::Device(DeviceError::Unavailable { reason })) => {
                let told = reason.contains("libcuda") || reason.contains("simulated device");
                assert!(!gpu && told, "{reason}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    let short = VramManager::new_with_token(b"short", 0).map(|_| ());
    assert!(matches!(short, Err(Error::Key(_))), "{short:?}");
}

// requirement: AU-7, POL-3
#[test]
fn a_production_start_that_comes_to_nothing_is_recorded() {
    let start = |token: &[u8]| {
        let sink = Arc::new(MemorySink::new());
        let same: Arc<dyn Sink> = sink.clone();
        // No machine has this GPU.
        let made = VramManager::new_production(token, 4000, "worker-1", same);
        assert!(made.is_err());
        sink.events()
    };
    let events = start(TOKEN);
    let [event] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(event.severity, Severity::Critical);
    assert_eq!(event.worker_id.as_str(), "worker-1");
    let event = serde_json::to_value(event).unwrap();
    assert_eq!(event["event_type"], "policy.violation");
    assert_eq!(event["policy"], "vram_only");
    assert_eq!(event["action_taken"], "worker_startup_blocked");
    let events = start(b"short");
    let [event] = &events[..] else {
        panic!("{events:?}")
    };
    let event = serde_json::to_value(event).unwrap();
    assert_eq!(event["event_type"], "operation.failed");
    assert_eq!(event["code"], "AUTH_FAILED");
}

// requirement: MS-001
#[test]
fn a_lease_whose_work_failed_comes_back() {
    let machine = Machine::fake("vram=256M");
    let device = Arc::new(machine.open());
    let manager = VramManager::builder()
        .device_with(
            Arc::clone(&device) as Arc<dyn Device>,
            None,
            vram_residency::capacity::Sharing::Dedicated,
        )
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .build()
        .unwrap();
    let shard = manager
        .seal(SealRequest::bytes(&sample(50_000, 1)))
        .unwrap();
    let event = device.event().unwrap();
    assert!(event.is_done().unwrap(), "nothing was recorded yet");
    let lease = manager.lease(&shard, Mode::Full).unwrap();
    machine.fake_ctl().tell("fail cuEventSynchronize 1 719");
    let failed = lease.finish_after(&event).unwrap_err();
    assert!(failed.source.is_loss(), "{failed}");
    assert_eq!(shard.leases(), 1, "the memory is still held");
    drop(failed);
    assert_eq!(shard.leases(), 0);
    let lease = manager.lease(&shard, Mode::TagOnly).unwrap();
    lease.finish_after(&event).unwrap();
    manager.deallocate(&shard).unwrap();
}
