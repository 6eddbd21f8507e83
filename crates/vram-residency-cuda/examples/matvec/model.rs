//! A small quantised layer as a safetensors file, and what it should compute.

/// Outputs of the layer.
pub(crate) const ROWS: usize = 96;
/// Inputs of the layer.
pub(crate) const COLUMNS: usize = 160;

/// One layer: `y = bias + weight * x` in wrapping 32-bit arithmetic.
pub(crate) struct Layer {
    pub(crate) weight: Vec<i8>,
    pub(crate) bias: Vec<i32>,
}

impl Layer {
    /// A layer whose numbers follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut numbers = noise(seed);
        Self {
            weight: numbers.by_ref().take(ROWS * COLUMNS).collect(),
            bias: numbers.take(ROWS).map(|n| i32::from(n) * 1000).collect(),
        }
    }

    /// The file that a training run would have left.
    pub(crate) fn to_safetensors(&self) -> Vec<u8> {
        let (weight, bias) = (self.weight.len(), self.bias.len() * 4);
        let end = weight + bias;
        let mut header = format!(
            "{{\"weight\":{{\"dtype\":\"I8\",\"shape\":[{ROWS},{COLUMNS}],\"data_offsets\":[0,{weight}]}},\
             \"bias\":{{\"dtype\":\"I32\",\"shape\":[{ROWS}],\"data_offsets\":[{weight},{end}]}}}}"
        );
        while header.len() % 8 != 0 {
            header.push(' ');
        }
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend(self.weight.iter().map(|weight| weight.cast_unsigned()));
        file.extend(self.bias.iter().flat_map(|bias| bias.to_le_bytes()));
        file
    }

    /// What the layer makes of `x`, computed from the file's own numbers.
    pub(crate) fn apply(&self, x: &[i8]) -> Vec<i32> {
        matvec(&self.weight, &self.bias, x)
    }
}

/// An input that follows from `seed`.
pub(crate) fn input(seed: u64) -> Vec<i8> {
    noise(seed).take(COLUMNS).collect()
}

/// `bias + weight * x`, on the host.
pub(crate) fn matvec(weight: &[i8], bias: &[i32], x: &[i8]) -> Vec<i32> {
    let lines = weight.chunks_exact(COLUMNS).zip(bias);
    lines
        .map(|(line, bias)| {
            let products = line
                .iter()
                .zip(x)
                .map(|(w, x)| i32::from(*w) * i32::from(*x));
            products.fold(*bias, i32::wrapping_add)
        })
        .collect()
}

/// SplitMix64, a byte of each number.
fn noise(seed: u64) -> impl Iterator<Item = i8> {
    (1_u64..).map(move |n| {
        let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z >> 56) as u8 as i8
    })
}
