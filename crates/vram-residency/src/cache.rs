//! How a Hugging Face cache lies on the disk: `CACHE/snapshots/REVISION/...` holds links
//! into `CACHE/blobs`.

use std::path::{Path, PathBuf};

/// The blobs of the cache whose snapshot `dir` is or lies in: a repository may keep its
/// models in folders. `dir` is a real path, without links.
pub(crate) fn blobs_of(dir: &Path) -> Option<PathBuf> {
    let mut above = dir.ancestors().skip(1);
    let snapshots = above.find(|above| above.ends_with("snapshots"))?;
    Some(snapshots.parent()?.join("blobs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_and_its_folders_have_the_blobs_of_their_cache() {
        for (dir, blobs) in [
            ("/hub/models--a/snapshots/r1", Some("/hub/models--a/blobs")),
            (
                "/hub/models--a/snapshots/r1/Q4/x",
                Some("/hub/models--a/blobs"),
            ),
            (
                "/snapshots/r0/cache/snapshots/r1",
                Some("/snapshots/r0/cache/blobs"),
            ),
            ("/hub/models--a/snapshots", None),
            ("/hub/snapshots.old/r1", None),
            ("/", None),
        ] {
            assert_eq!(
                blobs_of(Path::new(dir)).as_deref(),
                blobs.map(Path::new),
                "{dir}"
            );
        }
    }
}
