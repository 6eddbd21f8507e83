//! `cargo xtask kernels`: the committed PTX is what the sources say, for two compilers, and as
//! fast as the budget says.
//!
//! 1. NVRTC, one pinned wheel, compiles `kernels/*.cu`; the result is written to, or under
//!    `--check` compared with, `kernels/vram.ptx`. The kernel of the example `matvec` likewise.
//! 2. clang compiles the same text; its PTX stays in `target/kernels/` for the tests that run
//!    both in the interpreter and want equal digests.
//! 3. Both use only opcodes of `kernels/opcodes.txt`, which the interpreter implements.
//! 4. Pinned ptxas versions assemble both for every architecture from the policy floor up; for
//!    sm_90 registers, spills and instructions per 64 bytes stay within `kernels/budget.txt`.
//!
//! What cannot run here is skipped loudly; `--no-skips` makes that a failure.

mod budget;
mod ptx;
mod sass;
mod tools;

use crate::exec::root;
use crate::wheel::{Wheel, text_of};
use crate::{Task, only_options};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const TASK: Task = Task {
    usage: "kernels [--check] [--no-skips]",
    summary: "Compile the GPU kernels to PTX, with two compilers, and hold them to their budget",
    help: "\
--check      compare with the committed PTX instead of writing it
--no-skips   a tool that cannot be installed here is a failure, not a skip
example: cargo xtask kernels
example: cargo xtask kernels --check --no-skips",
    run,
};

/// One translation unit: its sources in order, and the PTX that is committed; in the backend.
struct Unit {
    sources: &'static [&'static str],
    from: &'static str,
    ptx: &'static str,
}

/// The kernels that ship.
const VRAM: Unit = Unit {
    sources: &[
        "kernels/device.cu",
        "kernels/sha256.cu",
        "kernels/nhpoly1305.cu",
        "kernels/memory.cu",
    ],
    from: "kernels/*.cu",
    ptx: "kernels/vram.ptx",
};

/// What an engine brings along, in the example.
const MATVEC: Unit = Unit {
    sources: &["examples/matvec/matvec.cu"],
    from: "matvec.cu",
    ptx: "examples/matvec/matvec.ptx",
};

/// Architectures each ptxas has to take the PTX for: the policy floor, the others in the field.
const TARGETS: &[(&Wheel, &[&str])] = &[
    (
        &tools::PTXAS_11,
        &[
            "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90",
        ],
    ),
    (&tools::PTXAS_12, &["sm_90", "sm_100", "sm_120"]),
];

/// What every step needs, and what the steps could not do.
struct Session {
    backend: PathBuf,
    work: PathBuf,
    skips: Vec<String>,
}

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    only_options(args, &["--check", "--no-skips"])?;
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let work = root().join("target/kernels");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let mut session = Session {
        backend: backend(),
        work,
        skips: Vec::new(),
    };
    let ours = session.committed_ptx(&VRAM, has("--check"))?;
    let example = session.committed_ptx(&MATVEC, has("--check"))?;
    let second = session.second_compiler()?;
    session.opcodes(&ours, &example, second.as_deref())?;
    session.assemble(second.is_some())?;
    session.budget()?;
    for skip in &session.skips {
        println!("\n*** SKIPPED: {skip}");
    }
    if has("--no-skips") && !session.skips.is_empty() {
        return Err(format!("{} checks were skipped", session.skips.len()));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn backend() -> PathBuf {
    root().join("crates/vram-residency-cuda")
}

impl Unit {
    fn source(&self, backend: &Path) -> Result<String, String> {
        let read = |name: &&str| read(&backend.join(name));
        let texts: Result<Vec<String>, String> = self.sources.iter().map(read).collect();
        Ok(texts?.join("\n"))
    }
}

impl Session {
    /// Step 1. Without NVRTC a check still sees whether the sources changed after the PTX.
    fn committed_ptx(&mut self, unit: &Unit, check: bool) -> Result<String, String> {
        let path = self.backend.join(unit.ptx);
        let stale = "is not what the sources give; run `cargo xtask kernels` and commit it";
        let source = unit.source(&self.backend)?;
        let nvrtc = match tools::nvrtc(&self.work) {
            Ok(library) => library,
            Err(why) if check => {
                self.skips.push(format!("regenerate {}: {why}", unit.ptx));
                let committed = read(&path)?;
                if committed.contains(&ptx::source_line(&source)) {
                    return Ok(committed);
                }
                return Err(format!("{} {stale}", path.display()));
            }
            Err(why) => return Err(why),
        };
        let (text, raw) = (self.work.join("unit.cu"), self.work.join("unit.ptx"));
        write(&text, &source)?;
        tools::compile_nvrtc(&nvrtc, &text, &raw)?;
        let fresh = ptx::finish(&read(&raw)?, &source, unit.from, &tools::NVRTC.name())?;
        if check {
            if read(&path)? != fresh {
                return Err(format!("{} {stale}", path.display()));
            }
            println!("{}: the same bytes from {}", unit.ptx, tools::NVRTC.name());
        } else {
            write(&path, &fresh)?;
            println!("{}: {} bytes written", unit.ptx, fresh.len());
        }
        Ok(fresh)
    }

    /// Step 2.
    fn second_compiler(&mut self) -> Result<Option<String>, String> {
        let out = self.work.join("vram.clang.ptx");
        let Some(clang) = tools::clang() else {
            let _ = fs::remove_file(&out);
            self.skips.push(
                "second compiler: no clang with an NVPTX target (Debian: apt install clang-19)"
                    .to_owned(),
            );
            return Ok(None);
        };
        let source = VRAM.source(&self.backend)?;
        let (file, raw) = (
            self.work.join("vram.cu"),
            self.work.join("vram.clang.raw.ptx"),
        );
        write(&file, &source)?;
        tools::compile_clang(clang, &file, &raw)?;
        let text = ptx::finish(&read(&raw)?, &source, VRAM.from, clang)?;
        write(&out, &text)?;
        println!("vram.clang.ptx: by {clang}, left in target/kernels");
        Ok(Some(text))
    }

    /// Step 3.
    fn opcodes(&self, ours: &str, example: &str, second: Option<&str>) -> Result<(), String> {
        let known = read(&self.backend.join("kernels/opcodes.txt"))?;
        let used = ptx::opcodes(ours);
        println!("opcodes: {} in vram.ptx:", used.len());
        println!("{}", used.iter().cloned().collect::<Vec<_>>().join(" "));
        ptx::only_known(&used, &known, "vram.ptx")?;
        ptx::only_known(&ptx::opcodes(example), &known, "matvec.ptx")?;
        if let Some(text) = second {
            ptx::only_known(&ptx::opcodes(text), &known, "vram.clang.ptx")?;
        }
        Ok(())
    }

    /// First half of step 4: every architecture takes the PTX.
    fn assemble(&mut self, second: bool) -> Result<(), String> {
        let mut files = vec![self.backend.join(VRAM.ptx), self.backend.join(MATVEC.ptx)];
        if second {
            files.push(self.work.join("vram.clang.ptx"));
        }
        for (wheel, targets) in TARGETS {
            let ptxas = match wheel.installed(&self.work) {
                Ok(ptxas) => ptxas,
                Err(why) => {
                    self.skips
                        .push(format!("assemble for {}: {why}", targets.join(" ")));
                    continue;
                }
            };
            for target in *targets {
                for file in &files {
                    let cubin = self.work.join(format!("{target}.cubin"));
                    tools::assemble(&ptxas, file, target, &cubin)?;
                }
            }
            println!("{}: {} take the PTX", wheel.name(), targets.join(" "));
        }
        Ok(())
    }

    /// Second half of step 4.
    fn budget(&mut self) -> Result<(), String> {
        let text = read(&self.backend.join("kernels/budget.txt"))?;
        let lines = budget::parse(&text)?;
        let ptxas = match tools::PTXAS_11.installed(&self.work) {
            Ok(ptxas) => ptxas,
            Err(why) => {
                self.skips.push(format!("registers and spills: {why}"));
                return Ok(());
            }
        };
        let cubin = self.work.join("budget.cubin");
        let log = tools::assemble(&ptxas, &self.backend.join(VRAM.ptx), "sm_90", &cubin)?;
        let usage = budget::usage(&log)?;
        let listing = match tools::NVDISASM.installed(&self.work) {
            Ok(nvdisasm) => Some(text_of(Command::new(nvdisasm).arg("-c").arg(&cubin))?),
            Err(why) => {
                self.skips.push(format!("instructions per 64 bytes: {why}"));
                None
            }
        };
        let code = listing.map(|text| sass::kernels(&text));
        let (table, broken) = budget::compare(&lines, &usage, code.as_ref());
        println!("\n{table}");
        if broken.is_empty() {
            Ok(())
        } else {
            Err(broken.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_ptx_was_made_from_the_committed_sources() {
        for unit in [VRAM, MATVEC] {
            let source = unit.source(&backend()).unwrap();
            let committed = read(&backend().join(unit.ptx)).unwrap();
            assert!(
                committed.contains(&ptx::source_line(&source)),
                "run `cargo xtask kernels` and commit {}",
                unit.ptx
            );
        }
    }

    #[test]
    fn the_committed_ptx_uses_known_opcodes_and_an_old_isa() {
        let known = read(&backend().join("kernels/opcodes.txt")).unwrap();
        for unit in [VRAM, MATVEC] {
            let committed = read(&backend().join(unit.ptx)).unwrap();
            ptx::only_known(&ptx::opcodes(&committed), &known, unit.ptx).unwrap();
            assert!(committed.contains("\n.version 7.0\n.target sm_60\n.address_size 64\n"));
        }
        // The NHPoly1305 kernels wipe the powers of their keys.
        let committed = read(&backend().join(VRAM.ptx)).unwrap();
        assert!(ptx::opcodes(&committed).contains("st.volatile.shared.u32"));
    }
}
