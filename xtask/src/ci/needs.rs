//! What tests use where it is there, and whether it is.

use std::path::PathBuf;
use std::process::Command;

use super::Outcome;
use crate::exec::{self, answers};

/// Something that some tests need and that a machine may lack.
struct Need {
    /// A program, `root`, a command when it has options, a file by its path from the root when it
    /// has a `/`, or an `import` of Python.
    what: &'static str,
    /// How to get it.
    how: &'static str,
    /// What is not checked without it.
    lost: &'static str,
}

/// What tests use where it is there. Tests skip loudly without; the harness hides much of that,
/// so it is looked for here too.
const TEST_NEEDS: &[Need] = &[
    Need {
        what: "fsverity",
        how: "Debian package fsverity",
        lost: "digests are compared with checked-in vectors only",
    },
    Need {
        what: "tmux",
        how: "Debian package tmux",
        lost: "nothing is drawn on a terminal",
    },
    Need {
        what: "import cryptography",
        how: "pip install --require-hashes -r testdata/signed/requirements.txt",
        lost: "checkpoints, receipts and attestations are judged by our own code only",
    },
    Need {
        what: "import sigstore._internal.rekor.checkpoint, sigstore._internal.merkle",
        how: "the same file",
        lost: "checkpoints are checked by our own programs only",
    },
    Need {
        what: "import model_signing, OpenSSL",
        how: "the same file",
        lost: "no model is signed or checked with the real tool",
    },
    Need {
        what: "target/testdata/minilm/model.safetensors",
        how: "python3 testdata/fetch_real.py minilm",
        lost: "no real safetensors model is read",
    },
    Need {
        what: "target/testdata/gemma3-270m/model.gguf",
        how: "python3 testdata/fetch_real.py gemma3-270m",
        lost: "no real GGUF model is read",
    },
    Need {
        what: "setpriv",
        how: "Debian package util-linux",
        lost: "as root, no unreadable file is refused",
    },
    Need {
        what: "shellcheck",
        how: "Debian package shellcheck",
        lost: "the script for GPU machines is not linted",
    },
];

/// What the machine itself must allow; nothing that could be installed.
const MACHINE_NEEDS: &[Need] = &[
    Need {
        what: "root",
        how: "run the checks as root",
        lost: "keys and logs of another user are not refused before our eyes",
    },
    Need {
        what: "unshare --mount --map-root-user true",
        how: "allow user namespaces",
        lost: "no audit log meets a disk that turns read-only",
    },
];

/// What can be installed is a skip when it is missing; what the machine does not allow is only
/// reported.
pub(super) fn test_needs() -> Outcome {
    let (tools, machine) = (
        missing(TEST_NEEDS, is_there),
        missing(MACHINE_NEEDS, is_there),
    );
    match (tools.as_slice(), machine.as_slice()) {
        ([], []) => Outcome::Passed,
        ([], _) => Outcome::Unreachable(machine.join("; ")),
        _ => Outcome::Skipped([tools, machine].concat().join("; ")),
    }
}

fn is_there(what: &str) -> bool {
    let words: Vec<&str> = what.split(' ').collect();
    match words.as_slice() {
        ["import", ..] => {
            let kept = exec::root().join("target/ci-tools/bin/python3");
            let mut pythons = [PathBuf::from("python3"), kept].into_iter();
            pythons.any(|python| answers(Command::new(python).args(["-c", what])))
        }
        ["root"] => {
            let id = Command::new("id").arg("-u").output();
            id.is_ok_and(|id| id.stdout == b"0\n")
        }
        [file] if file.contains('/') => exec::root().join(file).is_file(),
        [program] => exec::starts(program),
        [program, options @ ..] => answers(Command::new(program).args(options)),
        [] => false,
    }
}

fn missing(needs: &[Need], found: impl Fn(&str) -> bool) -> Vec<String> {
    let missing = needs.iter().filter(|need| !found(need.what));
    missing
        .map(|Need { what, how, lost }| format!("`{what}` is not there ({how}): {lost}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_need_says_what_is_lost_and_how_to_get_it() {
        assert!(missing(TEST_NEEDS, |_| true).is_empty());
        let why = missing(TEST_NEEDS, |what| what != "fsverity").join("; ");
        assert!(
            why.contains("Debian package fsverity") && why.contains("vectors only"),
            "{why}"
        );
        assert!(!why.contains("GGUF"), "{why}");
    }

    #[test]
    fn needs_of_every_kind_are_looked_for() {
        for there in ["sh", "xtask/Cargo.toml", "sh -c true"] {
            assert!(is_there(there), "{there}");
        }
        for absent in [
            "no-such-program",
            "no/such/file",
            "sh -c false",
            "import no_such_module",
        ] {
            assert!(!is_there(absent), "{absent}");
        }
    }
}
