//! What the tests run on is decided by what was found, once a run.

mod common;

use common::Machine;
use common::machine::{Choice, banner, choose, looks, on_each};
use vram_residency::device::DeviceKind::{Cuda, Simulated};

// requirement: DM-3, DM-5, DM-10
#[test]
fn a_table_says_what_runs() {
    for (shown, required, expected) in [
        (Some(&[Cuda][..]), false, Choice::Real),
        (Some(&[Cuda]), true, Choice::Real),
        (Some(&[Simulated, Cuda]), false, Choice::Real),
        // The fake driver under the real one's name is no GPU.
        (Some(&[Simulated]), false, Choice::Banner),
        (Some(&[Simulated]), true, Choice::Fail),
        (Some(&[]), false, Choice::Banner),
        (Some(&[]), true, Choice::Fail),
        (None, false, Choice::Banner),
        (None, true, Choice::Fail),
    ] {
        let chosen = choose(shown, required);
        assert_eq!(chosen, expected, "{shown:?}, required: {required}");
    }
}

/// What it is run on is seen in the order in which it is run.
// requirement: TP-8, DM-1, DM-3
#[test]
fn a_test_runs_on_a_fake_machine_and_then_on_each_gpu_that_is_there() {
    let seen = std::cell::RefCell::new(Vec::new());
    on_each(|machine| {
        let shown = machine.cuda.devices().unwrap();
        seen.borrow_mut()
            .extend(shown.first().map(|info| info.kind));
    });
    let expected = match Machine::gpu() {
        Some(_) => vec![Simulated, Cuda],
        None => vec![Simulated],
    };
    assert_eq!(seen.into_inner(), expected);
}

// requirement: DM-2, DM-10
#[test]
fn a_gpu_is_looked_for_once_and_a_fake_machine_is_never_one() {
    for _ in 0..3 {
        let machine = Machine::fake("vram=64M");
        let kinds: Vec<_> = machine.cuda.devices().unwrap();
        assert!(kinds.iter().all(|info| info.kind == Simulated));
        assert!(machine.fake.is_some());
        if let Some(gpu) = Machine::gpu() {
            assert!(gpu.fake.is_none());
        }
    }
    assert_eq!(looks(), 1);
}

// requirement: DM-4, DM-9
#[test]
fn the_banner_says_what_was_not_verified_and_what_to_do() {
    let text = banner("no driver");
    for words in ["NO CUDA GPU", "no driver", "FFI", "VRAM_REQUIRE_GPU=1"] {
        assert!(text.contains(words), "{words}");
    }
}
