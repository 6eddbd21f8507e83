//! `xtask/mutants.txt`: survivors that are no gap in the tests, each with the reason.
//!
//! A line that starts in the first column is a mutant's name; the indented lines below it are the
//! reason. Lines that start with `#` and empty lines are for readers.

/// One entry of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) reason: String,
}

/// Reads the list; the error names the line.
pub(super) fn parse(text: &str) -> Result<Vec<Listed>, String> {
    let mut list: Vec<Listed> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let words = line.trim();
        if words.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with(' ') {
            let entry = list.last_mut();
            let entry = entry.ok_or_else(|| format!("line {number}: a reason of no mutant"))?;
            if !entry.reason.is_empty() {
                entry.reason.push(' ');
            }
            entry.reason.push_str(words);
        } else if list.iter().any(|entry| entry.name == words) {
            return Err(format!("line {number}: listed twice: {words}"));
        } else {
            let (name, reason) = (words.to_owned(), String::new());
            list.push(Listed { name, reason });
        }
    }
    match list.iter().find(|entry| entry.reason.is_empty()) {
        Some(entry) => Err(format!("no reason is given for: {}", entry.name)),
        None => Ok(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_reason_are_read() {
        let text = "# for readers\n\na.rs: change\n    It changes\n    nothing.\n";
        let (name, reason) = ("a.rs: change".to_owned(), "It changes nothing.".to_owned());
        assert_eq!(parse(text), Ok(vec![Listed { name, reason }]));
    }

    #[test]
    fn what_is_not_a_name_with_a_reason_is_refused() {
        for (text, why) in [
            ("    reason\n", "line 1: a reason of no mutant"),
            ("a.rs: change\n", "no reason is given for: a.rs: change"),
            ("a\n  b\na\n  c\n", "line 3: listed twice: a"),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn the_committed_list_can_be_read() {
        let path = crate::exec::root().join(super::super::LIST);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(parse(&text).is_ok(), "{:?}", parse(&text));
    }
}
