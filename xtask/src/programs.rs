//! The programs that a build makes, as cargo tells them.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A test, example or binary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) package: String,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The folder of its package, in which cargo runs its tests.
    pub(crate) folder: PathBuf,
    pub(crate) is_test: bool,
}

/// Runs the build `command` of cargo, its words on our standard error; what it built or found
/// built.
pub(crate) fn build(command: &mut Command) -> Result<Vec<Program>, String> {
    let output = command
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("the build ended with {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(Program::parse).collect())
}

impl Program {
    /// One line of cargo's messages, when it names a program.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(line).ok()?;
        let path = PathBuf::from(message.get("executable")?.as_str()?);
        let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
        Some(Self {
            package: folder.file_name()?.to_str()?.to_owned(),
            name: message.get("target")?.get("name")?.as_str()?.to_owned(),
            path,
            folder: folder.to_path_buf(),
            is_test: message.get("profile")?.get("test")?.as_bool()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_other_messages() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/vram/Cargo.toml",
            "target":{"name":"hold"},"profile":{"test":true},"executable":"/t/hold-1"}"#;
        let program = Program {
            package: "vram".to_owned(),
            name: "hold".to_owned(),
            path: "/t/hold-1".into(),
            folder: "/r/crates/vram".into(),
            is_test: true,
        };
        assert_eq!(Program::parse(line), Some(program));
        let example = line.replace("true", "false");
        assert!(!Program::parse(&example).unwrap().is_test);
        let library = line.replace(r#""/t/hold-1""#, "null");
        assert_eq!(Program::parse(&library), None);
        assert_eq!(Program::parse("warning: not json"), None);
    }
}
