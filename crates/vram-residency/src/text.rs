//! Text from outside in messages: paths and names may hold anything.

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
    }
}
