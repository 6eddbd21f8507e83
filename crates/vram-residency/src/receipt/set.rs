//! Receipts that come together: of one model all, once and in order.

use std::collections::{BTreeMap, BTreeSet};

use crate::seal::Record;

/// What is wrong with receipts that come together. Receipts and shards are
/// counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetFault {
    /// Two tell of the same seal.
    #[error("receipt {receipt} is receipt {first} once more")]
    Twice {
        /// The later one.
        receipt: usize,
        /// The earlier one.
        first: usize,
    },
    /// One is of another model, or of a file that was sealed by itself.
    #[error("receipt {receipt} is not of the model of receipt 1")]
    Mixed {
        /// That one.
        receipt: usize,
    },
    /// A shard of the model has none.
    #[error("shard {shard} of {total} of the model has no receipt")]
    Missing {
        /// The shard.
        shard: u32,
        /// Shards of the model.
        total: u32,
    },
    /// One is of another shard than its place says.
    #[error("receipt {receipt} is of shard {shard} of the model, out of order")]
    Order {
        /// That one.
        receipt: usize,
        /// The shard that it is of.
        shard: u32,
    },
}

/// Checks the records of receipts that come together, each of which was believed
/// alone: none may be there twice, and the shards of one model must all be
/// there, in order and without others between them. Receipts of files that were
/// sealed one by one say nothing of each other, so one that was left out of
/// those is not missed (requirement: PM-1).
///
/// # Errors
/// [`SetFault`], the first that is found.
pub fn check_set(records: &[&Record]) -> Result<(), SetFault> {
    each_once(records)?;
    let group = records.first().and_then(|record| record.group);
    for (receipt, record) in (1..).zip(records) {
        if record.group != group {
            return Err(SetFault::Mixed { receipt });
        }
    }
    match group {
        Some(_) => whole(records),
        None => Ok(()),
    }
}

fn each_once(records: &[&Record]) -> Result<(), SetFault> {
    let mut seen = BTreeMap::new();
    for (receipt, record) in (1..).zip(records) {
        let seal = (*record.instance.as_bytes(), record.sequence);
        if let Some(first) = seen.insert(seal, receipt) {
            return Err(SetFault::Twice { receipt, first });
        }
    }
    Ok(())
}

/// All shards of the model, in order.
fn whole(records: &[&Record]) -> Result<(), SetFault> {
    let places = || records.iter().filter_map(|record| record.position);
    let total = places().map(|place| place.total).max().unwrap_or(0);
    let there: BTreeSet<u32> = places().map(|place| place.index).collect();
    if let Some(index) = (0..total).find(|index| !there.contains(index)) {
        let shard = index.saturating_add(1);
        return Err(SetFault::Missing { shard, total });
    }
    for ((receipt, record), expected) in (1..).zip(records).zip(0_u32..) {
        let index = record.position.map_or(u32::MAX, |place| place.index);
        if index != expected {
            let shard = index.saturating_add(1);
            return Err(SetFault::Order { receipt, shard });
        }
    }
    Ok(())
}
