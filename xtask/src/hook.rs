//! `cargo xtask hook`: an optional pre-commit hook with the quick checks of the crates that
//! what is staged belongs to.
//! requirement: CI-JOB-8

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tree::Tree;
use crate::{Task, exec, only_options, properties, tidy, trace};

pub(crate) const TASK: Task = Task {
    usage: "hook [--remove | --run]",
    summary: "Install a pre-commit hook: format, tidy, trace, lints and tests of changed crates",
    help: "\
--remove   take the hook away; one that this task did not install stays
--run      do what the hook does
The files are checked as they are in the folder: the hook refuses when a staged file has changes
that are not staged, for then they would be checked instead. Property tests run for the crates
that depend on the changed ones, too.
Nobody needs the hook: CI checks more. `git commit --no-verify` passes it by.
example: cargo xtask hook
example: cargo xtask hook --remove",
    run,
};

/// The hook; a hook of any other text is somebody else's.
const SCRIPT: &str = include_str!("hook.sh");

fn run(args: &[String]) -> Result<(), String> {
    only_options(args, &["--remove", "--run"])?;
    match args {
        [] => install(&exec::root()),
        [one] if one == "--remove" => remove(&exec::root()),
        [_] => check(&exec::root()),
        _ => Err("--remove and --run exclude each other".to_owned()),
    }
}

/// What git says in `root`, without the newline.
fn git(root: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git").args(args).current_dir(root).output();
    let output = output.map_err(|error| format!("`git` could not be started: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("git {}: {} {why}", args.join(" "), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Where the hook of the repository at `root` lies. A folder of hooks that the user named may
/// serve other repositories too and is not touched.
fn place(root: &Path) -> Result<PathBuf, String> {
    if let Ok(folder) = git(root, &["config", "--get", "core.hooksPath"]) {
        return Err(format!(
            "git takes its hooks from {folder} (core.hooksPath); call \
             `cargo xtask hook --run` from the pre-commit hook there"
        ));
    }
    let path = git(root, &["rev-parse", "--git-path", "hooks/pre-commit"])?;
    Ok(root.join(path))
}

/// The hook that is there, if any.
fn present(hook: &Path) -> Result<Option<String>, String> {
    match fs::read(hook) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", hook.display())),
    }
}

fn install(root: &Path) -> Result<(), String> {
    let hook = place(root)?;
    let say = |error: std::io::Error| format!("{}: {error}", hook.display());
    match present(&hook)? {
        Some(text) if text == SCRIPT => {
            println!("{} is installed already", hook.display());
            return Ok(());
        }
        Some(_) => {
            return Err(format!(
                "{} is not ours and stays as it is; call `cargo xtask hook --run` in it",
                hook.display()
            ));
        }
        None => {}
    }
    fs::create_dir_all(hook.parent().unwrap_or(root)).map_err(say)?;
    fs::write(&hook, SCRIPT).map_err(say)?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).map_err(say)?;
    println!("installed {}", hook.display());
    Ok(())
}

fn remove(root: &Path) -> Result<(), String> {
    let hook = place(root)?;
    match present(&hook)? {
        None => {
            println!("{} is not there", hook.display());
            Ok(())
        }
        Some(text) if text == SCRIPT => {
            fs::remove_file(&hook).map_err(|error| format!("{}: {error}", hook.display()))?;
            println!("removed {}", hook.display());
            Ok(())
        }
        Some(_) => Err(format!("{} is not ours and stays", hook.display())),
    }
}

/// Everything that the hook checks, the quickest first; stops at the first failure.
fn check(root: &Path) -> Result<(), String> {
    let staged = git(root, &["diff", "--cached", "--name-only"])?;
    as_staged(root, &staged)?;
    step(&["fmt", "--all", "--check"])?;
    tidy::check()?;
    trace::check()?;
    let properties = properties::programs(&Tree::read(root)?);
    for args in commands(&packages(&staged, root)?, &properties, root)? {
        step(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Refuses when a staged file is not the one that the checks would read.
fn as_staged(root: &Path, staged: &str) -> Result<(), String> {
    let changed = git(root, &["diff", "--name-only"])?;
    let both = |path: &&str| changed.lines().any(|changed| changed == *path);
    let both: Vec<&str> = staged.lines().filter(both).collect();
    if both.is_empty() {
        return Ok(());
    }
    Err(format!(
        "staged, with changes that are not: {}; stage them, or put them aside (git stash \
         --keep-index)",
        both.join(", ")
    ))
}

/// Runs cargo without what git tells its hooks, which would lead tests that use git astray.
fn step(args: &[&str]) -> Result<(), String> {
    let mut command = exec::cargo(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    exec::run(&mut command).map_err(|end| format!("`cargo {}` {end}", args.join(" ")))
}

/// The packages that the staged files belong to; a manifest of the workspace concerns all.
fn packages(staged: &str, root: &Path) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    for path in staged.lines() {
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["crates", package, _, ..] if root.join("crates").join(package).is_dir() => {
                found.insert((*package).to_owned());
            }
            ["xtask", ..] => {
                found.insert("xtask".to_owned());
            }
            ["Cargo.toml" | "Cargo.lock"] => found.extend(all_packages(root)?),
            _ => {}
        }
    }
    Ok(found)
}

fn all_packages(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("crates");
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = vec!["xtask".to_owned()];
    for entry in fs::read_dir(&folder).map_err(say)? {
        found.push(
            entry
                .map_err(say)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    Ok(found)
}

/// Some packages and all that depend on them, through others as well.
fn with_dependents(packages: &BTreeSet<String>, root: &Path) -> Result<BTreeSet<String>, String> {
    let all = all_packages(root)?;
    let mut found = packages.clone();
    loop {
        let depends = |name: &&String| {
            let manifest = root.join("crates").join(name).join("Cargo.toml");
            let manifest = fs::read_to_string(manifest).unwrap_or_default();
            let mut lines = manifest.lines();
            lines.any(|line| found.contains(line.split([' ', '.']).next().unwrap_or_default()))
        };
        let more: Vec<String> = all.iter().filter(depends).cloned().collect();
        let before = found.len();
        found.extend(more);
        if found.len() == before {
            return Ok(found);
        }
    }
}

/// Lints and unit tests of some packages, and property tests of those and of all that depend on
/// them, as arguments of cargo.
fn commands(
    packages: &BTreeSet<String>,
    properties: &[properties::Program],
    root: &Path,
) -> Result<Vec<Vec<String>>, String> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let chosen: Vec<&str> = packages
        .iter()
        .flat_map(|name| ["--package", name])
        .collect();
    let owned = |parts: &[&[&str]]| parts.concat().into_iter().map(str::to_owned).collect();
    // cargo refuses `--lib` when none of the packages has one.
    let library = |name: &String| root.join("crates").join(name).join("src/lib.rs").exists();
    let kinds: &[&str] = match packages.iter().any(library) {
        true => &["--lib", "--bins"],
        false => &["--bins"],
    };
    let lints = ["--all-targets", "--", "-D", "warnings"];
    let mut commands = vec![
        owned(&[&["clippy", "--quiet"], &chosen, &lints]),
        owned(&[&["test", "--quiet"], &chosen, kinds]),
    ];
    for package in &with_dependents(packages, root)? {
        let of_package = properties.iter().filter(|(owner, _)| owner == package);
        let tests: Vec<&str> = of_package
            .flat_map(|(_, name)| ["--test", name.as_str()])
            .collect();
        if !tests.is_empty() {
            let package = ["--package", package.as_str()];
            commands.push(owned(&[&["test", "--quiet"], &package, &tests]));
        }
    }
    Ok(commands)
}

#[cfg(test)]
mod tests;
