//! Text from outside in messages, events and on terminals: paths and names may
//! hold anything. The one place that says what is shown as it is.

use std::fmt::{self, Write as _};
use std::path::Path;

/// Shows text with everything escaped that a terminal or a log would not show
/// as it is: control characters, and marks that turn the reading direction.
pub(crate) struct Shown<'t>(pub(crate) &'t str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\'' | '"' | '\\' => f.write_char(c),
            other => other.escape_debug().try_for_each(|c| f.write_char(c)),
        })
    }
}

/// `text` with everything escaped that does not show as itself: control
/// characters, marks that turn the reading direction, and what cannot be seen
/// (requirement: AU-11, VA-4). Escaping twice is escaping once.
#[must_use]
pub fn printable(text: &str) -> String {
    Shown(text).to_string()
}

/// Whether a character would be escaped. Marks that join the letter before them
/// show only with it: names may hold those that can be seen.
pub(crate) fn is_hidden(c: char) -> bool {
    let unseen = matches!(c,
        '\u{34f}' | '\u{180b}'..='\u{180f}' | '\u{200c}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{e0000}'..='\u{e0fff}');
    let joined = ['a', c].iter().collect::<String>();
    let escaped = !matches!(c, '\'' | '"' | '\\') && joined.escape_debug().count() > 2;
    unseen || escaped
}

/// The same for a path.
pub(crate) fn shown_path(path: &Path) -> String {
    Shown(&path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: VA-4
    #[test]
    fn only_what_can_be_seen_is_shown_as_it_is() {
        let shown = |text| Shown(text).to_string();
        assert_eq!(
            shown("dir/mod\u{e8}le 'a'.gguf"),
            "dir/mod\u{e8}le 'a'.gguf"
        );
        let nasty = shown("a\u{1b}[31m\r\n\0\u{202e}\u{7f}\u{9b}");
        assert_eq!(nasty, "a\\u{1b}[31m\\r\\n\\0\\u{202e}\\u{7f}\\u{9b}");
        assert_eq!(shown_path(Path::new("a\nb")), "a\\nb");
        assert_eq!(shown(&nasty), nasty);
    }

    #[test]
    fn what_cannot_be_seen_is_hidden_and_letters_of_all_languages_are_not() {
        for hidden in HIDDEN {
            assert!(is_hidden(hidden), "{hidden:?}");
            let escaped = format!("a\\u{{{:x}}}b", u32::from(hidden));
            assert_eq!(printable(&format!("a{hidden}b")), escaped);
        }
        let names =
            "mod\u{e8}le e\u{301} 'a' \"b\" c\\d \u{6a21}\u{578b} \u{92e}\u{949}\u{921}\u{932}";
        for c in names.chars() {
            assert!(!is_hidden(c), "{c:?}");
        }
    }

    /// Bidirectional marks, joiners, fillers, variation selectors and tags.
    const HIDDEN: [char; 12] = [
        '\u{1b}',
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{200f}',
        '\u{202e}',
        '\u{2066}',
        '\u{feff}',
        '\u{e0041}',
    ];
}
