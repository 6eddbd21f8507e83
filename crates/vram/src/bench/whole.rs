//! Whole runs of programs: `vram digest` and `fsverity digest` in turn, and the
//! peak memory of `vram seal`.

use std::io::BufReader;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::sample::{Rate, Spread};
use super::target::{Bound, Target};
use super::{Plan, Show};
use crate::environment;
use crate::failure::Failure;
use crate::output::Output;

/// What `vram digest` should reach of `fsverity digest`, which uses one core.
const FASTER: f64 = 4.0;

/// The same warm file by both programs, run after run in turn.
pub(super) fn digests(
    plan: &Plan,
    file: &Path,
    show: Show<'_>,
    output: &Output,
) -> Result<Option<Target>, Failure> {
    if Command::new("fsverity").arg("--version").output().is_err() {
        output.note("fsverity (Debian package fsverity) is not installed: not compared with it");
        return Ok(None);
    }
    let program = environment::this_program();
    let program = program.map_err(|error| Failure::new(format!("cannot find vram: {error}")))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first turn is for warmth.
    for turn in 0..=plan.runs {
        let times = [
            run(Command::new(&program), file)?,
            run(Command::new("fsverity"), file)?,
        ];
        if turn > 0 {
            ours.push(times[0].as_secs_f64());
            theirs.push(times[1].as_secs_f64());
        }
    }
    let (ours, theirs) = (Spread::of(ours), Spread::of(theirs));
    let ours = Rate::of(
        "vram digest FILE, a whole run",
        plan.cores.get(),
        plan.bytes,
        &ours,
    );
    let theirs = Rate::of("fsverity digest FILE, a whole run", 1, plan.bytes, &theirs);
    let name = "vram digest to fsverity digest";
    let ratio = ours.median() / theirs.median();
    show(ours)?;
    show(theirs)?;
    Ok(Some(Target::new(name, ratio, "x", Bound::AtLeast(FASTER))))
}

/// `PROGRAM digest FILE`, from its start to its end.
fn run(mut program: Command, file: &Path) -> Result<Duration, Failure> {
    let name = program.get_program().to_string_lossy().into_owned();
    program.arg("digest").arg(file).stdin(Stdio::null());
    let started = Instant::now();
    let ended = program.output();
    let elapsed = started.elapsed();
    match ended {
        Ok(ended) if ended.status.success() => Ok(elapsed),
        Ok(ended) => {
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            Err(Failure::new(format!("{name} digest failed: {said}")))
        }
        Err(error) => Err(Failure::new(format!("cannot run {name}: {error}"))),
    }
}

/// Ends the child whatever happens; what it holds is memory of its own.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The most memory that a run of `vram seal FILE` on the simulated device held,
/// asked while it still holds the model.
#[expect(clippy::cast_precision_loss, reason = "MiB for people")]
pub(super) fn peak(plan: &Plan, file: &Path) -> Result<Target, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot measure the memory of vram seal: {error}"))
    };
    let program = environment::this_program().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command
        .args(["seal", "--format", "raw", "--hold", "--scrub-rate", "0"])
        .args(["--quiet", "--device"])
        .arg(format!("sim:{}", plan.bytes))
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = Ended(command.spawn().map_err(|error| failed(&error))?);
    let out = child.0.stdout.take().map(BufReader::new);
    let mut lines = out.into_iter().flat_map(std::io::BufRead::lines);
    // Said when everything is verified and held.
    let held = lines.any(|line| line.is_ok_and(|line| line.starts_with("held ")));
    if !held {
        return Err(failed(&"it did not hold the file"));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id()));
    let status = status.map_err(|error| failed(&error))?;
    let peak = status.lines().find_map(|line| {
        let kib = line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?;
        kib.trim().parse::<u64>().ok()
    });
    let peak = peak.ok_or_else(|| failed(&"the system does not tell"))?;
    let mib = |bytes: u64| (bytes as f64 / f64::from(1 << 20)).round();
    let bytes = plan.bytes as u64;
    let limit = bytes.saturating_add(bytes / 128).saturating_add(64 << 20);
    let name = "peak memory of vram seal FILE, simulated";
    let bound = Bound::AtMost(mib(limit));
    Ok(Target::new(
        name,
        mib(peak.saturating_mul(1024)),
        "MiB",
        bound,
    ))
}
