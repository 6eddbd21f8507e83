#!/usr/bin/env python3
"""Makes the sample models of this folder with the formats' own Python packages.

    pip install -r requirements.txt
    python3 make.py                 # writes the samples and their texts
    python3 make.py describe FILE   # prints such a text for any other model

Every run writes the same bytes. Beside each sample lies a text file that says
what the Python readers found in it, so that the Rust readers can be held
against them without Python:

    fsverity sha256:HEX             `fsverity digest FILE` (Debian: fsverity)
    sha256 HEX                      plain SHA-256 of the file
    tensor NAME DTYPE SHAPE HEX     SHA-256 of the tensor's bytes; SHAPE is
                                    outermost first, "-" for a scalar

The texts in real/ were printed by `describe` from the models that
fetch_real.py fetches.
"""

import hashlib
import json
import pathlib
import subprocess
import sys

import gguf
import numpy as np
import safetensors

HERE = pathlib.Path(__file__).resolve().parent
RNG = np.random.default_rng(20240607)

# numpy has no bfloat16 and no 8-bit floats: those go in as raw bits.
EIGHT_BITS = ("float8_e4m3fn", "float8_e5m2")


def values(dtype, shape):
    """Weights as a trained model has them: small, round zero."""
    if dtype == "bool":
        return RNG.random(shape) < 0.5
    if dtype.startswith(("int", "uint")):
        info = np.iinfo(dtype)
        return RNG.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    normal = RNG.normal(0, 0.02, shape).astype(np.float32)
    if dtype == "bfloat16":
        return (normal.view(np.uint32) >> 16).astype(np.uint16)
    if dtype in EIGHT_BITS:
        return RNG.integers(0, 0x78, shape, dtype=np.uint8)
    return normal.astype(dtype)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def shape_text(shape):
    return ",".join(str(int(dim)) for dim in shape) or "-"


def safetensors_rows(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        names = file.keys()
    found = safetensors.deserialize(path.read_bytes())
    assert sorted(names) == sorted(name for name, _ in found)
    return [(name, view["dtype"], shape_text(view["shape"]), sha256(bytes(view["data"])))
            for name, view in found]


def gguf_rows(path):
    # GGUF stores the innermost dimension first.
    return [(t.name, t.tensor_type.name, shape_text(t.shape[::-1]), sha256(t.data.tobytes()))
            for t in gguf.GGUFReader(path).tensors]


def description(path):
    digest = subprocess.run(["fsverity", "digest", path.name], cwd=path.parent,
                            check=True, capture_output=True, text=True).stdout.split()[0]
    rows = gguf_rows(path) if path.suffix == ".gguf" else safetensors_rows(path)
    lines = [f"fsverity {digest}", f"sha256 {sha256(path.read_bytes())}"]
    lines += [f"tensor {' '.join(row)}" for row in sorted(rows)]
    return "\n".join(lines) + "\n"


def describe(path):
    path.with_name(path.name + ".txt").write_text(description(path))


def write_safetensors(path, tensors, metadata):
    path.parent.mkdir(exist_ok=True)
    arrays = {name: np.ascontiguousarray(values(*spec)) for name, spec in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(dtype=tensors[name][0], shape=tensors[name][1],
                                     data_ptr=array.ctypes.data, data_len=array.nbytes)
        for name, array in arrays.items()}
    path.write_bytes(bytes(safetensors.serialize(specs, metadata=metadata)))
    describe(path)


def llama(layers, hidden, ff, vocab, dtype):
    tensors = {"model.embed_tokens.weight": (dtype, [vocab, hidden])}
    for i in range(layers):
        at = f"model.layers.{i}."
        tensors |= {
            at + "input_layernorm.weight": (dtype, [hidden]),
            at + "self_attn.q_proj.weight": (dtype, [hidden, hidden]),
            at + "self_attn.k_proj.weight": (dtype, [hidden // 4, hidden]),
            at + "self_attn.v_proj.weight": (dtype, [hidden // 4, hidden]),
            at + "self_attn.o_proj.weight": (dtype, [hidden, hidden]),
            at + "post_attention_layernorm.weight": (dtype, [hidden]),
            at + "mlp.gate_proj.weight": (dtype, [ff, hidden]),
            at + "mlp.up_proj.weight": (dtype, [ff, hidden]),
            at + "mlp.down_proj.weight": (dtype, [hidden, ff]),
        }
    tensors["model.norm.weight"] = (dtype, [hidden])
    return tensors


def small_safetensors():
    tensors = llama(2, 32, 112, 64, "bfloat16")
    tensors |= {
        "lm_head.weight": ("float16", [64, 32]),
        "model.rotary_emb.inv_freq": ("float32", [4]),
        "model.layers.0.self_attn.k_scale": ("float32", []),
        "model.layers.0.mlp.experts.weight": ("float8_e4m3fn", [4, 8, 3]),
        "model.layers.1.mlp.experts.weight": ("float8_e5m2", [4, 8, 3]),
        "model.embed_positions.table": ("float64", [3, 5]),
        "model.position_ids": ("int64", [1, 9]),
        "model.group_ids": ("int32", [7]),
        "model.zero_points": ("int8", [13]),
        "model.qweight": ("uint8", [1, 1, 11]),
        "model.causal_mask": ("bool", [3, 3]),
        "model.unused": ("float32", [0, 16]),
    }
    # One key only: the package writes metadata in hash order.
    write_safetensors(HERE / "small.safetensors", tensors, {"format": "pt"})


def sharded():
    """Two files and their index, written as transformers writes it."""
    folder = HERE / "sharded"
    tensors = llama(2, 16, 48, 32, "bfloat16")
    names = list(tensors)
    halves = [names[:9], names[9:]]
    weight_map, total = {}, 0
    for number, half in enumerate(halves, 1):
        file = f"model-{number:05}-of-{len(halves):05}.safetensors"
        write_safetensors(folder / file, {n: tensors[n] for n in half}, {"format": "pt"})
        weight_map |= dict.fromkeys(half, file)
        total += sum(2 * int(np.prod(tensors[n][1])) for n in half)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / "model.safetensors.index.json").write_text(text)


def small_gguf():
    path = HERE / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(256)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<s>", "</s>", "\u2581caf\u00e9", "a" * 300] + [f"t{i}" for i in range(60)])
    writer.add_token_types([1] * 64)
    writer.add_token_scores([-0.5 * i for i in range(64)])
    writer.add_add_bos_token(True)
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60_000)
    writer.add_int16("test.i16", -30_000)
    writer.add_int32("test.i32", -2_000_000_000)
    writer.add_uint64("test.u64", 2**63 + 1)
    writer.add_int64("test.i64", -(2**62))
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.no", False)
    kinds = gguf.GGMLQuantizationType
    matrix = lambda rows: RNG.normal(0, 0.02, (rows, 256)).astype(np.float32)
    writer.add_tensor("token_embd.weight", gguf.quantize(matrix(16), kinds.Q8_0), raw_dtype=kinds.Q8_0)
    writer.add_tensor("blk.0.attn_q.weight", gguf.quantize(matrix(9), kinds.Q4_0), raw_dtype=kinds.Q4_0)
    writer.add_tensor("blk.0.attn_k.weight", gguf.quantize(matrix(5), kinds.Q5_1), raw_dtype=kinds.Q5_1)
    writer.add_tensor("blk.0.attn_v.weight", gguf.quantize(matrix(3), kinds.BF16), raw_dtype=kinds.BF16)
    writer.add_tensor("blk.0.attn_output.weight", matrix(3).astype(np.float16))
    writer.add_tensor("blk.0.ffn_up.weight", gguf.quantize(matrix(3), kinds.TQ2_0), raw_dtype=kinds.TQ2_0)
    writer.add_tensor("blk.0.ffn_gate_exps.weight", RNG.normal(0, 1, (2, 3, 5)).astype(np.float32))
    # K-quants cannot be made in Python: any bytes of the right length are one.
    raw = RNG.integers(0, 256, (2, 144), dtype=np.uint8)
    writer.add_tensor("blk.0.ffn_down.weight", raw, raw_dtype=kinds.Q4_K)
    writer.add_tensor("output_norm.weight", RNG.normal(1, 0.1, 7).astype(np.float32))
    writer.add_tensor("rope.ids", np.arange(5, dtype=np.int32))
    finish(writer)
    describe(path)


def split_gguf():
    """Three tensors in two parts, cut by the writer itself."""
    folder = HERE / "split"
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / "small.gguf", "llama", split_max_tensors=2)
    writer.add_name("small")
    for name, shape in [("token_embd.weight", (8, 32)), ("blk.0.attn_norm.weight", (32,)), ("output.weight", (8, 32))]:
        writer.add_tensor(name, RNG.normal(0, 1, shape).astype(np.float32))
    finish(writer)
    for path in sorted(folder.glob("*.gguf")):
        describe(path)


def ggml_types():
    """Name, number, elements and bytes of a block of every ggml type."""
    lines = [f"{kind.name} {kind.value} {' '.join(map(str, gguf.GGML_QUANT_SIZES[kind]))}"
             for kind in gguf.GGMLQuantizationType]
    (HERE / "ggml_types.txt").write_text("\n".join(lines) + "\n")


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    if sys.argv[1:2] == ["describe"]:
        for name in sys.argv[2:]:
            print(description(pathlib.Path(name)), end="")
        return
    small_safetensors()
    sharded()
    small_gguf()
    split_gguf()
    ggml_types()


if __name__ == "__main__":
    main()
