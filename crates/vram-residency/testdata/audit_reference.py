#!/usr/bin/env python3
"""Checks an audit log without any code of the library.

usage: audit_reference.py DIR PUBLIC_KEY_HEX

Reads DIR/checkpoint as a C2SP signed note, checks its Ed25519 signature, and
compares the root with RFC 6962 over the lines of the event files.
"""
import base64
import hashlib
import pathlib
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def root(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = root(leaves[:split]), root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def main(folder, public):
    folder, public = pathlib.Path(folder), bytes.fromhex(public)
    note = (folder / "checkpoint").read_text(encoding="utf-8")
    text, signature = note.split("\n\n")
    text += "\n"
    origin, size, signed_root = text.splitlines()
    mark, name, blob = signature.strip().split(" ")
    assert mark == "\u2014" and name == origin, "signature line"
    blob = base64.b64decode(blob, validate=True)
    key_hash = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    assert blob[:4] == key_hash, "key hash"
    Ed25519PublicKey.from_public_bytes(public).verify(blob[4:], text.encode())
    leaves = []
    for path in sorted(folder.glob("events.0*.jsonl")) + [folder / "events.jsonl"]:
        for line in path.read_bytes().splitlines():
            leaves.append(hashlib.sha256(b"\x00" + line).digest())
    assert len(leaves) >= int(size), "lines are missing"
    found = root(leaves[: int(size)])
    assert base64.b64encode(found).decode() == signed_root, "root"
    tile = (folder / "tile/0/000").read_bytes() if int(size) >= 256 else None
    assert tile is None or tile == b"".join(leaves[:256]), "tile"
    print("good", size)


main(*sys.argv[1:])
