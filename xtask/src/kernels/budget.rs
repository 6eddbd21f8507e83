//! `kernels/budget.txt`: what each kernel may cost, and what it costs.

use super::sass::{Graph, Turn};
use std::collections::BTreeMap;

/// One line of the budget file.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    kernel: String,
    registers: u32,
    /// Bytes that a thread hashes per turn of its hot loop, and what 64 of them may cost.
    per_64_bytes: Option<(u32, Cost)>,
}

/// Instructions per 64 bytes: all, on the ALU pipe, on the FMA pipe.
#[derive(Debug, PartialEq)]
struct Cost {
    all: f64,
    alu: f64,
    fma: f64,
}

/// Registers and spilled bytes of one kernel, as ptxas counts them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Usage {
    registers: u32,
    spilled: u32,
}

/// Multiprocessors, clock and lanes per clock and pipe of an H200, for the ceilings shown.
const H200_SM_HERTZ: f64 = 132.0 * 1.98e9;
const PIPE_LANES: f64 = 64.0;
const ISSUE_LANES: f64 = 128.0;

pub(super) fn parse(text: &str) -> Result<Vec<Line>, String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| parse_line(line).ok_or_else(|| format!("budget.txt: cannot read `{line}`")))
        .collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [kernel, registers, rest @ ..] = words.as_slice() else {
        return None;
    };
    let per_64_bytes = match rest {
        [] => None,
        [bytes, all, alu, fma] => Some((
            bytes.parse().ok().filter(|bytes| *bytes > 0)?,
            Cost {
                all: all.parse().ok()?,
                alu: alu.parse().ok()?,
                fma: fma.parse().ok()?,
            },
        )),
        _ => return None,
    };
    Some(Line {
        kernel: (*kernel).to_owned(),
        registers: registers.parse().ok()?,
        per_64_bytes,
    })
}

/// Reads the report of `ptxas -v`.
pub(super) fn usage(log: &str) -> Result<BTreeMap<String, Usage>, String> {
    let mut found = BTreeMap::new();
    let mut kernel = None;
    let mut spilled = 0;
    for line in log.lines() {
        if let Some(rest) = line.split("entry function '").nth(1) {
            kernel = rest.split('\'').next();
            spilled = 0;
        }
        for kind in [" bytes spill stores", " bytes spill loads"] {
            spilled += number_before(line, kind).unwrap_or(0);
        }
        if let (Some(name), Some(registers)) = (kernel, number_before(line, " registers")) {
            found.insert(name.to_owned(), Usage { registers, spilled });
        }
    }
    if found.is_empty() {
        return Err(format!("ptxas reported no registers:\n{log}"));
    }
    Ok(found)
}

fn number_before(line: &str, word: &str) -> Option<u32> {
    let (before, _) = line.split_once(word)?;
    before.split([' ', ',']).next_back()?.parse().ok()
}

/// A table to print, and a line for each budget that is broken.
pub(super) fn compare(
    lines: &[Line],
    usage: &BTreeMap<String, Usage>,
    code: Option<&BTreeMap<String, Graph>>,
) -> (String, Vec<String>) {
    let mut table = String::from(
        "kernel (sm_90)        registers spilled | per 64 bytes: all    alu    fma | H200 ceiling\n",
    );
    let mut broken = Vec::new();
    for name in usage
        .keys()
        .filter(|name| lines.iter().all(|line| line.kernel != **name))
    {
        broken.push(format!("{name} has no line in budget.txt"));
    }
    for line in lines {
        let Some(used) = usage.get(&line.kernel) else {
            broken.push(format!("budget.txt: there is no kernel `{}`", line.kernel));
            continue;
        };
        table += &format!(
            "{:<24}{:>7}{:>8}",
            line.kernel, used.registers, used.spilled
        );
        if used.registers > line.registers || used.spilled > 0 {
            broken.push(format!(
                "{}: {} registers and {} spilled bytes; the budget is {} and 0",
                line.kernel, used.registers, used.spilled, line.registers
            ));
        }
        if let (Some((bytes, cost)), Some(code)) = (&line.per_64_bytes, code) {
            match code
                .get(&line.kernel)
                .and_then(|code| code.turn(bytes / 16))
            {
                Some(turn) => {
                    broken.extend(turn_cost(&line.kernel, *bytes, cost, turn, &mut table))
                }
                None => broken.push(format!("{}: no hot loop found", line.kernel)),
            }
        }
        table += "\n";
    }
    (table, broken)
}

/// Adds the cost of 64 bytes to the table; an error line if it is over the budget.
fn turn_cost(
    kernel: &str,
    bytes: u32,
    budget: &Cost,
    turn: Turn,
    table: &mut String,
) -> Option<String> {
    let scale = 64.0 / f64::from(bytes);
    let cost = Cost {
        all: f64::from(turn.all) * scale,
        alu: f64::from(turn.alu) * scale,
        fma: f64::from(turn.fma) * scale,
    };
    let clocks = (cost.alu / PIPE_LANES)
        .max(cost.fma / PIPE_LANES)
        .max(cost.all / ISSUE_LANES);
    *table += &format!(
        " |{:>19.1}{:>7.1}{:>7.1} |{:>7.0} GB/s",
        cost.all,
        cost.alu,
        cost.fma,
        H200_SM_HERTZ / clocks * 64.0 / 1e9
    );
    let over = cost.all > budget.all || cost.alu > budget.alu || cost.fma > budget.fma;
    over.then(|| {
        format!(
            "{kernel}: {:.1} instructions per 64 bytes ({:.1} ALU, {:.1} FMA); the budget is {} \
             ({}, {})",
            cost.all, cost.alu, cost.fma, budget.all, budget.alu, budget.fma
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : Compiling entry function 'a' for 'sm_90'
ptxas info    : Function properties for a
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 55 registers, used 1 barriers
ptxas info    : Compiling entry function 'b' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers
";

    /// `b` is a loop of 5 instructions over 32 bytes: per 64 bytes, 10 in all, 2 ALU and 2 FMA.
    const LOOP: &str = "\n.text.b:\n.L:\n/*0*/ LOP3 R1 ;\n/*1*/ IMAD R1 ;\n\
        /*2*/ LDG.E.128 R4 ;\n/*3*/ LDG.E.128 R8 ;\n/*4*/ BRA `(.L) ;\n";

    fn check(budget: &str, listing: &str) -> Vec<String> {
        let code = super::super::sass::kernels(listing);
        compare(&parse(budget).unwrap(), &usage(LOG).unwrap(), Some(&code)).1
    }

    #[test]
    fn the_report_of_ptxas_is_read() {
        let found = usage(LOG).unwrap();
        assert_eq!(
            found["a"],
            Usage {
                registers: 55,
                spilled: 16
            }
        );
        assert_eq!(
            found["b"],
            Usage {
                registers: 24,
                spilled: 0
            }
        );
        assert!(usage("nothing").is_err());
    }

    #[test]
    fn spills_registers_and_instructions_over_the_budget_are_each_named() {
        let broken = check("a 55\nb 23 32 10 2 2", LOOP);
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].contains("16 spilled"));
        assert!(broken[1].contains("the budget is 23"));
        for short in ["9.9 2 2", "10 1.9 2", "10 2 1.9"] {
            let broken = check(&format!("a 55\nb 24 32 {short}"), LOOP);
            assert!(broken[1].contains("per 64 bytes"), "{broken:?}");
        }
    }

    #[test]
    fn a_kernel_without_a_line_and_a_line_without_a_kernel_are_errors() {
        let broken = check("b 24\nc 1", LOOP);
        assert!(broken.iter().any(|line| line.starts_with("a has no line")));
        assert!(broken.iter().any(|line| line.contains("no kernel `c`")));
        assert!(check("a 55\nb 24 32 1 1 1", "")[1].contains("no hot loop"));
    }

    #[test]
    fn lines_that_are_not_understood_are_refused() {
        for bad in [
            "a",
            "a x",
            "a 1 2",
            "a 1 0 1 1 1",
            "a 1 64 1 1",
            "a 1 64 1 1 1 1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("# only words\n\n").unwrap(), []);
    }
}
