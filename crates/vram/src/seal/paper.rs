//! The files that a seal was asked to write: records and receipts.

use std::path::Path;

use vram_residency::VramManager;

use super::Args;
use super::report;
use super::run::{Held, Sealed};
use crate::failure::Failure;
use crate::signing::{Hand, believed, not_signed};
use crate::worker::Worker;

/// The files that were asked for, with their texts.
pub(super) fn papers<'a>(
    args: &'a Args,
    worker: &Worker,
    sealed: &Sealed,
) -> Result<Vec<(&'a Path, String)>, Failure> {
    let mut papers = Vec::new();
    if let (Some(path), Some(hand)) = (&args.receipt, &worker.hand) {
        let receipts = receipts(&worker.manager, &sealed.held, hand)?;
        papers.push((path.as_path(), receipts));
    }
    if let Some(path) = &args.record {
        papers.push((path.as_path(), report::record_text(sealed)?));
    }
    Ok(papers)
}

/// A receipt a line.
fn receipts(manager: &VramManager, held: &[Held], hand: &Hand) -> Result<String, Failure> {
    let mut text = String::new();
    for one in held {
        let receipt = manager.issue_receipt(&one.shard, &hand.signer());
        let receipt = receipt.map_err(|error| not_signed(&one.file, error))?;
        text.push_str(&receipt.to_json().map_err(|e| believed(&one.file, e))?);
        text.push('\n');
    }
    Ok(text)
}
