//! The hook in repositories made for the purpose.

use super::*;

/// An empty repository that is removed at the end.
struct Repository(PathBuf);

impl Repository {
    fn new(name: &str) -> Self {
        let name = format!("hook-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        git(&folder, &["init", "--quiet"]).unwrap();
        Self(folder)
    }

    fn hook(&self) -> PathBuf {
        self.0.join(".git/hooks/pre-commit")
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// requirement: CI-JOB-8
#[test]
fn the_hook_is_installed_once_and_removed() {
    let repository = Repository::new("installed");
    install(&repository.0).unwrap();
    install(&repository.0).unwrap();
    let mode = fs::metadata(repository.hook())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111);
    assert_eq!(fs::read_to_string(repository.hook()).unwrap(), SCRIPT);
    remove(&repository.0).unwrap();
    assert!(!repository.hook().exists());
    remove(&repository.0).unwrap();
}

#[test]
fn a_hook_of_somebody_else_is_neither_replaced_nor_removed() {
    let repository = Repository::new("foreign");
    fs::create_dir_all(repository.hook().parent().unwrap()).unwrap();
    fs::write(repository.hook(), "#!/bin/sh\nexit 0\n").unwrap();
    assert!(install(&repository.0).unwrap_err().contains("not ours"));
    assert!(remove(&repository.0).unwrap_err().contains("not ours"));
    let text = fs::read_to_string(repository.hook()).unwrap();
    assert_eq!(text, "#!/bin/sh\nexit 0\n");
}

#[test]
fn a_folder_of_hooks_that_the_user_named_is_left_alone() {
    let repository = Repository::new("named");
    let folder = repository.0.join("everyones-hooks");
    let folder_text = folder.to_str().unwrap();
    git(&repository.0, &["config", "core.hooksPath", folder_text]).unwrap();
    let error = install(&repository.0).unwrap_err();
    assert!(
        error.contains("core.hooksPath") && error.contains("--run"),
        "{error}"
    );
    assert!(!folder.exists());
}

/// Commits an empty change in a place where `cargo` is a script that ends with `status`.
fn commit(repository: &Repository, status: u8) -> std::process::Output {
    let bin = repository.0.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let cargo = bin.join("cargo");
    let script = format!("#!/bin/sh\necho \"$@\" > said\nexit {status}\n");
    fs::write(&cargo, script).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b.invalid"])
        .args(["commit", "--quiet", "--allow-empty", "--message", "test"])
        .current_dir(&repository.0)
        .env("PATH", format!("{}:{path}", bin.display()))
        .output()
        .unwrap()
}

#[test]
fn git_runs_the_hook_and_a_failed_check_stops_the_commit() {
    let repository = Repository::new("commit");
    install(&repository.0).unwrap();
    assert!(!commit(&repository, 1).status.success());
    assert!(git(&repository.0, &["rev-parse", "--verify", "HEAD"]).is_err());
    let said = fs::read_to_string(repository.0.join("said")).unwrap();
    assert_eq!(said, "xtask hook --run\n");
    let output = commit(&repository, 0);
    assert!(output.status.success(), "{output:?}");
    assert!(git(&repository.0, &["rev-parse", "--verify", "HEAD"]).is_ok());
}

#[test]
fn staged_files_choose_the_packages() {
    let root = exec::root();
    let chosen = |staged: &str| Vec::from_iter(packages(staged, &root).unwrap());
    assert_eq!(chosen("README.md\nfuzz/Cargo.toml"), Vec::<String>::new());
    let staged = "crates/vram/src/main.rs\ncrates/gone/src/lib.rs\nxtask/src/ci.rs";
    assert_eq!(chosen(staged), ["vram", "xtask"]);
    let all = chosen("Cargo.lock");
    assert!(
        all.contains(&"fake-cuda".to_owned()) && all.len() >= 6,
        "{all:?}"
    );
}

#[test]
fn changed_packages_are_linted_and_tested_with_their_properties() {
    let lines = |names: &[&str]| -> Vec<String> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let properties =
            ["bounds", "properties"].map(|test| ("vram-residency".to_owned(), test.to_owned()));
        commands(&names, &properties, &exec::root())
            .unwrap()
            .iter()
            .map(|args| args.join(" "))
            .collect()
    };
    assert!(lines(&[]).is_empty());
    assert_eq!(
        lines(&["vram"])[1..],
        ["test --quiet --package vram --bins"]
    );
    let of_dependent = "test --quiet --package vram-residency --test bounds --test properties";
    assert_eq!(lines(&["vram-digest"])[2], of_dependent);
    assert_eq!(
        lines(&["vram", "vram-residency"]),
        [
            "clippy --quiet --package vram --package vram-residency --all-targets -- -D warnings",
            "test --quiet --package vram --package vram-residency --lib --bins",
            "test --quiet --package vram-residency --test bounds --test properties",
        ]
    );
}

#[test]
fn a_staged_file_that_was_changed_again_is_refused() {
    let repository = Repository::new("again");
    let file = repository.0.join("file");
    fs::write(&file, "staged\n").unwrap();
    git(&repository.0, &["add", "file"]).unwrap();
    let staged = git(&repository.0, &["diff", "--cached", "--name-only"]).unwrap();
    assert_eq!(as_staged(&repository.0, &staged), Ok(()));
    fs::write(&file, "changed\n").unwrap();
    assert_eq!(as_staged(&repository.0, ""), Ok(()));
    let error = as_staged(&repository.0, &staged).unwrap_err();
    assert!(
        error.contains("file") && error.contains("git stash"),
        "{error}"
    );
}
