//! Child processes for the tasks.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No command of the checks may take longer: a test that hangs is a failure, and its name stands
/// above.
pub(crate) const LIMIT: Duration = Duration::from_secs(45 * 60);
/// What somebody asked for by hand may take as long as it takes.
pub(crate) const NO_LIMIT: Duration = Duration::MAX;

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
    run_for(command, LIMIT)
}

/// The same with a limit of its own.
pub(crate) fn run_for(command: &mut Command, limit: Duration) -> Result<(), String> {
    match status_within(command, limit)? {
        status if status.success() => Ok(()),
        status => Err(format!("ended with {status}")),
    }
}

/// Runs `command` with its output on ours, and says how it ended by itself.
pub(crate) fn status_within(command: &mut Command, limit: Duration) -> Result<ExitStatus, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn();
    let mut child = child.map_err(|error| format!("`{program}` could not be started: {error}"))?;
    wait_within(&mut child, limit)?
        .ok_or_else(|| format!("still ran after {} s and was killed", limit.as_secs()))
}

/// Both, or all that is wrong with either.
pub(crate) fn both(one: Result<(), String>, other: Result<(), String>) -> Result<(), String> {
    match (one, other) {
        (Err(one), Err(other)) => Err(format!("{one}; {other}")),
        (one, other) => one.and(other),
    }
}

/// Waits for `child`; none when it was killed at the limit with all that it had started.
fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, String> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            kill_tree(child)?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kills `child` and its descendants, which would keep our output open.
fn kill_tree(child: &mut Child) -> Result<(), String> {
    let mut tree = vec![child.id()];
    let mut next = 0;
    while let Some(parent) = tree.get(next) {
        tree.extend(children(*parent));
        next += 1;
    }
    let ids = tree.iter().map(u32::to_string);
    // Some may have ended by themselves meanwhile.
    let _ = quiet(Command::new("kill").arg("-KILL").args(ids));
    // Where there is no `kill`, at least this one.
    let _ = child.kill();
    child.wait().map_err(|error| error.to_string())?;
    Ok(())
}

/// The processes that `parent` started, by /proc; none where there is no such thing.
fn children(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let lists = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("children")));
    lists
        .flat_map(|list| {
            let ids = list.split_whitespace().map(str::parse);
            ids.flatten().collect::<Vec<u32>>()
        })
        .collect()
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
    let Some(status) = wait_within(&mut child, limit)? else {
        return Ok(Ended::TimedOut);
    };
    Ok(Ended::Exited {
        success: status.success(),
        stderr: std::fs::read_to_string(log).map_err(say)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    fn log(name: &str) -> PathBuf {
        root()
            .join("target/xtask")
            .join(format!("{name}-{}.log", std::process::id()))
    }

    #[test]
    fn a_command_that_hangs_is_ended_at_the_deadline() {
        let path = log("hang");
        // A grandchild keeps the pipe open until it is gone, too.
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo started; wait"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "started\n");
        assert_eq!(wait_within(&mut child, Duration::ZERO), Ok(None));
        line.clear();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "");

        let ended = run_within(Command::new("sleep").arg("600"), Duration::ZERO, &path);
        assert!(matches!(ended, Ok(Ended::TimedOut)));
        let ended = run_for(Command::new("sleep").arg("600"), Duration::ZERO);
        assert!(ended.unwrap_err().contains("was killed"));
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
    fn the_exit_code_of_a_command_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 2"]);
        assert_eq!(status_within(&mut command, LIMIT).unwrap().code(), Some(2));
        assert_eq!(run(&mut command).unwrap_err(), "ended with exit status: 2");
    }

    #[test]
    fn of_two_results_neither_hides_the_other() {
        let wrong = |why: &str| Err::<(), _>(why.to_owned());
        assert_eq!(both(Ok(()), Ok(())), Ok(()));
        assert_eq!(both(wrong("a"), Ok(())), wrong("a"));
        assert_eq!(both(Ok(()), wrong("b")), wrong("b"));
        assert_eq!(both(wrong("a"), wrong("b")), wrong("a; b"));
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.contains("no-such-program-here"), "{error}");
        assert!(!answers(&mut Command::new("no-such-program-here")));
    }
}
