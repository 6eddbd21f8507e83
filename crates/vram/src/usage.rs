//! Usage errors in this command's voice.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Prints help and version as they are, and everything else as an error with
/// its usage, as JSON, too, when that was among the arguments; gives the exit
/// code.
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
            // Nothing was parsed, so the words themselves are asked.
            let words = std::env::args_os().skip(1).take_while(|word| word != "--");
            let is_json = words.into_iter().any(|word| word == "--json");
            return Failure::usage(message)
                .hint(hint)
                .report(&Output::new(is_json, false, false));
        }
    }
    ExitCode::from(Exit::Usage as u8)
}

/// The message of a rendered error, and its tips with the usage line.
fn split(rendered: &str) -> (String, String) {
    let text = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (mut message, mut hints) = (Vec::new(), Vec::new());
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            hints.push(format!("usage: {usage}"));
            // Several forms, each on a line of its own.
            while let Some(form) = lines.next_if(|line| line.starts_with("vram ")) {
                hints.push(format!("or: {form}"));
            }
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

    #[test]
    fn every_form_of_the_usage_is_advice() {
        let rendered = "error: unexpected argument '-1' found\n\nUsage: vram bench [OPTIONS]\n       \
                        vram bench <COMMAND>\n\nFor more information, try '--help'.\n";
        let (message, hint) = split(rendered);
        assert_eq!(message, "unexpected argument '-1' found");
        assert_eq!(
            hint,
            "usage: vram bench [OPTIONS]; or: vram bench <COMMAND>; try --help"
        );
    }
}
