//! What the format tests share: sample files and what the Python readers of
//! each format found in them.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use vram_residency::format::{ReadAt, TensorTable};

/// A file read by position.
pub(crate) struct FileSource(File, u64);

impl FileSource {
    pub(crate) fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let len = file.metadata().unwrap().len();
        Self(file, len)
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.1
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of `testdata/`.
pub(crate) fn sample(name: &str) -> PathBuf {
    root().join("testdata").join(name)
}

/// The text beside a sample, as `testdata/make.py` writes it.
pub(crate) struct Expected {
    pub(crate) fsverity: String,
    pub(crate) sha256: String,
    /// Name, type, shape, SHA-256 of the bytes; by name.
    pub(crate) tensors: Vec<[String; 4]>,
}

impl Expected {
    pub(crate) fn read(path: &Path) -> Self {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut lines = text.lines();
        let mut value = |key: &str| {
            let (found, value) = lines.next().unwrap().split_once(' ').unwrap();
            assert_eq!(found, key, "{}", path.display());
            value.to_owned()
        };
        let fsverity = value("fsverity");
        let sha256 = value("sha256");
        let tensors = lines.map(|line| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let [kind, name, dtype, shape, sha256]: [String; 5] = words.try_into().unwrap();
            assert_eq!(kind, "tensor");
            [name, dtype, shape, sha256]
        });
        Self {
            fsverity,
            sha256,
            tensors: tensors.collect(),
        }
    }

    /// Every tensor of `table`, read from `src`, is what Python read; the whole
    /// file has both digests.
    pub(crate) fn hold_against(&self, src: &dyn ReadAt, table: &TensorTable) {
        let found: Vec<[String; 4]> = table
            .iter_by_name()
            .map(|t| {
                let dims: Vec<_> = t.shape.iter().map(ToString::to_string).collect();
                let shape = if dims.is_empty() {
                    "-".to_owned()
                } else {
                    dims.join(",")
                };
                let mut hasher = Sha256::new();
                chunks(src, t.offset, t.len, |bytes| hasher.update(bytes));
                [
                    t.name.to_string(),
                    t.dtype.to_string(),
                    shape,
                    hex(&hasher.finalize()),
                ]
            })
            .collect();
        assert_eq!(found.len(), self.tensors.len());
        for (found, expected) in found.iter().zip(&self.tensors) {
            assert_eq!(found, expected);
        }
        let mut sha256 = Sha256::new();
        let mut fsverity = vram_digest::Hasher::new();
        chunks(src, 0, src.len(), |bytes| {
            sha256.update(bytes);
            fsverity.update(bytes);
        });
        assert_eq!(hex(&sha256.finalize()), self.sha256);
        let digest = fsverity.finalize().digest().to_string();
        assert_eq!(
            digest.trim_start_matches("sha256:"),
            self.fsverity.trim_start_matches("sha256:")
        );
    }
}

/// Reads `len` bytes at `offset` in pieces of at most 1 MiB.
pub(crate) fn chunks(src: &dyn ReadAt, offset: u64, len: u64, mut each: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    while done < len {
        let piece = usize::try_from((len - done).min(1 << 20)).unwrap();
        src.read_exact_at(offset + done, &mut buffer[..piece])
            .unwrap();
        each(&buffer[..piece]);
        done += piece as u64;
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
