#!/usr/bin/env python3
"""A second implementation of receipts, from the byte tables in
`src/receipt/mod.rs` and `src/seal/statement.rs`; needs `cryptography`.

    python3 receipt_reference.py make              writes receipt_vectors.json
    python3 receipt_reference.py check             recomputes it
    python3 receipt_reference.py verify FILE KEY   checks a receipt under a trusted key
"""
import hashlib
import hmac
import json
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey, Ed25519PublicKey)

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE / "receipt_vectors.json"
WORKER, OPERATOR = bytes(range(1, 33)), bytes(range(101, 133))
KINDS = {"cuda": 1, "simulated": 2}
MEMORY = {"unknown": 0, "device": 1, "host": 2, "managed": 3, "simulated": 4}
PROTECTION = {"read-write": 0, "read-only": 1}


def signing_key(secret):
    """HKDF-SHA256 without a salt, one block."""
    prk = hmac.digest(bytes(32), secret, "sha256")
    seed = hmac.digest(prk, b"vram-residency/ed25519-key/v1\x01", "sha256")
    return Ed25519PrivateKey.from_private_bytes(seed)


def public(key):
    return key.public_key().public_bytes_raw()


def key_id(raw):
    return hashlib.sha256(b"vram-residency/ed25519-key-id/v1" + raw).digest()[:8]


def text(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("<I", len(data)) + data


def option(value, encode):
    return b"\0" if value is None else b"\1" + encode(value)


def statement(r):
    w = r["witness"]
    flags = w["managed"] | w["host_pointer"] << 1 | w["pinned_on_device"] << 2
    return b"".join([
        b"VRAMSEAL", struct.pack("<HBB", 1, 1, 1),
        bytes.fromhex(r["key_id"]), bytes.fromhex(r["key_salt"]),
        bytes.fromhex(r["instance"]),
        struct.pack("<QQB", r["sequence"], r["sealed_at"], r["sealed"]),
        text(r["shard_id"]), text(r["model_ref"]), text(r["worker_id"]),
        struct.pack("<Q", r["vram_bytes"]), bytes.fromhex(r["digest"]),
        option(r["content_sha256"], bytes.fromhex),
        option(r["position"], lambda p: struct.pack("<II", p["index"], p["total"])),
        option(r["group"], bytes.fromhex),
        struct.pack("<BI", KINDS[r["device_kind"]], r["gpu_device"]),
        bytes.fromhex(r["device_uuid"].replace("-", "")),
        option(r["driver"], lambda d: struct.pack("<I", d["version"]) + text(d["library"])),
        struct.pack("<BBIB", MEMORY[w["memory"]], flags, w["ordinal"],
                    PROTECTION[w["protection"]]),
    ])


def receipt_message(record, key):
    return (b"VRAMRCPT\x01\x00" + key + text(statement(record))
            + bytes.fromhex(record["tag"]))


def certificate_message(c):
    return (b"VRAMCERT\x01\x00" + bytes.fromhex(c["operator_key"])
            + bytes.fromhex(c["worker_key"]) + text(c["worker_id"])
            + struct.pack("<QQ", c["not_before"], c["not_after"]))


def certificate(record):
    operator = signing_key(OPERATOR)
    made = {
        "operator_key": public(operator).hex(),
        "worker_key": public(signing_key(WORKER)).hex(),
        "worker_id": record["worker_id"],
        "not_before": max(record["sealed_at"] - 1, 0),
        "not_after": record["sealed_at"],
    }
    made["signature"] = operator.sign(certificate_message(made)).hex()
    return made


def receipt(record, certified):
    key = signing_key(WORKER)
    made = {"schema": "vram-residency/receipt/v1", "record": record,
            "key_id": key_id(public(key)).hex(), "public_key": public(key).hex()}
    if certified:
        made["certificate"] = certificate(record)
    made["signature"] = key.sign(receipt_message(record, public(key))).hex()
    return made


def vectors():
    sealed = json.loads((HERE / "seal_vectors.json").read_text())["vectors"]
    made = [{"name": v["name"], "secret": v["secret"],
             "receipt": receipt(v["record"], at % 2 == 1)} for at, v in enumerate(sealed)]
    return {"worker_secret": WORKER.hex(), "operator_secret": OPERATOR.hex(),
            "operator_key": public(signing_key(OPERATOR)).hex(), "vectors": made}


def verify(receipt, trusted):
    """Raises when the receipt is not to be believed."""
    key, record = bytes.fromhex(receipt["public_key"]), receipt["record"]
    assert receipt["schema"] == "vram-residency/receipt/v1", "schema"
    assert receipt["key_id"] == key_id(key).hex(), "key id"
    certified = receipt.get("certificate")
    if certified:
        operator = bytes.fromhex(certified["operator_key"])
        signature = bytes.fromhex(certified["signature"])
        Ed25519PublicKey.from_public_bytes(operator).verify(
            signature, certificate_message(certified))
        assert certified["worker_key"] == key.hex(), "certified key"
        assert certified["worker_id"] == record["worker_id"], "certified worker"
        assert certified["not_before"] <= record["sealed_at"] <= certified["not_after"], "time"
    assert trusted == key or certified and trusted == operator, "untrusted"
    Ed25519PublicKey.from_public_bytes(key).verify(
        bytes.fromhex(receipt["signature"]), receipt_message(record, key))


def main(mode, *args):
    if mode == "verify":
        try:
            verify(json.loads(pathlib.Path(args[0]).read_text()), bytes.fromhex(args[1]))
        except (AssertionError, InvalidSignature) as error:
            sys.exit(f"not believed: {error!r}")
        print("good")
    elif mode == "make":
        VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
    elif json.loads(VECTORS.read_text()) != vectors():
        sys.exit("receipt_vectors.json is not what the reference computes")


main(*sys.argv[1:])
