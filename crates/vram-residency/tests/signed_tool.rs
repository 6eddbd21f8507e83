//! The real signing tool, where it is installed: what it makes now is believed,
//! and both of us refuse the same changes.

#[path = "common/python.rs"]
mod python;
mod signed_support;

use std::path::Path;
use std::process::Command;

use signed_support::*;
use vram_residency::signed::ModelTrust;

/// What happens to a model.
type Change = (&'static str, fn(&Path));

/// The tool's interface for programs: its command knows no shards.
const VERIFY: &str = "\
import sys
from model_signing import hashing, verifying
kind, trusted, signature, model = sys.argv[1:]
config = verifying.Config()
if trusted.endswith('-root.pem'):
    config.use_certificate_verifier(certificate_chain=[trusted])
else:
    config.use_elliptic_key_verifier(public_key=trusted)
if kind == 'shards':
    # The tool does not read the size of shards that it wrote itself.
    cut = hashing.Config().use_shard_serialization(shard_size=8192)
    config.set_hashing_config(cut)
config.verify(model, signature)
";

fn is_certified(kind: &str) -> bool {
    ["chain", "wide"].contains(&kind)
}

/// The file of the key or the root.
fn trusted(kind: &str) -> String {
    let part = if is_certified(kind) {
        "-root.pem"
    } else {
        ".pub"
    };
    format!("{kind}{part}")
}

/// Whether the tool itself believes the bundle.
fn believes(python: &Path, kind: &str, model: &Path, dir: &Path) -> bool {
    let trusted = dir.join(trusted(kind));
    let signature = dir.join(format!("{kind}.sig"));
    let output = Command::new(python)
        .args(["-c", VERIFY, kind])
        .args([trusted.as_path(), &signature, model])
        .output()
        .unwrap();
    // A refusal of the tool's own, not an accident on the way to it.
    let text = String::from_utf8_lossy(&output.stderr);
    let is_fine = output.status.success();
    assert!(is_fine || text.contains("ValueError"), "{kind}: {text}");
    is_fine
}

fn we_believe(kind: &str, model: &Path, dir: &Path) -> bool {
    let bytes = |name: String| std::fs::read(dir.join(name)).unwrap();
    let pem = bytes(trusted(kind));
    let trust = if is_certified(kind) {
        ModelTrust::new().roots(&pem)
    } else {
        ModelTrust::new().key(&pem)
    };
    check(&trust.unwrap(), &bytes(format!("{kind}.sig")), model).is_ok()
}

// requirement: PM-15
#[test]
fn the_installed_tool_and_we_agree() {
    let instead = "only the checked-in bundles were looked at";
    let Some(python) = python::python("model_signing, OpenSSL", instead) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new(&python)
        .arg(fixture("make.py"))
        .arg(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{text}");
    let changes: [Change; 5] = [
        ("nothing", |_| {}),
        ("a byte", |at| {
            std::fs::write(at.join("config.json"), "{}").unwrap()
        }),
        ("one more", |at| {
            std::fs::write(at.join("more"), "x").unwrap()
        }),
        ("one less", |at| {
            std::fs::remove_file(at.join("tokenizer-2.json")).unwrap()
        }),
        ("a link", |at| {
            std::fs::remove_file(at.join("tokenizer-2.json")).unwrap();
            std::os::unix::fs::symlink("config.json", at.join("tokenizer-2.json")).unwrap();
        }),
    ];
    for (what, change) in changes {
        for kind in ["p256", "p384", "p521", "shards", "chain", "wide"] {
            let model = model_copy();
            change(model.path());
            let theirs = believes(&python, kind, model.path(), dir.path());
            let ours = we_believe(kind, model.path(), dir.path());
            assert_eq!(theirs, what == "nothing", "the tool: {kind}, {what}");
            assert_eq!(ours, theirs, "{kind}, {what}");
        }
    }
}
