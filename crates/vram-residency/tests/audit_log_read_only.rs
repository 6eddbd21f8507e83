//! The file system of a log is remounted read-only.

mod audit_log_support;
#[path = "common/skipped.rs"]
mod skipped;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use audit_log_support::*;
use skipped::skipped;
use vram_residency::audit::Sink;

fn mount(words: &[&str], dir: &Path) {
    let status = Command::new("mount").args(words).arg(dir).status();
    assert!(status.unwrap().success(), "{words:?}");
}

/// Runs where mounts are its own: reads the directory from stdin.
#[test]
#[ignore = "the child of the test below, in a mount namespace of its own"]
fn child_on_a_disk_of_its_own() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let disk = Path::new(line.trim_end());
    mount(&["-t", "tmpfs", "none"], disk);
    let dir = disk.join("log");
    let log = open(&dir, options()).unwrap();
    (1..=5).for_each(|id| log.record(&event(id)).unwrap());
    drop(log);
    let before = read_all(&dir);
    mount(&["-o", "remount,ro"], disk);
    // Nothing can be written, and nothing is claimed; what is there is read.
    let refused = open(&dir, options()).err().unwrap().to_string();
    assert!(refused.contains("Read-only file system"), "{refused}");
    let refused = open(&disk.join("new"), options())
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert_eq!(verify(&dir).findings, []);
    assert_eq!(audit_ids(&dir), [1, 2, 3, 4, 5]);
    mount(&["-o", "remount,rw"], disk);
    assert_eq!(read_all(&dir), before);
    let log = open(&dir, options()).unwrap();
    log.record(&critical(6)).unwrap();
    drop(log);
    assert_eq!(audit_ids(&dir), [1, 2, 3, 4, 5, 6]);
    fs::write(disk.join("done"), "").unwrap();
    println!("the child is done");
}

/// requirement: AU-13
#[test]
fn a_disk_that_is_remounted_read_only_is_named_and_the_log_goes_on_after_it() {
    let temp = tempfile::tempdir().unwrap();
    let own = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user"]);
        command
    };
    let mut can = own();
    can.args(["mount", "-t", "tmpfs", "none"]).arg(temp.path());
    let can = can.stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        skipped("a disk that turns read-only: a mount namespace cannot be had here");
        return;
    }
    let mut child = own()
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_on_a_disk_of_its_own",
            "--ignored",
            "--nocapture",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", temp.path().display()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("the child is done"),
        "{said}"
    );
}
