//! Parses a PTX module into its syntax tree: directives, declarations, statements.
//! Whatever is not known here is refused by name.

use super::ast::{Entry, Param, Stmt, Tree, VarSpace, Variable};
use super::cursor::Cursor;
use super::error::PtxError;
use super::inst::Ty;
use super::lex::{TokenKind, tokens};
use super::operand;

/// Largest size of one declared variable (bytes).
const MAX_VARIABLE: u64 = 256 << 20;
/// Most registers that one `.reg` directive may declare.
const MAX_REGISTERS: u32 = 1 << 16;

/// Parses the text of a module.
pub(crate) fn parse(text: &str) -> Result<Tree, PtxError> {
    let mut cursor = Cursor::new(tokens(text)?);
    let mut tree = Tree::default();
    while !cursor.at_end() {
        top_level(&mut cursor, &mut tree)?;
    }
    if tree.version == (0, 0) || tree.target.is_empty() {
        return Err(PtxError::syntax(0, "module lacks .version or .target"));
    }
    Ok(tree)
}

fn top_level(c: &mut Cursor, tree: &mut Tree) -> Result<(), PtxError> {
    let line = c.line();
    let Some(word) = c.peek_word().map(str::to_owned) else {
        return Err(c.error("expected a directive"));
    };
    match word.as_str() {
        ".version" => {
            c.bump();
            tree.version = version(c)?;
        }
        ".target" => {
            c.bump();
            tree.target = c.word()?;
            if c.is_punct(',') {
                return Err(PtxError::unsupported(line, ".target with options"));
            }
        }
        ".address_size" => {
            c.bump();
            if c.small()? != 64 {
                return Err(PtxError::unsupported(line, ".address_size other than 64"));
            }
        }
        ".file" => file_directive(c)?,
        _ => linkage_item(c, tree)?,
    }
    Ok(())
}

fn version(c: &mut Cursor) -> Result<(u32, u32), PtxError> {
    let word = c.word()?;
    let parts = word
        .split_once('.')
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(|| c.error(format!("not a version: {word:?}")))
}

/// `.file 1 "name" [, timestamp, size]`: debug information, ignored.
fn file_directive(c: &mut Cursor) -> Result<(), PtxError> {
    c.bump();
    c.small()?;
    if !matches!(c.bump(), Some(TokenKind::Text(_))) {
        return Err(c.error("expected a file name"));
    }
    while c.eat(',') {
        c.number()?;
    }
    Ok(())
}

/// An optional `.visible`, `.extern` or `.weak`, then an entry or a variable.
fn linkage_item(c: &mut Cursor, tree: &mut Tree) -> Result<(), PtxError> {
    let mut external = false;
    loop {
        if c.eat_word(".extern") {
            external = true;
        } else if !c.eat_word(".visible") && !c.eat_word(".weak") {
            break;
        }
    }
    let line = c.line();
    if c.eat_word(".entry") {
        tree.entries.push(entry(c, line)?);
        return Ok(());
    }
    let space = match c.peek_word() {
        Some(".global") => VarSpace::Global,
        Some(".const") => VarSpace::Const,
        Some(".shared") => VarSpace::Shared,
        Some(other) => return Err(PtxError::unsupported(line, format!("directive {other}"))),
        None => return Err(c.error("expected a directive")),
    };
    c.bump();
    tree.variables.extend(variables(c, space, external)?);
    Ok(())
}

fn entry(c: &mut Cursor, line: u32) -> Result<Entry, PtxError> {
    let name = c.name()?;
    let mut params = Vec::new();
    if c.eat('(') {
        while !c.eat(')') {
            params.push(param(c)?);
            c.eat(',');
        }
    }
    let mut entry = Entry {
        line,
        name,
        params,
        max_threads: None,
        required: None,
        body: Vec::new(),
    };
    while !c.is_punct('{') {
        performance_directive(c, &mut entry)?;
    }
    entry.body = block(c)?;
    Ok(entry)
}

fn performance_directive(c: &mut Cursor, entry: &mut Entry) -> Result<(), PtxError> {
    let line = c.line();
    let word = c.word()?;
    match word.as_str() {
        ".maxntid" | ".reqntid" => {
            let mut dims = [1_u32; 3];
            for (i, dim) in dims.iter_mut().enumerate() {
                if i == 0 || c.eat(',') {
                    *dim = c.small()?;
                }
            }
            if word == ".reqntid" {
                entry.required = Some(dims);
            }
            entry.max_threads = Some(dims.iter().map(|&d| u64::from(d)).product());
        }
        ".minnctapersm" | ".maxnreg" | ".maxnctapersm" => {
            c.small()?;
        }
        ".pragma" => pragma(c)?,
        other => return Err(PtxError::unsupported(line, format!("directive {other}"))),
    }
    Ok(())
}

/// `.pragma "text";` is advice to the optimiser.
fn pragma(c: &mut Cursor) -> Result<(), PtxError> {
    loop {
        if !matches!(c.bump(), Some(TokenKind::Text(_))) {
            return Err(c.error("expected pragma text"));
        }
        if !c.eat(',') {
            return c.expect_punct(';');
        }
    }
}

fn param(c: &mut Cursor) -> Result<Param, PtxError> {
    if !c.eat_word(".param") {
        return Err(c.error("expected .param"));
    }
    let mut align = None;
    let mut ty = None;
    loop {
        let line = c.line();
        if c.eat_word(".align") {
            align = Some(alignment(c)?);
        } else if c.eat_word(".ptr") {
            // Advice about what the pointer points to.
        } else if ["global", "shared", "const", "local"]
            .iter()
            .any(|s| c.eat_word(&format!(".{s}")))
        {
            // The state space named by `.ptr`.
        } else if let Some(word) = c.peek_word().filter(|w| w.starts_with('.')) {
            let Some(found) = word.get(1..).and_then(Ty::parse).filter(|t| t.bits >= 8) else {
                return Err(PtxError::unsupported(
                    line,
                    format!("parameter type {word}"),
                ));
            };
            // `.u64 .ptr .align 16 name`: alignment after the type is the pointee's.
            ty = Some((found, align));
            c.bump();
        } else {
            break;
        }
    }
    let name = c.name()?;
    let (ty, align) = ty.ok_or_else(|| c.error("parameter lacks a type"))?;
    let element = u64::from(ty.bytes());
    let size = if c.is_punct('[') {
        array(c)?.saturating_mul(element)
    } else {
        element
    };
    Ok(Param {
        name,
        align: align.unwrap_or(element).max(element),
        size,
    })
}

fn alignment(c: &mut Cursor) -> Result<u64, PtxError> {
    let align = c.small()?;
    if !align.is_power_of_two() || align > 4096 {
        return Err(c.error(format!(
            "alignment {align} is not a power of two up to 4096"
        )));
    }
    Ok(u64::from(align))
}

/// `[4][8]`: the number of elements; `[]` is 0.
fn array(c: &mut Cursor) -> Result<u64, PtxError> {
    let mut count = 1_u64;
    while c.eat('[') {
        if c.eat(']') {
            count = 0;
            continue;
        }
        count = count.saturating_mul(u64::from(c.small()?));
        c.expect_punct(']')?;
    }
    Ok(count)
}

/// Everything after the state space: `.align 16 .b8 a[64], b;`
fn variables(c: &mut Cursor, space: VarSpace, external: bool) -> Result<Vec<Variable>, PtxError> {
    let line = c.line();
    let align = if c.eat_word(".align") {
        alignment(c)?
    } else {
        1
    };
    let word = c.word()?;
    let Some(ty) = word
        .strip_prefix('.')
        .and_then(Ty::parse)
        .filter(|t| t.bits >= 8)
    else {
        return Err(PtxError::unsupported(line, format!("variable type {word}")));
    };
    let element = u64::from(ty.bytes());
    let mut out = Vec::new();
    loop {
        let name = c.name()?;
        let size = if c.is_punct('[') {
            array(c)?.saturating_mul(element)
        } else {
            element
        };
        let init = if c.eat('=') {
            initialiser(c, element)?
        } else {
            Vec::new()
        };
        let whole = u64::try_from(init.len()).unwrap_or(u64::MAX);
        let size = if size == 0 && !external { whole } else { size };
        if whole > size || size > MAX_VARIABLE || (size == 0 && !external) {
            return Err(c.error(format!("variable {name}: size does not fit")));
        }
        if external && space != VarSpace::Shared {
            return Err(PtxError::unsupported(
                line,
                ".extern variable outside shared memory",
            ));
        }
        if !init.is_empty() && matches!(space, VarSpace::Shared | VarSpace::Local) {
            return Err(c.error("only global and constant variables can be initialised"));
        }
        out.push(Variable {
            line,
            space,
            name,
            align: align.max(element),
            size,
            external,
            init,
        });
        if !c.eat(',') {
            break;
        }
    }
    c.expect_punct(';')?;
    Ok(out)
}

fn initialiser(c: &mut Cursor, element: u64) -> Result<Vec<u8>, PtxError> {
    let mut bytes = Vec::new();
    if !c.is_punct('{') {
        push_element(c, element, &mut bytes)?;
        return Ok(bytes);
    }
    let mut depth = 0_u32;
    loop {
        if c.eat('{') {
            depth = depth.saturating_add(1);
        } else if c.eat('}') {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Ok(bytes);
            }
        } else if !c.eat(',') {
            push_element(c, element, &mut bytes)?;
        }
    }
}

fn push_element(c: &mut Cursor, element: u64, bytes: &mut Vec<u8>) -> Result<(), PtxError> {
    let value = c.number()?.to_le_bytes();
    let keep = usize::try_from(element).unwrap_or(usize::MAX);
    bytes.extend(value.iter().take(keep));
    Ok(())
}

fn block(c: &mut Cursor) -> Result<Vec<Stmt>, PtxError> {
    c.expect_punct('{')?;
    let mut body = Vec::new();
    while !c.eat('}') {
        if c.at_end() {
            return Err(c.error("body is not closed"));
        }
        statement(c, &mut body)?;
    }
    Ok(body)
}

fn statement(c: &mut Cursor, body: &mut Vec<Stmt>) -> Result<(), PtxError> {
    if c.is_punct('{') {
        body.push(Stmt::Block(block(c)?));
        return Ok(());
    }
    if c.eat(';') {
        return Ok(());
    }
    if c.peek_second() == Some(&TokenKind::Punct(':')) {
        let name = c.name()?;
        c.bump();
        if c.eat_word(".branchtargets") {
            body.push(Stmt::Targets {
                name,
                labels: label_list(c)?,
            });
        } else {
            body.push(Stmt::Label(name));
        }
        return Ok(());
    }
    if c.peek_word().is_some_and(|w| w.starts_with('.')) {
        return directive(c, body);
    }
    body.push(Stmt::Instr(operand::instruction(c)?));
    Ok(())
}

fn label_list(c: &mut Cursor) -> Result<Vec<String>, PtxError> {
    let mut labels = vec![c.name()?];
    while c.eat(',') {
        labels.push(c.name()?);
    }
    c.expect_punct(';')?;
    Ok(labels)
}

fn directive(c: &mut Cursor, body: &mut Vec<Stmt>) -> Result<(), PtxError> {
    let line = c.line();
    let word = c.word()?;
    let space = match word.as_str() {
        ".reg" => {
            body.push(registers(c, line)?);
            return Ok(());
        }
        ".loc" => {
            for _ in 0..3 {
                c.number()?;
            }
            return Ok(());
        }
        ".pragma" => return pragma(c),
        ".shared" => VarSpace::Shared,
        ".local" => VarSpace::Local,
        other => {
            return Err(PtxError::unsupported(
                line,
                format!("directive {other} in a body"),
            ));
        }
    };
    body.extend(variables(c, space, false)?.into_iter().map(Stmt::Var));
    Ok(())
}

/// `.reg .b32 %r<10>, %x;`
fn registers(c: &mut Cursor, line: u32) -> Result<Stmt, PtxError> {
    let word = c.word()?;
    let ty = word
        .strip_prefix('.')
        .and_then(Ty::parse)
        .filter(|t| t.bits != 8);
    let Some(ty) = ty else {
        return Err(PtxError::unsupported(line, format!("register type {word}")));
    };
    let mut names = Vec::new();
    loop {
        let name = c.name()?;
        if c.eat('<') {
            let count = c.small()?;
            c.expect_punct('>')?;
            if count > MAX_REGISTERS {
                return Err(c.error(format!("{count} registers are more than {MAX_REGISTERS}")));
            }
            names.extend((0..count).map(|i| format!("{name}{i}")));
        } else {
            names.push(name);
        }
        if !c.eat(',') {
            break;
        }
    }
    c.expect_punct(';')?;
    Ok(Stmt::Regs { line, ty, names })
}
