//! Proofs that this CPU has an instruction set.
//!
//! A value of these types exists only after detection found every feature it stands for, so the
//! functions that take one may run the instructions.

/// AVX2: 256-bit integer vectors.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// SHA-NI together with AVX, whose three-operand forms keep two streams in registers: without them
/// two streams are slower than one, and the portable path is the better one.
#[derive(Clone, Copy)]
pub(crate) struct ShaNi(());

/// AVX-512 with 32-bit words (F) and byte shuffles (BW).
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx2 {
    /// Detects; std caches the answer.
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl ShaNi {
    /// Detects; std caches the answer.
    pub(crate) fn detect() -> Option<Self> {
        let both = [
            is_x86_feature_detected!("sha"),
            is_x86_feature_detected!("avx"),
        ];
        (both == [true; 2]).then_some(Self(()))
    }
}

impl Avx512 {
    /// Detects; std caches the answer.
    pub(crate) fn detect() -> Option<Self> {
        let both = [
            is_x86_feature_detected!("avx512f"),
            is_x86_feature_detected!("avx512bw"),
        ];
        (both == [true; 2]).then_some(Self(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that is never found costs speed only, which no other test would notice.
    #[test]
    fn what_this_cpu_has_is_found() {
        let sha = is_x86_feature_detected!("sha") && is_x86_feature_detected!("avx");
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        assert_eq!(Avx2::detect().is_some(), is_x86_feature_detected!("avx2"));
        assert_eq!(ShaNi::detect().is_some(), sha);
        assert_eq!(Avx512::detect().is_some(), wide);
    }
}
