//! The syntax tree of a PTX module, before names are resolved.

use super::inst::Ty;

/// A whole module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    pub(crate) version: (u32, u32),
    pub(crate) target: String,
    pub(crate) variables: Vec<Variable>,
    pub(crate) entries: Vec<Entry>,
}

/// Where a variable lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarSpace {
    Global,
    Const,
    Shared,
    Local,
}

/// A declared variable, module-wide or inside a kernel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variable {
    pub(crate) line: u32,
    pub(crate) space: VarSpace,
    pub(crate) name: String,
    pub(crate) align: u64,
    /// Bytes; 0 for an `extern` array whose size the launch gives.
    pub(crate) size: u64,
    pub(crate) external: bool,
    pub(crate) init: Vec<u8>,
}

/// One `.entry`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) line: u32,
    pub(crate) name: String,
    pub(crate) params: Vec<Param>,
    pub(crate) max_threads: Option<u64>,
    pub(crate) required: Option<[u32; 3]>,
    pub(crate) body: Vec<Stmt>,
}

/// One kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) align: u64,
    pub(crate) size: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stmt {
    Label(String),
    Regs {
        line: u32,
        ty: Ty,
        names: Vec<String>,
    },
    Var(Variable),
    Targets {
        name: String,
        labels: Vec<String>,
    },
    Block(Vec<Stmt>),
    Instr(Instr),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instr {
    pub(crate) line: u32,
    /// Predicate name and whether it is negated.
    pub(crate) guard: Option<(String, bool)>,
    /// The full opcode, as in `mad.wide.u32`.
    pub(crate) opcode: String,
    pub(crate) args: Vec<Arg>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Arg {
    /// Register, special register, label or symbol.
    Name(String),
    /// `!name`.
    Not(String),
    /// Integer or the bits of a `0f` / `0d` literal.
    Imm(u64),
    /// `symbol+offset` outside brackets.
    NameOffset(String, i64),
    /// `[base+offset]`.
    Address { base: Base, offset: i64 },
    /// `{a, b}`.
    Vector(Vec<Arg>),
    /// `p|q`.
    Pair(String, String),
    /// `_`.
    Sink,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Name(String),
    Absolute(u64),
}
