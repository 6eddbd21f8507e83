//! A cursor over tokens, with the small things every part of the parser needs.

use super::error::PtxError;
use super::lex::{Token, TokenKind};

pub(crate) struct Cursor {
    tokens: Vec<Token>,
    at: usize,
}

impl Cursor {
    pub(crate) fn new(tokens: Vec<Token>) -> Cursor {
        Cursor { tokens, at: 0 }
    }

    pub(crate) fn line(&self) -> u32 {
        let token = self.tokens.get(self.at).or_else(|| self.tokens.last());
        token.map_or(0, |t| t.line)
    }

    pub(crate) fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.at).map(|t| &t.kind)
    }

    pub(crate) fn peek_second(&self) -> Option<&TokenKind> {
        self.tokens.get(self.at.saturating_add(1)).map(|t| &t.kind)
    }

    pub(crate) fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    pub(crate) fn bump(&mut self) -> Option<TokenKind> {
        let token = self.tokens.get(self.at).map(|t| t.kind.clone());
        self.at = self.at.saturating_add(1);
        token
    }

    pub(crate) fn error(&self, what: impl Into<String>) -> PtxError {
        PtxError::syntax(self.line(), what)
    }

    pub(crate) fn is_punct(&self, c: char) -> bool {
        self.peek() == Some(&TokenKind::Punct(c))
    }

    /// Takes the punctuation if it is next.
    pub(crate) fn eat(&mut self, c: char) -> bool {
        let there = self.is_punct(c);
        if there {
            self.bump();
        }
        there
    }

    pub(crate) fn expect_punct(&mut self, c: char) -> Result<(), PtxError> {
        if self.eat(c) {
            Ok(())
        } else {
            Err(self.error(format!("expected {c:?}")))
        }
    }

    pub(crate) fn peek_word(&self) -> Option<&str> {
        match self.peek() {
            Some(TokenKind::Word(w)) => Some(w),
            _ => None,
        }
    }

    /// Takes the word if it is next.
    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        let there = self.peek_word() == Some(word);
        if there {
            self.bump();
        }
        there
    }

    pub(crate) fn word(&mut self) -> Result<String, PtxError> {
        match self.bump() {
            Some(TokenKind::Word(w)) => Ok(w),
            _ => Err(self.error("expected a word")),
        }
    }

    /// An identifier: a word that is not a number.
    pub(crate) fn name(&mut self) -> Result<String, PtxError> {
        let word = self.word()?;
        if word.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Err(self.error(format!("expected a name, found {word:?}")));
        }
        Ok(word)
    }

    /// A possibly negative integer, as two's complement in 64 bits.
    pub(crate) fn number(&mut self) -> Result<u64, PtxError> {
        let negative = self.eat('-');
        let word = self.word()?;
        let value =
            parse_number(&word).ok_or_else(|| self.error(format!("not a number: {word:?}")))?;
        Ok(if negative {
            value.wrapping_neg()
        } else {
            value
        })
    }

    /// A number that must fit 32 bits without a sign.
    pub(crate) fn small(&mut self) -> Result<u32, PtxError> {
        let value = self.number()?;
        u32::try_from(value).map_err(|_| self.error(format!("number {value} does not fit 32 bits")))
    }
}

/// Integer literals of PTX: decimal, octal, hexadecimal, binary, optional `U`;
/// and `0f`/`0d` float literals, which are their own bits.
pub(crate) fn parse_number(word: &str) -> Option<u64> {
    let lower = word.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0f") {
        return (hex.len() == 8)
            .then(|| u64::from_str_radix(hex, 16).ok())
            .flatten();
    }
    if let Some(hex) = lower.strip_prefix("0d") {
        return (hex.len() == 16)
            .then(|| u64::from_str_radix(hex, 16).ok())
            .flatten();
    }
    let digits = lower.strip_suffix('u').unwrap_or(&lower);
    if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if let Some(binary) = digits.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8).ok()
    } else {
        digits.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_base() {
        for (text, value) in [
            ("0", 0),
            ("42", 42),
            ("0x1FU", 31),
            ("017", 15),
            ("0b101", 5),
            ("18446744073709551615", u64::MAX),
            ("0f3F800000", 0x3f80_0000),
            ("0d3FF0000000000000", 0x3ff0_0000_0000_0000),
        ] {
            assert_eq!(parse_number(text), Some(value), "{text}");
        }
        for bad in ["", "08", "0x", "0f3F", "12a", "18446744073709551616"] {
            assert_eq!(parse_number(bad), None, "{bad}");
        }
    }
}
