//! Usage errors in this command's voice.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::failure::Exit;
use crate::output::say;

/// Prints help and version as they are, and everything else as an error with
/// its usage; gives the exit code.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed stdout is the reader's choice.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
        }
        _ => {
            let (message, hint) = split(&error.render().to_string());
            say("error", &message);
            say("hint", &hint);
        }
    }
    ExitCode::from(Exit::Usage as u8)
}

/// The message of a rendered error, and its tips with the usage line.
fn split(rendered: &str) -> (String, String) {
    let text = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (mut message, mut hints) = (Vec::new(), Vec::new());
    for line in lines {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            hints.push(format!("usage: {usage}"));
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            hints.push(tip.to_owned());
        } else if !line.starts_with("For more information") {
            message.push(line);
        }
    }
    hints.push("try --help".to_owned());
    (message.join(" "), hints.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_error_is_one_line_and_its_advice_another() {
        let rendered = "error: unexpected argument '--colour' found\n\n  tip: a similar argument \
                        exists: '--color'\n\nUsage: vram digest [OPTIONS] <FILE>...\n\nFor more \
                        information, try '--help'.\n";
        let (message, hint) = split(rendered);
        assert_eq!(message, "unexpected argument '--colour' found");
        assert_eq!(
            hint,
            "a similar argument exists: '--color'; usage: vram digest [OPTIONS] <FILE>...; try --help"
        );
    }
}
