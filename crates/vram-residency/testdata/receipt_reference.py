#!/usr/bin/env python3
"""A second implementation of receipts and attestations, from the byte tables in
`docs/design.md` and `src/seal/statement.rs`; needs `cryptography`.

    python3 receipt_reference.py make              writes receipt_vectors.json
    python3 receipt_reference.py check             recomputes it
    python3 receipt_reference.py verify [--simulated] FILE KEY [NONCE]
                                                   checks a receipt or an attestation

KEY is a public key; for an attestation under the sealing key it is the file with
that key, whose digits no command line shows. Lists of revoked keys are not asked.
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

if not __debug__:
    sys.exit("python -O leaves out the checks: run it without")

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE / "receipt_vectors.json"
WORKER, OPERATOR = bytes(range(1, 33)), bytes(range(101, 133))
TOP = (1 << 64) - 1
KINDS = {"cuda": 1, "simulated": 2}
MEMORY = {"unknown": 0, "device": 1, "host": 2, "managed": 3, "simulated": 4}
PROTECTION = {"read-write": 0, "read-only": 1}


LABELS = {"cuda": b"vram-residency/ed25519-key/v1",
          "simulated": b"vram-residency/ed25519-test-key/v1"}


def signing_key(secret, kind="cuda"):
    """HKDF-SHA256 without a salt, one block; simulated devices have keys of their own."""
    prk = hmac.digest(bytes(32), secret, "sha256")
    seed = hmac.digest(prk, LABELS[kind] + b"\x01", "sha256")
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


def witness(w):
    flags = w["managed"] | w["host_pointer"] << 1 | w["pinned_on_device"] << 2
    return struct.pack("<BBIB", MEMORY[w["memory"]], flags, w["ordinal"],
                       PROTECTION[w["protection"]])


def uuid(value):
    return bytes.fromhex(value.replace("-", ""))


def driver(d):
    return struct.pack("<I", d["version"]) + text(d["library"])


def statement(r):
    version = {"vram-residency/record/v1": 1, "vram-residency/record/v2": 2}[r["schema"]]
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
        uuid(r["device_uuid"]), option(r["driver"], driver), witness(r["witness"]),
        text(r["signer"]) if version == 2 else b"",
    ])


def receipt_message(record, key):
    return (b"VRAMRCPT\x01\x00" + key + text(statement(record))
            + bytes.fromhex(record["tag"]))


def certificate_message(c):
    return (b"VRAMCERT\x01\x00" + bytes.fromhex(c["operator_key"])
            + bytes.fromhex(c["worker_key"]) + text(c["worker_id"])
            + struct.pack("<QQ", c["not_before"], c["not_after"]))


def measured(f):
    d = f["device"]
    return b"".join([
        text(bytes.fromhex(f.get("nonce", ""))),
        text(statement(f["record"])), bytes.fromhex(f["record"]["tag"]),
        bytes.fromhex(f["digest"]),
        struct.pack("<QQQ", f["bytes_checked"], f["measured_at"], f["sequence"]),
        bytes.fromhex(f["instance"]), witness(f["witness"]),
        struct.pack("<BI", KINDS[d["kind"]], d["ordinal"]), uuid(d["uuid"]),
        text(d["name"]), option(d["driver"], driver),
        struct.pack("<QQ", d["free_bytes"], d["total_bytes"]),
        option(f.get("checkpoint"), text),
    ])


def attested_message(f, key):
    return b"VRAMATST\x01\x00" + key + measured(f)


def tagged_message(f):
    return b"VRAMATAG\x01\x00" + measured(f)


def sealing_key(secret, r):
    """HKDF-SHA256, one block: the key of a record, and its id."""
    prk = hmac.digest(bytes.fromhex(r["key_salt"]), secret, "sha256")
    of = text(r["worker_id"]) + text(uuid(r["device_uuid"])) + b"\x01"
    key, name = (hmac.digest(prk, text("vram-residency/" + label) + of, "sha256")
                 for label in ("seal-key/v1", "key-id/v1"))
    return key, name[:8].hex()


def revocations_message(r):
    ids = sorted(r["revoked"])
    return (b"VRAMREVO\x01\x00" + bytes.fromhex(r["operator_key"])
            + struct.pack("<QI", r["issued_at"], len(ids))
            + b"".join(bytes.fromhex(i) for i in ids))


def certificate(worker_key, worker_id, at):
    operator = signing_key(OPERATOR)
    made = {
        "operator_key": public(operator).hex(),
        "worker_key": worker_key.hex(),
        "worker_id": worker_id,
        "not_before": max(at - 1, 0),
        "not_after": at,
    }
    made["signature"] = operator.sign(certificate_message(made)).hex()
    return made


def signed(kind, message, certified):
    """`certified` is none, or worker id and time."""
    key = signing_key(WORKER, kind)
    raw = public(key)
    made = {"key_id": key_id(raw).hex(), "public_key": raw.hex()}
    if certified:
        made["certificate"] = certificate(raw, *certified)
    made["signature"] = key.sign(message(raw)).hex()
    return made


def receipt(record, certified):
    certified = (record["worker_id"], record["sealed_at"]) if certified else None
    message = lambda key: receipt_message(record, key)
    return {"schema": "vram-residency/receipt/v1", "record": record,
            "signed": signed(record["device_kind"], message, certified)}


def attested(record, at, certified):
    """Facts that are made up but hang together."""
    facts = {
        "nonce": hashlib.sha256(b"nonce%d" % at).hexdigest()[:32 + 2 * at],
        "record": record, "digest": record["digest"],
        "bytes_checked": record["vram_bytes"], "measured_at": min(record["sealed_at"] + 9, TOP),
        "sequence": min(record["sequence"] + 1, TOP), "instance": record["instance"],
        "witness": record["witness"],
        "device": {"kind": record["device_kind"], "ordinal": record["gpu_device"],
                   "uuid": record["device_uuid"], "name": "device %d" % at,
                   "driver": record["driver"], "free_bytes": 1 << 30, "total_bytes": 1 << 33},
    }
    if at % 3:
        facts["checkpoint"] = "vram/worker\n7\nAAAA\n\n\u2014 vram/worker BBBB\n"
    certified = (record["worker_id"], facts["measured_at"]) if certified else None
    message = lambda key: attested_message(facts, key)
    return {"schema": "vram-residency/attested/v1", "facts": facts,
            "signed": signed(record["device_kind"], message, certified)}


def tagged(record, at, secret):
    """The same under the sealing key; every third answers no nonce."""
    facts = attested(record, at, False)["facts"]
    if at % 3 == 2:
        del facts["nonce"]
    key, _ = sealing_key(secret, record)
    return {"schema": "vram-residency/tagged/v1", "facts": facts,
            "tag": hmac.digest(key, tagged_message(facts), "sha256").hex()}


def revocations():
    operator = signing_key(OPERATOR)
    made = {"schema": "vram-residency/revocations/v1", "issued_at": 1700000000000000000,
            "operator_key": public(operator).hex(),
            "revoked": sorted(key_id(bytes([n] * 32)).hex() for n in range(3))}
    made["signature"] = operator.sign(revocations_message(made)).hex()
    return made


def vectors():
    sealed = json.loads((HERE / "seal_vectors.json").read_text())["vectors"]
    made = [{"name": v["name"], "secret": v["secret"],
             "receipt": receipt(v["record"], at % 2 == 1),
             "attested": attested(v["record"], at, at % 2 == 0),
             "tagged": tagged(v["record"], at, bytes.fromhex(v["secret"]))}
            for at, v in enumerate(sealed)]
    return {"worker_secret": WORKER.hex(), "operator_secret": OPERATOR.hex(),
            "operator_key": public(signing_key(OPERATOR)).hex(),
            "revocations": revocations(), "vectors": made}


def check_signed(by, message, worker_id, at, trusted):
    key = bytes.fromhex(by["public_key"])
    assert by["key_id"] == key_id(key).hex(), "key id"
    certified = by.get("certificate")
    if certified and trusted != key:
        operator = bytes.fromhex(certified["operator_key"])
        Ed25519PublicKey.from_public_bytes(operator).verify(
            bytes.fromhex(certified["signature"]), certificate_message(certified))
        assert certified["worker_key"] == key.hex(), "certified key"
        assert certified["worker_id"] == worker_id, "certified worker"
        assert certified["not_before"] <= at <= certified["not_after"], "time"
    assert trusted == key or certified and trusted == operator, "untrusted"
    Ed25519PublicKey.from_public_bytes(key).verify(
        bytes.fromhex(by["signature"]), message(key))


def check_tagged(paper, record, secret):
    key, name = sealing_key(secret, record)
    assert record["key_id"] == name, "sealed under another key"
    for tag, message in [(record["tag"], statement(record)),
                         (paper["tag"], tagged_message(paper["facts"]))]:
        made = hmac.digest(key, message, "sha256")
        assert hmac.compare_digest(bytes.fromhex(tag), made), "tag"


def once(members):
    """An object in which no name stands twice."""
    made = dict(members)
    assert len(made) == len(members), "a name stands twice"
    return made


def check_record(record, simulated):
    assert record["sealed"] is True, "not sealed"
    assert simulated or record["device_kind"] != "simulated", "a simulated device"


def verify(paper, trusted, nonce=None, simulated=False):
    """Raises when a receipt or an attestation is not to be believed."""
    if paper["schema"] == "vram-residency/receipt/v1":
        record = paper["record"]
        check_record(record, simulated)
        check_signed(paper["signed"], lambda key: receipt_message(record, key),
                     record["worker_id"], record["sealed_at"], trusted)
        return
    facts = paper["facts"]
    record = facts["record"]
    check_record(record, simulated)
    if paper["schema"] == "vram-residency/tagged/v1":
        check_tagged(paper, record, trusted)
    else:
        assert paper["schema"] == "vram-residency/attested/v1", "schema"
        check_signed(paper["signed"], lambda key: attested_message(facts, key),
                     record["worker_id"], facts["measured_at"], trusted)
        assert nonce is not None, "nonce"
    assert facts.get("nonce") == nonce, "nonce"
    assert facts["digest"] == record["digest"], "digest"
    assert facts["bytes_checked"] == record["vram_bytes"], "length"
    assert facts["device"]["uuid"] == record["device_uuid"], "device"
    assert facts["device"]["kind"] == record["device_kind"], "device kind"
    assert facts["device"]["ordinal"] == record["gpu_device"], "ordinal"
    assert facts["instance"] == record["instance"], "instance"
    assert facts["measured_at"] >= record["sealed_at"], "time"
    assert facts["sequence"] >= record["sequence"], "sequence"
    assert facts["witness"] == record["witness"], "witness"
    if record["device_kind"] == "cuda":
        memory = facts["witness"]
        assert memory["memory"] == "device" and not memory["managed"], "memory"
        assert not memory["host_pointer"] and memory["ordinal"] == record["gpu_device"], "memory"


def main(mode, *args):
    if mode == "verify":
        simulated = args[0] == "--simulated"
        path, key, *nonce = args[simulated:]
        try:
            paper = json.loads(pathlib.Path(path).read_text(), object_pairs_hook=once)
            if paper["schema"] == "vram-residency/tagged/v1":
                key = pathlib.Path(key).read_text().strip()
            verify(paper, bytes.fromhex(key), *nonce, simulated=simulated)
        except (AssertionError, InvalidSignature) as error:
            sys.exit(f"not believed: {error!r}")
        print("good")
    elif mode == "make":
        VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
    elif json.loads(VECTORS.read_text()) != vectors():
        sys.exit("receipt_vectors.json is not what the reference computes")


main(*sys.argv[1:])
