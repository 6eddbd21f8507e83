//! The parts of one opcode, taken in order; what is left over is refused.

use crate::ptx::error::PtxError;
use crate::ptx::inst::{Ty, Width};

pub(super) struct Mods<'a> {
    line: u32,
    full: &'a str,
    parts: Vec<&'a str>,
    at: usize,
}

impl<'a> Mods<'a> {
    /// Splits `mad.wide.u32` into its base `mad` and the modifiers after it.
    pub(super) fn new(line: u32, opcode: &'a str) -> (&'a str, Mods<'a>) {
        let mut parts = opcode.split('.');
        let base = parts.next().unwrap_or("");
        (
            base,
            Mods {
                line,
                full: opcode,
                parts: parts.collect(),
                at: 0,
            },
        )
    }

    pub(super) fn line(&self) -> u32 {
        self.line
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.parts.get(self.at).copied()
    }

    /// Takes the next modifier whatever it is.
    pub(super) fn bump(&mut self) -> Option<&'a str> {
        let part = self.peek();
        self.at = self.at.saturating_add(1);
        part
    }

    pub(super) fn eat(&mut self, part: &str) -> bool {
        let there = self.peek() == Some(part);
        if there {
            self.at = self.at.saturating_add(1);
        }
        there
    }

    /// Takes the next modifier if `map` knows it.
    pub(super) fn eat_map<T>(&mut self, map: impl Fn(&str) -> Option<T>) -> Option<T> {
        let found = self.peek().and_then(map);
        if found.is_some() {
            self.at = self.at.saturating_add(1);
        }
        found
    }

    /// Like [`Mods::eat_map`], but refuses the opcode when `map` knows nothing.
    pub(super) fn need<T>(&mut self, map: impl Fn(&str) -> Option<T>) -> Result<T, PtxError> {
        self.eat_map(map).ok_or_else(|| self.refuse())
    }

    pub(super) fn ty(&mut self) -> Result<Ty, PtxError> {
        self.need(Ty::parse)
    }

    /// An integer type `.u` or `.s` of one of these widths.
    pub(super) fn int(&mut self, bits: &[u32]) -> Result<(Width, bool), PtxError> {
        let ty = self.need(|p| Ty::parse(p).filter(|t| t.is_int() && bits.contains(&t.bits)))?;
        Ok((self.width(ty)?, ty.signed()))
    }

    /// An untyped `.b` type of one of these widths.
    pub(super) fn bits(&mut self, bits: &[u32]) -> Result<Width, PtxError> {
        let ty = self.need(|p| {
            Ty::parse(p)
                .filter(|t| t.class == crate::ptx::inst::Class::Bits && bits.contains(&t.bits))
        })?;
        self.width(ty)
    }

    pub(super) fn width(&self, ty: Ty) -> Result<Width, PtxError> {
        Width::from_bits(ty.bits).ok_or_else(|| self.refuse())
    }

    /// Every modifier must have been taken.
    pub(super) fn finish(&self) -> Result<(), PtxError> {
        if self.at == self.parts.len() {
            Ok(())
        } else {
            Err(self.refuse())
        }
    }

    pub(super) fn refuse(&self) -> PtxError {
        let reason = match self.peek() {
            Some(part) => format!("opcode {}: modifier .{part}", self.full),
            None => format!("opcode {}", self.full),
        };
        PtxError::unsupported(self.line, reason)
    }

    pub(super) fn arity(&self) -> PtxError {
        PtxError::syntax(
            self.line,
            format!("{}: wrong number of operands", self.full),
        )
    }

    pub(super) fn syntax(&self, what: impl std::fmt::Display) -> PtxError {
        PtxError::syntax(self.line, format!("{}: {what}", self.full))
    }
}
