//! A machine to test on: the fake driver always, a real GPU when there is one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};

use vram_residency::device::{Device as _, DeviceKind, Extent};
use vram_residency_cuda::{Cuda, CudaDevice};

use super::fake::Fake;

/// A CUDA driver and, when it is the fake one, its controls.
pub struct Machine {
    pub cuda: Cuda,
    pub fake: Option<Fake>,
    _alone: Option<MutexGuard<'static, ()>>,
}

static GPU: Mutex<()> = Mutex::new(());
static BANNER: Once = Once::new();
static FOUND: LazyLock<Result<(Cuda, Vec<DeviceKind>), String>> = LazyLock::new(look);
static LOOKS: AtomicU64 = AtomicU64::new(0);

/// The driver that is there, and the devices that it shows.
fn look() -> Result<(Cuda, Vec<DeviceKind>), String> {
    LOOKS.fetch_add(1, Ordering::Relaxed);
    let cuda = Cuda::open().map_err(|why| why.to_string())?;
    let infos = cuda.devices().map_err(|why| why.to_string())?;
    let kinds = infos.into_iter().map(|info| info.kind).collect();
    Ok((cuda, kinds))
}

/// How often this run looked for a GPU.
pub fn looks() -> u64 {
    LOOKS.load(Ordering::Relaxed)
}

/// What runs after the fake driver.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    Real,
    /// Nothing, and a banner says so.
    Banner,
    /// Nothing, where a GPU was required.
    Fail,
}

/// By the devices that the driver shows, or that there is no driver, and whether
/// a GPU is required.
pub fn choose(shown: Option<&[DeviceKind]>, required: bool) -> Choice {
    let gpu = shown.is_some_and(|kinds| kinds.contains(&DeviceKind::Cuda));
    match (gpu, required) {
        (true, _) => Choice::Real,
        (false, false) => Choice::Banner,
        (false, true) => Choice::Fail,
    }
}

impl Machine {
    /// A pretended machine of its own, described by the fake driver's words.
    pub fn fake(options: &str) -> Self {
        test_listener::listen_for_addresses();
        // The real driver first: once a fake one is open, the loader would find
        // that under the real one's name.
        LazyLock::force(&FOUND);
        let (fake, cuda) = Fake::start(options);
        Self {
            cuda,
            fake: Some(fake),
            _alone: None,
        }
    }

    /// Like [`Self::fake`], with a driver that lacks these symbols.
    pub fn fake_without(symbols: &[&str], options: &str) -> Self {
        test_listener::listen_for_addresses();
        LazyLock::force(&FOUND);
        let (fake, cuda) = Fake::start_without(symbols, options);
        Self {
            cuda,
            fake: Some(fake),
            _alone: None,
        }
    }

    /// The real GPUs of this machine, one test at a time; a loud banner without.
    pub fn gpu() -> Option<Self> {
        test_listener::listen_for_addresses();
        let alone = GPU.lock().unwrap_or_else(PoisonError::into_inner);
        let found = FOUND.as_ref();
        let required = std::env::var("VRAM_REQUIRE_GPU").is_ok_and(|value| value == "1");
        let choice = choose(found.ok().map(|(_, kinds)| kinds.as_slice()), required);
        let why = match found {
            Ok((cuda, _)) if choice == Choice::Real => {
                return Some(Self {
                    cuda: cuda.clone(),
                    fake: None,
                    _alone: Some(alone),
                });
            }
            Ok(_) => "the CUDA driver that was found shows no GPU",
            Err(why) => why,
        };
        // Never silent.
        BANNER.call_once(|| eprint!("{}", banner(why)));
        assert_eq!(
            choice,
            Choice::Banner,
            "VRAM_REQUIRE_GPU=1 and no GPU: {why}"
        );
        None
    }

    /// The controls of a fake machine.
    pub fn fake_ctl(&self) -> &Fake {
        self.fake.as_ref().unwrap()
    }

    pub fn open(&self) -> CudaDevice {
        self.cuda.device(0).unwrap()
    }

    /// Two numbers of bytes are the same: exactly on the fake driver, where
    /// nobody else takes memory, else within [`SLACK`].
    pub fn is_about(&self, bytes: u64, expected: u64) -> bool {
        let slack = if self.fake.is_some() { 0 } else { SLACK };
        bytes.abs_diff(expected) <= slack
    }

    /// Bytes that count as a large allocation here.
    pub fn large(&self) -> u64 {
        if self.fake.is_some() {
            64 << 20
        } else {
            1 << 30
        }
    }
}

/// What is said where there is no GPU.
pub fn banner(why: &str) -> String {
    let line = "=".repeat(64);
    format!(
        "{line}\n\
         NO CUDA GPU: real VRAM was NOT tested ({why}).\n\
         Only the fake driver ran. Not verified: the real driver's FFI,\n\
         real memory, protection and timing. Run these tests on a machine\n\
         with an NVIDIA GPU; VRAM_REQUIRE_GPU=1 makes its absence a failure.\n\
         {line}\n"
    )
}

/// Runs a test on a fake machine and then on the real one.
pub fn on_each(test: impl Fn(&Machine)) {
    test(&Machine::fake("vram=1G"));
    if let Some(gpu) = Machine::gpu() {
        test(&gpu);
    }
}

/// Declares one test per name, each for every machine.
#[macro_export]
macro_rules! on_each_machine {
    ($($(#[$meta:meta])* fn $name:ident($machine:ident: &Machine) $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::common::machine::on_each(|$machine| $body);
        }
    )*};
}

/// All `len` bytes of a fresh buffer.
pub fn take(device: &CudaDevice, len: u64) -> Extent {
    let buffer = device.allocate(len).unwrap().id;
    Extent {
        buffer,
        start: 0,
        len,
    }
}

/// Repeatable bytes without a pattern that a shift could hide.
pub fn sample(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    // A plain loop: tests are built without optimisation, and ask for much.
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    test_listener::plant(&bytes);
    bytes
}

/// What free memory of a real GPU may change by through others: pools of the
/// driver's own, other processes.
const SLACK: u64 = 64 << 20;

/// Free memory is what it was.
pub fn assert_restored(machine: &Machine, device: &CudaDevice, before: u64) {
    let now = free(device);
    assert!(
        machine.is_about(now, before),
        "free was {before} and is {now}"
    );
}

/// Free bytes now.
pub fn free(device: &CudaDevice) -> u64 {
    device.memory().unwrap().free
}
