//! The name of a worker's log: `vram/WORKER/` and eight hex digits of its own, so that
//! the checkpoints of one log say nothing about another one of the same worker and key.
//! Logs of earlier versions keep theirs, `vram/WORKER`.

use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use vram_residency::audit::check::{DirFiles, Files as _};
use vram_residency::audit::note::{MAX_CHECKPOINT_BYTES, Origin};
use vram_residency::random::{OsRandom, Random as _};
use vram_residency::shard::WorkerId;

use crate::failure::Failure;

/// The name of the log in `dir`, as its checkpoint has it. It is believed only when
/// the log, which is checked then, opens under it.
pub(crate) fn claimed(dir: &Path) -> io::Result<String> {
    let files = DirFiles::new(dir);
    let (file, mut note) = (files.open("checkpoint")?, Vec::new());
    let limit = MAX_CHECKPOINT_BYTES as u64;
    file.take(limit).read_to_end(&mut note)?;
    let note = String::from_utf8_lossy(&note);
    Ok(note.lines().next().unwrap_or_default().to_owned())
}

/// The worker whose log bears this name.
pub(crate) fn worker(name: &str) -> Option<WorkerId> {
    let rest = name.strip_prefix("vram/")?;
    let worker = match rest.split_once('/') {
        Some((worker, own)) if is_own(own) => worker,
        Some(_) => return None,
        None => rest,
    };
    worker.parse().ok()
}

fn is_own(digits: &str) -> bool {
    let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    digits.len() == 8 && digits.bytes().all(hex)
}

/// The name under which a worker opens the log in `dir`: its own, or a new one.
pub(crate) fn of_log(dir: &Path, worker_id: &WorkerId) -> Result<Origin, Failure> {
    let name = match claimed(dir) {
        Ok(name) if worker(&name).as_ref() == Some(worker_id) => name,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut own = [0; 4];
            let filled = OsRandom.fill(&mut own);
            filled.map_err(|error| Failure::new(error.to_string()))?;
            format!("vram/{worker_id}/{:08x}", u32::from_be_bytes(own))
        }
        // What is wrong with it is told by the opening.
        _ => format!("vram/{worker_id}"),
    };
    Origin::new(&name).map_err(|error| Failure::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_worker_id_can_name_a_log() {
        let worker: WorkerId = "w"
            .repeat(vram_residency::shard::MAX_ID_BYTES)
            .parse()
            .unwrap();
        let origin = of_log(Path::new("no-such-folder"), &worker).unwrap();
        assert_eq!(super::worker(&origin.to_string()), Some(worker));
    }

    #[test]
    fn a_name_tells_its_worker() {
        for (name, expected) in [
            ("vram/worker", Some("worker")),
            ("vram/w-1/0123abcd", Some("w-1")),
            ("vram/w-1/0123ABCD", None),
            ("vram/w-1/0123abc", None),
            ("vram/w-1/0123abcd/", None),
            ("vram/", None),
            ("example.org/log", None),
        ] {
            let found = worker(name).map(|worker| worker.to_string());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}
