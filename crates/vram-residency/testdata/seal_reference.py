#!/usr/bin/env python3
"""A second implementation of the key derivation and the seal statement.

Written from the byte table in `src/seal/statement.rs` and from RFC 5869 with
nothing but Python's standard library. `seal_vectors.json` and
`key_vectors.json` beside this file were made by it:

    python3 seal_reference.py make     writes the derived fields of both files
    python3 seal_reference.py check    recomputes them; exit status 1 if any differs
"""

import hmac
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
KINDS = {"cuda": 1, "simulated": 2}
MEMORY = {"unknown": 0, "device": 1, "host": 2, "managed": 3, "simulated": 4}
PROTECTION = {"read-write": 0, "read-only": 1}


def hkdf(ikm, salt, info, length):
    """RFC 5869 with SHA-256."""
    prk = hmac.digest(salt, ikm, "sha256")
    out, block = b"", b""
    for i in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([i]), "sha256")
        out += block
    return out[:length]


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def option(value, encode):
    return b"\0" if value is None else b"\1" + encode(value)


def uuid(value):
    return bytes.fromhex(value.replace("-", ""))


def derive(secret, salt, worker, device):
    """Sealing key and key id of one manager and device."""
    def info(label):
        return text(label) + text(worker) + text(uuid(device))

    key = hkdf(secret, salt, info("vram-residency/seal-key/v1"), 32)
    return key, hkdf(secret, salt, info("vram-residency/key-id/v1"), 8)


def statement(r):
    """What the tag covers, field by field."""
    version = {"vram-residency/record/v1": 1, "vram-residency/record/v2": 2}[r["schema"]]
    w = r["witness"]
    flags = w["managed"] | w["host_pointer"] << 1 | w["pinned_on_device"] << 2
    return b"".join([
        b"VRAMSEAL", struct.pack("<HBB", version, 1, 1),
        bytes.fromhex(r["key_id"]), bytes.fromhex(r["key_salt"]),
        bytes.fromhex(r["instance"]),
        struct.pack("<QQB", r["sequence"], r["sealed_at"], r["sealed"]),
        text(r["shard_id"]), text(r["model_ref"]), text(r["worker_id"]),
        struct.pack("<Q", r["vram_bytes"]), bytes.fromhex(r["digest"]),
        option(r["content_sha256"], bytes.fromhex),
        option(r["position"], lambda p: struct.pack("<II", p["index"], p["total"])),
        option(r["group"], bytes.fromhex),
        struct.pack("<BI", KINDS[r["device_kind"]], r["gpu_device"]),
        uuid(r["device_uuid"]),
        option(r["driver"], lambda d: struct.pack("<I", d["version"]) + text(d["library"])),
        struct.pack("<BBIB", MEMORY[w["memory"]], flags, w["ordinal"],
                    PROTECTION[w["protection"]]),
        text(r["signer"]) if version == 2 else b"",
    ])


def seal(vector):
    """Fills in what follows from a vector's secret and facts."""
    r = vector["record"]
    secret, salt = bytes.fromhex(vector["secret"]), bytes.fromhex(r["key_salt"])
    made, key_id = derive(secret, salt, r["worker_id"], r["device_uuid"])
    r["key_id"] = key_id.hex()
    vector["statement"] = statement(r).hex()
    r["tag"] = hmac.digest(made, statement(r), "sha256").hex()


def key(vector):
    """Fills in the key id, and the tag of a message, of a key vector."""
    secret, salt = bytes.fromhex(vector["secret"]), bytes.fromhex(vector["salt"])
    made, key_id = derive(secret, salt, vector["worker"], vector["device"])
    vector["key_id"] = key_id.hex()
    vector["tag"] = hmac.digest(made, bytes.fromhex(vector["message"]), "sha256").hex()


def self_check():
    """RFC 5869, test case 1: the reference must itself be right."""
    okm = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    expected = ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
                "34007208d5b887185865")
    if okm.hex() != expected:
        sys.exit("the reference does not compute RFC 5869's test case 1")


def main():
    self_check()
    wrong = 0
    for name, fill in [("seal_vectors.json", seal), ("key_vectors.json", key)]:
        path = HERE / name
        before = json.loads(path.read_text())
        after = json.loads(path.read_text())
        for vector in after["vectors"]:
            fill(vector)
        if sys.argv[1:] == ["make"]:
            path.write_text(json.dumps(after, indent=1) + "\n")
        elif before != after:
            print(f"{name} is not what the reference computes", file=sys.stderr)
            wrong = 1
        print(f"{name}: {len(after['vectors'])} vectors")
    sys.exit(wrong)


main()
