//! How a command fails: exit code, message, hint.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::process::ExitCode;

use rustix::io::Errno;
use serde::Serialize;
use vram_residency::device::DeviceError;
use vram_residency::error::{Code, Damage, Gravity, InputError, VerifyError};
use vram_residency::format::FormatError;
use vram_residency::key::KeyError;
use vram_residency::load::LoadError;
use vram_residency::policy::PolicyError;
use vram_residency::{Error, error::Misuse};

use crate::output::{Output, say};
use crate::text::printable;

/// Bytes of one digest block.
const BLOCK: u64 = vram_digest::BLOCK_BYTES as u64;
/// Claims from here on are no claims of a real file, whatever they count.
const ABSURD: u64 = 1 << 44;
/// Runs of bad blocks that are printed one by one; JSON has more.
const SHOWN_RUNS: usize = 8;

/// What the exit code says (design 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    Failure = 1,
    Usage = 2,
    /// Bytes, record or digest are not what they should be.
    Verification = 3,
}

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    notes: Vec<String>,
    hint: Option<String>,
    code: Option<Code>,
    gravity: Gravity,
    damage: Option<Box<Damage>>,
    /// Everything was said already, or nobody listens.
    silent: bool,
}

/// The JSON form.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    exit: u8,
    code: Option<Code>,
    message: &'a str,
    notes: &'a [String],
    hint: Option<&'a str>,
    damage: Option<&'a Damage>,
}

impl Failure {
    /// Exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failure,
            message: message.into(),
            notes: Vec::new(),
            hint: None,
            code: None,
            gravity: Gravity::Unknown,
            damage: None,
            silent: false,
        }
    }

    /// Exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            ..Self::new(message)
        }
    }

    /// Exit code 3.
    pub(crate) fn verification(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Verification,
            code: Some(Code::SealVerificationFailed),
            gravity: Gravity::Finding,
            ..Self::new(message)
        }
    }

    /// A failure whose parts were reported one by one.
    pub(crate) fn reported(exit: Exit) -> Self {
        Self {
            exit,
            silent: true,
            ..Self::new("")
        }
    }

    /// Nobody reads the results any more, or they cannot be written.
    pub(crate) fn stdout(error: &std::io::Error) -> Self {
        Self {
            silent: error.kind() == ErrorKind::BrokenPipe,
            ..Self::new(format!("cannot write to stdout: {error}"))
        }
    }

    /// The stable code of a failure that is no error of the library.
    pub(crate) fn coded(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A further fact.
    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Names the file of an error that does not name it by itself.
    pub(crate) fn about(name: &str, error: Error) -> Self {
        let names_itself = matches!(
            error,
            Error::Load(_) | Error::Input(InputError::SourceSize { .. })
        );
        let failure = Self::from(error);
        if names_itself {
            failure
        } else {
            failure.naming(name)
        }
    }

    /// The failure to seal one file, which could be sealed without looking at
    /// its tensors; a pointer to a file never should.
    pub(crate) fn to_seal(name: &str, error: Error) -> Self {
        let advice = match &error {
            Error::Load(LoadError::Format { source, .. }) => match source.rule() {
                rule if is_pointer(rule) => None,
                FormatError::Path { .. } | FormatError::Io { .. } => None,
                FormatError::Truncated { .. } | FormatError::OutsideFile { .. } => {
                    Some("the file looks cut short: was the download complete?")
                }
                FormatError::OtherFormat { .. } => None,
                _ => Some("--format raw seals the bytes without looking at tensors"),
            },
            Error::Load(LoadError::NotWhole { .. }) => Some(
                "'vram seal' takes all files of a model; --format raw takes this file alone, as plain bytes",
            ),
            _ => None,
        };
        Self::about(name, error).advised(advice)
    }

    /// The failure to seal a part of a split model with all the others; alone it
    /// is sealed as a pointer to a file never should be.
    pub(crate) fn to_seal_part(name: &str, error: Error) -> Self {
        let advice = match &error {
            Error::Load(LoadError::Cancelled { .. } | LoadError::Deadline { .. }) => None,
            Error::Load(LoadError::Format { source, .. }) if is_pointer(source.rule()) => None,
            _ => Some("--format raw seals this part alone"),
        };
        Self::about(name, error).advised(advice)
    }

    /// With more to do about it.
    fn advised(self, more: Option<&str>) -> Self {
        match (more, self.advice()) {
            (None, _) => self,
            (Some(more), None) => self.hint(more),
            (Some(more), Some(first)) => {
                let both = format!("{first}; {more}");
                self.hint(both)
            }
        }
    }

    /// The one of two that is told, of equal ones the first, as
    /// [`Error::graver`] has it.
    pub(crate) fn graver(self, other: Self) -> Self {
        match other.gravity > self.gravity {
            true => other,
            false => self,
        }
    }

    /// Puts the file's name before the message.
    pub(crate) fn naming(mut self, name: &str) -> Self {
        self.message = format!("{name}: {}", self.message);
        self
    }

    /// What to do, where it is known.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What went wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Further facts.
    #[cfg(test)]
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it: people on stderr, programs on stdout.
    pub(crate) fn say(&self, output: &Output) {
        if self.silent {
            return;
        }
        say("error", &self.message);
        for note in &self.notes {
            output.note(note);
        }
        if let Some(hint) = &self.hint {
            say("hint", hint);
        }
        if output.is_json() {
            let message = printable(&self.message);
            let report = Report {
                schema: "vram-residency/failure/v1",
                exit: self.exit as u8,
                code: self.code,
                message: &message,
                notes: &self.notes,
                hint: self.hint.as_deref(),
                damage: self.damage.as_deref(),
            };
            // Failing already; a second failure to write changes nothing.
            let _ = output.json(&report);
        }
    }

    /// Says it and gives the exit code.
    pub(crate) fn report(&self, output: &Output) -> ExitCode {
        self.say(output);
        ExitCode::from(self.exit as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self::new(error.to_string());
        failure.code = Some(error.code());
        failure.gravity = error.gravity();
        failure.hint = hint(&error).map(Cow::into_owned);
        if let Error::Policy(PolicyError::NotSigned { .. }) = error {
            failure.exit = Exit::Verification;
        }
        if let Error::Verify(error) = error {
            failure.exit = Exit::Verification;
            if let VerifyError::Contents { damage, .. } = error {
                failure.notes = places(&damage);
                failure.damage = Some(damage);
            }
        }
        failure
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Error::from(error).into()
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Error::from(error).into()
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Error::from(error).into()
    }
}

/// What a person can do about it, where the message does not say it.
fn hint(error: &Error) -> Option<Cow<'static, str>> {
    match error {
        Error::Load(LoadError::Format { source, .. }) => {
            about_format(source.rule()).map(Cow::Owned)
        }
        _ => plain_hint(error).map(Cow::Borrowed),
    }
}

/// Whether git-LFS left a pointer where the file should be.
const fn is_pointer(error: &FormatError) -> bool {
    matches!(
        error,
        FormatError::LfsPointer(_) | FormatError::LfsMalformed { .. }
    )
}

/// What to do about a file: the same for every command that reads it.
fn about_format(error: &FormatError) -> Option<String> {
    match error {
        FormatError::TooLarge {
            value,
            setting: Some(setting),
            ..
        } if *value < ABSURD => Some(match *setting {
            // It bounds all files of a command together.
            "table_bytes" => format!(
                "files that are trusted may have more together: --limit {setting}=N, {value} or more here; files that are no one model can be sealed fewer at a time"
            ),
            _ => format!(
                "a file that is trusted may have more: --limit {setting}=N, {value} or more here"
            ),
        }),
        FormatError::TooLarge { value, .. } if *value >= ABSURD => {
            Some("no file has so many: is it damaged, or another kind of file?".to_owned())
        }
        FormatError::OtherFormat { found, .. } => {
            let name = found.to_string().to_ascii_lowercase();
            Some(format!(
                "end the file's name with .{name}, or, to seal it, say --format {name}"
            ))
        }
        _ => None,
    }
}

/// A hint that needs nothing of the error.
fn plain_hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::Device(DeviceError::Unavailable { .. }) => {
            "without a GPU name the simulated device: --device sim; 'vram doctor' looks at the driver"
        }
        Error::Verify(VerifyError::Unexpected { algorithm, .. }) if *algorithm == "sha256" => {
            "--expect-content takes what sha256sum prints; for what 'fsverity digest' or 'vram digest' prints use --expect"
        }
        Error::Verify(VerifyError::Unexpected { .. }) => {
            "--expect takes what 'fsverity digest' or 'vram digest' prints; for what sha256sum prints use --expect-content"
        }
        Error::Verify(VerifyError::Contents { .. }) => {
            "do not run this model; seal it again, and check the memory of the device if it happens twice"
        }
        Error::Verify(VerifyError::UnknownKey { .. }) => {
            "name the key that the record was sealed with"
        }
        Error::Verify(VerifyError::Tag { .. }) => {
            "the record was changed after sealing, or was sealed with another key; do not trust it"
        }
        Error::Policy(PolicyError::NotSigned { .. }) => {
            "'vram approve' lists a model whose signature it checked; 'vram digest' prints what a file has"
        }
        Error::Key(KeyError::Open { .. }) => {
            "name a key file that this user can read; vram key new FILE makes one"
        }
        Error::Key(KeyError::NotRegular { .. }) => "name the file itself, not a link to it",
        Error::Input(
            InputError::ModelSize { len: 0, .. } | InputError::SourceSize { len: 0, .. },
        ) => "an empty model cannot be sealed; was the download complete?",
        Error::Load(LoadError::Open { source, .. })
            if Errno::from_io_error(source) == Some(Errno::MFILE) =>
        {
            "these are more files than this process may open; raise the hard limit: ulimit -Hn, or LimitNOFILE= in the unit; files that are no one model can be sealed fewer at a time"
        }
        Error::Load(LoadError::NotRegular { .. }) => {
            "name a regular file; for a pipe use: vram digest -"
        }
        Error::Misuse(Misuse::NotSealed) => "do not trust a record that does not say it is sealed",
        _ => return None,
    })
}

/// The bad blocks, each with its place in the file.
fn places(damage: &Damage) -> Vec<String> {
    let mut lines: Vec<String> = damage.runs.iter().take(SHOWN_RUNS).map(place).collect();
    if let Some(blocks) = damage.blocks.filter(|_| damage.runs.len() > SHOWN_RUNS) {
        lines.push(format!("{blocks} bad blocks in all; --json lists more"));
    }
    if !damage.tensors.is_empty() {
        lines.push(format!("tensors touched: {}", damage.tensors.join(", ")));
    }
    lines
}

fn place(&(first, count): &(u64, u64)) -> String {
    let start = first.saturating_mul(BLOCK);
    if count <= 1 {
        return format!("bad 4 KiB block {first} at file offset {start}");
    }
    let last = first.saturating_add(count).saturating_sub(1);
    format!("bad 4 KiB blocks {first} to {last} from file offset {start}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_to_be_raised_for_what_a_file_can_have() {
        let over = |value, setting| {
            about_format(&FormatError::TooLarge {
                field: "header length",
                value,
                limit: 1,
                setting,
            })
        };
        let raise = over(99, Some("header_bytes")).unwrap();
        assert!(raise.ends_with("--limit header_bytes=N, 99 or more here"));
        for hopeless in [over(u64::MAX, Some("header_bytes")), over(ABSURD, None)] {
            let hint = hopeless.unwrap();
            assert!(
                hint.contains("damaged") && !hint.contains("--limit"),
                "{hint}"
            );
        }
        assert_eq!(over(99, None), None, "the format's own bound");
        let several = over(99, Some("table_bytes")).unwrap();
        assert!(several.contains("--limit table_bytes=N, 99 or more here;"));
        assert!(several.ends_with("can be sealed fewer at a time"));
    }

    #[test]
    fn damage_names_blocks_offsets_and_tensors() {
        let damage = Damage {
            blocks: Some(4),
            runs: vec![(1, 1), (5, 3)],
            tensors: vec!["a.weight".to_owned(), "b".to_owned()],
            read_back: 4,
            confirmed: 4,
            withdrawn: 0,
            answers: Vec::new(),
        };
        assert_eq!(
            places(&damage),
            [
                "bad 4 KiB block 1 at file offset 4096",
                "bad 4 KiB blocks 5 to 7 from file offset 20480",
                "tensors touched: a.weight, b",
            ]
        );
    }
}
