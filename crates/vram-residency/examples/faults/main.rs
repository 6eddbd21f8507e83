//! The fault campaign: every class of fault that the threat model claims to
//! detect, struck many times on the simulated device, and counted.
//!
//! `cargo run --release -p vram-residency --example faults -- --trials 10000 --seed 1`
//!
//! Prints one line a class, with the median time from the fault to the answer,
//! and exits with 1 when a claimed class was missed
//! even once or a clean check raised an alarm, and with 2 when it was asked for nothing.

mod classes;
mod world;

use std::io::Write;
use std::time::Duration;

use classes::{CLASSES, Claim, Class};
use world::{Rng, World};

struct Row {
    name: &'static str,
    claim: Claim,
    trials: u64,
    noticed: u64,
    median: Duration,
}

fn main() -> std::process::ExitCode {
    let (trials, seed, only, json) = arguments();
    let wanted = |class: &&Class| only.as_ref().is_none_or(|only| class.name.contains(only));
    let chosen: Vec<&Class> = CLASSES.iter().filter(wanted).collect();
    if chosen.is_empty() || trials == 0 {
        eprintln!("nothing to strike: --trials is at least 1, and --only is a part of one of");
        CLASSES
            .iter()
            .for_each(|class| eprintln!("  {}", class.name));
        return std::process::ExitCode::from(2);
    }
    eprintln!("seed {seed}, {trials} trials a class");
    let rows = campaigns(&chosen, trials, seed);
    print_table(&rows);
    if let Some(path) = json {
        write_json(&path, seed, &rows);
    }
    let wrong = rows
        .iter()
        .filter(|row| !row.claim.holds(row.trials, row.noticed))
        .count();
    let claimed = rows
        .iter()
        .filter(|row| row.claim == Claim::Detected)
        .count();
    println!("{claimed} classes claimed, {wrong} rows contradict their claim");
    std::process::ExitCode::from(u8::from(wrong > 0))
}

fn arguments() -> (u64, u64, Option<String>, Option<String>) {
    let mut parsed = (1000, 1, None, None);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args
            .next()
            .unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--trials" => parsed.0 = value.parse().unwrap(),
            "--seed" => parsed.1 = value.parse().unwrap(),
            "--only" => parsed.2 = Some(value),
            "--json" => parsed.3 = Some(value),
            _ => panic!("unknown option {name}; known: --trials --seed --only --json"),
        }
    }
    parsed
}

/// Every class, on all cores; rows come in the classes' order.
fn campaigns(classes: &[&Class], trials: u64, seed: u64) -> Vec<Row> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let rows = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(class) = classes.get(i) else { break };
                    let row = campaign(class, trials, seed);
                    rows.lock().unwrap().push((i, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(i, _)| *i);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn campaign(class: &Class, trials: u64, seed: u64) -> Row {
    let mut noticed = 0;
    let mut times = Vec::new();
    for trial in 0..trials {
        let mut world = World::new(Rng::new(seed, class.name, trial), trial);
        let seen = (class.strike)(&mut world);
        times.push(world.struck.elapsed());
        noticed += u64::from(seen);
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Row {
        name: class.name,
        claim: class.claim,
        trials,
        noticed,
        median,
    }
}

fn print_table(rows: &[Row]) {
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>10}",
        "class", "trials", "noticed", "percent", "latency us"
    );
    for row in rows {
        let percent = row.noticed as f64 * 100.0 / row.trials.max(1) as f64;
        println!(
            "{:<44} {:>9} {:>9} {:>9.3} {:>10.1}  {}",
            row.name,
            row.trials,
            row.noticed,
            percent,
            row.median.as_secs_f64() * 1e6,
            row.claim.text(),
        );
    }
}

fn write_json(path: &str, seed: u64, rows: &[Row]) {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "class": row.name,
                "claim": row.claim.text(),
                "trials": row.trials,
                "noticed": row.noticed,
                "median_latency_ns": u64::try_from(row.median.as_nanos()).unwrap(),
                "holds": row.claim.holds(row.trials, row.noticed),
            })
        })
        .collect();
    let report = serde_json::json!({
        "schema": "vram-residency/faults/v1",
        "seed": seed,
        "classes": rows,
    });
    let mut file = std::fs::File::create(path).unwrap();
    writeln!(file, "{report:#}").unwrap();
}
