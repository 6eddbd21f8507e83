//! The example as a user runs it; what it is made of `seal_execute_verify` tests.

use std::process::Command;

/// Its exit status is evidence on a GPU machine, so it has to mean what it says.
#[test]
fn the_example_executes_and_then_refuses_the_flipped_weights() {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/matvec");
    assert!(
        program.is_file(),
        "build it first: cargo build -p vram-residency-cuda --examples"
    );
    let ended = Command::new(program).arg("sim").output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{said}");
    let begins: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        begins,
        [
            "device", "sealed", "executed", "executed", "verified", "flipped", "refused", "state"
        ]
    );
    let refused = said.lines().nth(6).unwrap();
    assert!(refused.contains("1 bad 4 KiB block(s)"), "{refused}");
    assert!(refused.contains("weight"), "{refused}");
}
