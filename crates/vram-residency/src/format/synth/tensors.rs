//! The tensors of a Llama of given dimensions, in both naming schemes.

use crate::format::dtype::Dtype;

/// What decides every shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dims {
    pub(super) hidden: u64,
    pub(super) layers: u64,
    pub(super) vocab: u64,
    /// Elements of the rotary table, which takes what is left of the size.
    pub(super) rotary: u64,
}

impl Dims {
    /// Rows of key and value projections: a quarter of the heads.
    pub(super) const fn kv(self) -> u64 {
        self.hidden.div_ceil(4)
    }

    /// Width of the feed-forward part: 3.5 times the model's, as in Llama 3,
    /// in whole Q8_0 blocks.
    pub(super) const fn ff(self) -> u64 {
        let blocks = self.hidden.saturating_mul(7).div_ceil(64);
        blocks.saturating_mul(32)
    }
}

/// A tensor to be written; its shape is outermost first.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    pub(super) len: u64,
    /// Zero bytes after it.
    pub(super) padding: u64,
}

/// How one container names things and which types it uses.
pub(super) struct Scheme {
    pub(super) matrix: Dtype,
    pub(super) norm: Dtype,
    pub(super) alignment: u64,
    pub(super) embed: &'static str,
    pub(super) output: &'static str,
    pub(super) final_norm: &'static str,
    pub(super) rotary: &'static str,
    pub(super) layer: &'static str,
    /// Input norm, post norm, q, k, v, o, gate, up, down.
    pub(super) parts: [&'static str; 9],
}

/// Names and types as transformers saves them.
pub(super) const TRANSFORMERS: Scheme = Scheme {
    matrix: Dtype::Bf16,
    norm: Dtype::Bf16,
    alignment: 1,
    embed: "model.embed_tokens.weight",
    output: "lm_head.weight",
    final_norm: "model.norm.weight",
    rotary: "model.rotary_emb.inv_freq",
    layer: "model.layers.",
    parts: [
        ".input_layernorm.weight",
        ".post_attention_layernorm.weight",
        ".self_attn.q_proj.weight",
        ".self_attn.k_proj.weight",
        ".self_attn.v_proj.weight",
        ".self_attn.o_proj.weight",
        ".mlp.gate_proj.weight",
        ".mlp.up_proj.weight",
        ".mlp.down_proj.weight",
    ],
};

/// Names and types as llama.cpp's converter and quantiser write them.
pub(super) const LLAMA_CPP: Scheme = Scheme {
    matrix: Dtype::Q8_0,
    norm: Dtype::F32,
    alignment: 32,
    embed: "token_embd.weight",
    output: "output.weight",
    final_norm: "output_norm.weight",
    rotary: "rope_freqs.weight",
    layer: "blk.",
    parts: [
        ".attn_norm.weight",
        ".ffn_norm.weight",
        ".attn_q.weight",
        ".attn_k.weight",
        ".attn_v.weight",
        ".attn_output.weight",
        ".ffn_gate.weight",
        ".ffn_up.weight",
        ".ffn_down.weight",
    ],
};

/// All tensors in file order: the rotary table (single precision) first, as
/// the safetensors writer sorts wider types to the front, then by name.
/// `None` where a size does not fit 64 bits.
pub(super) fn list(scheme: &Scheme, dims: Dims) -> Option<Vec<Tensor>> {
    let tensor = |name: String, dtype: Dtype, shape: &[u64]| {
        let elements = shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d))?;
        let len = dtype.bytes(elements)?;
        let padded = len.checked_next_multiple_of(scheme.alignment)?;
        Some(Tensor {
            name,
            dtype,
            shape: shape.to_vec(),
            len,
            padding: padded.checked_sub(len)?,
        })
    };
    let Dims { hidden, vocab, .. } = dims;
    let (kv, ff) = (dims.kv(), dims.ff());
    let matrix = |name: &str, rows, cols| tensor(name.to_owned(), scheme.matrix, &[rows, cols]);
    let mut all = vec![
        matrix(scheme.embed, vocab, hidden)?,
        matrix(scheme.output, vocab, hidden)?,
        tensor(scheme.final_norm.to_owned(), scheme.norm, &[hidden])?,
    ];
    let shapes: [&[u64]; 9] = [
        &[hidden],
        &[hidden],
        &[hidden, hidden],
        &[kv, hidden],
        &[kv, hidden],
        &[hidden, hidden],
        &[ff, hidden],
        &[ff, hidden],
        &[hidden, ff],
    ];
    for layer in 0..dims.layers {
        for (part, shape) in scheme.parts.iter().zip(shapes) {
            let is_norm = shape.len() == 1;
            let dtype = if is_norm { scheme.norm } else { scheme.matrix };
            let name = format!("{}{layer}{part}", scheme.layer);
            all.push(tensor(name, dtype, shape)?);
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let rotary = tensor(scheme.rotary.to_owned(), Dtype::F32, &[dims.rotary])?;
    all.insert(0, rotary);
    Some(all)
}
