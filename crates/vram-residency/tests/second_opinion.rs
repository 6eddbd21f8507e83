//! Who erred, the memory or its checker: root and block hashes of the device, and the look of the
//! CPU at suspect blocks.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::disguise::{Disguise, gpu_info};
use common::{Rig, newest, rig_of, root_key, weights};
use vram_digest::{BlockHash, hash_block, root};
use vram_residency::audit::{Body, MemorySink};
use vram_residency::device::DeviceError;
use vram_residency::error::{Answer, Checker, Damage, Error, VerifyError};
use vram_residency::format::{Format, Limits};
use vram_residency::load::FormatChoice;
use vram_residency::policy::OnFailure;
use vram_residency::sim::{Flip, Moment, Op, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

const MIB: usize = 1 << 20;

fn lenient() -> Policy {
    Policy {
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    }
}

/// Suspect blocks of the checker faults that were recorded.
fn checker_faults(sink: &MemorySink) -> Vec<u64> {
    let events = sink.events();
    let suspects = events.iter().filter_map(|event| match &event.body {
        Body::CheckerFault { suspect_blocks, .. } => Some(*suspect_blocks),
        _ => None,
    });
    suspects.collect()
}

fn damage(manager: &VramManager, shard: &SealedShard) -> Damage {
    match manager.verify_sealed(shard, Mode::Full).err().unwrap() {
        Error::Verify(VerifyError::Contents { damage, .. }) => *damage,
        other => panic!("{other}"),
    }
}

/// Three blocks sealed on a device that hashes the tree itself.
fn with_trees() -> (
    Disguise,
    Arc<MemorySink>,
    VramManager,
    SealedShard,
    BlockHash,
) {
    let device = Disguise::new(gpu_info(32 << 30));
    let sink = Arc::new(MemorySink::new());
    let manager = VramManager::builder()
        .device(device.clone())
        .key(root_key(1))
        .policy(lenient())
        .sink(sink.clone())
        .build()
        .unwrap();
    let bytes = weights(3 * 4096, 1);
    let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
    let hashes: Vec<BlockHash> = bytes.chunks(4096).map(|b| hash_block(b).unwrap()).collect();
    (device, sink, manager, shard, root(&hashes))
}

// requirement: DG-2
#[test]
fn a_root_of_the_device_that_is_as_sealed_is_enough() {
    let (device, sink, manager, shard, right) = with_trees();
    device.claim_root(right);
    let before = device.sim.calls(Op::BlockDigests);
    let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
    assert_eq!(
        device.sim.calls(Op::BlockDigests),
        before,
        "no block is asked for"
    );
    assert!(checker_faults(&sink).is_empty());
}

// requirement: DG-2
#[test]
fn a_wrong_root_over_intact_blocks_is_the_checkers_fault() {
    let (device, sink, manager, shard, right) = with_trees();
    // Without a root of the device nobody erred.
    let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
    assert!(checker_faults(&sink).is_empty());
    let mut wrong = right;
    wrong[0] ^= 1;
    device.claim_root(wrong);
    let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
    assert_eq!(checker_faults(&sink), [3], "any block may have been why");
    assert!(!shard.is_quarantined());
}

// requirement: DG-2
#[test]
fn a_wrong_root_over_damaged_blocks_locates_the_damage() {
    let (device, sink, manager, shard, mut wrong) = with_trees();
    wrong[31] ^= 0x80;
    device.claim_root(wrong);
    let buffer = newest(&device.sim);
    device.sim.flip_bit(buffer, 2 * 4096, 3).unwrap();
    assert_eq!(damage(&manager, &shard).runs, [(2, 1)]);
    assert!(checker_faults(&sink).is_empty());
}

/// A checker that sees this many bad blocks once, and a memory that has none.
fn erring_checker(blocks: u64) -> (Rig, SealedShard) {
    let rig = Rig::build(&[SimOptions::new(16 << 20)], lenient(), |b| b);
    let bytes = weights(1100 * 4096, 2);
    let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
    let offsets: Vec<u64> = (0..blocks).map(|block| block * 4096).collect();
    err_once(&rig, &offsets);
    (rig, shard)
}

/// What the checkers said, by the events of checker faults and of failed verifications.
fn answers(sink: &MemorySink) -> Vec<Vec<Answer>> {
    let events = sink.events().into_iter();
    let answers = events.filter_map(|event| match event.body {
        Body::CheckerFault { answers, .. } | Body::SealVerificationFailed { answers, .. } => {
            Some(answers)
        }
        _ => None,
    });
    answers.collect()
}

/// Checker, blocks that it looked at, bad ones, and their runs.
type Brief = (Checker, u64, u64, Vec<(u64, u64)>);

fn brief(answers: &[Answer]) -> Vec<Brief> {
    let brief = |a: &Answer| (a.checker, a.looked_at, a.bad, a.runs.clone());
    answers.iter().map(brief).collect()
}

/// Has the next check see a bit at each of these offsets that is not there.
fn err_once(rig: &Rig, offsets: &[u64]) {
    for offset in offsets.iter().copied() {
        for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
            rig.device().flip_at(Flip {
                moment,
                offset,
                bit: 0,
            });
        }
    }
}

/// A shard of two segments and a block.
fn of_513_blocks() -> (Rig, SealedShard) {
    let rig = Rig::build(&[SimOptions::new(16 << 20)], lenient(), |b| b);
    let bytes = weights(2 * MIB + 5, 2);
    let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
    (rig, shard)
}

/// Who was wrong about which blocks, and who said otherwise: two faults of one block can
/// be told from two anywhere.
// requirement: AU-3, DG-2
#[test]
fn the_answers_of_all_checkers_stand_in_the_event_of_a_checker_fault() {
    let (rig, shard) = of_513_blocks();
    let sealed = Some(shard.record().digest.to_string());
    err_once(&rig, &[7 * 4096]);
    let _ = rig.manager.verify_sealed(&shard, Mode::Full).unwrap();
    err_once(&rig, &[MIB as u64]);
    let _ = rig.manager.verify_sealed(&shard, Mode::Keyed).unwrap();
    let [full, keyed] = &answers(&rig.sink)[..] else {
        panic!("two faults")
    };
    let (one, good) = (vec![(7, 1)], vec![]);
    let expected = [
        (Checker::Blocks, 513, 1, one),
        (Checker::Cpu, 1, 0, good.clone()),
        (Checker::Blocks, 513, 0, good.clone()),
    ];
    assert_eq!(brief(full), expected);
    assert!(full[0].digest.is_some() && full[0].digest != sealed);
    assert_eq!((&full[1].digest, &full[2].digest), (&None, &sealed));
    let expected = [
        (Checker::Tags, 513, 256, vec![(256, 256)]),
        (Checker::Blocks, 513, 0, good),
    ];
    assert_eq!(brief(keyed), expected);
    assert_eq!((&keyed[0].digest, &keyed[1].digest), (&None, &sealed));

    // A tree of the device, and the hashes that it made it of.
    let (device, sink, manager, shard, mut wrong) = with_trees();
    wrong[0] ^= 1;
    device.claim_root(wrong);
    let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
    let expected = [
        (Checker::Tree, 3, 3, vec![(0, 3)]),
        (Checker::Blocks, 3, 0, vec![]),
    ];
    assert_eq!(brief(&answers(&sink)[0]), expected);
    assert_ne!(answers(&sink)[0][0].digest, answers(&sink)[0][1].digest);
}

/// What was found first is told where others condemn, too.
// requirement: AU-3, DG-2
#[test]
fn the_answers_of_all_checkers_stand_in_the_event_of_damage() {
    let (rig, shard) = of_513_blocks();
    rig.flip_newest(&shard, MIB as u64 + 5, 1);
    let error = rig.manager.verify_sealed(&shard, Mode::Keyed).err();
    let Some(Error::Verify(VerifyError::Contents { actual, damage, .. })) = error else {
        panic!("the damage is hidden")
    };
    let expected = [
        (Checker::Tags, 513, 256, vec![(256, 256)]),
        (Checker::Blocks, 513, 1, vec![(256, 1)]),
        (Checker::Cpu, 1, 1, vec![(256, 1)]),
    ];
    assert_eq!(brief(&damage.answers), expected);
    assert_eq!(damage.answers[1].digest, Some(actual.to_string()));
    assert_eq!(answers(&rig.sink), [damage.answers]);
    assert_eq!(rig.manager.metrics().checker_faults_total, 0);
}

/// The CPU finds nothing in what the device blamed first, and the device blames another
/// block then: that one is bad, and the checker has erred as well.
// requirement: AU-3, DG-2
#[test]
fn a_checker_that_erred_before_the_damage_was_found_is_told_beside_it() {
    let (rig, shard) = of_513_blocks();
    err_once(&rig, &[7 * 4096, 9 * 4096]);
    rig.device().flip_at(Flip {
        moment: Moment::AfterCheck,
        offset: 3 * 4096,
        bit: 1,
    });
    let error = rig.manager.verify_sealed(&shard, Mode::Full).err().unwrap();
    let text = "2 other block(s) that the device had found bad are not";
    assert!(error.to_string().ends_with(text), "{error}");
    let Error::Verify(VerifyError::Contents { damage, .. }) = error else {
        panic!("{error}")
    };
    let first = vec![(7, 1), (9, 1)];
    let expected = [
        (Checker::Blocks, 513, 2, first),
        (Checker::Cpu, 2, 0, vec![]),
        (Checker::Blocks, 513, 1, vec![(3, 1)]),
        (Checker::Cpu, 1, 1, vec![(3, 1)]),
    ];
    assert_eq!(brief(&damage.answers), expected);
    assert_eq!((damage.blocks, damage.withdrawn), (Some(1), 2));
    let both = [damage.answers.clone(), damage.answers];
    assert_eq!(answers(&rig.sink), both, "the failure and the fault");
    assert_eq!(checker_faults(&rig.sink), [2]);
    assert_eq!(rig.manager.metrics().checker_faults_total, 1);
    assert!(shard.is_quarantined());
}

/// Age of the oldest verification that counts, by the gauge.
fn oldest(rig: &Rig) -> Option<u64> {
    rig.manager.metrics().devices[0].oldest_verification_nanos
}

/// What left the shard in doubt is told then, and with what settles it.
// requirement: AU-3, DG-2, OB-2
#[test]
fn the_answers_of_a_check_that_could_not_be_finished_are_kept() {
    let (rig, shard) = of_513_blocks();
    let _ = rig.manager.verify_sealed(&shard, Mode::Full).unwrap();
    assert_eq!(oldest(&rig), Some(0));
    err_once(&rig, &[5]);
    rig.device().fail(Op::BlockDigests, 1, scripted());
    let error = rig.manager.verify_sealed(&shard, Mode::Keyed).err();
    assert!(matches!(error, Some(Error::Device(_))));
    let first = (Checker::Tags, 513, 256, vec![(0, 256)]);
    assert_eq!(brief(&answers(&rig.sink)[0]), std::slice::from_ref(&first));
    let told = |body: &Body| {
        matches!(body, Body::SealVerificationFailed { details, .. }
            if details.as_str().contains("(keyed tags: 256 of 513 blocks bad: 0 to 255)"))
    };
    assert!(rig.bodies().iter().any(told));
    assert_eq!(oldest(&rig), None, "whatever passed before");
    // It fails again, and finds nothing new.
    rig.device().fail(Op::BlockDigests, 1, scripted());
    assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_err());
    let _ = rig.manager.verify_sealed(&shard, Mode::TagOnly).unwrap();
    let second = (Checker::Blocks, 513, 0, vec![]);
    assert_eq!(brief(&answers(&rig.sink)[2]), [first, second]);
    // Settled is settled.
    assert_eq!(oldest(&rig), Some(0));
    err_once(&rig, &[5]);
    let _ = rig.manager.verify_sealed(&shard, Mode::Full).unwrap();
    assert_eq!(answers(&rig.sink)[3][0].checker, Checker::Blocks);
}

/// Lines of logs that were written before an event had them.
// requirement: AU-11
#[test]
fn an_event_without_answers_reads_and_writes_as_before() {
    for line in [
        r#"{"event_type":"seal.checker_fault","shard_id":"s","gpu_device":0,"suspect_blocks":3}"#,
        r#"{"event_type":"seal.verification_failed","shard_id":"s","gpu_device":0,"reason":"digest_mismatch","expected_digest":"a","actual_digest":"b","damage":{"blocks":1,"runs":[[0,1]],"tensors":[],"read_back":1,"confirmed":1},"details":"d"}"#,
    ] {
        let body: Body = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&body).unwrap(), line);
    }
}

// requirement: DG-2
#[test]
fn any_number_of_suspect_blocks_gets_a_second_opinion() {
    for suspects in [1, 1024, 1025, 1100] {
        let (rig, shard) = erring_checker(suspects);
        let _ = rig.manager.verify_sealed(&shard, Mode::Full).unwrap();
        assert_eq!(checker_faults(&rig.sink), [suspects]);
        assert!(!shard.is_quarantined());
    }
}

/// Suspect blocks of an erring checker, and one that is bad indeed, looked at by the CPU or not:
/// then the device's second run tells which.
// requirement: DG-2, AU-3
#[test]
fn damage_among_very_many_suspect_blocks_is_damage() {
    for (erring, blocks, read_back, withdrawn) in [
        (1023, 1, 1024, 1023),
        (1049, 1, 1, 1049),
        (1050, 1051, 526, 0),
    ] {
        let (rig, shard) = erring_checker(erring);
        rig.flip_newest(&shard, 1099 * 4096 + 5, 6);
        let damage = damage(&rig.manager, &shard);
        assert_eq!((damage.blocks, damage.confirmed), (Some(blocks), 1));
        assert_eq!((damage.read_back, damage.withdrawn), (read_back, withdrawn));
        let told = checker_faults(&rig.sink);
        assert_eq!(told, [withdrawn].repeat(usize::from(withdrawn > 0)));
        assert!(shard.is_quarantined());
    }
}

/// Both answers are told, and stand in the event.
// requirement: AU-3
#[test]
fn what_the_second_opinion_said_is_on_record() {
    let rig = Rig::build(&[SimOptions::new(16 << 20)], lenient(), |b| b);
    let bytes = weights(1100 * 4096, 2);
    for (bad, read) in [(1, 1), (3, 3), (1100, 550)] {
        let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
        for block in 0..bad {
            rig.flip_newest(&shard, block * 4096, 0);
        }
        let damage = damage(&rig.manager, &shard);
        assert_eq!(
            (damage.blocks, damage.read_back, damage.confirmed),
            (Some(bad), read, read)
        );
        let said = format!("the CPU found {read} of {read} blocks bad that it read back");
        let told = |body: &Body| matches!(body, Body::SealVerificationFailed { details, .. } if details.as_str().contains(&said));
        assert!(rig.bodies().iter().any(told), "{bad}");
    }
}

#[test]
fn damage_is_told_in_runs_of_blocks_that_touch() {
    let rig = Rig::build(&[SimOptions::new(1 << 20)], lenient(), |b| b);
    let bytes = weights(8 * 4096, 4);
    let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
    for block in [1, 2, 5, 7] {
        rig.flip_newest(&shard, block * 4096, 0);
    }
    let damage = damage(&rig.manager, &shard);
    assert_eq!(damage.runs, [(1, 2), (5, 1), (7, 1)]);
    assert_eq!(damage.blocks, Some(4));
}

/// A safetensors file of tensors of these names and lengths.
fn safetensors(tensors: impl Iterator<Item = (String, usize)>) -> Vec<u8> {
    let mut end = 0;
    let entries: Vec<String> = tensors
        .map(|(name, len)| {
            let start = end;
            end += len;
            format!(r#""{name}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(weights(end, 3));
    file
}

/// One of `count` tensors of `len` bytes each.
fn tensors(count: usize, len: usize) -> Vec<u8> {
    safetensors((0..count).map(|i| (format!("t{i:03}"), len)))
}

fn as_tensors(file: &[u8]) -> SealRequest<'_> {
    SealRequest::bytes(file).format(FormatChoice::Exactly(Format::Safetensors))
}

/// Seals a safetensors file as the rig's only shard and flips a bit of each of these blocks.
fn damaged_tensors(rig: &Rig, request: SealRequest<'_>, blocks: &[u64]) -> Vec<String> {
    let shard = rig.manager.seal(request).unwrap();
    // The file's first byte lies where tensor data is aligned.
    let shift = rig.manager.used_vram() - shard.record().vram_bytes;
    for block in blocks {
        rig.flip_newest(&shard, shift + block * 4096, 0);
    }
    damage(&rig.manager, &shard).tensors
}

/// However long names may be, the event fits into a line of the log.
// requirement: AU-3, AU-11
#[test]
fn the_event_names_runs_and_tensors() {
    let rig = Rig::build(&[SimOptions::new(16 << 20)], lenient(), |b| b);
    let name = |i: usize| format!("t{i:02} {}", "\u{1F600}".repeat(1500));
    let file = safetensors((0..70).map(|i| (name(i), 64)));
    let blocks = file.len().div_ceil(4096) as u64;
    let mut limits = Limits::default();
    limits.name_bytes = 8 << 10;
    let request = as_tensors(&file).limits(limits);
    let _ = damaged_tensors(&rig, request, &(0..blocks).collect::<Vec<_>>());
    let events = rig.sink.events();
    let mut failed = events.iter().filter_map(|event| match &event.body {
        Body::SealVerificationFailed { damage, .. } => Some((event, damage.as_ref()?)),
        _ => None,
    });
    let (event, damage) = failed.next().unwrap();
    let line = serde_json::to_string(event).unwrap();
    assert!(line.len() < 200 << 10, "{}", line.len());
    assert_eq!(damage.runs, [(0, blocks)]);
    assert_eq!(damage.tensors.len(), 64);
    assert!(damage.tensors[63].starts_with("t63 \u{1F600}"));
}

#[test]
fn damaged_tensors_are_named_once_each_and_64_at_most() {
    let rig = Rig::build(&[SimOptions::new(16 << 20)], lenient(), |b| b);
    let one = damaged_tensors(&rig, as_tensors(&tensors(1, 40_000)), &[1, 3, 5]);
    assert_eq!(one, ["t000"]);
    for (count, named) in [(10, 10), (64, 64), (70, 64)] {
        let file = tensors(count, 64);
        let blocks: Vec<u64> = (0..file.len().div_ceil(4096) as u64).collect();
        let expected: Vec<String> = (0..named).map(|i| format!("t{i:03}")).collect();
        assert_eq!(
            damaged_tensors(&rig, as_tensors(&file), &blocks),
            expected,
            "{count}"
        );
    }
}

/// A rig whose leases may rest on what was verified within the hour, and a shard that was
/// leased already.
fn reusing() -> (Rig, SealedShard) {
    let policy = Policy {
        max_lease_age: Some(Duration::from_secs(3600)),
        ..lenient()
    };
    let rig = Rig::build(&[SimOptions::new(16 << 20)], policy, |b| b);
    let bytes = weights(3 * MIB + 100, 2);
    let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
    rig.manager.lease(&shard, Mode::Full).unwrap().finish();
    (rig, shard)
}

/// Every byte under keyed tags, some, and the tree; with the call that its second opinion needs.
const OPINIONS: [(Mode, Op); 3] = [
    (Mode::Keyed, Op::BlockDigests),
    (
        Mode::Sweep {
            budget: Duration::ZERO,
        },
        Op::BlockDigests,
    ),
    (Mode::Full, Op::Read),
];

/// A check that finds something and then cannot be finished.
fn unsettled(rig: &Rig, shard: &SealedShard, mode: Mode, second: Op) {
    rig.device().fail(second, 1, scripted());
    let error = rig.manager.verify_sealed(shard, mode).err().unwrap();
    assert!(matches!(error, Error::Device(_)), "{mode}: {error}");
    assert!(!shard.is_quarantined(), "nobody knows yet");
    let told = |body: &Body| {
        matches!(body, Body::SealVerificationFailed { reason, details, .. }
            if reason.as_str() == "unsettled" && details.as_str().contains("looked bad"))
    };
    assert_eq!(rig.bodies().iter().filter(|body| told(body)).count(), 1);
}

fn scripted() -> DeviceError {
    DeviceError::Unsupported { what: "scripted" }
}

// requirement: DG-2, AU-3, PM-5
#[test]
fn what_looked_bad_is_not_leased_before_the_tree_has_told() {
    for (mode, second) in OPINIONS {
        for wanted in [Mode::TagOnly, mode, Mode::Keyed, Mode::Full] {
            let (rig, shard) = reusing();
            for segment in 0..4 {
                rig.flip_newest(&shard, segment * MIB as u64 + 5, 1);
            }
            unsettled(&rig, &shard, mode, second);
            // Neither what was verified before nor the tag alone is enough now.
            rig.device().fail(Op::BlockDigests, 1, scripted());
            let error = rig.manager.lease(&shard, wanted).err().unwrap();
            assert!(matches!(error, Error::Device(_)), "{mode}, {wanted}");
            let error = rig.manager.lease(&shard, wanted).err().unwrap();
            let condemned = matches!(error, Error::Verify(VerifyError::Contents { .. }));
            assert!(condemned && shard.is_quarantined(), "{mode}, {wanted}");
        }
    }
}

// requirement: DG-2, API-F24, PM-5
#[test]
fn what_an_export_found_is_not_leased_before_the_tree_has_told() {
    let (rig, shard) = reusing();
    rig.flip_newest(&shard, 5, 1);
    rig.device().fail(Op::BlockDigests, 1, scripted());
    let error = rig.manager.unseal_model(&shard).err().unwrap();
    assert!(matches!(error, Error::Device(_)), "{error}");
    assert!(!shard.is_quarantined(), "nobody knows yet");
    let error = rig.manager.lease(&shard, Mode::TagOnly).err().unwrap();
    let condemned = matches!(error, Error::Verify(VerifyError::Contents { .. }));
    assert!(condemned && shard.is_quarantined(), "{error}");
}

/// The checker erred and the tree said so: nothing is different from before.
// requirement: DG-2, WORKER-4230
#[test]
fn a_group_stays_ready_when_only_the_checker_of_the_scrubber_erred() {
    let rig = rig_of(1, 64 << 20, lenient());
    let bytes = weights(4 * MIB, 1);
    let group = rig.manager.seal_group(vec![SealRequest::bytes(&bytes)]);
    let group = group.unwrap();
    rig.manager.verify_group(&group, Mode::Full).unwrap();
    for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
        rig.device().flip_at(Flip {
            moment,
            offset: 4096,
            bit: 2,
        });
    }
    let step = rig.manager.scrub_step(u64::MAX).unwrap();
    assert_eq!(step.unwrap().bytes, 4 * MIB as u64);
    let erred = |body: &Body| matches!(body, Body::CheckerFault { .. });
    assert_eq!(rig.bodies().iter().filter(|body| erred(body)).count(), 1);
    assert!(rig.manager.group_ready(&group));
}

// requirement: DG-2, PM-5
#[test]
fn what_looked_bad_and_is_not_leases_again_after_a_tree_pass() {
    for (mode, second) in OPINIONS {
        let (rig, shard) = reusing();
        for segment in 0..4 {
            rig.flip_newest(&shard, segment * MIB as u64 + 5, 1);
        }
        unsettled(&rig, &shard, mode, second);
        for segment in 0..4 {
            rig.flip_newest(&shard, segment * MIB as u64 + 5, 1);
        }
        let checked = |wanted| {
            let verified = rig.manager.verify_sealed(&shard, wanted).unwrap();
            let verification = verified.into_verification();
            (verification.mode, verification.bytes_checked)
        };
        let all = shard.record().vram_bytes;
        // The first is told as what it was, and so is who erred before.
        assert!(checker_faults(&rig.sink).is_empty());
        assert_eq!(checked(Mode::TagOnly), (Mode::Full, all));
        assert_eq!(checker_faults(&rig.sink).len(), 1, "{mode}");
        assert_eq!(rig.manager.metrics().checker_faults_total, 1);
        assert_eq!(checked(Mode::TagOnly), (Mode::TagOnly, 0));
        rig.manager.lease(&shard, Mode::Keyed).unwrap().finish();
    }
}

/// The scrubber settles it as well: its next step asks the tree.
// requirement: DG-2, PM-8
#[test]
fn the_scrubber_looks_at_once_at_what_it_could_not_settle() {
    let (rig, shard) = reusing();
    rig.flip_newest(&shard, 5, 1);
    rig.device().fail(Op::BlockDigests, 1, scripted());
    let scrub = || rig.manager.scrub_step(4 * MIB as u64);
    assert!(matches!(scrub(), Err(Error::Device(_))));
    let error = scrub().unwrap_err();
    let condemned = matches!(error, Error::Verify(VerifyError::Contents { .. }));
    assert!(condemned && shard.is_quarantined(), "{error}");
}

/// A shard of one block has one block to suspect, whatever a segment holds.
// requirement: DG-2
#[test]
fn a_keyed_mismatch_counts_the_blocks_that_there_are() {
    for (len, blocks) in [(100, 1), (4097, 2), (MIB + 1, 257)] {
        let rig = Rig::build(&[SimOptions::new(16 << 20)], lenient(), |b| b);
        let bytes = weights(len, 2);
        let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
        for offset in (0..len).step_by(MIB) {
            for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
                let offset = offset as u64;
                rig.device().flip_at(Flip {
                    moment,
                    offset,
                    bit: 0,
                });
            }
        }
        let _ = rig.manager.verify_sealed(&shard, Mode::Keyed).unwrap();
        assert_eq!(checker_faults(&rig.sink), [blocks], "{len} bytes");
    }
}

/// The target's checker errs about what arrived, and never again: that is no digest to
/// seal, and accuses neither side.
// requirement: AU-3, DG-2
#[test]
fn a_checker_that_errs_on_arrival_moves_nothing() {
    let rig = rig_of(2, 16 << 20, lenient());
    let bytes = weights(5000, 2);
    let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
    for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
        rig.devices[1].flip_at(Flip {
            moment,
            offset: 4097,
            bit: 0,
        });
    }
    let error = rig.manager.migrate_shard(&shard, 1).unwrap_err();
    assert!(
        matches!(&error, Error::Device(DeviceError::NoResult { .. })),
        "{error}"
    );
    assert!(!shard.is_quarantined());
    let moved = rig.manager.migrate_shard(&shard, 1).unwrap();
    assert_eq!(moved.record().digest, vram_digest::digest(&bytes));
}
