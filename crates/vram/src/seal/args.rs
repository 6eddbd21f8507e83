//! Option values of `vram seal` and `vram attest` that need reading.

use std::time::Duration;

use clap::ValueEnum;
use vram_digest::FileDigest;
use vram_residency::Mode;
use vram_residency::format::Format;
use vram_residency::load::FormatChoice;

/// `--format`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FormatArg {
    /// By extension and first bytes; a claim that does not hold is an error
    Auto,
    /// Plain bytes, no tensors
    Raw,
    /// A safetensors file
    Safetensors,
    /// A GGUF file
    Gguf,
}

impl FormatArg {
    pub(crate) const fn choice(self) -> FormatChoice {
        match self {
            Self::Auto => FormatChoice::Auto,
            Self::Raw => FormatChoice::Exactly(Format::Raw),
            Self::Safetensors => FormatChoice::Exactly(Format::Safetensors),
            Self::Gguf => FormatChoice::Exactly(Format::Gguf),
        }
    }
}

/// `--mode`: how a held shard is verified again.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ModeArg {
    /// SHA-256 of every byte, on the device
    Full,
    /// Keyed hash of every byte, at the speed of memory
    Keyed,
    /// The record and the driver's answers; no byte of the model
    TagOnly,
}

impl ModeArg {
    pub(super) const fn mode(self) -> Mode {
        match self {
            Self::Full => Mode::Full,
            Self::Keyed => Mode::Keyed,
            Self::TagOnly => Mode::TagOnly,
        }
    }
}

/// `sha256:HEX` as `fsverity digest` prints it; the prefix may be left out.
pub(super) fn digest(text: &str) -> Result<FileDigest, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    digits.parse().map_err(|error| format!("{error}"))
}

/// What `sha256sum` prints: bare hex digits.
pub(super) fn content(text: &str) -> Result<String, String> {
    if text.starts_with("sha256:") {
        return Err("that is the form of an fs-verity digest; use --expect for it".to_owned());
    }
    // Same alphabet and length as a file digest, other meaning.
    let parsed = text.parse::<FileDigest>();
    parsed.map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// `500ms`, `60s`, `5m`, `2h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("'{text}' is not a time; write 500ms, 60s, 5m or 2h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| refused())?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    let time = match text.strip_prefix(digits).unwrap_or_default() {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => seconds(60),
        "h" => seconds(3600),
        _ => None,
    };
    time.filter(|time| !time.is_zero()).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("60"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in [
            "",
            "s",
            "0s",
            "-1s",
            "1d",
            "1.5s",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_are_lower_case_and_whole() {
        let hex = "0123456789abcdef".repeat(4);
        assert!(digest(&hex).is_ok() && digest(&format!("sha256:{hex}")).is_ok());
        assert_eq!(content(&hex), Ok(hex.clone()));
        assert!(
            digest(&hex.to_uppercase())
                .unwrap_err()
                .contains("upper-case")
        );
        assert!(digest("0123").unwrap_err().contains("4 characters"));
        assert!(
            content(&format!("sha256:{hex}"))
                .unwrap_err()
                .contains("--expect")
        );
    }
}
