//! Turns the syntax tree of a kernel into flat, slot-addressed instructions.
//!
//! Dispatch is on the whole opcode: the base picks a function, which takes the
//! modifiers one by one and refuses the opcode when any is left over.

mod arith;
mod bits;
mod compare;
mod control;
mod convert;
mod layout;
mod memory;
mod mods;
mod scope;
mod warp;

use std::collections::BTreeMap;

use layout::Frame;
pub(crate) use layout::{Image, image};
use mods::Mods;
use scope::Scope;

use super::ast::{Arg, Entry, Instr, Stmt, VarSpace};
use super::error::PtxError;
use super::inst::{Constant, Inst, Kind, PredSrc, Slot, Width};

/// A kernel ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) insts: Vec<Inst>,
    /// Number of slots of the 16-, 32- and 64-bit files and of the predicates.
    pub(crate) slots: [u32; 4],
    pub(crate) constants: Vec<(Width, Slot, Constant)>,
    pub(crate) true_slot: Slot,
    pub(crate) params: Vec<(u64, u64)>,
    pub(crate) param_bytes: u64,
    pub(crate) static_shared: u64,
    pub(crate) local_bytes: u64,
    pub(crate) max_threads: u64,
    pub(crate) required: Option<[u32; 3]>,
}

/// Most threads of a block on every GPU.
const MAX_THREADS: u64 = 1024;

/// Decodes one entry of a module whose variables are laid out in `image`.
pub(crate) fn kernel(entry: &Entry, image: &Image) -> Result<Code, PtxError> {
    let frame = Frame::new(entry, image)?;
    let mut decoder = Decoder {
        scope: Scope::new(&frame),
        insts: Vec::new(),
        labels: BTreeMap::new(),
        fixups: Vec::new(),
        targets: BTreeMap::new(),
    };
    decoder.collect_targets(&entry.body);
    decoder.body(&entry.body)?;
    decoder.insts.push(Inst {
        guard: None,
        kind: Kind::Exit,
        line: entry.line,
    });
    decoder.patch()?;
    let true_slot = decoder.scope.true_pred();
    Ok(Code {
        insts: decoder.insts,
        slots: decoder.scope.slots(),
        constants: decoder.scope.constants(),
        true_slot,
        params: frame.params,
        param_bytes: frame.param_bytes,
        static_shared: frame.shared_bytes,
        local_bytes: frame.local_bytes,
        max_threads: entry.max_threads.unwrap_or(MAX_THREADS).min(MAX_THREADS),
        required: entry.required,
    })
}

/// A branch whose label is not resolved yet.
struct Fixup {
    at: usize,
    line: u32,
    labels: Vec<String>,
}

pub(super) struct Decoder {
    scope: Scope,
    insts: Vec<Inst>,
    labels: BTreeMap<String, u32>,
    fixups: Vec<Fixup>,
    targets: BTreeMap<String, Vec<String>>,
}

impl Decoder {
    fn collect_targets(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Targets { name, labels } => {
                    self.targets.insert(name.clone(), labels.clone());
                }
                Stmt::Block(inner) => self.collect_targets(inner),
                _ => {}
            }
        }
    }

    fn body(&mut self, body: &[Stmt]) -> Result<(), PtxError> {
        self.scope.enter();
        for stmt in body {
            match stmt {
                Stmt::Label(name) => {
                    let here = u32::try_from(self.insts.len()).unwrap_or(u32::MAX);
                    if self.labels.insert(name.clone(), here).is_some() {
                        return Err(PtxError::syntax(
                            0,
                            format!("label {name} is defined twice"),
                        ));
                    }
                }
                Stmt::Regs { line, ty, names } => self.scope.declare(*line, *ty, names)?,
                Stmt::Var(var) => self.scope.variable(var)?,
                Stmt::Targets { .. } => {}
                Stmt::Block(inner) => self.body(inner)?,
                Stmt::Instr(instr) => self.instruction(instr)?,
            }
        }
        self.scope.leave();
        Ok(())
    }

    fn instruction(&mut self, instr: &Instr) -> Result<(), PtxError> {
        let guard = match &instr.guard {
            None => None,
            Some((name, negated)) => {
                let slot = self.scope.pred(instr.line, name)?;
                Some(PredSrc {
                    slot,
                    negated: *negated,
                })
            }
        };
        let kind = self.kind(instr)?;
        self.insts.push(Inst {
            guard,
            kind,
            line: instr.line,
        });
        Ok(())
    }

    fn kind(&mut self, instr: &Instr) -> Result<Kind, PtxError> {
        type Family =
            fn(&mut Decoder, &str, &mut Mods<'_>, &[Arg]) -> Result<Option<Kind>, PtxError>;
        const FAMILIES: [Family; 7] = [
            arith::decode,
            bits::decode,
            compare::decode,
            convert::decode,
            memory::decode,
            control::decode,
            warp::decode,
        ];
        for family in FAMILIES {
            let (base, mut mods) = Mods::new(instr.line, &instr.opcode);
            if let Some(kind) = family(self, base, &mut mods, &instr.args)? {
                mods.finish()?;
                return Ok(kind);
            }
        }
        Err(PtxError::unsupported(
            instr.line,
            format!("opcode {}", instr.opcode),
        ))
    }

    /// Notes that the instruction being decoded jumps to `labels`.
    fn jump(&mut self, line: u32, labels: Vec<String>) {
        self.fixups.push(Fixup {
            at: self.insts.len(),
            line,
            labels,
        });
    }

    fn patch(&mut self) -> Result<(), PtxError> {
        for fixup in &self.fixups {
            let mut resolved = Vec::with_capacity(fixup.labels.len());
            for label in &fixup.labels {
                let found = self.labels.get(label).copied();
                resolved.push(found.ok_or_else(|| {
                    PtxError::syntax(fixup.line, format!("label {label} is not defined"))
                })?);
            }
            match self.insts.get_mut(fixup.at).map(|i| &mut i.kind) {
                Some(Kind::Bra { target }) => *target = resolved.first().copied().unwrap_or(0),
                Some(Kind::Brx { targets, .. }) => *targets = resolved,
                _ => return Err(PtxError::syntax(fixup.line, "branch without a place")),
            }
        }
        Ok(())
    }
}

/// Is this a variable that each block or thread gets its own copy of?
fn is_frame(space: VarSpace) -> bool {
    matches!(space, VarSpace::Shared | VarSpace::Local)
}
