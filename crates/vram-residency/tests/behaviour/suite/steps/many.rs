//! Many threads, and many of everything.

use std::collections::BTreeSet;

use cucumber::{then, when};
use vram_residency::{Error, Mode, Result, SealRequest, SealedShard, VramManager};

use super::size::Size;
use crate::suite::stage::{Stage, weights};

/// Runs `work` on `count` threads that start together.
fn together<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let gate = std::sync::Barrier::new(count);
    let (gate, work) = (&gate, &work);
    std::thread::scope(|scope| {
        let go = |i| {
            move || {
                gate.wait();
                work(i)
            }
        };
        let threads: Vec<_> = (0..count).map(|i| scope.spawn(go(i))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn seal(manager: &VramManager, i: usize, len: u64) -> Result<SealedShard> {
    manager.seal(SealRequest::bytes(&weights(&format!("part-{i}"), len)))
}

fn keep(stage: &mut Stage, answers: Vec<Result<SealedShard>>) {
    for answer in answers {
        let result = answer.map(|shard| stage.many.push(shard));
        stage.results.push(result);
    }
}

/// Whether the budget shows what at most `holders` models explain that take `each`
/// bytes: whole ones, and no more than there are holders.
fn explained(manager: &VramManager, holders: u64, each: u64) -> bool {
    let c = manager.capacity(0).unwrap();
    c.used + c.free + c.stranded == c.total
        && c.holders <= holders
        && c.used <= c.holders * each
        && c.used.is_multiple_of(each)
}

/// Bytes that the first device gives for `len`.
fn granted(stage: &Stage, len: Size) -> u64 {
    len.0.next_multiple_of(stage.taps[0].info.granularity)
}

#[when(expr = "{int} threads seal {size} each")]
fn threads_seal(stage: &mut Stage, threads: usize, len: Size) {
    let manager = stage.manager();
    let answers = together(threads, |i| seal(&manager, i, len.0));
    keep(stage, answers);
}

#[when(expr = "{int} threads verify {string} in full")]
fn threads_verify(stage: &mut Stage, threads: usize, name: String) {
    let (manager, shard) = (stage.manager(), stage.shard(&name));
    stage.results = together(threads, |_| {
        manager.verify_sealed(shard, Mode::Full).map(drop)
    });
}

#[when(expr = "{int} threads seal {size} each or verify {string}, in turn")]
fn threads_both(stage: &mut Stage, threads: usize, len: Size, name: String) {
    let (manager, shard) = (stage.manager(), stage.shard(&name));
    let work = |i| match i % 2 {
        0 => seal(&manager, i, len.0).map(Some),
        _ => manager.verify_sealed(shard, Mode::Full).map(|_| None),
    };
    for answer in together(threads, work) {
        let result = answer.map(|shard| stage.many.extend(shard));
        stage.results.push(result);
    }
}

#[when(expr = "{int} threads read the budget while {int} seal and free {size} each")]
fn threads_read(stage: &mut Stage, readers: usize, writers: usize, len: Size) {
    let manager = stage.manager();
    let (holders, each) = (writers as u64, granted(stage, len));
    let answers = together(readers + writers, |i| {
        if i < readers {
            return Ok((0..100).all(|_| explained(&manager, holders, each)));
        }
        let shard = seal(&manager, i, len.0)?;
        manager.unseal_and_free(&shard).map(|()| true)
    });
    for answer in answers {
        let result = answer.map(|balanced| stage.answers.push(balanced));
        stage.results.push(result);
    }
}

#[then("the budget balanced every time")]
fn balanced(stage: &mut Stage) {
    assert!(!stage.answers.is_empty() && stage.answers.iter().all(|balanced| *balanced));
}

#[then("all of them succeed")]
fn all_succeed(stage: &mut Stage) {
    assert!(!stage.results.is_empty());
    for result in &stage.results {
        assert!(result.is_ok(), "{result:?}");
    }
}

#[then(expr = "{int} of them succeed and {int} find(s) no room")]
fn some_succeed(stage: &mut Stage, good: usize, full: usize) {
    let no_room = |r: &&Result<()>| matches!(r, Err(Error::InsufficientVram(_)));
    assert_eq!(stage.results.iter().filter(|r| r.is_ok()).count(), good);
    assert_eq!(stage.results.iter().filter(no_room).count(), full);
    assert_eq!(stage.results.len(), good + full);
}

#[when(expr = "shards of {size} are sealed until one is refused")]
fn until_full(stage: &mut Stage, len: Size) {
    let manager = stage.manager();
    let refused = loop {
        match seal(&manager, stage.many.len(), len.0) {
            Ok(shard) => stage.many.push(shard),
            Err(error) => break error,
        }
    };
    stage.outcome = Some(Err(refused));
}

#[when(expr = "{size} are sealed and freed {int} times")]
fn cycles(stage: &mut Stage, len: Size, times: usize) {
    let manager = stage.manager();
    for i in 0..times {
        let shard = seal(&manager, i, len.0).unwrap();
        manager.deallocate(&shard).unwrap();
    }
}

#[when(expr = "{int} shards of {size} are sealed")]
fn seal_many(stage: &mut Stage, count: usize, len: Size) {
    let manager = stage.manager();
    let answers = (0..count).map(|i| seal(&manager, i, len.0)).collect();
    keep(stage, answers);
}

#[when(expr = "{int} shards of {size} are sealed, each verified at once")]
fn seal_and_verify(stage: &mut Stage, count: usize, len: Size) {
    let manager = stage.manager();
    for i in 0..count {
        let shard = seal(&manager, i, len.0).unwrap();
        stage
            .results
            .push(manager.verify_sealed(&shard, Mode::Full).map(drop));
        stage.many.push(shard);
    }
}

#[when(expr = "{int} shards of {size} are sealed and the budget is read after each")]
fn seal_and_read(stage: &mut Stage, count: usize, len: Size) {
    let manager = stage.manager();
    let each = granted(stage, len);
    for i in 0..count {
        stage.many.push(seal(&manager, i, len.0).unwrap());
        let (held, used) = (i as u64 + 1, manager.capacity(0).unwrap().used);
        let right = explained(&manager, held, each) && used == held * each;
        stage.answers.push(right);
    }
}

#[when(expr = "{string} is verified {int} times")]
fn verify_often(stage: &mut Stage, name: String, times: usize) {
    for _ in 0..times {
        let answer = stage.verify(&name);
        stage.results.push(answer);
    }
}

#[when("digests of every length up to 300 bytes and around 4 KiB are computed")]
fn digests(stage: &mut Stage) {
    let zeros = [0; 4100];
    let lengths = (0..300).chain(4092..4100);
    let digest = |len| vram_digest::digest(&zeros[..len]).to_string();
    stage.notes = lengths.clone().map(digest).collect();
    stage.answers = lengths
        .zip(&stage.notes)
        .map(|(len, was)| digest(len) == *was)
        .collect();
}

#[then("no two of them are equal and each is the same when computed again")]
fn digests_differ(stage: &mut Stage) {
    let unique: BTreeSet<&String> = stage.notes.iter().collect();
    assert_eq!((unique.len(), stage.notes.len()), (308, 308));
    assert!(stage.answers.iter().all(|same| *same));
}
