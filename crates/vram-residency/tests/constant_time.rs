//! A dudect-style test: Welch's t between the times of two classes of input must
//! stay small, else the time tells what was compared. Run on demand, on a quiet
//! machine; timing is no property of a build.
//!
//! `cargo test -p vram-residency --test constant_time -- --ignored --nocapture --test-threads 1`
//!
//! requirement: CI-003, SG-7, DG-3

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{Seeded, root_key};
use vram_residency::key::{KeyContext, SealKey, SealTag};

/// Timed comparisons of each test, both classes together.
const SAMPLES: usize = 1_200_000;
/// Comparisons in one sample, so that the clock's grain does not hide a difference.
const CALLS: usize = 16;
/// Above this the two classes differ for certain.
const LIMIT: f64 = 4.5;

/// Mean and squared deviations of one class, updated as samples come in.
#[derive(Default)]
struct Class {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Class {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn variance(&self) -> f64 {
        self.squares / (self.count - 1.0)
    }
}

fn welch([a, b]: &[Class; 2]) -> f64 {
    let spread = a.variance() / a.count + b.variance() / b.count;
    (a.mean - b.mean) / spread.sqrt()
}

/// Times `run` on inputs of two classes in random order; the largest |t| over
/// several cuts of the slow tail, which is interrupts and not the code.
fn largest_t<T>(inputs: &[T; 2], calls: usize, mut run: impl FnMut(&T)) -> f64 {
    let random = Seeded::new(0x7157);
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let class = (random.next() & 1) as usize;
        let input = black_box(&inputs[class]);
        let start = Instant::now();
        (0..calls).for_each(|_| run(input));
        samples.push((class, start.elapsed().as_nanos() as u64));
    }
    let mut times: Vec<u64> = samples.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    let cut = |percent: usize| times[times.len() * percent / 100 - 1];
    let t = |limit: u64| {
        let mut classes = <[Class; 2]>::default();
        let kept = samples.iter().filter(|(_, time)| *time <= limit);
        kept.for_each(|(class, time)| classes[*class].add(*time as f64));
        welch(&classes).abs()
    };
    [75, 90, 99, 100]
        .map(cut)
        .map(t)
        .into_iter()
        .fold(0.0, f64::max)
}

/// A tag, and copies of it that differ in the first and in the last byte.
fn tags(tag: &SealTag) -> [SealTag; 2] {
    [0, 31].map(|at| {
        let mut bytes = *tag.as_bytes();
        bytes[at] ^= 0x80;
        SealTag::from_bytes(bytes)
    })
}

#[test]
#[ignore = "timing: run alone with --ignored --test-threads 1 on a quiet machine"]
fn comparing_tags_takes_the_same_time_wherever_they_differ() {
    let tag = SealTag::from_bytes([0x5a; 32]);
    let t = largest_t(&tags(&tag), CALLS, |other| {
        black_box(black_box(&tag) == other);
    });
    println!("compare: |t| = {t:.2} over {SAMPLES} samples");
    assert!(t < LIMIT, "|t| = {t}");
}

#[test]
#[ignore = "timing: run alone with --ignored --test-threads 1 on a quiet machine"]
fn checking_a_tag_takes_the_same_time_wherever_it_is_wrong() {
    let context = KeyContext {
        salt: &[3; 32],
        worker: &"worker".parse().unwrap(),
        device: vram_residency::device::Uuid::from_bytes([4; 16]),
    };
    let key = root_key(1).derive(&context).unwrap();
    let statement = [7; 300];
    let tag = key.tag(&statement).unwrap();
    let t = largest_t(&tags(&tag), 1, |wrong| {
        assert!(!black_box(key.check(black_box(&statement), wrong)).unwrap());
    });
    println!("verify: |t| = {t:.2} over {SAMPLES} samples");
    assert!(t < LIMIT, "|t| = {t}");
}

/// The test itself must see a comparison that stops at the first difference.
#[test]
#[ignore = "timing: run alone with --ignored --test-threads 1 on a quiet machine"]
fn a_comparison_that_stops_early_is_noticed() {
    let tag = [0x5a_u8; 32];
    let inputs = tags(&SealTag::from_bytes(tag)).map(|tag| *tag.as_bytes());
    let t = largest_t(&inputs, CALLS, |other| {
        let same = tag
            .iter()
            .zip(other)
            .all(|(a, b)| black_box(a) == black_box(b));
        black_box(same);
    });
    println!("a leaky comparison: |t| = {t:.2}");
    assert!(t > LIMIT, "|t| = {t}");
}
