//! What goes wrong, and when: faults, bit flips, skipped work, lies.

use std::collections::BTreeMap;

use super::codes::CuError;

/// Which uses of a name a rule applies to, counted from when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The n-th use, 1-based.
    Nth(u64),
    /// The n-th and all later ones.
    From(u64),
}

impl When {
    /// `3`, `3+`, or `*` for every use.
    pub(crate) fn parse(text: &str) -> Option<When> {
        if text == "*" {
            return Some(When::From(1));
        }
        let (digits, from) = match text.strip_suffix('+') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let n = digits.parse().ok().filter(|n| *n > 0)?;
        Some(if from { When::From(n) } else { When::Nth(n) })
    }

    fn holds(self, use_number: u64) -> bool {
        match self {
            When::Nth(n) => n == use_number,
            When::From(n) => n <= use_number,
        }
    }
}

/// What a rule does when it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The call (or the queued work) fails with this code.
    Fail { code: CuError, sticky: bool },
    /// The work silently does nothing.
    Skip,
    /// Carried out before the call or the work.
    Before(Action),
    /// Carried out after it.
    After(Action),
}

/// A change to the pretended machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Flips one bit of a physical allocation.
    Flip { serial: u64, offset: u64, bit: u32 },
    /// Addresses of one physical allocation answer from another.
    Remap { from: u64, to: u64 },
    /// The context of a device is broken for good.
    Sticky { device: usize, code: CuError },
}

#[derive(Clone, Debug)]
struct Rule {
    name: String,
    when: When,
    seen: u64,
    effect: Effect,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    rules: Vec<Rule>,
    /// Uses of every name since the last reset.
    pub(crate) counts: BTreeMap<String, u64>,
    /// `cuMemGetInfo` says this instead of the truth.
    pub(crate) mem_info: Option<(u64, u64)>,
    /// Device attributes that are lied about, by device and attribute.
    pub(crate) attributes: BTreeMap<(usize, u32), i32>,
    /// Pointer attributes that are lied about.
    pub(crate) pointer: BTreeMap<u32, u64>,
    /// `cuMemGetAccess` says this instead of the truth.
    pub(crate) access: Option<u64>,
    /// Allocation properties lie about the location's kind.
    pub(crate) location_kind: Option<u32>,
}

/// The name without the version suffix of its symbol.
fn stem(name: &str) -> &str {
    name.strip_suffix("_v2").unwrap_or(name)
}

/// `exec.launch.*` stands for every name that begins like it.
fn matches(rule: &str, name: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => stem(rule) == stem(name),
    }
}

impl Plan {
    pub(crate) fn add(&mut self, name: &str, when: When, effect: Effect) {
        self.rules.push(Rule {
            name: name.to_owned(),
            when,
            seen: 0,
            effect,
        });
    }

    /// Forgets all rules and lies, keeps the counts.
    pub(crate) fn clear(&mut self) {
        *self = Plan {
            counts: std::mem::take(&mut self.counts),
            ..Plan::default()
        };
    }

    /// Counts one use of `name` and returns what applies to it.
    pub(crate) fn use_of(&mut self, name: &str) -> Vec<Effect> {
        let count = self.counts.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
        let mut effects = Vec::new();
        for rule in self.rules.iter_mut().filter(|r| matches(&r.name, name)) {
            rule.seen = rule.seen.saturating_add(1);
            if rule.when.holds(rule.seen) {
                effects.push(rule.effect.clone());
            }
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_count_from_when_they_were_made() {
        let mut plan = Plan::default();
        plan.use_of("cuMemAlloc_v2");
        let fail = Effect::Fail {
            code: CuError(2),
            sticky: false,
        };
        plan.add("cuMemAlloc", When::Nth(2), fail.clone());
        plan.add("exec.*", When::From(2), Effect::Skip);
        assert_eq!(plan.use_of("cuMemAlloc_v2"), []);
        assert_eq!(plan.use_of("cuMemAlloc_v2"), [fail]);
        assert_eq!(plan.use_of("cuMemAlloc_v2"), []);
        assert_eq!(plan.use_of("exec.htod"), []);
        assert_eq!(plan.use_of("exec.launch.k"), [Effect::Skip]);
        assert_eq!(plan.counts["cuMemAlloc_v2"], 4);
        plan.clear();
        assert_eq!(plan.use_of("exec.htod"), []);
    }

    #[test]
    fn moments_are_numbers_ranges_or_all() {
        assert_eq!(When::parse("3"), Some(When::Nth(3)));
        assert_eq!(When::parse("3+"), Some(When::From(3)));
        assert_eq!(When::parse("*"), Some(When::From(1)));
        for bad in ["0", "", "+", "x", "-1"] {
            assert_eq!(When::parse(bad), None, "{bad}");
        }
    }
}
