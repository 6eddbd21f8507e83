//! Sources that are not what they should be: missing, irregular, truncated,
//! growing, shrinking, changing, lying. Nothing may stay on the device.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;

use common::source::{Hooked, load_error, refused};
use common::{rig, weights};
use vram_residency::clock::Clock;
use vram_residency::error::Error;
use vram_residency::format::{Format, ReadAt};
use vram_residency::load::{FileSource, FormatChoice, LoadError, Source};
use vram_residency::{Mode, SealRequest};

const MIB: usize = 1 << 20;

// requirement: ER-8, AU-14, WORKER-4393
#[test]
fn what_is_not_a_readable_regular_file_is_refused_at_once() {
    let rig = rig(1 << 20);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("fifo"),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    fs::write(at("empty"), b"").unwrap();
    for (name, words) in [
        ("missing", "cannot open"),
        ("loop", "cannot open"),
        ("dangling", "cannot open"),
        ("fifo", "not a regular file"),
        ("", "not a regular file"),
        ("empty", "0 bytes"),
    ] {
        let path = at(name);
        let error = refused(&rig, SealRequest::file(&path));
        assert!(error.to_string().contains(words), "{name}: {error}");
        let named = error.to_string().contains(path.to_str().unwrap());
        assert!(named, "{error}");
    }
    // What cannot be opened is a failed load; a size is refused input.
    assert_eq!(rig.sink.types(), ["operation.failed"; 5]);
    if !rustix::process::geteuid().is_root() {
        fs::write(at("secret"), b"x").unwrap();
        fs::set_permissions(
            at("secret"),
            std::os::unix::fs::PermissionsExt::from_mode(0o0),
        )
        .unwrap();
        assert!(
            refused(&rig, SealRequest::file(at("secret")))
                .to_string()
                .contains("cannot open")
        );
    }
}

/// Opens a file of two chunks, changes it after the first read, and seals it.
fn changed_while_read(change: fn(&Path)) -> LoadError {
    let rig = rig(16 << 20);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), weights(3 * MIB, 1)).unwrap();
    let once = Mutex::new(Some(change));
    let path = file.path().to_owned();
    let source = Hooked(FileSource::open(file.path()).unwrap(), move |_| {
        if let Some(change) = once.lock().unwrap().take() {
            change(&path);
        }
        Ok(())
    });
    let error = refused(&rig, SealRequest::source(source));
    assert!(
        error.to_string().contains(file.path().to_str().unwrap()),
        "{error}"
    );
    assert_eq!(rig.count("vram.seal_failed"), 1);
    load_error(error)
}

// requirement: RP-004, ER-10
#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let error = changed_while_read(|path| {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
    });
    assert!(
        matches!(error, LoadError::Changed { what: "size", .. }),
        "{error}"
    );
    assert!(error.is_retriable());
    let error = changed_while_read(|path| {
        OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(MIB as u64 + 545)
            .unwrap();
    });
    // Where it ended, not where the piece began.
    let expected = 2 * MIB as u64 - 545;
    let said = format!("{expected} bytes expected at offset 1049121");
    assert!(matches!(error, LoadError::Short { .. }), "{error}");
    assert!(error.to_string().contains(&said), "{error}");
    let error = changed_while_read(|path| {
        // Same size, other contents: the modification time tells.
        let file = OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"other", 100).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    });
    assert!(
        matches!(
            error,
            LoadError::Changed {
                what: "modification time",
                ..
            }
        ),
        "{error}"
    );
}

// requirement: ER-10
#[test]
fn a_reader_must_give_exactly_what_it_promised() {
    let rig = rig(16 << 20);
    let bytes = weights(5 * MIB + 3, 2);
    let len = bytes.len() as u64;
    let shard = rig
        .manager
        .seal(SealRequest::reader(&bytes[..], len))
        .unwrap();
    assert_eq!(shard.digest(), vram_digest::digest(&bytes));
    drop(shard);
    let short = load_error(refused(&rig, SealRequest::reader(&bytes[..], len + 1)));
    assert!(
        matches!(short, LoadError::Short { offset, expected: 1, .. } if offset == len),
        "{short}"
    );
    let long = load_error(refused(&rig, SealRequest::reader(&bytes[..], len - 1)));
    assert!(
        matches!(long, LoadError::Changed { what: "size", .. }),
        "{long}"
    );
    assert!(matches!(
        refused(&rig, SealRequest::reader(io::empty(), 0)),
        Error::Input(_)
    ));
    // A reader that gives a byte at a time is read to its end all the same.
    struct Dribble<'a>(&'a [u8]);
    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = out.len().min(7);
            self.0.read(&mut out[..n])
        }
    }
    let dribble = SealRequest::reader(Dribble(&bytes[..70_001]), 70_001);
    let shard = rig.manager.seal(dribble).unwrap();
    assert_eq!(shard.digest(), vram_digest::digest(&bytes[..70_001]));
    // One that a signal interrupts at its very end is asked again.
    struct Interrupted<'a>(&'a [u8], bool);
    impl Read for Interrupted<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() && !std::mem::replace(&mut self.1, true) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.0.read(out)
        }
    }
    let interrupted = Interrupted(&bytes[..70_001], false);
    let shard = rig.manager.seal(SealRequest::reader(interrupted, 70_001));
    assert_eq!(
        shard.unwrap().digest(),
        vram_digest::digest(&bytes[..70_001])
    );
}

/// A file of two tensors of 2 MiB each, by these names, and as many bytes of
/// header as any.
fn two_tensors(first: &str, second: &str) -> Vec<u8> {
    let (half, all) = (2 * MIB, 4 * MIB);
    let tensor = |name, start, end| {
        format!(r#""{name}":{{"dtype":"U8","shape":[{half}],"data_offsets":[{start},{end}]}}"#)
    };
    let text = format!(
        "{{{},{}}}",
        tensor(first, 0, half),
        tensor(second, half, all)
    );
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(text.as_bytes());
    file.extend_from_slice(&weights(all, 5));
    file
}

// requirement: API-F18
#[test]
fn a_shard_of_other_tensors_is_no_duplicate() {
    let rig = rig(32 << 20);
    let file = two_tensors("a", "b");
    let digest = vram_digest::digest(&file).to_string();
    let raw = rig.manager.seal(SealRequest::bytes(&file)).unwrap();
    let twin = |format| {
        let request = SealRequest::bytes(&file).format(format);
        rig.manager.seal(request.expect(&digest).dedupe()).unwrap()
    };
    let parsed = twin(FormatChoice::Auto);
    assert_ne!(parsed.id(), raw.id());
    assert!(parsed.tensors().get("b").is_some());
    assert_eq!(twin(FormatChoice::Auto).id(), parsed.id());
    assert_eq!(twin(FormatChoice::Exactly(Format::Raw)).id(), raw.id());
}

// requirement: CO-6
#[test]
fn an_extension_that_lies_is_refused() {
    let rig = rig(1 << 20);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    File::create(&path)
        .unwrap()
        .write_all(&weights(5000, 8))
        .unwrap();
    let error = refused(&rig, SealRequest::file(&path));
    assert!(matches!(load_error(error), LoadError::Format { .. }));
    assert_eq!(rig.sink.types(), ["operation.failed"]);
    let raw = SealRequest::file(&path).format(FormatChoice::Exactly(Format::Raw));
    let shard = rig.manager.seal(raw).unwrap();
    let _ = rig.manager.verify_sealed(&shard, Mode::Full).unwrap();
}

// requirement: VA-4, AU-11
#[test]
fn control_characters_of_names_are_escaped() {
    let rig = rig(1 << 20);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a\u{1b}[2Jb\n\u{202e}c.safetensors");
    let missing = refused(&rig, SealRequest::file(&path)).to_string();
    let end = "a\\u{1b}[2Jb\\n\\u{202e}c.safetensors: No such file";
    assert!(missing.contains(end), "{missing}");
    fs::write(&path, weights(5000, 8)).unwrap();
    let format = refused(&rig, SealRequest::file(&path)).to_string();
    assert!(format.contains("a\\u{1b}[2Jb\\n"), "{format}");
    let key = vram_residency::key::RootKey::from_file(&path.with_extension("key"));
    let key = key.err().unwrap().to_string();
    for text in [missing, format, key] {
        assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
    }
}

/// A source that shows another header than the one that it is loaded with.
struct TwoFaced {
    shown: Vec<u8>,
    loaded: Vec<u8>,
}

impl ReadAt for TwoFaced {
    fn len(&self) -> u64 {
        self.loaded.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.shown.as_slice().read_exact_at(offset, out)
    }
}

impl Source for TwoFaced {
    fn name(&self) -> String {
        "two-faced".to_owned()
    }

    fn read_piece(&self, offset: u64, out: &mut [u8], _: &dyn Clock) -> io::Result<()> {
        self.loaded.as_slice().read_exact_at(offset, out)
    }
}

/// No time stamp tells: a header may come from memory that others write to, and
/// the data past the page cache.
// requirement: VA-10
#[test]
fn names_and_places_that_are_not_those_of_the_sealed_bytes_are_refused() {
    let exchanged = |bytes: &[u8], one: &[u8], other: &[u8]| {
        let find = |name: &[u8]| bytes.windows(name.len()).position(|bytes| bytes == name);
        let (first, second) = (find(one).unwrap(), find(other).unwrap());
        let mut bytes = bytes.to_vec();
        bytes[first..first + one.len()].copy_from_slice(other);
        bytes[second..second + other.len()].copy_from_slice(one);
        bytes
    };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    for (name, one, other) in [
        (
            "small.safetensors",
            "layers.0.mlp.down_proj.",
            "layers.0.mlp.gate_proj.",
        ),
        ("small.gguf", "blk.0.attn_q.weight", "blk.0.attn_k.weight"),
    ] {
        let loaded = fs::read(data.join(name)).unwrap();
        let request = |shown: Vec<u8>| {
            let loaded = loaded.clone();
            SealRequest::source(TwoFaced { shown, loaded }).format(FormatChoice::Auto)
        };
        let rig = rig(1 << 20);
        let shown = exchanged(&loaded, one.as_bytes(), other.as_bytes());
        let digest = vram_digest::digest(&loaded).to_string();
        let told = load_error(refused(&rig, request(shown).expect(&digest)));
        assert!(
            matches!(told, LoadError::Changed { what: "header", .. }),
            "{told}"
        );
        let shard = rig.manager.seal(request(loaded.clone())).unwrap();
        assert!(shard.tensors().tensors().len() > 1, "{name}");
    }
}
