#!/usr/bin/env python3
"""Checks an audit log without any code of the library.

usage: audit_reference.py DIR PUBLIC_KEY_HEX

Reads DIR/checkpoint as a C2SP signed note, which may have several signatures, and
checks the one of the key, or of the last key to which DIR/handover.*.json say that
it handed the log over, each under the signature of the key before. Compares the
root with RFC 6962 over the hashes of the tiles, and each line of the event files
with its hash. Lines may be missing only at the start, as far as a line that is
there says that they were retired.
"""
import base64
import contextlib
import hashlib
import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


if not __debug__:
    sys.exit("python -O leaves out the checks: run it without")


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


def signed(note, public):
    """Origin, size and root that a note says under a signature of this key."""
    text, signatures = note.split("\n\n")
    text += "\n"
    origin, size, signed_root, *_ = text.splitlines()
    key_hash = hashlib.sha256(origin.encode() + b"\n\x01" + public).digest()[:4]
    key, good = Ed25519PublicKey.from_public_bytes(public), False
    for line in signatures.removesuffix("\n").split("\n"):
        mark, name, blob = line.split(" ")
        assert mark == "\u2014", "signature line"
        blob = base64.b64decode(blob, validate=True)
        if (name, blob[:4]) == (origin, key_hash):
            with contextlib.suppress(InvalidSignature):
                key.verify(blob[4:], text.encode())
                good = True
    assert good, "no signature of this key"
    return origin, int(size), base64.b64decode(signed_root, validate=True)


def handed_over(folder, public, hashes):
    """The key to which the log went over from this one, and what that signed last."""
    last = None
    for path in sorted(folder.glob("handover.*.json")):
        paper = json.loads(path.read_text(encoding="utf-8"))
        event = json.loads(paper["line"])
        if event["event_type"] != "audit.key_changed" or event["from"] != public.hex():
            continue
        last = signed(paper["checkpoint"], public)
        held = hashes[: last[1]]
        assert paper["seq"] == event["seq"] == last[1] - 1, "not its last word"
        assert root(held) == last[2] and held[-1] == leaf(paper["line"].encode()), path
        public = bytes.fromhex(event["to"])
    return public, last


def main(folder, public):
    folder = pathlib.Path(folder)
    note = (folder / "checkpoint").read_text(encoding="utf-8")
    size = int(note.split("\n")[1])
    starts = range(0, size, 256)
    tiles = (tile(folder, at // 256, min(256, size - at)) for at in starts)
    hashes = [value for values in tiles for value in values]
    public, last = handed_over(folder, bytes.fromhex(public), hashes)
    origin, _, signed_root = signed(note, public)
    assert root(hashes) == signed_root, "root"
    assert last is None or last[0] == origin, "the key was changed in another log"
    print("good", size, "from", kept_lines(folder, hashes))


main(*sys.argv[1:])
