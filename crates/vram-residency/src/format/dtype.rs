//! Element types of safetensors and GGUF tensors and how many bytes they take.
//!
//! Both formats describe a tensor as a count of elements of one type; a few
//! types pack several elements into one block (sub-byte floats of the OCP
//! microscaling formats, ggml's quantised blocks). One table holds them all,
//! so that a size is computed in one place and with checked arithmetic only.

use std::fmt;

/// Builds [`Dtype`] and its lookups from one table, so that a type cannot be
/// listed in one and forgotten in another.
macro_rules! dtypes {
    ($($variant:ident $name:literal $elements:literal $bytes:literal $gguf:tt $safetensors:literal $doc:literal;)*) => {
        /// The element type of a tensor, in either format.
        ///
        /// [`fmt::Display`] prints the name the format itself uses (`BF16`, `Q4_K`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Dtype {
            $(#[doc = $doc] $variant,)*
        }

        impl Dtype {
            /// Every type known here, in table order.
            pub const ALL: &'static [Dtype] = &[$(Dtype::$variant,)*];

            /// The name that the format uses for this type.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Dtype::$variant => $name,)* }
            }

            /// Elements in one block; 1 for plain types.
            #[must_use]
            pub const fn block_elements(self) -> u64 {
                match self { $(Dtype::$variant => $elements,)* }
            }

            /// Bytes of one block; bytes of one element for plain types.
            #[must_use]
            pub const fn block_bytes(self) -> u64 {
                match self { $(Dtype::$variant => $bytes,)* }
            }

            /// The number that GGUF files carry for this type, if GGUF has it.
            #[must_use]
            pub const fn gguf_code(self) -> Option<u32> {
                match self { $(Dtype::$variant => dtypes!(@code $gguf),)* }
            }

            /// Whether a safetensors header may name this type.
            #[must_use]
            pub const fn in_safetensors(self) -> bool {
                match self { $(Dtype::$variant => $safetensors,)* }
            }
        }
    };
    (@code -) => { None };
    (@code $code:literal) => { Some($code) };
}

// name, elements and bytes per block, GGUF number or -, in safetensors or not.
// Sources: the safetensors format page and its crate 0.8 (`Dtype`); ggml's
// `ggml_type` and the block structs of ggml-common.h. gguf-py 0.19 agrees
// (testdata/ggml_types.txt) but for Q8_1, where it still has the older 40-byte
// block (no file holds that type), and Q2_0, which is newer than it.
// GGUF numbers 4, 5, 31..=33 and 36..=38 were withdrawn by ggml.
dtypes! {
    Bool "BOOL" 1 1 - true "Boolean, one byte.";
    F4 "F4" 2 1 - true "OCP MXFP4 element, two to a byte.";
    F6E2m3 "F6_E2M3" 4 3 - true "OCP MXFP6 element, 2 exponent bits.";
    F6E3m2 "F6_E3M2" 4 3 - true "OCP MXFP6 element, 3 exponent bits.";
    U8 "U8" 1 1 - true "Unsigned byte.";
    I8 "I8" 1 1 24 true "Signed byte.";
    F8E5m2 "F8_E5M2" 1 1 - true "8-bit float, 5 exponent bits.";
    F8E4m3 "F8_E4M3" 1 1 - true "8-bit float, 4 exponent bits.";
    F8E8m0 "F8_E8M0" 1 1 - true "8-bit power-of-two scale.";
    F8E4m3fnuz "F8_E4M3FNUZ" 1 1 - true "8-bit float, 4 exponent bits, no negative zero.";
    F8E5m2fnuz "F8_E5M2FNUZ" 1 1 - true "8-bit float, 5 exponent bits, no negative zero.";
    I16 "I16" 1 2 25 true "Signed 16-bit integer.";
    U16 "U16" 1 2 - true "Unsigned 16-bit integer.";
    F16 "F16" 1 2 1 true "IEEE 754 half precision.";
    Bf16 "BF16" 1 2 30 true "Brain float.";
    I32 "I32" 1 4 26 true "Signed 32-bit integer.";
    U32 "U32" 1 4 - true "Unsigned 32-bit integer.";
    F32 "F32" 1 4 0 true "IEEE 754 single precision.";
    C64 "C64" 1 8 - true "Complex number of two single-precision parts.";
    F64 "F64" 1 8 28 true "IEEE 754 double precision.";
    I64 "I64" 1 8 27 true "Signed 64-bit integer.";
    U64 "U64" 1 8 - true "Unsigned 64-bit integer.";
    Q4_0 "Q4_0" 32 18 2 false "ggml 4-bit blocks, one scale.";
    Q4_1 "Q4_1" 32 20 3 false "ggml 4-bit blocks, scale and minimum.";
    Q5_0 "Q5_0" 32 22 6 false "ggml 5-bit blocks, one scale.";
    Q5_1 "Q5_1" 32 24 7 false "ggml 5-bit blocks, scale and minimum.";
    Q8_0 "Q8_0" 32 34 8 false "ggml 8-bit blocks, one scale.";
    Q8_1 "Q8_1" 32 36 9 false "ggml 8-bit blocks, scale and sum, both half precision.";
    Q2K "Q2_K" 256 84 10 false "ggml 2-bit super-blocks.";
    Q3K "Q3_K" 256 110 11 false "ggml 3-bit super-blocks.";
    Q4K "Q4_K" 256 144 12 false "ggml 4-bit super-blocks.";
    Q5K "Q5_K" 256 176 13 false "ggml 5-bit super-blocks.";
    Q6K "Q6_K" 256 210 14 false "ggml 6-bit super-blocks.";
    Q8K "Q8_K" 256 292 15 false "ggml 8-bit super-blocks.";
    Iq2Xxs "IQ2_XXS" 256 66 16 false "ggml 2.06 bits per weight, codebook.";
    Iq2Xs "IQ2_XS" 256 74 17 false "ggml 2.31 bits per weight, codebook.";
    Iq3Xxs "IQ3_XXS" 256 98 18 false "ggml 3.06 bits per weight, codebook.";
    Iq1S "IQ1_S" 256 50 19 false "ggml 1.56 bits per weight, codebook.";
    Iq4Nl "IQ4_NL" 32 18 20 false "ggml 4-bit non-linear blocks.";
    Iq3S "IQ3_S" 256 110 21 false "ggml 3.44 bits per weight, codebook.";
    Iq2S "IQ2_S" 256 82 22 false "ggml 2.56 bits per weight, codebook.";
    Iq4Xs "IQ4_XS" 256 136 23 false "ggml 4.25 bits per weight, non-linear.";
    Iq1M "IQ1_M" 256 56 29 false "ggml 1.75 bits per weight, codebook.";
    Tq1_0 "TQ1_0" 256 54 34 false "ggml ternary, base 3.";
    Tq2_0 "TQ2_0" 256 66 35 false "ggml ternary, 2 bits.";
    Mxfp4 "MXFP4" 32 17 39 false "ggml blocks of OCP MXFP4 with their scale.";
    Nvfp4 "NVFP4" 64 36 40 false "ggml blocks of NVIDIA FP4 with their scales.";
    Q1_0 "Q1_0" 128 18 41 false "ggml 1-bit blocks, one scale.";
    Q2_0 "Q2_0" 64 18 42 false "ggml 2-bit blocks, one scale.";
}

impl Dtype {
    /// The type that a safetensors header names, if there is one.
    #[must_use]
    pub fn from_safetensors(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|d| d.in_safetensors() && d.name() == name)
    }

    /// The type behind a GGUF number, if it is in use.
    #[must_use]
    pub fn from_gguf(code: u32) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|d| d.gguf_code() == Some(code))
    }

    /// Bits that one element takes, scales of its block included, rounded up.
    #[must_use]
    pub const fn bits_per_element(self) -> u64 {
        self.block_bytes()
            .saturating_mul(8)
            .div_ceil(self.block_elements())
    }

    /// Bytes of `elements` elements; `None` where they are not whole blocks or
    /// the number does not fit 64 bits.
    #[must_use]
    pub fn bytes(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        elements
            .checked_div(self.block_elements())?
            .checked_mul(self.block_bytes())
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_numbers_are_unique_and_lead_back() {
        let mut names = HashSet::new();
        let mut codes = HashSet::new();
        for &d in Dtype::ALL {
            assert!(names.insert(d.name()), "{d} listed twice");
            if let Some(code) = d.gguf_code() {
                assert!(codes.insert(code), "{d}: number {code} listed twice");
                assert_eq!(Dtype::from_gguf(code), Some(d));
            }
            let expected = d.in_safetensors().then_some(d);
            assert_eq!(Dtype::from_safetensors(d.name()), expected);
            assert!(d.in_safetensors() || d.gguf_code().is_some(), "{d}");
        }
        for withdrawn in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(Dtype::from_gguf(withdrawn), None);
        }
    }

    #[test]
    fn sizes_count_whole_blocks_without_wrapping() {
        assert_eq!(Dtype::Bf16.bytes(3), Some(6));
        assert_eq!(Dtype::F4.bytes(4), Some(2));
        assert_eq!(Dtype::F4.bytes(3), None);
        assert_eq!(Dtype::F6E2m3.bytes(8), Some(6));
        assert_eq!(Dtype::Q4K.bytes(512), Some(288));
        assert_eq!(Dtype::Q4K.bytes(255), None);
        assert_eq!(Dtype::F32.bytes(0), Some(0));
        assert_eq!(Dtype::F64.bytes(u64::MAX / 8), Some(u64::MAX - 7));
        assert_eq!(Dtype::F64.bytes(u64::MAX / 8 + 1), None);
        assert_eq!(Dtype::Q8_0.bits_per_element(), 9);
        assert_eq!(Dtype::F4.bits_per_element(), 4);
        assert_eq!(format!("{:>6}", Dtype::Bf16), "  BF16");
    }
}
