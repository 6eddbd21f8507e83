//! Child processes for the tasks.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The root of the repository this xtask was built from.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The cargo that started us, run in the repository root without standard input.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// Whether `command` can be started and succeeds, its output thrown away.
pub(crate) fn answers(command: &mut Command) -> bool {
    quiet(command).is_ok_and(|status| status.success())
}

/// Whether a program can be started; not all know `--version`.
pub(crate) fn starts(program: &str) -> bool {
    quiet(Command::new(program).arg("--version")).is_ok()
}

fn quiet(command: &mut Command) -> std::io::Result<ExitStatus> {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.status()
}

/// Runs `command` with its output on ours; the error says how it ended.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ended with {status}")),
        Err(error) => Err(format!("`{program}` could not be started: {error}")),
    }
}

/// How a command with a deadline ended.
pub(crate) enum Ended {
    /// By itself, successfully or not, with everything that it wrote to standard error.
    Exited { success: bool, stderr: String },
    /// It was killed at the deadline.
    TimedOut,
}

/// Runs `command` for at most `limit`, its standard error kept in the file `log`.
pub(crate) fn run_within(
    command: &mut Command,
    limit: Duration,
    log: &Path,
) -> Result<Ended, String> {
    let say = |error: std::io::Error| format!("{}: {error}", log.display());
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).map_err(say)?;
    }
    let stderr = File::create(log).map_err(say)?;
    let mut child = command
        .stderr(stderr)
        .spawn()
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            let stderr = std::fs::read_to_string(log).map_err(say)?;
            return Ok(Ended::Exited {
                success: status.success(),
                stderr,
            });
        }
        if start.elapsed() > limit {
            child.kill().map_err(|error| error.to_string())?;
            child.wait().map_err(|error| error.to_string())?;
            return Ok(Ended::TimedOut);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        root()
            .join("target/xtask")
            .join(format!("{name}-{}.log", std::process::id()))
    }

    #[test]
    fn a_command_that_hangs_is_ended_at_the_deadline() {
        let path = log("hang");
        let ended = run_within(Command::new("sleep").arg("30"), Duration::ZERO, &path);
        assert!(matches!(ended, Ok(Ended::TimedOut)));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn status_and_messages_of_a_command_are_returned() {
        let path = log("message");
        let mut command = Command::new("sh");
        command.args(["-c", "echo reason >&2; exit 3"]);
        let ended = run_within(&mut command, Duration::from_secs(30), &path).unwrap();
        let Ended::Exited { success, stderr } = ended else {
            panic!("timed out")
        };
        assert!(!success);
        assert_eq!(stderr, "reason\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.contains("no-such-program-here"), "{error}");
        assert!(!answers(&mut Command::new("no-such-program-here")));
    }
}
