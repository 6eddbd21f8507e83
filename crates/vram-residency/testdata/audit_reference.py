#!/usr/bin/env python3
"""Checks an audit log without any code of the library.

usage: audit_reference.py DIR PUBLIC_KEY_HEX

Reads DIR/checkpoint as a C2SP signed note, checks its Ed25519 signature,
compares the root with RFC 6962 over the hashes of the tiles, and each line of
the event files with its hash. Lines may be missing only at the start, as far as
a line that is there says that they were retired.
"""
import base64
import hashlib
import json
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


def leaf(line):
    return hashlib.sha256(b"\x00" + line).digest()


def tile(folder, number, width):
    """The hashes of one tile of level 0, as tlog-tiles names it."""
    groups = f"{number % 1000:03}"
    while number >= 1000:
        number //= 1000
        groups = f"x{number % 1000:03}/{groups}"
    name = f"tile/0/{groups}" + (f".p/{width}" if width < 256 else "")
    data = (folder / name).read_bytes()
    assert len(data) == 32 * width, name
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def kept_lines(folder, hashes):
    """Compares each line with its hash; the number of the first one."""
    lines = []
    for path in sorted(folder.glob("events.0*.jsonl")) + [folder / "events.jsonl"]:
        lines += path.read_bytes().splitlines()
    first = json.loads(lines[0])["seq"] if lines else 0
    covered = lines[: len(hashes) - first]
    assert [leaf(line) for line in covered] == hashes[first:], "lines"
    events = map(json.loads, covered)
    retired = [e["first_kept"] for e in events if e["event_type"] == "audit.retired"]
    assert first == 0 or first <= max(retired, default=0), "lines are missing"
    return first


def main(folder, public):
    folder, public = pathlib.Path(folder), bytes.fromhex(public)
    note = (folder / "checkpoint").read_text(encoding="utf-8")
    text, signature = note.split("\n\n")
    text += "\n"
    origin, size, signed_root, *_ = text.splitlines()
    mark, name, blob = signature.strip().split(" ")
    assert mark == "\u2014" and name == origin, "signature line"
    blob = base64.b64decode(blob, validate=True)
    key_hash = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    assert blob[:4] == key_hash, "key hash"
    Ed25519PublicKey.from_public_bytes(public).verify(blob[4:], text.encode())
    size = int(size)
    starts = range(0, size, 256)
    tiles = (tile(folder, at // 256, min(256, size - at)) for at in starts)
    hashes = [value for values in tiles for value in values]
    assert base64.b64encode(root(hashes)).decode() == signed_root, "root"
    print("good", size, "from", kept_lines(folder, hashes))


main(*sys.argv[1:])
