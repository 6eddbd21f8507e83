//! Parses one instruction: guard, opcode, operands.

use super::ast::{Arg, Base, Instr};
use super::cursor::{Cursor, parse_number};
use super::error::PtxError;

pub(crate) fn instruction(c: &mut Cursor) -> Result<Instr, PtxError> {
    let line = c.line();
    let guard = if c.eat('@') {
        let negated = c.eat('!');
        Some((c.name()?, negated))
    } else {
        None
    };
    let opcode = c.name()?;
    let mut args = Vec::new();
    while !c.eat(';') {
        if !args.is_empty() {
            c.expect_punct(',')?;
        }
        args.push(arg(c)?);
    }
    Ok(Instr {
        line,
        guard,
        opcode,
        args,
    })
}

fn arg(c: &mut Cursor) -> Result<Arg, PtxError> {
    if c.eat('{') {
        let mut parts = vec![arg(c)?];
        while c.eat(',') {
            parts.push(arg(c)?);
        }
        c.expect_punct('}')?;
        return Ok(Arg::Vector(parts));
    }
    if c.eat('[') {
        return address(c);
    }
    if c.eat('!') {
        return Ok(Arg::Not(c.name()?));
    }
    if c.is_punct('-') {
        return Ok(Arg::Imm(c.number()?));
    }
    let word = c.word()?;
    if word == "_" && !c.is_punct('|') {
        return Ok(Arg::Sink);
    }
    if word.starts_with(|ch: char| ch.is_ascii_digit()) {
        let value =
            parse_number(&word).ok_or_else(|| c.error(format!("not a number: {word:?}")))?;
        return Ok(Arg::Imm(value));
    }
    if c.eat('|') {
        return Ok(Arg::Pair(word, c.word()?));
    }
    if c.is_punct('+') || c.is_punct('-') {
        return Ok(Arg::NameOffset(word, offset(c)?));
    }
    Ok(Arg::Name(word))
}

fn offset(c: &mut Cursor) -> Result<i64, PtxError> {
    c.eat('+');
    Ok(c.number()?.cast_signed())
}

fn address(c: &mut Cursor) -> Result<Arg, PtxError> {
    let word = c.word()?;
    let base = if word.starts_with(|ch: char| ch.is_ascii_digit()) {
        let value =
            parse_number(&word).ok_or_else(|| c.error(format!("not an address: {word:?}")))?;
        Base::Absolute(value)
    } else {
        Base::Name(word)
    };
    let offset = if c.is_punct(']') { 0 } else { offset(c)? };
    c.expect_punct(']')?;
    Ok(Arg::Address { base, offset })
}
