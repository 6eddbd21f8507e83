//! `vram inspect` and `vram synth`.

mod common;

use std::process::{Child, Stdio};

use common::{Session, finish, signal, skipped, small};
use rustix::process::Signal;

#[test]
fn a_synthetic_model_is_repeatable_and_seals() {
    let session = Session::new();
    for name in ["a.safetensors", "a.gguf"] {
        session
            .vram(&format!("synth {name} --size 1MiB --seed 7"))
            .exit(0)
            .quiet()
            .says(&format!("{name}: 1048576 bytes (1.0 MiB), "));
        let twin = format!("twin-{name}");
        session
            .vram(&format!("synth {twin} --size 1MiB --seed 7"))
            .exit(0);
        let read = |name: &str| std::fs::read(session.path(name)).unwrap();
        assert!(read(name) == read(&twin), "{name} is not repeatable");
        session
            .vram(&format!("seal {name} --device sim:2MiB"))
            .exit(0);
        session
            .vram(&format!("synth {name} --size 1MiB"))
            .exit(1)
            .tells("cannot make")
            .tells("name a new file");
    }
    // Its own name says what it is to every other command, too.
    session.vram("synth LOUD.GGUF --size 1MiB").exit(0);
    session.vram("inspect LOUD.GGUF").exit(0).says("GGUF, ");
    let report = session.vram("synth b.gguf --size 1MiB --json").exit(0);
    assert_eq!(report.json("vram-residency/synth/v1")["bytes"], 1_048_576);
}

#[test]
fn what_cannot_be_written_leaves_no_file() {
    let session = Session::new();
    session
        .vram("synth a.gguf --size 1KiB")
        .exit(1)
        .refuses("size is 1024 bytes");
    assert!(!session.path("a.gguf").exists());
    session
        .vram("synth a.bin --size 1MiB")
        .exit(2)
        .refuses("does not say what to write");
    session
        .vram("synth a.gguf --size 1MB")
        .exit(2)
        .refuses("is not a size");
    session
        .vram("synth a.gguf --size 1MiB --like gpt")
        .exit(2)
        .refuses("unknown model family");
}

#[test]
fn the_length_of_a_synthetic_model_is_rounded_down_as_help_says() {
    let session = Session::new();
    for (name, bytes) in [("a.gguf", 1_000_000), ("a.safetensors", 1_000_024)] {
        session
            .vram(&format!("synth {name} --size {}", bytes + 7))
            .exit(0)
            .says(&format!("{name}: {bytes} bytes"));
    }
    session.vram("synth --help").exit(0).says("rounded down");
}

/// Names in the session's directory.
fn names(session: &Session) -> Vec<String> {
    let entries = std::fs::read_dir(session.path("")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect()
}

#[test]
fn an_interrupted_or_limited_synthetic_model_leaves_nothing() {
    for sent in [Signal::INT, Signal::TERM] {
        let session = Session::new();
        let words = ["synth", "a.safetensors", "--size", "2GiB"];
        let child = session.command(&words).spawn().unwrap();
        let _ = begun(&session, &child);
        signal(&child, sent);
        finish(child, words.join(" "))
            .exit(1)
            .refuses("making a.safetensors was cancelled");
        assert_eq!(names(&session), [""; 0]);
    }
    let session = Session::new();
    let vram = env!("CARGO_BIN_EXE_vram");
    let line = format!("ulimit -f 1024; exec {vram} synth a.safetensors --size 8MiB");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &line]).current_dir(session.path(""));
    shell.stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(shell.spawn().unwrap(), line)
        .exit(1)
        .refuses("a.safetensors: cannot write the model after ");
    assert_eq!(names(&session), [""; 0]);
}

/// Waits until the command writes its file in the session's directory; true
/// when that has no name. Whole it is not yet.
fn begun(session: &Session, child: &Child) -> bool {
    let open = format!("/proc/{}/fd", child.id());
    let nameless = |entry: std::io::Result<std::fs::DirEntry>| {
        let target = std::fs::read_link(entry.ok()?.path()).ok()?;
        let deleted = target.to_string_lossy().ends_with(" (deleted)");
        (deleted && target.starts_with(session.path(""))).then_some(())
    };
    loop {
        let found = std::fs::read_dir(&open)
            .unwrap()
            .any(|e| nameless(e).is_some());
        let names = names(session);
        assert_ne!(
            names,
            ["a.safetensors"],
            "it was whole before it could be stopped"
        );
        if found || !names.is_empty() {
            return found;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_synthetic_model_leaves_nothing() {
    let session = Session::new();
    let words = ["synth", "a.safetensors", "--size", "2GiB"];
    let mut child = session.command(&words).spawn().unwrap();
    let nameless = begun(&session, &child);
    child.kill().unwrap();
    let _ = child.wait().unwrap();
    if nameless {
        assert_eq!(names(&session), [""; 0]);
    } else {
        skipped("this file system has no files without a name");
    }
}

#[test]
fn inspect_lists_every_tensor() {
    let session = Session::new();
    let model = small();
    let outcome = session
        .vram_words(&["inspect", model.to_str().unwrap()])
        .exit(0)
        .quiet();
    let outcome =
        outcome.says("small.safetensors: safetensors, 65249 bytes (63.7 KiB), 32 tensors");
    assert!(outcome.out.contains(" model.embed_tokens.weight\n"));
    let outcome = session
        .vram_words(&["inspect", model.to_str().unwrap(), "--json"])
        .exit(0);
    let report = outcome.json("vram-residency/inspect/v1");
    let tensors = report["files"][0]["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 32);
    let end = |tensor: &serde_json::Value| {
        tensor["offset"].as_u64().unwrap() + tensor["bytes"].as_u64().unwrap()
    };
    assert_eq!(tensors.iter().map(end).max(), Some(65_249));
}

#[test]
fn inspect_follows_an_index_and_refuses_what_is_no_model() {
    let session = Session::new();
    let index = small()
        .with_file_name("sharded")
        .join("model.safetensors.index.json");
    let outcome = session
        .vram_words(&["inspect", index.to_str().unwrap(), "--json"])
        .exit(0);
    let report = outcome.json("vram-residency/inspect/v1");
    assert_eq!(report["files"].as_array().unwrap().len(), 2);
    session.write("lie.safetensors", "this is no model at all");
    session
        .vram("inspect lie.safetensors")
        .exit(1)
        .refuses("lie.safetensors: ");
    session
        .vram("inspect missing.gguf")
        .exit(1)
        .refuses("missing.gguf");
}

/// A copy of the small split model, of which `names` are there.
fn split(session: &Session, names: [&str; 2]) {
    for (number, name) in (1..).zip(names) {
        let from = small().with_file_name("split");
        let from = from.join(format!("small-0000{number}-of-00002.gguf"));
        std::fs::copy(from, session.path(name)).unwrap();
    }
}

// requirement: PM-1
#[test]
fn any_part_of_a_split_gguf_stands_for_all_of_it() {
    let session = Session::new();
    let names = ["small-00001-of-00002.gguf", "small-00002-of-00002.gguf"];
    split(&session, names);
    for name in names {
        let sealed = session.vram(&format!("seal {name} --device sim")).exit(0);
        let sealed = sealed.quiet().says(" of 2 shards\n");
        assert!(
            names.iter().all(|name| sealed.out.contains(name)),
            "{sealed:?}"
        );
    }
    // One part alone is sealed by who says so, and by nobody else.
    session
        .vram(&format!("seal {} --device sim --format raw", names[0]))
        .exit(0)
        .says("1472 bytes (1.4 KiB), 0 tensors");
    session
        .vram(&format!("seal {} --device sim --id one", names[0]))
        .exit(2)
        .refuses("--id is about one file, this model has several");
    std::fs::remove_file(session.path(names[1])).unwrap();
    session
        .vram(&format!("seal {} --device sim", names[0]))
        .exit(1)
        .refuses(names[1])
        .tells("--format raw seals this part alone");
}

// requirement: VA-10
#[test]
fn a_part_whose_split_contradicts_itself_is_not_sealed_alone() {
    let session = Session::new();
    let names = ["small-00001-of-00002.gguf", "small-00002-of-00002.gguf"];
    split(&session, names);
    // The first part says that it is number 7 of 2.
    let path = session.path(names[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    let key = b"split.no";
    let at = bytes.windows(key.len()).position(|bytes| bytes == key);
    // The key, the kind of value, the value.
    bytes[at.unwrap() + key.len() + 4] = 7;
    std::fs::write(&path, bytes).unwrap();
    session
        .vram(&format!("seal {} --device sim", names[0]))
        .exit(1)
        .refuses(names[0])
        .tells("--format raw seals this part alone");
}

// requirement: DG-4
#[test]
fn a_directory_of_one_file_takes_what_is_said_about_one_file() {
    let session = Session::new();
    let bytes = std::fs::read(small()).unwrap();
    std::fs::create_dir(session.path("dir")).unwrap();
    std::fs::write(session.path("dir/model.safetensors"), &bytes).unwrap();
    let digest = vram_digest::digest(&bytes);
    let seal = |words: &str| session.vram(&format!("seal dir --device sim {words}"));
    seal(&format!("--expect sha256:{digest} --id one"))
        .exit(0)
        .says("shard     one\n");
    let sum = session
        .vram("digest --content dir/model.safetensors")
        .exit(0);
    let mut words = sum.out.split_whitespace();
    let sum = words.find_map(|word| word.strip_prefix("content-sha256:"));
    let sum = sum.unwrap();
    seal(&format!("--expect-content {sum}")).exit(0).says(sum);
    let zeros = "0".repeat(64);
    seal(&format!("--expect {zeros}")).exit(3);
    seal(&format!("--expect-content {zeros}")).exit(3);
}

// requirement: VA-10
#[test]
fn limits_are_raised_and_lowered() {
    let session = Session::new();
    std::fs::copy(small(), session.path("a.safetensors")).unwrap();
    for command in [
        "seal a.safetensors --device sim",
        "inspect a.safetensors",
        "plan a.safetensors --device sim",
    ] {
        session
            .vram(&format!("{command} --limit tensors=31"))
            .exit(1)
            .tells("number of tensors is 32, over the limit of 31");
        session
            .vram(&format!("{command} --limit tensors=32"))
            .exit(0);
    }
    session
        .vram("seal a.safetensors --device sim --limit tensors=31")
        .exit(1)
        .tells("--limit tensors=N, 32 or more here; --format raw seals the bytes");
    session
        .vram("inspect a.safetensors --limit table_bytes=1")
        .exit(1)
        .tells("(table_bytes)")
        .tells("--limit table_bytes=N");
    // The limit of a part is the limit of the model.
    let sharded = small().with_file_name("sharded");
    let words = ["seal", sharded.to_str().unwrap(), "--device", "sim"];
    session
        .vram_words(&[&words[..], &["--limit", "tensors=1"]].concat())
        .exit(1);
    // Files beyond 100 GiB: the policy follows.
    let file = std::fs::File::create(session.path("large")).unwrap();
    file.set_len(150 << 30).unwrap();
    let seal = "seal large --format raw --device sim:160GiB,discard --timeout 20ms";
    session
        .vram(seal)
        .exit(1)
        .refuses("the limits are 1 and 107374182400");
    session
        .vram(&format!("{seal} --limit file_bytes=150GiB"))
        .exit(1)
        .refuses("did not finish before its deadline");
    session
        .vram("seal a.safetensors --device sim --limit nothing=1")
        .exit(2)
        .refuses("there is no limit 'nothing'");
}

// requirement: VA-10, PF-11
#[test]
fn the_tables_of_all_files_of_a_command_have_one_bound() {
    let session = Session::new();
    let files = [small(), small().with_file_name("small.gguf")];
    let memory = |file: &std::path::PathBuf| {
        let model = vram_residency::load::Model::open(file).unwrap();
        model.parts()[0].tensors().memory()
    };
    let all: u64 = files.iter().map(memory).sum();
    let [one, two] = files.each_ref().map(|file| file.to_str().unwrap());
    for more in ["", "--group", "--device sim:1GiB,ordinal=1"] {
        let seal = |bound: u64| {
            session.vram(&format!(
                "seal {one} {two} --device sim {more} --limit table_bytes={bound}"
            ))
        };
        seal(all).exit(0);
        seal(all - 1)
            .exit(1)
            .refuses("small.gguf")
            .tells("--limit table_bytes=N");
    }
}

#[test]
fn a_format_is_not_ignored_for_an_index_or_a_directory() {
    let session = Session::new();
    let sharded = small().with_file_name("sharded");
    let index = sharded.join("model.safetensors.index.json");
    for model in [sharded, index] {
        let words = ["seal", model.to_str().unwrap(), "--device", "sim"];
        let refused = session.vram_words(&[&words[..], &["--format", "raw"]].concat());
        refused.exit(2).refuses("--format is about one file");
        session.vram_words(&words).exit(0);
    }
}

#[test]
fn an_index_or_a_directory_is_no_file_of_several() {
    let session = Session::new();
    session.file("other", 5000);
    let sharded = small().with_file_name("sharded");
    let index = sharded.join("model.safetensors.index.json");
    for model in [sharded, index] {
        let model = model.to_str().unwrap();
        for files in [[model, "other"], ["other", model]] {
            for more in [&[][..], &["--group"], &["--format", "raw"]] {
                let words = [&["seal"], &files[..], &["--device", "sim"], more].concat();
                let refused = session.vram_words(&words).exit(2);
                refused
                    .refuses("stands for several files")
                    .tells("seal it by itself");
            }
        }
    }
}

#[test]
fn a_flip_is_held_against_the_longest_file_of_a_model() {
    let session = Session::new();
    split(
        &session,
        ["small-00001-of-00002.gguf", "small-00002-of-00002.gguf"],
    );
    let sharded = small().with_file_name("sharded");
    let index = sharded.join("model.safetensors.index.json");
    let models = [
        session.path("small-00001-of-00002.gguf"),
        session.path("small-00002-of-00002.gguf"),
        index,
        sharded,
    ];
    for model in models {
        let dir = if model.is_dir() {
            model.as_path()
        } else {
            model.parent().unwrap()
        };
        let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        let weights =
            entries.filter(|entry| !entry.path().ends_with("model.safetensors.index.json"));
        let longest = weights
            .map(|entry| entry.metadata().unwrap().len())
            .max()
            .unwrap();
        let seal = |offset: u64| {
            let device = format!("sim:1GiB,flip={offset}:0");
            session.vram_words(&["seal", model.to_str().unwrap(), "--device", &device])
        };
        seal(longest)
            .exit(2)
            .refuses(&format!("the longest has {longest} bytes"));
        // Behind the index and behind the shorter file, and still a byte of the model.
        seal(longest - 1).exit(3);
    }
}

/// `llama-gguf-split --merge` leaves `split.count` in its output, as 0.
#[test]
fn a_merged_gguf_is_one_whole_model() {
    let session = Session::new();
    split(&session, ["merged.gguf", "rest.gguf"]);
    let mut merged = std::fs::read(session.path("merged.gguf")).unwrap();
    let key = b"split.count\x02\0\0\0";
    let at = merged.windows(key.len()).position(|window| window == key);
    merged[at.unwrap() + key.len()] = 0;
    std::fs::write(session.path("merged.gguf"), merged).unwrap();
    for command in ["inspect", "plan --device sim", "seal --device sim --id one"] {
        session.vram(&format!("{command} merged.gguf")).exit(0);
    }
}

#[test]
fn a_part_under_another_name_is_not_taken_for_a_model() {
    let session = Session::new();
    split(&session, ["model.gguf", "rest.gguf"]);
    let others = ["part.bin", "part", "x-00001-of-00002.GGUF"];
    // By the way that the hint about a name that lies shows.
    std::fs::copy(session.path("model.gguf"), session.path("x.safetensors")).unwrap();
    session
        .vram("seal x.safetensors --device sim")
        .exit(1)
        .tells("say --format gguf");
    session
        .vram("seal x.safetensors --device sim --format gguf")
        .exit(1)
        .refuses("is one of 2 parts of a model and is not named")
        .tells("--format raw seals this part alone");
    for other in others {
        std::fs::copy(session.path("model.gguf"), session.path(other)).unwrap();
    }
    for name in ["model.gguf"].iter().chain(&others) {
        let words = "is one of 2 parts of a model and is not named";
        session
            .vram(&format!("seal {name} --device sim"))
            .exit(1)
            .refuses(words)
            .tells("--format raw seals this part alone");
        session
            .vram(&format!("inspect {name}"))
            .exit(1)
            .refuses(words);
    }
    // What is named in full is meant so.
    session
        .vram("seal model.gguf rest.gguf --device sim --group")
        .exit(0)
        .says(" of 2 shards\n");
    // By itself it is no model, beside whatever else.
    session
        .vram("seal rest.gguf part --device sim")
        .exit(1)
        .refuses("rest.gguf is part 2 of 2 of a model")
        .tells("all parts in their order with --group");
    // What is not there is no part.
    let nothing = session.vram("seal nothere-00001-of-00002.gguf --device sim");
    let nothing = nothing.exit(1).refuses("cannot open nothere");
    assert!(!nothing.err.contains("--format raw"), "{nothing:#?}");
    // All of it, each part once and in order.
    std::fs::copy(
        small().with_file_name("small.gguf"),
        session.path("whole.gguf"),
    )
    .unwrap();
    // Other files may be beside its parts.
    for files in [
        "model.gguf rest.gguf whole.gguf",
        "whole.gguf model.gguf whole.gguf rest.gguf",
    ] {
        session
            .vram(&format!("seal {files} --device sim --group"))
            .exit(0);
    }
    for (files, says) in [
        (
            "model.gguf model.gguf",
            "model.gguf is part 1 of 2, and named as part 2 of 2",
        ),
        (
            "rest.gguf model.gguf",
            "rest.gguf is part 2 of 2, and named as part 1 of 2",
        ),
        (
            "model.gguf rest.gguf rest.gguf",
            "model.gguf is part 1 of 2, and named as part 1 of 3",
        ),
        (
            "model.gguf whole.gguf",
            "model.gguf is part 1 of 2, and named as part 1 of 1",
        ),
    ] {
        session
            .vram(&format!("seal {files} --device sim --group"))
            .exit(1)
            .refuses(says)
            .tells("name all parts of one split model in their order");
        session
            .vram(&format!("seal {files} --device sim --group --format raw"))
            .exit(0);
    }
}

// requirement: PM-1
#[test]
fn a_model_of_several_files_is_one_group() {
    let session = Session::new();
    let index = small()
        .with_file_name("sharded")
        .join("model.safetensors.index.json");
    session.vram("key new key").exit(0);
    let part = |n: u32| index.with_file_name(format!("model-0000{n}-of-00002.safetensors"));
    for model in [index.as_path(), index.parent().unwrap()] {
        let model = model.to_str().unwrap();
        let words = [
            "seal",
            model,
            "--device",
            "sim",
            "--key-file",
            "key",
            "--record",
            "group.json",
        ];
        session
            .vram_words(&words)
            .exit(0)
            .quiet()
            .says(" of 2 shards\n");
        let (one, two) = (part(1), part(2));
        let files = [one.to_str().unwrap(), two.to_str().unwrap()];
        let words = [
            "verify",
            "group.json",
            files[0],
            files[1],
            "--key-file",
            "key",
        ];
        session
            .vram_words(&words)
            .exit(0)
            .says("group        complete, 2 members in order");
    }
    session
        .vram_words(&[
            "seal",
            index.to_str().unwrap(),
            "--device",
            "sim",
            "--id",
            "one",
        ])
        .exit(2)
        .refuses("--id is about one file, this model has several");
}

#[test]
fn a_file_of_the_other_format_says_what_it_is() {
    let session = Session::new();
    for (sample, name, found) in [
        ("small.gguf", "a.safetensors", "gguf"),
        ("small.safetensors", "a.gguf", "safetensors"),
    ] {
        std::fs::copy(small().with_file_name(sample), session.path(name)).unwrap();
        for command in [
            format!("inspect {name}"),
            format!("plan {name} --device sim"),
            format!("seal {name} --device sim"),
        ] {
            let outcome = session.vram(&command).exit(1);
            let outcome = outcome.tells("as its first bytes say");
            outcome.tells(&format!("end the file's name with .{found}, "));
        }
        session
            .vram(&format!("seal {name} --device sim --format {found}"))
            .exit(0);
    }
}
