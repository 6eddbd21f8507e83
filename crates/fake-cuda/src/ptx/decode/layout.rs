//! Where variables and parameters lie: the module image and the kernel frame.

use std::collections::BTreeMap;

use super::is_frame;
use crate::ptx::ast::{Entry, Stmt, Tree, VarSpace, Variable};
use crate::ptx::error::PtxError;

/// A named place in a state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) space: PlaceSpace,
    pub(crate) offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaceSpace {
    Global,
    Const,
    Shared,
    Local,
    Param,
}

/// The module's variables: initial bytes of global and constant memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) global: Vec<u8>,
    pub(crate) constant: Vec<u8>,
    pub(crate) places: BTreeMap<String, Place>,
    /// Module-wide shared variables; every kernel gets them.
    shared: Vec<Variable>,
}

/// Constant memory of a module is at most this large on every GPU.
const MAX_CONST: u64 = 64 << 10;

/// Lays out the module-wide variables of `tree`.
pub(crate) fn image(tree: &Tree) -> Result<Image, PtxError> {
    let mut image = Image::default();
    for var in &tree.variables {
        let (bytes, space) = match var.space {
            VarSpace::Global => (&mut image.global, PlaceSpace::Global),
            VarSpace::Const => (&mut image.constant, PlaceSpace::Const),
            VarSpace::Shared => {
                image.shared.push(var.clone());
                continue;
            }
            VarSpace::Local => return Err(PtxError::unsupported(var.line, "module-wide .local")),
        };
        let offset = align_up(len(bytes), var.align);
        bytes.resize(size(offset), 0);
        bytes.extend_from_slice(&var.init);
        bytes.resize(size(offset.saturating_add(var.size)), 0);
        if space == PlaceSpace::Const && len(bytes) > MAX_CONST {
            return Err(PtxError::unsupported(
                var.line,
                "more than 64 KiB of constant memory",
            ));
        }
        image
            .places
            .insert(var.name.clone(), Place { space, offset });
    }
    Ok(image)
}

/// What one kernel needs besides registers.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) places: BTreeMap<String, Place>,
    /// Offset and size of each parameter.
    pub(super) params: Vec<(u64, u64)>,
    pub(super) param_bytes: u64,
    pub(super) shared_bytes: u64,
    pub(super) local_bytes: u64,
}

/// CUDA's limit on the bytes of all kernel parameters.
const MAX_PARAM_BYTES: u64 = 4096;

impl Frame {
    pub(super) fn new(entry: &Entry, image: &Image) -> Result<Frame, PtxError> {
        let mut frame = Frame {
            places: image.places.clone(),
            ..Frame::default()
        };
        for param in &entry.params {
            let offset = align_up(frame.param_bytes, param.align);
            frame.params.push((offset, param.size));
            frame.param_bytes = offset.saturating_add(param.size);
            let place = Place {
                space: PlaceSpace::Param,
                offset,
            };
            frame.places.insert(param.name.clone(), place);
        }
        if frame.param_bytes > MAX_PARAM_BYTES {
            return Err(PtxError::unsupported(
                entry.line,
                "more than 4096 bytes of parameters",
            ));
        }
        let mut found: Vec<&Variable> = image.shared.iter().collect();
        collect(&entry.body, &mut found);
        // Sized variables first: the launch-sized array begins where they end.
        for var in found.iter().filter(|v| !v.external) {
            frame.place(var);
        }
        let dynamic: Vec<_> = found.iter().filter(|v| v.external).collect();
        let align = dynamic.iter().map(|v| v.align).max().unwrap_or(1);
        frame.shared_bytes = align_up(frame.shared_bytes, align);
        for var in dynamic {
            frame.place(var);
        }
        Ok(frame)
    }

    fn place(&mut self, var: &Variable) {
        let (end, space) = match var.space {
            VarSpace::Local => (&mut self.local_bytes, PlaceSpace::Local),
            _ => (&mut self.shared_bytes, PlaceSpace::Shared),
        };
        let offset = align_up(*end, var.align);
        *end = offset.saturating_add(var.size);
        self.places
            .insert(var.name.clone(), Place { space, offset });
    }
}

fn collect<'a>(body: &'a [Stmt], found: &mut Vec<&'a Variable>) {
    for stmt in body {
        match stmt {
            Stmt::Var(var) if is_frame(var.space) => found.push(var),
            Stmt::Block(inner) => collect(inner, found),
            _ => {}
        }
    }
}

pub(crate) fn align_up(value: u64, align: u64) -> u64 {
    value
        .checked_next_multiple_of(align.max(1))
        .unwrap_or(u64::MAX)
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
