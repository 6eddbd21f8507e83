//! Receipts of one model are one set: what was left out, put in twice, mixed in
//! or moved is named.
//!
//! requirement: PM-1, VP-006

mod common;

use common::{Rig, rig, weights};
use vram_residency::SealRequest;
use vram_residency::receipt::{ReceiptError, SetFault, check_set};
use vram_residency::seal::Record;

/// The records of a model of so many shards, as its receipts hold them.
fn model(rig: &Rig, shards: u64) -> Vec<Record> {
    let bytes: Vec<_> = (0..shards).map(|seed| weights(500, seed)).collect();
    let requests = bytes.iter().map(|bytes| SealRequest::bytes(bytes));
    let group = rig.manager.seal_group(requests.collect()).unwrap();
    group.record().members
}

fn check(records: &[&Record]) -> Result<(), SetFault> {
    check_set(records)
}

#[test]
fn of_one_model_all_are_there_once_and_in_order() {
    let rig = rig(1 << 20);
    let (one, other) = (model(&rig, 3), model(&rig, 3));
    let [a, b, c] = [&one[0], &one[1], &one[2]];
    assert_eq!(check(&[a, b, c]), Ok(()));
    for (left_out, shard) in [([b, c], 1), ([a, c], 2), ([a, b], 3)] {
        let total = 3;
        assert_eq!(check(&left_out), Err(SetFault::Missing { shard, total }));
    }
    let (receipt, first) = (3, 2);
    assert_eq!(check(&[a, b, b]), Err(SetFault::Twice { receipt, first }));
    let (receipt, first) = (4, 1);
    assert_eq!(
        check(&[a, b, c, a]),
        Err(SetFault::Twice { receipt, first })
    );
    let (receipt, shard) = (1, 2);
    assert_eq!(check(&[b, a, c]), Err(SetFault::Order { receipt, shard }));
    let (receipt, shard) = (2, 3);
    assert_eq!(check(&[a, c, b]), Err(SetFault::Order { receipt, shard }));
    let fault = check(&[b, a, c]).unwrap_err();
    assert_eq!(ReceiptError::from(fault), ReceiptError::Set(fault));
    let mixed = |receipt| Err(SetFault::Mixed { receipt });
    assert_eq!(check(&[a, &other[1], c]), mixed(2));
    assert_eq!(check(&[a, b, c, &other[0]]), mixed(4));
}

#[test]
fn files_that_were_sealed_one_by_one_are_no_model() {
    let rig = rig(1 << 20);
    let alone = |seed| {
        let bytes = weights(500, seed);
        let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
        shard.record().clone()
    };
    let (one, other, model) = (alone(1), alone(2), model(&rig, 2));
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&[&one]), Ok(()));
    assert_eq!(check(&[&other, &one]), Ok(()));
    let (receipt, first) = (2, 1);
    assert_eq!(
        check(&[&one, &one]),
        Err(SetFault::Twice { receipt, first })
    );
    let mixed = Err(SetFault::Mixed { receipt: 2 });
    assert_eq!(check(&[&one, &model[0], &model[1]]), mixed);
}
