//! Papers in which a key of a log names the next one, as they lie beside the log
//! or in a proof. Whoever can write there can write one.

use std::io;
use std::slice;

use super::super::merkle::{Hash, leaf_hash};
use super::super::note::{Checkpoint, Origin};
use super::super::proof::{MAX_PROOF_BYTES, Proof, Proved};
use super::super::{Body, Text, line};
use super::files::{Files, read_bounded};
use super::leaves::Leaves;
use super::report::{Fault, Finding};
use super::rows::UNKNOWN;
use crate::key::VerifyingKey;

/// A paper that holds by itself: the last word of the key that it replaces.
pub(crate) struct Handover {
    /// The number of its event.
    pub(crate) seq: u64,
    pub(crate) from: VerifyingKey,
    pub(crate) to: VerifyingKey,
    leaf: Hash,
    /// The log up to its event, as the old key signed it.
    signed: Checkpoint,
}

/// A paper beside a log.
pub(super) struct Paper {
    name: String,
    pub(super) proof: Proof,
    pub(super) handover: Handover,
    /// A believed key signed it.
    pub(super) followed: bool,
}

impl Handover {
    /// Reads a paper of the log `origin`; without one, of any log.
    pub(crate) fn read(paper: &Proof, origin: Option<&Origin>) -> Result<Self, String> {
        let Proof::Inclusion {
            line, handovers, ..
        } = paper
        else {
            return Err("it proves no event".to_owned());
        };
        let (from, to) = keys(line).ok_or("its event names no keys")?;
        let by_old = |note: &str| Checkpoint::open(note, slice::from_ref(&from));
        let proved = paper.check_by(by_old, None);
        let Ok(Proved::Event(_, seq, signed)) = proved else {
            return Err("the key that it replaces did not sign its event".to_owned());
        };
        // Nothing comes after it under this key.
        if seq.checked_add(1) != Some(signed.size) || !handovers.is_empty() {
            return Err("it is not the last word of the key that it replaces".to_owned());
        }
        if origin.is_some_and(|origin| *origin != signed.origin) {
            return Err(format!("it is of the log '{}'", signed.origin));
        }
        Ok(Self {
            seq,
            from,
            to,
            leaf: leaf_hash(line.as_bytes()),
            signed,
        })
    }

    /// Number of the lines that the old key may sign.
    pub(crate) const fn size(&self) -> u64 {
        self.signed.size
    }
}

/// The keys that a line says were changed: the one before and the one after.
fn keys(line: &str) -> Option<(VerifyingKey, VerifyingKey)> {
    let Body::AuditKeyChanged { from, to } = line::event(line.as_bytes())?.body else {
        return None;
    };
    let key = |text: &Text| VerifyingKey::from_hex(text.as_str()).ok();
    key(&from).zip(key(&to))
}

/// The papers among `names`, oldest first, and what is wrong with the others.
pub(super) fn papers(
    files: &dyn Files,
    names: &[String],
    origin: Option<&Origin>,
) -> io::Result<(Vec<Paper>, Vec<Finding>)> {
    let named = names.iter();
    let named = named.filter_map(|name| Some((line::handover_seq(name)?, name)));
    let mut named: Vec<_> = named.collect();
    named.sort_unstable();
    let (mut papers, mut strange) = (Vec::new(), Vec::new());
    for (seq, name) in named {
        let text = read_bounded(files, name, MAX_PROOF_BYTES)?;
        match paper(name, seq, &String::from_utf8_lossy(&text), origin) {
            Ok(paper) => papers.push(paper),
            Err(reason) => strange.push(stray(name, &reason)),
        }
    }
    Ok((papers, strange))
}

fn paper(name: &str, seq: u64, text: &str, origin: Option<&Origin>) -> Result<Paper, String> {
    let proof = Proof::from_json(text).map_err(|error| error.to_string())?;
    let handover = Handover::read(&proof, origin)?;
    // Under another's name it would be followed out of its turn.
    if handover.seq != seq {
        return Err(format!("it is of event {}", handover.seq));
    }
    Ok(Paper {
        name: name.to_owned(),
        proof,
        handover,
        followed: false,
    })
}

fn stray(name: &str, reason: &str) -> Finding {
    let text = format!("it is no change of this log's key: {reason}");
    Finding::of_file(Fault::Handover, name, &text)
}

/// What is wrong with papers, oldest first, that the log does not hold. What a believed
/// key signed was in the log; any other may never have been.
pub(super) fn held(papers: &[Paper], leaves: &Leaves) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Paper {
        name,
        handover,
        followed,
        ..
    } in papers
    {
        if held_by(handover, leaves) {
            continue;
        }
        findings.push(if *followed {
            let text = "the log does not hold the event in which its key was changed";
            Finding::of_file(Fault::RolledBack, name, text)
        } else {
            stray(name, "the log does not hold it")
        });
    }
    findings
}

/// Whether nothing that is known of the log contradicts a paper.
fn held_by(paper: &Handover, leaves: &Leaves) -> bool {
    let Ok(size) = usize::try_from(paper.size()) else {
        return false;
    };
    let last = size
        .checked_sub(1)
        .and_then(|last| leaves.hashes().get(last));
    let Some(last) = last else {
        return false;
    };
    let root = leaves.rows.root(size).filter(|_| leaves.signed);
    let same = root.is_none_or(|root| root == paper.signed.root);
    same && [paper.leaf, UNKNOWN].contains(last)
}
