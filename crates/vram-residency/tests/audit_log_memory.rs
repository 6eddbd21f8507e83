//! Memory that the check of a log takes is bounded by the bytes that are there, whatever
//! their lines say. One test: the allocator counts the process.
//!
//! requirement: AU-10, AU-16

mod audit_log_support;

use audit_log_support::*;
use peak_alloc::PeakAlloc;
use vram_residency::audit::Sink;
use vram_residency::audit::check::{Fault, Report};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes of lines that the log's writer did not write.
const HOSTILE: usize = 4 << 20;

/// Bytes taken per byte of the log. The worst case are the shortest lines with a
/// number, while the vector of them grows.
const FACTOR: usize = 8;

/// Checks the log with these lines behind its own, as often as they fit.
fn checked(what: &str, good: &MemoryFiles, hostile: impl Fn(usize) -> String) -> (usize, Report) {
    let (mut text, mut times) = (String::new(), 0);
    while text.len() < HOSTILE {
        text.push_str(&hostile(times));
        times += 1;
    }
    let mut files = good.clone();
    append(&mut files, &text);
    drop(text);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let report = verify_files(&files);
    let peak = MEMORY.peak_usage().saturating_sub(before);
    println!("{what}: {peak} bytes for {HOSTILE}");
    assert!(peak <= FACTOR * HOSTILE, "{what}: {peak}");
    (times, report)
}

#[test]
fn hostile_lines_take_no_more_memory_than_their_bytes_allow() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=300).for_each(|id| log.record(&event(id)).unwrap());
    log.flush().unwrap();
    // As a killed writer leaves it.
    let good = read_all(&dir);
    drop(log);
    let lines = verify_files(&good).lines;
    let short = |seq: usize| format!("{{\"seq\":{seq},\"time\":\"{}\n", "0".repeat(30));

    let one = |report: &Report, count: u64| {
        let [finding] = report.findings.as_slice() else {
            panic!("{} findings", report.findings.len());
        };
        assert_eq!(finding.fault, Fault::Inserted);
        assert_eq!((finding.line, finding.count), (Some(lines + 1), count));
        assert_eq!(report.lines, lines + count);
    };
    let (times, report) = checked("empty lines", &good, |_| "\n".to_owned());
    one(&report, times as u64);
    let (times, report) = checked("in turn", &good, |_| format!("\n{}", short(7)));
    one(&report, 2 * times as u64);
    let (_, report) = checked("numbers to come", &good, |at| short(1000 + at * 2));
    let last = report.findings.last().unwrap();
    let text = "more is wrong from here on than is named";
    assert!(last.text == text && last.count > 5_000, "{last}");
    assert_eq!(report.findings.len(), (1 << 16) + 1);

    for (what, line) in [
        (
            "the same number",
            &(|_| short(7)) as &dyn Fn(usize) -> String,
        ),
        ("numbers of the log", &|at| short(at % 300)),
        ("one number after the other", &|at| short(301 + at)),
        ("longer than a line", &|_| "x".repeat(1 << 20)),
    ] {
        let (times, report) = checked(what, &good, line);
        assert!(report.lines >= lines + times as u64, "{what}");
    }
}
