//! Commands of tests. The language is described at the crate's root.

use std::str::SplitWhitespace;

use super::codes::CuError;
use super::options::{Options, bytes};
use super::plan::{Action, Effect, When};
use super::state::Driver;

/// A command that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadCommand;

/// Carries out one command.
pub(crate) fn command(driver: &mut Driver, text: &str) -> Result<(), BadCommand> {
    let mut words = text.split_whitespace();
    run(driver, &mut words)
        .filter(|()| words.next().is_none())
        .ok_or(BadCommand)
}

fn number<T: std::str::FromStr>(words: &mut SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn run(driver: &mut Driver, words: &mut SplitWhitespace<'_>) -> Option<()> {
    let verb = words.next()?;
    match verb {
        "reset" => {
            let options = Options::parse(words)?;
            driver.reset(options);
        }
        "fail" => {
            let (name, when) = (words.next()?, When::parse(words.next()?)?);
            let code = CuError(number(words)?);
            let sticky = match words.next() {
                None => false,
                Some("sticky") => true,
                Some(_) => return None,
            };
            driver.plan.add(name, when, Effect::Fail { code, sticky });
        }
        "skip" => {
            let (name, when) = (words.next()?, When::parse(words.next()?)?);
            // A call that is skipped would have to make its result up.
            name.strip_prefix("exec.")?;
            driver.plan.add(name, when, Effect::Skip);
        }
        "before" | "after" => {
            let (name, when) = (words.next()?, When::parse(words.next()?)?);
            let verb_word = words.next()?;
            let action = action(verb_word, words)?;
            let effect = if verb == "before" {
                Effect::Before(action)
            } else {
                Effect::After(action)
            };
            driver.plan.add(name, when, effect);
        }
        "meminfo" => {
            driver.plan.mem_info = Some((bytes(words.next()?)?, bytes(words.next()?)?));
        }
        "attribute" => {
            let key = (number(words)?, number(words)?);
            driver.plan.attributes.insert(key, number(words)?);
        }
        "pointer" => {
            driver.plan.pointer.insert(number(words)?, number(words)?);
        }
        "access" => driver.plan.access = Some(number(words)?),
        "location" => driver.plan.location_kind = Some(number(words)?),
        "clear" => driver.plan.clear(),
        "untrace" => driver.plan.counts.clear(),
        action_verb => {
            let action = action(action_verb, words)?;
            driver.act(&action);
        }
    }
    Some(())
}

fn action(verb: &str, words: &mut SplitWhitespace<'_>) -> Option<Action> {
    Some(match verb {
        "flip" => Action::Flip {
            serial: number(words)?,
            offset: number(words)?,
            bit: number(words).filter(|b| *b < 8)?,
        },
        "remap" => Action::Remap {
            from: number(words)?,
            to: number(words)?,
        },
        "sticky" => Action::Sticky {
            device: number(words)?,
            code: CuError(number(words)?),
        },
        _ => return None,
    })
}
