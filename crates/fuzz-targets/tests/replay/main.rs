//! The fuzz targets without a fuzzer: every checked-in seed and many seeded
//! changes of each go through the same functions.

mod audit_seed;
mod mutate;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzz_targets::{TARGETS, Target};
use mutate::{Random, mutated};

const SEED: u64 = 20_260_121;
/// Changed inputs of a target, spread over its seeds.
const CHANGES: usize = 20_000;
/// The same where one input is much work: a whole log, checked several times or
/// written, or a manager's life.
const COSTLY_CHANGES: usize = 2_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The names of files and folders in `fuzz/FOLDER`, without extensions.
fn listed(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(fuzz().join(folder)).unwrap();
    let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| name(entry.unwrap().path())).collect()
}

/// The seeds of `name`, in the order of their names.
fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = std::fs::read_dir(fuzz().join("corpus").join(name)).unwrap();
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has no seeds");
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

fn replay(target: &Target) {
    let Target { name, run } = target;
    let seeds = seeds(name);
    let accepted = seeds.iter().filter(|(_, seed)| run(seed)).count();
    assert!(accepted > 0, "{name} accepts none of its seeds");
    let mut random = Random(SEED);
    let costly = ["audit_log", "audit_reopen", "vram_allocation"].contains(name);
    for i in 0..if costly { COSTLY_CHANGES } else { CHANGES } {
        let (path, seed) = &seeds[i % seeds.len()];
        let other = &seeds[random.below(seeds.len())].1;
        let data = mutated(seed, other, &mut random);
        let held = catch_unwind(AssertUnwindSafe(|| run(&data)));
        let shown = path.display();
        assert!(held.is_ok(), "{name}, seed {SEED}, from {shown}: {data:?}");
    }
}

macro_rules! replayed {
    ($($name:ident)+) => {$(
        // requirement: TP-5
        #[test]
        fn $name() {
            let target = TARGETS.iter().find(|target| target.name == stringify!($name));
            replay(target.unwrap());
        }
    )+

    #[test]
    fn every_target_is_replayed_and_known_to_the_fuzzer() {
        let ours: BTreeSet<String> = TARGETS.iter().map(|target| target.name.into()).collect();
        assert_eq!(ours, [$(stringify!($name).to_owned()),+].into());
        assert_eq!(ours, listed("fuzz_targets"));
        assert_eq!(ours, listed("corpus"));
        let dictionaries = listed("dict");
        assert!(dictionaries.is_subset(&ours), "{dictionaries:?}");
        let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
        for name in ours {
            let program = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
            assert!(manifest.contains(&program), "{name}");
            let source = fuzz().join(format!("fuzz_targets/{name}.rs"));
            let source = std::fs::read_to_string(source).unwrap();
            assert!(source.contains(&format!("run(\"{name}\", data)")), "{name}");
        }
    }};
}

/// Holds a seed against what the library makes now.
fn compare(target: &str, name: &str, made: &[u8]) {
    let seed = fuzz().join(format!("corpus/{target}/{name}"));
    if std::fs::read(seed).unwrap_or_default() != made {
        let new = format!("{}/{target}-{name}", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&new, made).unwrap();
        panic!("what is written has changed; the new seed is {new}");
    }
}

#[test]
fn the_records_that_are_fuzzed_are_those_of_the_manager_that_judges_them() {
    for (name, json) in fuzz_targets::presented_records() {
        compare("seal_verification", name, json.as_bytes());
    }
}

replayed! {
    safetensors_header index gguf lfs_pointer record statement receipt certificate keys
    model_sig model_trust allow_list model_policy checkpoint audit_log audit_proof
    audit_reopen device_options ptx seal_verification vram_allocation
}
