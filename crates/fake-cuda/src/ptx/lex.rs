//! Splits PTX text into words, numbers, strings and punctuation.

use super::error::PtxError;

/// One token with the line it stands on (1-based).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: u32,
    pub(crate) kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Identifier, register, directive, opcode or number, as written.
    Word(String),
    /// Text between double quotes.
    Text(String),
    Punct(char),
}

/// A PTX module larger than this is refused (bytes).
const MAX_TEXT: usize = 64 << 20;

/// Cuts `text` into tokens; comments vanish.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, PtxError> {
    if text.len() > MAX_TEXT {
        return Err(PtxError::syntax(0, "module text is larger than 64 MiB"));
    }
    let mut lexer = Lexer {
        chars: text.char_indices().peekable(),
        text,
        line: 1,
        out: Vec::new(),
    };
    while lexer.step()? {}
    Ok(lexer.out)
}

struct Lexer<'a> {
    chars: std::iter::Peekable<std::str::CharIndices<'a>>,
    text: &'a str,
    line: u32,
    out: Vec<Token>,
}

fn word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%' | '.')
}

impl Lexer<'_> {
    fn step(&mut self) -> Result<bool, PtxError> {
        let Some(&(at, c)) = self.chars.peek() else {
            return Ok(false);
        };
        if c == '\n' {
            self.line = self.line.saturating_add(1);
        }
        if c.is_whitespace() {
            self.chars.next();
        } else if self.rest(at).starts_with("//") {
            while self.chars.next_if(|&(_, c)| c != '\n').is_some() {}
        } else if self.rest(at).starts_with("/*") {
            self.block_comment(at)?;
        } else if c == '"' {
            self.text_literal()?;
        } else if word_char(c) {
            self.word(at);
        } else if "{}()[],;:+-!@|<>=".contains(c) {
            self.chars.next();
            self.push(TokenKind::Punct(c));
        } else {
            return Err(PtxError::syntax(
                self.line,
                format!("unexpected character {c:?}"),
            ));
        }
        Ok(true)
    }

    fn rest(&self, at: usize) -> &str {
        self.text.get(at..).unwrap_or("")
    }

    fn push(&mut self, kind: TokenKind) {
        self.out.push(Token {
            line: self.line,
            kind,
        });
    }

    fn block_comment(&mut self, at: usize) -> Result<(), PtxError> {
        let body = self.rest(at).get(2..).unwrap_or("");
        let Some(len) = body.find("*/") else {
            return Err(PtxError::syntax(self.line, "comment is not closed"));
        };
        let end = at.saturating_add(len).saturating_add(4);
        while let Some((_, c)) = self.chars.next_if(|&(i, _)| i < end) {
            if c == '\n' {
                self.line = self.line.saturating_add(1);
            }
        }
        Ok(())
    }

    fn text_literal(&mut self) -> Result<(), PtxError> {
        self.chars.next();
        let mut body = String::new();
        loop {
            match self.chars.next() {
                Some((_, '"')) => break,
                Some((_, '\n')) | None => {
                    return Err(PtxError::syntax(self.line, "string is not closed"));
                }
                Some((_, c)) => body.push(c),
            }
        }
        self.push(TokenKind::Text(body));
        Ok(())
    }

    /// A word may hold `::` (as in `.L2::128B`), but one colon ends a label.
    fn word(&mut self, at: usize) {
        let mut word = String::new();
        loop {
            while let Some((_, c)) = self.chars.next_if(|&(_, c)| word_char(c)) {
                word.push(c);
            }
            if !self.rest(at.saturating_add(word.len())).starts_with("::") {
                break;
            }
            for _ in 0..2 {
                self.chars.next();
                word.push(':');
            }
        }
        self.push(TokenKind::Word(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text)
            .unwrap()
            .into_iter()
            .map(|t| match t.kind {
                TokenKind::Word(w) => w,
                TokenKind::Text(s) => format!("{s:?}"),
                TokenKind::Punct(c) => c.to_string(),
            })
            .collect()
    }

    #[test]
    fn splits_an_instruction() {
        assert_eq!(
            words("@!%p1 ld.global.L2::128B.u32 %r1, [%rd2+-4]; // tail"),
            [
                "@",
                "!",
                "%p1",
                "ld.global.L2::128B.u32",
                "%r1",
                ",",
                "[",
                "%rd2",
                "+",
                "-",
                "4",
                "]",
                ";"
            ]
        );
    }

    #[test]
    fn label_colon_is_its_own_token_and_lines_count_through_comments() {
        let all = tokens("/* a\n b */ $L1:\n\"x y\"").unwrap();
        let lines: Vec<u32> = all.iter().map(|t| t.line).collect();
        assert_eq!(lines, [2, 2, 3]);
        assert_eq!(words("$L1: bra $L1;"), ["$L1", ":", "bra", "$L1", ";"]);
    }

    #[test]
    fn refuses_unclosed_and_foreign_text() {
        for bad in ["/* x", "\"abc", "mov ?", "\u{e9}"] {
            assert!(tokens(bad).is_err(), "{bad}");
        }
    }
}
