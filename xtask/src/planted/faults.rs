//! The faults, as data: what is planted where, and which test must find it.

/// One deliberate fault.
pub(crate) struct Fault {
    /// How the command line and the results name it.
    pub(crate) name: &'static str,
    /// What the product would do wrong.
    pub(crate) harm: &'static str,
    /// The file that it is planted in, from the root of the repository.
    pub(crate) file: &'static str,
    /// The good text; it stands there exactly once.
    pub(crate) good: &'static str,
    /// What takes its place.
    pub(crate) bad: &'static str,
    /// `package::test_file::test_function` that must fail.
    pub(crate) test: &'static str,
}

/// Ten ways in which a checked product could turn into one that only looks checked. Policy
/// answers that later steps take as a value (`admit_device`, `admit_memory`, `admit_size`) cannot
/// be left out at all: that does not compile. The one that is removed here returns nothing.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "tag-not-compared",
        harm: "a record with any tag passes for a sealed one",
        file: "crates/vram-residency/src/seal/mod.rs",
        good: "if !key.check(&record.statement(), &record.tag)? {",
        bad: "if !key.check(&record.statement(), &record.tag)? && false {",
        test: "vram-residency::goto_fail::every_bit_of_the_tag_counts",
    },
    Fault {
        name: "policy-call-removed",
        harm: "the policy's limits on a seal's date are not asked about",
        file: "crates/vram-residency/src/manager/verify.rs",
        good: "        self.check_age(resident)?;\n",
        bad: "",
        test: "vram-residency::security::stale_digest_rejected",
    },
    Fault {
        name: "ledger-release-forgotten",
        harm: "freed memory stays taken in the budget",
        file: "crates/vram-residency/src/capacity/allocation.rs",
        good: "self.ledger.release(self.granted, stranded);",
        bad: "let _ = stranded;",
        test: "vram-residency::capacity::freeing_restores_capacity",
    },
    Fault {
        name: "free-without-scrub",
        harm: "the next owner of the memory can read the model",
        file: "crates/vram-residency-cuda/src/device/ops.rs",
        good: "unsafe { scrub::scrub(lane, &self.kernels, buffer.run()) }",
        bad: "{ let _ = lane; Ok(()) }",
        test: "vram-residency-cuda::lies::a_scrub_or_its_check_that_does_nothing_strands_the_memory",
    },
    Fault {
        name: "wrong-block-index",
        harm: "damage is reported, and repaired, one block off",
        file: "crates/vram-residency/src/verify/suspects.rs",
        good: "false => self.differ.push(block),",
        bad: "false => self.differ.push(block.saturating_add(1)),",
        test: "vram-residency::goto_fail::every_flipped_bit_of_a_shard_is_found_and_its_block_named",
    },
    Fault {
        name: "lease-not-counted",
        harm: "memory is freed under work that uses it",
        file: "crates/vram-residency/src/manager/lease.rs",
        good: "resident.add_lease(&held);",
        bad: "let _ = &held;",
        test: "vram-residency::lease::leases_keep_the_memory_and_make_others_wait",
    },
    Fault {
        name: "audit-event-dropped",
        harm: "a seal leaves no trace in the audit log",
        file: "crates/vram-residency/src/manager/seal.rs",
        good: "self.emit(correlation_id, body)?;\n        let resident = Resident::new(",
        bad: "drop(body);\n        let resident = Resident::new(",
        test: "vram-residency::audit_events::seal_audited",
    },
    Fault {
        name: "expected-digest-ignored",
        harm: "another file than the signed-off one is sealed",
        file: "crates/vram-residency/src/shard/filling.rs",
        good: "digest.filter(|expected| !expected.ct_eq(&actual))",
        bad: "digest.filter(|_| false)",
        test: "vram-residency::load::an_expectation_that_is_not_met_leaves_nothing",
    },
    Fault {
        name: "protection-not-applied",
        harm: "sealed memory stays writable",
        file: "crates/vram-residency/src/shard/filling.rs",
        good: "        device.protect(buffer, Protection::ReadOnly)?;\n",
        bad: "",
        test: "vram-residency::lease::sealed_memory_refuses_writes",
    },
    Fault {
        name: "stale-generation-accepted",
        harm: "the record of a freed shard passes for the one that took its name",
        file: "crates/vram-residency/src/manager/verify.rs",
        good: "if resident.record().as_ref() != record || !resident.is_held() {",
        bad: "if !resident.is_held() {",
        test: "vram-residency::security::seal_replay_rejected",
    },
];

impl Fault {
    /// Package, test file and function of the named test.
    pub(crate) fn test_parts(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let (package, rest) = self.test.split_once("::")?;
        let (binary, function) = rest.split_once("::")?;
        Some((package, binary, function))
    }

    /// The file's text with the fault in it.
    pub(crate) fn planted(&self, text: &str) -> Result<String, String> {
        match text.matches(self.good).count() {
            1 => Ok(text.replacen(self.good, self.bad, 1)),
            count => Err(format!(
                "{}: the text of fault `{}` stands there {count} times, not once: \
                 the code moved on, so must xtask/src/planted/faults.rs",
                self.file, self.name
            )),
        }
    }
}
