//! `vram doctor`.

mod driver;
mod host;
mod secrets;

use serde::Serialize;

use crate::failure::Failure;
use crate::keys::KeyArgs;
use crate::output::Output;

/// Look at this machine: what was found, whether it is fine, what to do
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram doctor
  vram doctor --key-file worker.key     also check the key file
  vram doctor --json

Exit codes: 0 fine, 1 a check says 'bad', 2 usage; 'look' is worth knowing and no
failure.")]
pub(crate) struct Args {
    #[command(flatten)]
    key: KeyArgs,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Works, or works in part; worth knowing.
    Look,
    Bad,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    advice: Option<String>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    checks: Vec<Check>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn look(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Look,
            advice: Some(advice.into()),
            ..Self::ok(name, found)
        }
    }

    fn bad(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Bad,
            ..Self::look(name, found, advice)
        }
    }
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let mut checks = vec![
            host::digest_path(),
            host::memory(),
            host::huge_pages(),
            secrets::key_memory(),
            secrets::locked_memory(),
            secrets::credentials(),
        ];
        checks.extend(secrets::key(&self.key));
        checks.push(host::device_nodes());
        checks.extend(driver::checks());
        let bad = checks.iter().filter(|check| check.verdict == Verdict::Bad);
        let bad = bad.count();
        if output.is_json() {
            let schema = "vram-residency/doctor/v1";
            output.json(&Report { schema, checks })?;
        } else {
            checks.iter().try_for_each(|check| print(check, output))?;
        }
        if bad == 0 {
            return Ok(());
        }
        Err(Failure::new(format!("{bad} check(s) are bad")).hint("do what the checks say"))
    }
}

fn print(check: &Check, output: &Output) -> Result<(), Failure> {
    let verdict = match check.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Look => "look",
        Verdict::Bad => "bad ",
    };
    let found = crate::text::printable(&check.found);
    output.line(format!("{verdict}  {:<18}{found}", check.name))?;
    match &check.advice {
        Some(advice) => output.line(format!("{:24}-> {}", "", crate::text::printable(advice))),
        None => Ok(()),
    }
}
