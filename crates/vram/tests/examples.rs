//! Every example of every help text is run, as it stands there, by a shell.
//! Only sizes are made small and what a reader must fill in is filled in. The
//! fake driver plays the GPUs.

mod common;

use std::process::Command;

use common::{Outcome, Session, finish, is_key, plant, search, small};
use test_listener::address_in;

/// Commands with examples.
const COMMANDS: [&str; 29] = [
    "",
    "devices",
    "doctor",
    "digest",
    "seal",
    "verify",
    "approve",
    "key",
    "key new",
    "key public",
    "key id",
    "key certify",
    "key revoke",
    "attest",
    "audit",
    "audit verify",
    "audit show",
    "audit tail",
    "audit prove",
    "audit check",
    "audit rekey",
    "inspect",
    "plan",
    "synth",
    "bench",
    "bench load",
    "bench verify",
    "completions",
    "man",
];

/// How the names of models end.
const MODELS: [&str; 2] = ["safetensors", "gguf"];

/// A directory in which every file that examples name is there.
fn furnished() -> Session {
    let session = Session::new();
    let testdata = small().parent().unwrap().to_owned();
    // The weights, behind a header that anybody may read.
    let model = std::fs::read(small()).unwrap();
    let header = u64::from_le_bytes(model[..8].try_into().unwrap());
    plant(&model[8 + usize::try_from(header).unwrap()..]);
    let copy = |from: &str, to: &str| {
        std::fs::copy(testdata.join(from), session.path(to)).unwrap();
    };
    for n in ["", "part1", "part2"] {
        let name = if n.is_empty() { "model" } else { n };
        copy("small.safetensors", &format!("{name}.safetensors"));
        copy("small.gguf", &format!("{name}.gguf"));
    }
    let index = "model.safetensors.index.json";
    copy(&format!("sharded/{index}"), index);
    for n in 1..=2 {
        let part = format!("model-0000{n}-of-00002.safetensors");
        copy(&format!("sharded/{part}"), &part);
        let part = |name| format!("{name}-0000{n}-of-00002.gguf");
        copy(&format!("split/{}", part("small")), &part("big"));
    }
    for folder in ["driver", "kept", ".zfunc", ".config/fish/completions"] {
        std::fs::create_dir_all(session.path(folder)).unwrap();
    }
    for folder in [
        ".local/share/bash-completion/completions",
        ".local/share/man/man1",
    ] {
        std::fs::create_dir_all(session.path(folder)).unwrap();
    }
    for folder in ["model", "model/tokenizer"] {
        std::fs::create_dir(session.path(folder)).unwrap();
    }
    for (from, to) in [
        ("p256.sig", "model.sig"),
        ("p256.pub", "model.pub"),
        ("chain.sig", "chain.sig"),
        ("chain-root.pem", "ca.pem"),
        ("model/config.json", "model/config.json"),
        ("model/empty.txt", "model/empty.txt"),
        ("model/tokenizer-2.json", "model/tokenizer-2.json"),
        ("model/tokenizer/vocab.txt", "model/tokenizer/vocab.txt"),
        ("model/weights.bin", "model/weights.bin"),
    ] {
        copy(&format!("signed/{from}"), to);
    }
    let driver = session.path("driver/libcuda.so.1");
    std::os::unix::fs::symlink(fake_cuda::library_path().unwrap(), driver).unwrap();
    for line in [
        "vram key new worker.key; vram key new --signing audit.key",
        "vram key public audit.key > audit.pub",
        // The fake driver is recognised: what is signed here is a test.
        "vram key new --signing --test worker.sign; vram key new --signing operator.sign",
        "vram key public worker.sign > worker.pub",
        "vram seal model.safetensors --receipt receipt.json --sign-key worker.sign",
        "vram attest model.safetensors --nonce 000102030405060708090a0b0c0d0e0f \
         --sign-key worker.sign --out answer.json",
        "vram attest model.safetensors --nonce 000102030405060708090a0b0c0d0e0f \
         --key-file worker.key --out tagged.json",
        "vram seal model.safetensors --key-file worker.key --record model.json \
         --audit log --audit-key audit.key",
        "vram seal part1.safetensors part2.safetensors --key-file worker.key --group \
         --record group.json",
        "vram attest model.safetensors --nonce 000102030405060708090a0b0c0d0e0f \
         --sign-key worker.sign --audit log --audit-key audit.key --out attestation.json",
        "cp log/checkpoint kept/",
        "vram audit prove log --line 4 --trust audit.pub --json > proof.json",
        "vram key new --signing op.sign; vram key public op.sign > op.pub",
        "vram key revoke 0f1e2d3c4b5a6978 --operator op.sign --out revoked.json",
        "vram approve model --signature model.sig --trust model.pub \
         --sign-key op.sign --out allow.toml",
        "printf \"require = 'signed'\\nallow = ['allow.toml']\\ntrust = ['%s']\\n\" \
         $(cat op.pub) > policy.toml",
    ] {
        shell(&session, line).exit(0);
    }
    session
}

/// Runs a line of a shell in the session, with `vram` and two GPUs in reach.
fn shell(session: &Session, line: &str) -> Outcome {
    let plain = session.command(&[]);
    let program = std::path::Path::new(plain.get_program());
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(session.path(""))
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        )
        .env("HOME", session.path(""))
        .env("LD_LIBRARY_PATH", session.path("driver"))
        .env("FAKE_CUDA", "reset gpus=2")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let outcome = finish(command.spawn().unwrap(), line.to_owned());
    for printed in [&outcome.out, &outcome.err] {
        assert_eq!(address_in(printed), None, "{outcome:#?}");
    }
    outcome
}

/// The lines of a help text that are examples, without what explains them.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    lines
        .map(|line| line.trim().split("  ").next().unwrap().to_owned())
        .collect()
}

/// The example as it is run, and what must be gone before.
fn filled_in(example: &str, digest: &str) -> (String, Vec<String>) {
    let mut line = example
        .replace("sha256:35b370b4...", digest)
        .replace("curl -s URL", "cat model.safetensors")
        .replace("8f0c...", "000102030405060708090a0b0c0d0e0f")
        .replace("--trust worker.pub", "--trust worker.pub --simulated")
        .replace("verify tagged.json", "verify tagged.json --simulated");
    for (large, few) in [
        ("--size-mib 1024", "--size-mib 1"),
        ("--size-mib 4096", "--size-mib 1"),
        ("--size-mib 16384", "--size-mib 1"),
        ("--size 4GiB", "--size 1MiB"),
        ("--size 512MiB", "--size 1MiB"),
        ("--runs 9", "--runs 1"),
    ] {
        line = line.replace(large, few);
    }
    if line.starts_with("vram bench") {
        if !line.contains("--size-mib") && !line.contains("bench load") {
            line = line.replacen("vram bench verify", "vram bench verify --size-mib 1", 1);
            if !line.contains("verify") {
                line = line.replacen("vram bench", "vram bench --size-mib 1", 1);
            }
        }
        if !line.contains("--runs") {
            line = line.replacen(" > ", " --runs 1 > ", 1);
            if !line.contains("--runs") {
                line.push_str(" --runs 1");
            }
        }
    }
    if line.contains("--hold") {
        line = format!("timeout --preserve-status -s INT 4 {line}");
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut gone = Vec::new();
    if line.starts_with("vram key new") {
        let file = words.last().unwrap();
        gone.push((*file).to_owned());
        if *file == "audit.key" {
            gone.push("log".to_owned());
        } else if *file == "worker.sign" {
            line = line.replace("--signing", "--signing --test");
        }
    } else if line.starts_with("vram key revoke") {
        // By another operator than whose list is there.
        line = line.replace("--operator operator.sign", "--operator op.sign");
    } else if line.starts_with("vram key certify") {
        gone.push("worker.cert".to_owned());
    } else if line.starts_with("vram approve") {
        gone.push("allow.toml".to_owned());
    } else if line.starts_with("vram synth") {
        gone.push(words[2].to_owned());
    }
    (line, gone)
}

/// `vram` as JSON and with all of its log, where a line does not choose for itself.
const TOLD: &str = "vram() { case \"$*\" in \
    *--json*) command vram \"$@\" ;; \
    *) command vram \"$@\" --json --log trace --log-format json ;; esac; }";

/// The line of an example, when nothing is in its way.
fn readied(session: &Session, example: &str, digest: &str) -> String {
    let (line, gone) = filled_in(example, digest);
    for name in gone {
        let _ = std::fs::remove_file(session.path(&name));
        let _ = std::fs::remove_dir_all(session.path(&name));
    }
    line
}

/// No record, receipt, log or other text that was left names a place in memory, and
/// no file but a key or a model holds one.
fn no_file_tells(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            no_file_tells(&path);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        if let Ok(text) = std::str::from_utf8(&bytes) {
            assert_eq!(address_in(text), None, "{}", path.display());
        }
        let is_model = path
            .extension()
            .is_some_and(|kind| MODELS.contains(&kind.to_str().unwrap()));
        if !is_model && !is_key(&path) {
            search(&path.display().to_string(), &bytes);
        }
    }
}

// requirement: WORKER-4111, MS-001
#[test]
fn every_example_of_every_help_works_and_exit_codes_are_said() {
    let mut runs = 0;
    for command in COMMANDS {
        let session = furnished();
        let help = session.vram(&format!("{command} --help")).exit(0).out;
        assert!(help.contains("Exit codes: 0 "), "{command}: {help}");
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{command}: {help}");
        let digest = shell(&session, "vram digest model.safetensors").exit(0).out;
        let digest = digest.split_whitespace().next().unwrap();
        if command == "bench load" {
            std::fs::remove_file(session.path("model.safetensors")).unwrap();
        } else if command == "bench" {
            let big = "rm model.safetensors; vram synth model.safetensors --size 1MiB";
            shell(&session, big).exit(0);
        }
        for example in &examples {
            let line = readied(&session, example, digest);
            let outcome = shell(&session, &line);
            runs += 1;
            if line.starts_with("vram doctor") {
                // Whether this machine is fine is not the example's fault.
                assert!(!outcome.out.is_empty(), "{outcome:#?}");
                continue;
            }
            let _ = outcome.exit(if line.contains("flip=") { 3 } else { 0 });
        }
        // Once more, and everything is told.
        for example in &examples {
            let line = readied(&session, example, digest);
            let told = format!("{TOLD}; {line}");
            let outcome = shell(&session, &told);
            assert!(!outcome.err.contains("Usage:"), "{outcome:#?}");
        }
        session.plant_keys();
        no_file_tells(&session.path(""));
    }
    assert!(runs > 40, "{runs} examples were found");
}
