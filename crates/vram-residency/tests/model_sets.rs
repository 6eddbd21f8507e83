//! Models in several files: found, checked against each other, sealed as one
//! group, and kept inside their directory.

use std::path::{Path, PathBuf};

use vram_residency::error::Error;
use vram_residency::format::{Format, Limits};
use vram_residency::key::RootKey;
use vram_residency::load::{FormatChoice, LoadError, Model, Part};
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, SealRequest, VramManager};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(name)
}

/// A copy of a folder of testdata that a test may spoil.
fn copy_of(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(testdata(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn manager() -> VramManager {
    let key = RootKey::from_token(&test_listener::secret()).unwrap();
    VramManager::builder()
        .device(SimDevice::new(64 << 20))
        .key(key)
        .build()
        .unwrap()
}

fn refused(path: &Path) -> String {
    Model::open(path).err().unwrap().to_string()
}

#[test]
fn an_indexed_model_becomes_one_group() {
    let by_directory = Model::open(&testdata("sharded")).unwrap();
    let by_index = Model::open(&testdata("sharded/model.safetensors.index.json")).unwrap();
    assert_eq!(by_directory.parts().len(), 2);
    assert_eq!(by_directory.bytes(), by_index.bytes());
    let names: Vec<Vec<String>> = by_index
        .parts()
        .iter()
        .map(|part| {
            part.tensors()
                .iter_by_name()
                .map(|t| t.name.to_string())
                .collect()
        })
        .collect();
    let manager = manager();
    let group = manager.seal_group(by_index.into_requests()).unwrap();
    assert_eq!(group.shards().len(), 2);
    assert_eq!(manager.verify_group(&group, Mode::Full).unwrap().len(), 2);
    for (shard, names) in group.shards().iter().zip(names) {
        let lease = manager.lease(shard, Mode::TagOnly).unwrap();
        for name in names {
            assert!(lease.tensor(&name).is_ok(), "{name}");
        }
    }
}

// requirement: VA-10
#[test]
fn a_file_that_is_no_whole_model_is_not_sealed_as_one() {
    let manager = manager();
    let raw = FormatChoice::Exactly(Format::Raw);
    let gguf = FormatChoice::Exactly(Format::Gguf);
    let parts = [
        "split/small-00001-of-00002.gguf",
        "split/small-00002-of-00002.gguf",
    ];
    for (file, choice, what) in [
        (
            "sharded/model.safetensors.index.json",
            FormatChoice::Auto,
            "an index of",
        ),
        (parts[0], FormatChoice::Auto, "part 1 of 2 of"),
        (parts[1], FormatChoice::Auto, "part 2 of 2 of"),
        (parts[1], gguf, "part 2 of 2 of"),
    ] {
        let path = testdata(file);
        let told = manager.seal(SealRequest::file(&path).format(choice));
        let told = told.err().unwrap();
        assert!(
            matches!(&told, Error::Load(LoadError::NotWhole { name, .. }) if Path::new(name) == path),
            "{told}"
        );
        let told = told.to_string();
        assert!(told.contains(&format!("{file} is {what}")), "{told}");
        assert_eq!(manager.used_vram(), 0);
        let alone = SealRequest::file(&path).format(raw);
        drop(manager.seal(alone).unwrap());
    }
    // Who says which part it is seals it, alone or as a member.
    let place = SealRequest::file(testdata(parts[1])).position(1, 2);
    assert!(!manager.seal(place).unwrap().tensors().tensors().is_empty());
    let members = parts.map(|file| SealRequest::file(testdata(file)));
    let group = manager.seal_group(members.into()).unwrap();
    assert_eq!(group.shards().len(), 2);
}

#[test]
fn any_part_of_a_split_model_leads_to_all() {
    for part in ["small-00001-of-00002.gguf", "small-00002-of-00002.gguf"] {
        let model = Model::open(&testdata("split").join(part)).unwrap();
        assert_eq!(model.parts().len(), 2, "{part}");
        assert!(
            model.parts()[0]
                .path()
                .ends_with("small-00001-of-00002.gguf")
        );
    }
    assert_eq!(Model::open(&testdata("split")).unwrap().parts().len(), 2);
}

#[test]
fn a_single_file_is_a_model_of_one_part() {
    let model = Model::open(&testdata("small.safetensors")).unwrap();
    assert_eq!(
        (model.parts().len(), model.name()),
        (1, "small.safetensors")
    );
}

#[test]
fn missing_and_misnamed_parts_are_named() {
    let dir = copy_of("split");
    let second = dir.path().join("small-00002-of-00002.gguf");
    std::fs::remove_file(&second).unwrap();
    assert!(refused(dir.path()).contains("small-00002-of-00002.gguf"));
    let lone = dir.path().join("renamed.gguf");
    std::fs::rename(dir.path().join("small-00001-of-00002.gguf"), &lone).unwrap();
    assert!(matches!(
        Model::open(&lone),
        Err(LoadError::SplitName { count: 2, .. })
    ));
    assert!(refused(&lone).starts_with(lone.to_str().unwrap()));

    let dir = copy_of("sharded");
    std::fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(refused(dir.path()).contains("model-00002-of-00002.safetensors"));
}

#[test]
fn what_contradicts_a_split_is_told_with_the_whole_path() {
    let dir = copy_of("split");
    let [first, second] =
        [1, 2].map(|part| dir.path().join(format!("small-0000{part}-of-00002.gguf")));
    // The first part again under the second one's name.
    std::fs::copy(&first, &second).unwrap();
    let told = refused(&first);
    assert!(told.starts_with(first.to_str().unwrap()), "{told}");
    assert!(
        told.contains("part \"small-00002-of-00002.gguf\""),
        "{told}"
    );
}

// requirement: VA-10
#[test]
fn limits_are_raised_and_lowered_by_who_seals() {
    let path = testdata("small.safetensors");
    let mut limits = Limits::default();
    limits.tensors = 31;
    let told = Model::open_with(&path, &limits).err().unwrap().to_string();
    assert!(told.contains("number of tensors is 32, over the limit of 31"));
    let request = || SealRequest::file(&path).limits(limits.clone());
    let told = manager().seal(request()).unwrap_err().to_string();
    assert!(told.contains("number of tensors is 32, over the limit of 31"));
    limits.tensors = 32;
    assert_eq!(Model::open_with(&path, &limits).unwrap().parts().len(), 1);
    let request = SealRequest::file(&path).limits(limits.clone());
    assert_eq!(
        manager().seal(request).unwrap().tensors().tensors().len(),
        32
    );

    // A header that the defaults refuse, and the parts of an index.
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large.safetensors");
    let header = format!("{{{}}}", " ".repeat(8 << 20));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    std::fs::write(&large, &bytes).unwrap();
    let told = refused(&large);
    assert!(told.contains("header length is 8388610, over the limit of 8388608 (header_bytes)"));
    limits.header_bytes = 8_388_610;
    assert_eq!(
        Model::open_with(&large, &limits).unwrap().bytes(),
        bytes.len() as u64
    );
    let request = SealRequest::file(&large).limits(limits.clone());
    assert_eq!(
        manager().seal(request).unwrap().record().vram_bytes,
        bytes.len() as u64
    );
    limits.index_files = 1;
    for several in ["sharded", "split"] {
        let told = Model::open_with(&testdata(several), &limits)
            .err()
            .unwrap()
            .to_string();
        assert!(told.contains("over the limit of 1 (index_files)"), "{told}");
    }
}

// requirement: VA-10, PF-11
#[test]
fn the_tables_of_all_files_have_one_bound() {
    for several in ["sharded", "split"] {
        let path = testdata(several);
        let model = Model::open(&path).unwrap();
        let tables = model.parts().iter().map(|part| part.tensors().memory());
        let tables: Vec<u64> = tables.collect();
        let all: u64 = tables.iter().sum();
        assert!(tables.len() == 2 && tables.iter().all(|one| *one > 0 && *one < all));
        let mut limits = Limits::default();
        limits.table_bytes = all;
        Model::open_with(&path, &limits).unwrap();
        limits.table_bytes = all - 1;
        let told = Model::open_with(&path, &limits).err().unwrap().to_string();
        let expected = format!("memory for the tables of all files is {all}, over the limit of ");
        assert!(told.contains(&expected), "{told}");
        assert!(told.ends_with(" (table_bytes)"), "{told}");
    }
}

#[test]
fn files_of_a_group_share_the_bound_of_its_tables() {
    let files = ["small.safetensors", "small.gguf"].map(testdata);
    let memory = |path: &PathBuf| Model::open(path).unwrap().parts()[0].tensors().memory();
    let all: u64 = files.iter().map(memory).sum();
    let group = |table_bytes: u64| {
        let mut limits = Limits::default();
        limits.table_bytes = table_bytes;
        let request = |path: &PathBuf| SealRequest::file(path).limits(limits.clone());
        manager().seal_group(files.iter().map(request).collect())
    };
    assert_eq!(group(all).unwrap().shards().len(), 2);
    let told = group(all - 1).err().unwrap().to_string();
    assert!(
        told.contains("small.gguf") && told.contains("(table_bytes)"),
        "{told}"
    );
}

#[test]
fn links_may_not_lead_out_of_the_model() {
    let dir = copy_of("sharded");
    let file = "model-00001-of-00002.safetensors";
    std::fs::remove_file(dir.path().join(file)).unwrap();
    std::os::unix::fs::symlink(testdata("sharded").join(file), dir.path().join(file)).unwrap();
    let message = refused(dir.path());
    assert!(message.contains(file), "{message}");
}

/// A safetensors file with one byte for each name.
fn tensors(names: &[&str]) -> Vec<u8> {
    let entry = |(i, name): (usize, &&str)| {
        let end = i + 1;
        format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{end}]}}"#)
    };
    let entries: Vec<_> = names.iter().enumerate().map(entry).collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + names.len(), 0);
    bytes
}

/// A directory with two files and an index `name` that lists "a" and "b".
fn two_files(name: &str, one: &[&str], two: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("one.safetensors", &tensors(one));
    write("two.safetensors", &tensors(two));
    let index = r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#;
    write(name, index.as_bytes());
    dir
}

#[test]
fn a_tensor_may_be_in_one_file_only_whether_listed_or_not() {
    let index = "model.safetensors.index.json";
    let apart = two_files(index, &["a", "c"], &["b", "d"]);
    assert_eq!(Model::open(apart.path()).unwrap().parts().len(), 2);
    let twice = two_files(index, &["a", "c"], &["b", "c"]);
    let message = refused(twice.path());
    for word in ["\"c\"", "one.safetensors", "two.safetensors"] {
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn an_index_without_tensors_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map":{}}"#).unwrap();
    let message = refused(dir.path());
    assert!(
        message.contains("model.safetensors.index.json"),
        "{message}"
    );
    assert!(message.contains("has no tensor"), "{message}");
}

#[test]
fn the_parts_that_any_index_names_are_no_models_of_their_own() {
    for index in [
        "diffusion_pytorch_model.safetensors.index.json",
        "model.safetensors.index.fp16.json",
    ] {
        let dir = two_files(index, &["a"], &["b"]);
        for path in [dir.path(), &dir.path().join(index)] {
            let model = Model::open(path).unwrap();
            assert_eq!((model.parts().len(), model.name()), (2, index));
        }
        // A file that no index names is another model, and the refusal says which.
        std::fs::write(dir.path().join("other.safetensors"), tensors(&["x"])).unwrap();
        let message = refused(dir.path());
        let words = format!("holds 2 models ({index}, other.safetensors); name the file");
        assert!(message.contains(&words), "{message}");
        for number in 0..8 {
            let name = format!("z{number}.safetensors");
            std::fs::write(dir.path().join(name), tensors(&["x"])).unwrap();
        }
        let message = refused(dir.path());
        assert!(message.contains("holds 10 models"), "{message}");
        assert!(message.contains("z2.safetensors and 5 more)"), "{message}");
    }
    for (name, is) in [
        ("a.safetensors.index.json", true),
        ("a.safetensors.index.fp16.json", true),
        ("a.safetensors.index.a.b.json", false),
        ("a.safetensors.index.fp16json", false),
        ("a.safetensors.index.json.bak", false),
        ("index.json", false),
    ] {
        assert_eq!(Model::is_index(Path::new(name)), is, "{name}");
    }
}

// requirement: VA-10
#[test]
fn what_a_directory_holds_may_not_be_a_link_out_of_it() {
    let index = "model.safetensors.index.json";
    let empty = tempfile::tempdir().unwrap();
    let file = testdata("small.safetensors");
    let single = (empty.path(), "model.safetensors", file, 1);
    let sharded = copy_of("sharded");
    std::fs::remove_file(sharded.path().join(index)).unwrap();
    let real = testdata("sharded").join(index);
    for (dir, name, target, parts) in [single, (sharded.path(), index, real.clone(), 2)] {
        let link = dir.join(name);
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let message = refused(dir);
        let words = format!("\"{name}\" leads outside the model directory");
        assert!(message.contains(&words), "{message}");
        // Named by the caller it is the caller's choice.
        assert_eq!(Model::open(&link).unwrap().parts().len(), parts);
    }
    // The directory itself may be a link, and links within it are as before.
    let alias = empty.path().join("alias");
    std::os::unix::fs::symlink(sharded.path(), &alias).unwrap();
    std::fs::remove_file(sharded.path().join(index)).unwrap();
    std::fs::copy(&real, sharded.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", sharded.path().join(index)).unwrap();
    assert_eq!(Model::open(&alias).unwrap().parts().len(), 2);
}

#[test]
fn a_hugging_face_cache_may_keep_its_files_in_blobs() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("snapshots/abc");
    let blobs = cache.path().join("blobs");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(&blobs).unwrap();
    for (i, entry) in std::fs::read_dir(testdata("sharded")).unwrap().enumerate() {
        let path = entry.unwrap().path();
        let blob = format!("blob{i}");
        std::fs::copy(&path, blobs.join(&blob)).unwrap();
        let link = snapshot.join(path.file_name().unwrap());
        std::os::unix::fs::symlink(Path::new("../../blobs").join(blob), link).unwrap();
    }
    let model = Model::open(&snapshot).unwrap();
    let paths: Vec<_> = model.parts().iter().map(Part::path).collect();
    let expected = [1, 2].map(|n| snapshot.join(format!("model-0000{n}-of-00002.safetensors")));
    assert_eq!(paths, expected, "named as the index does, not as the cache");
    let group = manager().seal_group(model.into_requests()).unwrap();
    let names: Vec<_> = group
        .record()
        .members
        .into_iter()
        .map(|m| m.model_ref)
        .collect();
    assert_eq!(
        names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors"
        ]
    );
}

#[test]
fn what_is_called_like_a_model_and_is_no_file_is_passed_over() {
    let index = "model.safetensors.index.json";
    for (model, parts) in [("sharded", 2), ("split", 2)] {
        let dir = copy_of(model);
        let names = ["old.safetensors", "x.gguf", "other.safetensors.index.json"];
        for name in names.iter().chain((model == "split").then_some(&index)) {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let fifo = dir.path().join("fifo.gguf");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(Model::open(dir.path()).unwrap().parts().len(), parts);
    }
    // The same where the index is not called as it usually is.
    let dir = two_files("a.safetensors.index.json", &["a"], &["b"]);
    std::fs::create_dir(dir.path().join(index)).unwrap();
    std::fs::create_dir(dir.path().join("c.safetensors")).unwrap();
    assert_eq!(Model::open(dir.path()).unwrap().parts().len(), 2);
    // A link that leads nowhere may be the model that is missing.
    std::os::unix::fs::symlink("gone", dir.path().join("d.safetensors")).unwrap();
    assert!(refused(dir.path()).contains("d.safetensors"));
}

#[test]
fn directories_without_a_model_or_with_several_say_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Model::open(dir.path()),
        Err(LoadError::NoModel { .. })
    ));
    for name in ["a.safetensors", "b.safetensors"] {
        std::fs::copy(testdata("small.safetensors"), dir.path().join(name)).unwrap();
    }
    assert!(matches!(
        Model::open(dir.path()),
        Err(LoadError::Ambiguous { count: 2, .. })
    ));
    assert!(matches!(
        Model::open(&dir.path().join("none")),
        Err(LoadError::Open { .. })
    ));
}
