//! What is mutated, in which order, and which tests a mutant of it must get past.

/// A module of the product, or the files of one that have tests of their own.
pub(super) struct Target {
    /// How the command line names the module.
    pub(super) name: &'static str,
    /// The package whose tests run.
    pub(super) package: &'static str,
    /// Its sources, as a glob from the root of the repository.
    pub(super) files: &'static str,
    /// The test programs about this module, as cargo names them, in stages: most mutants are
    /// caught by the first, and only what gets past it meets the next, for a program costs the
    /// time to link it. A mutant that only a far-off test would notice survives, and asks for a
    /// test nearer by.
    pub(super) stages: &'static [&'static [&'static str]],
}

impl Target {
    /// Whether a mutant of this name, or a file of this path, is of this module.
    pub(super) fn holds(&self, name: &str) -> bool {
        name.starts_with(self.files.trim_end_matches("**"))
    }
}

/// In the order in which a campaign takes them.
pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "seal",
        package: "vram-residency",
        files: "crates/vram-residency/src/seal/**",
        stages: &[
            &["--test=records"],
            &["--test=goto_fail", "--test=security"],
        ],
    },
    Target {
        name: "seal",
        package: "vram-residency",
        files: "crates/vram-residency/src/manager/seal.rs",
        stages: &[
            &["--test=load", "--test=audit_events"],
            &[
                "--lib",
                "--test=capacity",
                "--test=load_groups",
                "--test=policy",
                "--test=security",
                "--test=lease",
                "--test=tracing",
                "--test=audit_failures",
            ],
        ],
    },
    Target {
        name: "seal",
        package: "vram-residency",
        files: "crates/vram-residency/src/shard/filling.rs",
        stages: &[
            &["--test=load", "--test=lease"],
            &["--test=capacity", "--test=device_faults", "--test=security"],
            &["--test=audit_events", "--test=second_opinion"],
        ],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/verify/contents.rs",
        stages: &[
            &["--test=second_opinion"],
            &["--lib", "--test=keyed", "--test=lease"],
        ],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/verify/suspects.rs",
        stages: &[&["--test=second_opinion"], &["--lib"]],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/verify/keyed.rs",
        stages: &[&["--test=keyed"], &["--lib", "--test=anchors"]],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/manager/hashes.rs",
        stages: &[&["--lib"], &["--test=audit_complete", "--test=keyed"]],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/verify/pace.rs",
        stages: &[&["--lib", "--test=keyed"]],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/verify/mod.rs",
        stages: &[&["--test=lease"], &["--lib", "--test=keyed"]],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/verify/offline.rs",
        stages: &[&["--test=offline"], &["--test=security"]],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/manager/verify.rs",
        stages: &[
            &["--test=lease", "--test=security"],
            &[
                "--test=goto_fail",
                "--test=second_opinion",
                "--test=keyed",
                "--test=audit_events",
            ],
            &[
                "--test=audit_failures",
                "--test=group_migrate",
                "--test=interleavings",
                "--test=key_rotation",
                "--lib",
            ],
        ],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/manager/keyed.rs",
        stages: &[
            &["--test=keyed"],
            &["--lib", "--test=anchors", "--test=scrub"],
        ],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/manager/lease.rs",
        stages: &[
            &["--test=lease"],
            &["--test=keyed", "--test=policy", "--test=security"],
            &[
                "--test=audit_failures",
                "--test=interleavings",
                "--test=second_opinion",
            ],
        ],
    },
    Target {
        name: "verify",
        package: "vram-residency",
        files: "crates/vram-residency/src/shard/lease.rs",
        stages: &[&["--test=lease"], &["--test=capacity", "--test=concurrent"]],
    },
    Target {
        name: "capacity",
        package: "vram-residency",
        files: "crates/vram-residency/src/capacity/plan.rs",
        stages: &[&["--lib"], &["--test=capacity", "--test=load_plan"]],
    },
    Target {
        name: "capacity",
        package: "vram-residency",
        files: "crates/vram-residency/src/capacity/pack.rs",
        stages: &[&["--lib"], &["--test=load_plan"]],
    },
    Target {
        name: "capacity",
        package: "vram-residency",
        files: "crates/vram-residency/src/capacity/ranks.rs",
        stages: &[&["--lib"], &["--test=load_plan"]],
    },
    Target {
        name: "capacity",
        package: "vram-residency",
        files: "crates/vram-residency/src/capacity/allocation.rs",
        stages: &[&["--test=capacity"], &["--test=audit_events"]],
    },
    Target {
        name: "capacity",
        package: "vram-residency",
        files: "crates/vram-residency/src/capacity/ledger.rs",
        stages: &[
            &["--test=capacity"],
            &["--test=audit_events", "--test=security"],
        ],
    },
    Target {
        name: "capacity",
        package: "vram-residency",
        files: "crates/vram-residency/src/capacity/victims.rs",
        stages: &[&["--lib"], &["--test=capacity"]],
    },
    Target {
        name: "capacity",
        package: "vram-residency",
        files: "crates/vram-residency/src/capacity/mod.rs",
        stages: &[&["--test=capacity"]],
    },
    Target {
        name: "capacity",
        package: "vram-residency",
        files: "crates/vram-residency/src/manager/free.rs",
        stages: &[
            &["--test=capacity"],
            &[
                "--test=audit_events",
                "--test=device_faults",
                "--test=lease",
            ],
        ],
    },
    Target {
        name: "key",
        package: "vram-residency",
        files: "crates/vram-residency/src/key/**",
        stages: &[
            &["--test=keys"],
            &[
                "--lib",
                "--test=key_rotation",
                "--test=token_provider",
                "--test=security",
            ],
        ],
    },
    Target {
        name: "key",
        package: "vram-residency",
        files: "crates/vram-residency/src/manager/keys.rs",
        stages: &[
            &["--test=key_rotation"],
            &["--test=keys", "--test=security", "--test=token_provider"],
        ],
    },
    Target {
        name: "policy",
        package: "vram-residency",
        files: "crates/vram-residency/src/policy.rs",
        stages: &[&["--test=policy"], &["--test=security", "--test=lease"]],
    },
    Target {
        name: "policy",
        package: "vram-residency",
        files: "crates/vram-residency/src/manager/failure.rs",
        stages: &[
            &["--test=audit_events", "--test=audit_failures"],
            &["--test=policy", "--test=security", "--test=audit_variants"],
        ],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/check/**",
        stages: &[
            &["--test=audit_log_tamper", "--test=audit_log_tail"],
            &["--lib", "--test=audit_log", "--test=audit_log_tamper_many"],
            &[
                "--test=audit_log_keys",
                "--test=audit_log_beside",
                "--test=audit_log_memory",
                "--test=audit_log_show",
            ],
        ],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/body.rs",
        stages: &[
            &["--test=audit_variants", "--test=audit_outside"],
            &["--lib", "--test=audit_events"],
        ],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/event.rs",
        stages: &[
            &["--test=audit_variants"],
            &["--lib", "--test=audit_events"],
        ],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/line.rs",
        stages: &[&["--lib"], &["--test=audit_log", "--test=audit_log_tamper"]],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/log/**",
        stages: &[
            &["--test=audit_log", "--test=audit_log_tail"],
            &["--lib", "--test=audit_log_crash", "--test=audit_log_keys"],
        ],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/memory.rs",
        stages: &[&["--test=audit_events"], &["--lib", "--test=capacity"]],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/merkle/**",
        stages: &[&["--lib"], &["--test=audit_log", "--test=audit_log_tamper"]],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/mod.rs",
        stages: &[&["--test=audit_events"], &["--lib", "--test=audit_log"]],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/note.rs",
        stages: &[&["--lib"], &["--test=audit_log", "--test=audit_log_tamper"]],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/proof/**",
        stages: &[
            &["--test=audit_log_proof", "--test=audit_log_proof_keys"],
            &["--test=audit_log_keys", "--test=audit_log_beside"],
        ],
    },
    Target {
        name: "audit",
        package: "vram-residency",
        files: "crates/vram-residency/src/audit/recorder.rs",
        stages: &[&["--test=audit_events"], &["--lib", "--test=audit_log"]],
    },
    Target {
        name: "digest",
        package: "vram-digest",
        files: "crates/vram-digest/src/**",
        stages: &[
            &["--lib"],
            &[
                "--test=cap",
                "--test=fsverity",
                "--test=nhpoly1305",
                "--test=paths",
            ],
        ],
    },
];

/// The targets of these names, in campaign order; all without names.
pub(super) fn chosen(names: &[&str]) -> Result<Vec<&'static Target>, String> {
    let known = || {
        let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        names.dedup();
        names.join(" ")
    };
    if let Some(name) = names
        .iter()
        .find(|name| !TARGETS.iter().any(|target| target.name == **name))
    {
        return Err(format!("there is no module `{name}`; known: {}", known()));
    }
    let wanted = |target: &&Target| names.is_empty() || names.contains(&target.name);
    Ok(TARGETS.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn every_target_has_sources_and_every_named_test_is_there() {
        let tree = Tree::read(&crate::exec::root()).unwrap();
        for target in TARGETS {
            let found = tree.rust().any(|file| target.holds(&file.path));
            assert!(found, "{}", target.files);
            for test in target.stages.concat() {
                let Some(name) = test.strip_prefix("--test=") else {
                    assert_eq!(test, "--lib");
                    continue;
                };
                let path = format!("crates/{}/tests/{name}.rs", target.package);
                assert!(tree.get(&path).is_some(), "{path} is gone");
            }
        }
    }

    /// What counts as a module for its floor of coverage is mutated as that module.
    #[test]
    fn no_source_of_a_module_is_left_out_or_taken_twice() {
        let tree = Tree::read(&crate::exec::root()).unwrap();
        for module in ["seal", "verify", "capacity", "key", "policy", "audit"] {
            let paths = crate::coverage::paths_of(module);
            assert!(!paths.is_empty(), "{module}");
            for path in paths {
                let files = tree.rust().filter(|file| file.path.starts_with(path));
                for file in files {
                    let as_module =
                        |target: &&Target| target.name == module && target.holds(&file.path);
                    assert!(
                        TARGETS.iter().any(|t| as_module(&t)),
                        "{module}: {}",
                        file.path
                    );
                }
            }
        }
        for file in tree.rust() {
            let holders = TARGETS.iter().filter(|target| target.holds(&file.path));
            assert!(holders.count() <= 1, "{}", file.path);
        }
    }

    #[test]
    fn modules_are_picked_by_name_and_keep_their_order() {
        let names = |picked: &[&str]| -> Vec<&str> {
            let targets = chosen(picked).unwrap();
            let mut names: Vec<&str> = targets.iter().map(|target| target.name).collect();
            names.dedup();
            names
        };
        assert_eq!(names(&["policy", "seal"]), ["seal", "policy"]);
        assert_eq!(
            names(&[]),
            [
                "seal", "verify", "capacity", "key", "policy", "audit", "digest"
            ]
        );
        assert!(chosen(&["sale"]).err().unwrap().contains("seal verify"));
    }
}
