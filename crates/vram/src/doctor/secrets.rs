//! Whether keys are safe here.

use std::fs;

use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;

use super::Check;
use crate::environment;
use crate::keys::KeyArgs;
use crate::text;

/// Locked memory below this is little for keys and other users of it.
const LITTLE: u64 = 64 << 10;

/// Makes a key, as sealing does, and throws it away.
pub(super) fn key_memory() -> Check {
    const NAME: &str = "key memory";
    match RootKey::generate(&OsRandom) {
        Ok(_) => Check::ok(NAME, "locked, kept out of dumps"),
        Err(error) => Check::bad(NAME, error.to_string(), "without it no key can be held"),
    }
}

/// The limit that locked key pages count against.
pub(super) fn locked_memory() -> Check {
    const NAME: &str = "locked memory";
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match soft_limit(&limits, "Max locked memory") {
        Some(Limit::Unlimited) => Check::ok(NAME, "unlimited"),
        Some(Limit::Bytes(bytes)) if bytes >= LITTLE => Check::ok(NAME, text::size(bytes)),
        Some(Limit::Bytes(bytes)) => Check::look(
            NAME,
            text::size(bytes),
            "raise it: ulimit -l, or LimitMEMLOCK= in the unit",
        ),
        None => Check::look(NAME, "/proc/self/limits does not say", "mount /proc"),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Limit {
    Unlimited,
    Bytes(u64),
}

/// The soft limit of a line of `/proc/self/limits`.
fn soft_limit(limits: &str, name: &str) -> Option<Limit> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(Limit::Unlimited),
        number => number.parse().ok().map(Limit::Bytes),
    }
}

/// Whether systemd gave credentials.
pub(super) fn credentials() -> Check {
    const NAME: &str = "credentials";
    let Some(directory) = environment::credentials_directory() else {
        return Check::ok(
            NAME,
            "CREDENTIALS_DIRECTORY is not set; --key-credential is not available",
        );
    };
    let shown = directory.display();
    match fs::read_dir(&directory) {
        Ok(entries) => Check::ok(NAME, format!("{} in {shown}", entries.count())),
        Err(error) => Check::bad(
            NAME,
            format!("{shown}: {error}"),
            "look at LoadCredential= in the unit",
        ),
    }
}

/// The key that was named, if one was.
pub(super) fn key(key: &KeyArgs) -> Option<Check> {
    const NAME: &str = "key";
    match key.load() {
        Ok(None) => None,
        Ok(Some(_)) => Some(Check::ok(
            NAME,
            "readable by nobody else, of the right form",
        )),
        Err(failure) => {
            let advice = failure
                .advice()
                .unwrap_or("make one with: vram key new FILE");
            Some(Check::bad(NAME, failure.message(), advice))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max locked memory         8388608              unlimited            bytes\n\
                      Max core file size        unlimited            unlimited            bytes\n";
        assert_eq!(
            soft_limit(limits, "Max locked memory"),
            Some(Limit::Bytes(8_388_608))
        );
        assert_eq!(
            soft_limit(limits, "Max core file size"),
            Some(Limit::Unlimited)
        );
        assert_eq!(soft_limit(limits, "Max nothing"), None);
    }
}
