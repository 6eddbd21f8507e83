//! Every driver call that sealing, verifying, leasing, migrating and freeing
//! make is failed at its first, second, ... last use, as out of memory, as a
//! sticky fault, and with a code that nobody knows (requirement: FF-8, MS-004,
//! TP-6).
//!
//! On the ordinary machine every use of every call fails with each of the three
//! codes. With copies in flight, without peer access and without virtual memory
//! every use fails as well: with each code where the call does something else
//! there, and with the codes in turn where the ordinary machine has seen them all.
//!
//! Each time: the error is of the right kind and has an event, nothing panics,
//! the driver holds no more than what the failing call was to give back, the
//! budget lacks exactly the bytes that the driver still holds, a lost device
//! says so without asking the driver, every other device works on, and the host
//! application's own context is current after every call.

mod common;
mod sweep;

use common::Machine;
use sweep::holdings::Holdings;
use sweep::house::play;
use sweep::judge::{judge, prepare};
use sweep::{CODES, Fault, OUT_OF_MEMORY, STICKY, Scenario, UNKNOWN};

/// The whole life of a small shard; granules are small because every case scrubs
/// them on the interpreter.
const SMALL: Scenario = Scenario {
    options: "vram=256M granularity=4K nopoison",
    hidden: &[],
    application: 2,
    bytes: 5000,
    whole_life: true,
    granule: 4096,
    anew: &[""],
    least: 700,
};

/// A shard of two slots, read by two threads, with both copies in flight: queued
/// work runs only when somebody waits for it.
const IN_FLIGHT: Scenario = Scenario {
    options: "vram=256M granularity=4K nopoison schedule=lazy",
    bytes: (2 << 20) + 5000,
    whole_life: false,
    anew: &["cuMem", "cuLaunchKernel", "cuStream"],
    least: 250,
    ..SMALL
};

/// The devices cannot reach each other, and the host application uses the very
/// context that the shard's device uses.
const WITHOUT_PEER: Scenario = Scenario {
    options: "vram=256M granularity=4K nopoison nopeer",
    application: 0,
    // What moves through the host, and rights of one device.
    anew: &[
        "cuDeviceCanAccessPeer",
        "cuMemcpy",
        "cuMemSetAccess",
        "cuStreamSynchronize",
    ],
    least: 200,
    ..SMALL
};

/// An old driver: no virtual memory.
const WITHOUT_VMM: Scenario = Scenario {
    hidden: &["cuMemCreate", "cuMemMap"],
    granule: 2 << 20,
    // What gives, copies and looks at plain memory.
    anew: &[
        "cuMemAlloc",
        "cuMemFree",
        "cuMemcpyPeer",
        "cuMemRetain",
        "cuPointer",
        "cuGetError",
    ],
    least: 200,
    ..SMALL
};

/// Plays every case of a scenario that is due with this code.
fn sweep(scenario: &Scenario, code: u32) {
    let machine = Machine::fake_without(scenario.hidden, "");
    let (fake, cuda) = (machine.fake_ctl(), &machine.cuda);
    prepare(fake, cuda, scenario);
    let before = Holdings::of(fake, scenario.granule);
    let clean = play(fake, cuda, scenario, None);
    assert!(
        clean.error.is_none() && clean.alarms().is_empty(),
        "{clean:?}"
    );
    assert_eq!(clean.stranded, [0, 0]);
    assert_eq!(Holdings::of(fake, scenario.granule), before);
    let calls = fake.trace().into_iter();
    let calls = calls.filter(|(name, _)| name.starts_with("cu"));
    let uses = calls.flat_map(|(name, count)| (1..=count).map(move |nth| (name.clone(), nth)));
    let mut met = 0;
    for (name, nth) in uses {
        // Of the use itself: the codes are swept apart, and a call more or less in one of
        // them shifts no other.
        let turn = CODES[(name.len() + nth as usize) % CODES.len()];
        if code == turn || scenario.anew.iter().any(|start| name.starts_with(start)) {
            let name = name.as_str();
            met += usize::from(judge(fake, cuda, scenario, &Fault { name, nth, code }));
        }
    }
    println!("{met} cases");
    let least = scenario.least;
    assert!(
        met >= least,
        "only {met} cases: the scenario has become empty"
    );
}

#[test]
fn every_call_may_run_out_of_memory() {
    sweep(&SMALL, OUT_OF_MEMORY);
}

// requirement: FF-7
#[test]
fn every_call_may_lose_the_device() {
    sweep(&SMALL, STICKY);
}

#[test]
fn every_call_may_fail_with_an_unknown_code() {
    sweep(&SMALL, UNKNOWN);
}

#[test]
fn copies_in_flight_may_run_out_of_memory() {
    sweep(&IN_FLIGHT, OUT_OF_MEMORY);
}

#[test]
fn copies_in_flight_may_lose_the_device() {
    sweep(&IN_FLIGHT, STICKY);
}

#[test]
fn copies_in_flight_may_fail_with_an_unknown_code() {
    sweep(&IN_FLIGHT, UNKNOWN);
}

#[test]
fn without_peer_access_every_call_may_fail() {
    for code in CODES {
        sweep(&WITHOUT_PEER, code);
    }
}

#[test]
fn without_virtual_memory_every_call_may_run_out_of_memory() {
    sweep(&WITHOUT_VMM, OUT_OF_MEMORY);
}

#[test]
fn without_virtual_memory_every_call_may_lose_the_device() {
    sweep(&WITHOUT_VMM, STICKY);
}

#[test]
fn without_virtual_memory_every_call_may_fail_with_an_unknown_code() {
    sweep(&WITHOUT_VMM, UNKNOWN);
}
