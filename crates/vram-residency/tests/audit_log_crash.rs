//! A writer that is killed at any moment loses nothing that it acknowledged.

mod audit_log_support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use audit_log_support::*;
use vram_residency::audit::Sink;

const SEED: u64 = 4160;

/// The process that is killed: reads the directory and its first event's
/// number from stdin, writes as fast as it can, and says which critical events
/// are acknowledged.
#[test]
#[ignore = "the child of the crash tests, not a test of its own"]
fn child_writer() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let (dir, first) = line.trim_end().rsplit_once(' ').unwrap();
    let mut fast = options();
    (fast.segment_bytes, fast.interval) = (200_000, Duration::from_millis(3));
    let log = open(Path::new(dir), fast).unwrap();
    let mut out = std::io::stdout().lock();
    for id in first.parse::<u64>().unwrap().. {
        if id % 50 == 0 {
            log.record(&critical(id)).unwrap();
            writeln!(out, "ack {id}").unwrap();
            out.flush().unwrap();
        } else {
            log.record(&event(id)).unwrap();
        }
    }
}

/// Starts a child, kills it after a random time, and returns the last critical
/// event that it said was acknowledged.
fn killed_child(dir: &Path, first: u64, random: &mut Seeded) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writer", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{} {first}", dir.display()).unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acks = lines.map_while(Result::ok).filter_map(|line| {
        // The test harness writes its own words before the first line.
        let at = line.find("ack ")?;
        line[at + 4..].parse::<u64>().ok()
    });
    // One in four may still be opening the log; the others are at work.
    let begun = if random.below(4) > 0 {
        acks.next()
    } else {
        None
    };
    std::thread::sleep(Duration::from_micros(random.below(40_000) as u64));
    child.kill().unwrap();
    let last = acks.last().or(begun);
    child.wait().unwrap();
    last
}

fn kill_again_and_again(times: usize) {
    println!("seed {SEED}, {times} kills");
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let (mut random, mut first, mut acknowledged) = (Seeded(SEED), 1, Vec::new());
    let (mut killed_at_work, mut torn) = (0, 0);
    for kill in 0..times {
        let last = killed_child(&dir, first, &mut random);
        // What is there verifies as it was left, and again after recovery.
        if dir.join("checkpoint").exists() {
            let left = verify(&dir);
            assert_eq!(left.findings, [], "after kill {kill}");
            torn += usize::from(left.torn_bytes > 0 || left.uncovered > 0);
        }
        drop(open(&dir, options()).unwrap());
        let report = verify(&dir);
        assert_eq!(
            (report.findings, report.uncovered),
            (Vec::new(), 0),
            "kill {kill}"
        );
        let ids = audit_ids(&dir);
        if let Some(last) = last {
            killed_at_work += 1;
            acknowledged.extend((first..=last).filter(|id| id % 50 == 0));
            // Plain events before an acknowledged one are there too: no holes.
            let round = ids.iter().filter(|id| (first..=last).contains(*id));
            assert_eq!(round.count() as u64, last - first + 1, "kill {kill}");
        }
        let there: std::collections::HashSet<_> = ids.iter().collect();
        let missing = acknowledged.iter().find(|id| !there.contains(id));
        assert_eq!(missing, None, "kill {kill}");
        first = ids.iter().max().map_or(1, |max| max + 1);
        if kill % 20 == 19 {
            // A log of its own now and then, or checking it would take the day.
            std::fs::remove_dir_all(&dir).unwrap();
            (first, acknowledged) = (1, Vec::new());
        }
    }
    println!("{killed_at_work} killed at work, {torn} left lines after a checkpoint");
    assert!(killed_at_work > times / 2, "the kills come too early");
}

// requirement: AU-12, AU-15
#[test]
fn fifty_kills_lose_no_acknowledged_event() {
    kill_again_and_again(50);
}

#[test]
#[ignore = "takes minutes; cargo xtask kills"]
fn a_thousand_kills_lose_no_acknowledged_event() {
    kill_again_and_again(1000);
}
