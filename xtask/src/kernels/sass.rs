//! Counts machine instructions in the hot loop of each kernel, from a disassembly.
//!
//! One turn of the hot loop of a kernel is the shortest closed walk through its code that loads
//! as many 16-byte words as a turn hashes. Shortest leaves out what rare data takes (short blocks,
//! ragged ends); the loads keep out walks that hash nothing. Rare data is loaded word by word, so
//! only loads that stand together in a basic block count.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// Instructions of one turn of a hot loop, by the pipe that executes them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) all: u32,
    /// Integer logic, shifts, three-input adds, selects, compares.
    pub(super) alu: u32,
    /// Multiplies and multiply-adds; those with a 64-bit result count twice, because no public
    /// source says that the pipe takes one per clock and lane.
    pub(super) fma: u32,
    /// Loads of 16 bytes; in a whole walk, those that stand at least two to a basic block.
    pub(super) loads: u32,
}

/// The code of every kernel in a listing.
pub(super) fn kernels(listing: &str) -> BTreeMap<String, Graph> {
    let mut found = BTreeMap::new();
    for part in listing.split("\n.text.").skip(1) {
        let Some((name, body)) = part.split_once(':') else {
            continue;
        };
        let end = body.find("\n//-----").unwrap_or(body.len());
        let graph = Graph::of(body.get(..end).unwrap_or_default());
        found.insert(name.to_owned(), graph);
    }
    found
}

#[derive(Debug, Default)]
struct Block {
    turn: Turn,
    next: Vec<usize>,
}

/// Basic blocks and where each may go on.
pub(super) struct Graph {
    blocks: Vec<Block>,
}

/// What a line of a listing is.
enum Line<'a> {
    Label(&'a str),
    Instruction(&'a str),
}

fn lines(body: &str) -> impl Iterator<Item = Line<'_>> {
    body.lines().filter_map(|line| {
        let line = line.trim();
        if let Some(label) = line.strip_suffix(':').filter(|line| line.starts_with('.')) {
            return Some(Line::Label(label));
        }
        let code = line.strip_prefix("/*")?.split_once("*/")?.1;
        let code = code.split(';').next()?.trim();
        (!code.is_empty()).then_some(Line::Instruction(code))
    })
}

/// The label that an instruction jumps to.
fn target(code: &str) -> Option<&str> {
    let rest = code.split_once("`(")?.1;
    rest.split_once(')').map(|(label, _)| label)
}

/// The opcode without modifiers, and whether it is predicated.
fn opcode(code: &str) -> (&str, bool) {
    let predicated = code.starts_with('@');
    let word = code.split_whitespace().nth(usize::from(predicated));
    let name = word.unwrap_or_default().split('.').next();
    (name.unwrap_or_default(), predicated)
}

impl Graph {
    fn of(body: &str) -> Self {
        let mut blocks = vec![Block::default()];
        let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
        let mut jumps: Vec<(usize, &str)> = Vec::new();
        let mut falls = true;
        for line in lines(body) {
            let here = blocks.len() - 1;
            match line {
                Line::Label(label) => {
                    let next = begin(&mut blocks, here, falls);
                    labels.insert(label, next);
                    falls = true;
                }
                Line::Instruction(code) => {
                    let (name, predicated) = opcode(code);
                    count(&mut blocks[here].turn, name, code);
                    if !matches!(name, "BRA" | "EXIT" | "RET" | "BRX") {
                        falls = true;
                        continue;
                    }
                    if let Some(label) = target(code) {
                        jumps.push((here, label));
                    }
                    // BRA.DIV jumps only when the lanes of a warp have come apart.
                    falls = predicated || code.contains("BRA.DIV");
                    begin(&mut blocks, here, falls);
                    falls = true;
                }
            }
        }
        for (from, label) in jumps {
            if let Some(to) = labels.get(label) {
                blocks[from].next.push(*to);
            }
        }
        for block in &mut blocks {
            if block.turn.loads < 2 {
                block.turn.loads = 0;
            }
        }
        Self { blocks }
    }

    /// The shortest closed walk with at least `loads` loads of 16 bytes.
    pub(super) fn turn(&self, loads: u32) -> Option<Turn> {
        (0..self.blocks.len())
            .filter(|block| self.blocks[*block].turn.loads > 0)
            .filter_map(|block| self.turn_from(block, loads))
            .min()
    }

    /// Dijkstra's algorithm over pairs of block and loads done.
    fn turn_from(&self, start: usize, loads: u32) -> Option<Turn> {
        let mut done: BTreeSet<(usize, u32)> = BTreeSet::new();
        let mut queue = BinaryHeap::new();
        queue.push(Reverse((Turn::default(), start)));
        while let Some(Reverse((before, block))) = queue.pop() {
            let counted = before.loads.min(loads);
            if block == start && counted == loads {
                return Some(before);
            }
            if !done.insert((block, counted)) {
                continue;
            }
            let turn = self.blocks[block].turn;
            let after = Turn {
                all: before.all + turn.all,
                alu: before.alu + turn.alu,
                fma: before.fma + turn.fma,
                loads: before.loads + turn.loads,
            };
            for next in &self.blocks[block].next {
                queue.push(Reverse((after, *next)));
            }
        }
        None
    }
}

/// Starts a new block; the one before runs into it if it `falls` through.
fn begin(blocks: &mut Vec<Block>, here: usize, falls: bool) -> usize {
    let next = blocks.len();
    if falls {
        blocks[here].next.push(next);
    }
    blocks.push(Block::default());
    next
}

fn count(turn: &mut Turn, name: &str, code: &str) {
    const ALU: &[&str] = &[
        "LOP3", "SHF", "IADD3", "VIADD", "PRMT", "SEL", "ISETP", "LEA", "MOV", "PLOP3", "IMNMX",
        "VIMNMX", "IABS", "SGXT", "BMSK", "POPC", "FLO", "P2R", "R2P",
    ];
    turn.all += 1;
    if ALU.contains(&name) {
        turn.alu += 1;
    } else if name == "IMAD" {
        turn.fma += if code.contains("IMAD.WIDE") || code.contains("IMAD.HI") {
            2
        } else {
            1
        };
    } else if name == "LDG" && code.contains(".128") {
        turn.loads += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
//--------------------- .text.k --------------------------
\t.section\t.text.k,\"ax\",@progbits
.text.k:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/              @!P0 BRA `(.L_x_2) ;
        /*0020*/                   PRMT R2, R3, 0x1234, R4 ;
        /*0030*/                   PRMT R2, R3, 0x1234, R4 ;
.L_x_2:
        /*0040*/                   LOP3.LUT R2, R3, R4, R5, 0x96, !PT ;
        /*0050*/                   IMAD.WIDE.U32 R2, R3, 0x1, R4 ;
        /*0060*/                   SHF.R.W.U32 R2, R3, 0x6, R3 ;
        /*0070*/                   LDG.E.128 R4, [R2.64] ;
        /*0074*/                   LDG.E.128 R8, [R2.64+0x10] ;
        /*0080*/               @P1 BRA `(.L_x_1) ;
        /*0090*/                   EXIT ;
.L_x_9:
        /*00a0*/                   LDG.E.128 R4, [R2.64] ;
        /*00b0*/                   BRA `(.L_x_9);
//--------------------- .text.other --------------------------
\t.section\t.text.other,\"ax\",@progbits
.text.other:
        /*0000*/                   EXIT ;
";

    #[test]
    fn a_turn_is_the_shortest_way_round_that_loads_enough() {
        let found = kernels(LISTING);
        // Not the short loop with a lone load; the other one without the two PRMT: BRA, LOP3,
        // IMAD, SHF, LDG, LDG, BRA.
        let turn = Turn {
            all: 7,
            alu: 2,
            fma: 2,
            loads: 2,
        };
        assert_eq!(found["k"].turn(2), Some(turn));
        assert_eq!(found["k"].turn(3).map(|turn| turn.all), Some(14));
        assert_eq!(found["other"].turn(1), None);
    }
}
