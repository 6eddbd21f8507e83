#!/usr/bin/env python3
"""Checks an audit log without any code of the library.

usage: audit_reference.py DIR PUBLIC_KEY_HEX

Reads DIR/checkpoint as a C2SP signed note, which may have several signatures, and
checks the one of the key, or of the last key to which DIR/handover.*.json say that
it handed the log over, each under the signature of the key before. Compares the
root with RFC 6962 over the hashes of the tiles, each tile with the tree, and each line
of the event files with its hash. Lines may be missing only at the start, as far as a
line that is there says that they were retired; nothing follows the end of a closed log.
A tile that a power failure took is made again of its lines.
"""
import base64
import contextlib
import hashlib
import json
import pathlib
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


if not __debug__:
    sys.exit("python -O leaves out the checks: run it without")


TILE = re.compile(r"tile/(\d+)/((?:x\d{3}/)*\d{3})(?:\.p/(\d+))?")


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


def path_of(level, number, width):
    """The name of a tile, as tlog-tiles has it."""
    groups = f"{number % 1000:03}"
    while number >= 1000:
        number //= 1000
        groups = f"x{number % 1000:03}/{groups}"
    return f"tile/{level}/{groups}" + (f".p/{width}" if width < 256 else "")


def read_lines(folder):
    """All whole lines, those of finished segments first; the number of those, and what
    stands after the last line."""
    lines = []
    for path in sorted(folder.glob("events.0*.jsonl")):
        *whole, rest = path.read_bytes().split(b"\n")
        named = int(path.name.split(".")[1])
        assert whole and json.loads(whole[0])["seq"] == named, path.name
        assert not rest, "a finished segment ends in the middle of a line"
        lines += whole
    *newest, rest = (folder / "events.jsonl").read_bytes().split(b"\n")
    return lines + newest, len(lines), rest


def leaves(folder, size, lines):
    """The hashes of the tiles; of a tile that a power failure took, of its lines."""
    first = json.loads(lines[0])["seq"] if lines else size
    own, hashes = [leaf(line) for line in lines], []
    for at in range(0, size, 256):
        width = min(256, size - at)
        path = folder / path_of(0, at // 256, width)
        data = path.read_bytes() if path.exists() else b""
        if len(data) < 32 * width:
            assert at >= first, f"{path}: nothing gives its hashes"
            data = b"".join(own[at - first : at - first + width])
        assert len(data) == 32 * width, path
        hashes += [data[at : at + 32] for at in range(0, len(data), 32)]
    return first, hashes


def check_tiles(folder, hashes):
    """Compares every tile with the tree, as far as the tree goes."""
    rows = [hashes]
    while len(rows[-1]) >= 256:
        row = rows[-1]
        whole = range(0, len(row) - 255, 256)
        rows.append([root(row[at : at + 256]) for at in whole])
    for path in folder.glob("tile/**/*"):
        name = path.relative_to(folder).as_posix()
        parts = TILE.fullmatch(name)
        if not parts or path.is_dir():
            continue
        level, number = int(parts[1]), int(parts[2].replace("x", "").replace("/", ""))
        width = int(parts[3] or 256)
        if path_of(level, number, width) != name:
            continue
        row = rows[level] if level < len(rows) else []
        right = b"".join(row[256 * number : 256 * number + width])
        data = path.read_bytes()
        # Tiles are written before the checkpoint, and a power failure cuts them.
        assert len(data) <= 32 * width, path
        assert data.startswith(right) or right.startswith(data), path


def check_lines(lines, rest, finished, first, hashes, reopened):
    """Compares each line with its hash."""
    size = len(hashes)
    covered, after = lines[: size - first], lines[size - first :]
    assert [leaf(line) for line in covered] == hashes[first:], "lines"
    events = [json.loads(line) for line in covered]
    own = [event for event in events if event["audit_id"] == 0]
    adopted = set()
    for event in own:
        if event["event_type"] == "audit.opened":
            adopted.update(range(event["seq"] - event["adopted_events"], event["seq"]))
    retired = [
        event["first_kept"]
        for event in own
        if event["event_type"] == "audit.retired" and event["seq"] not in adopted
    ]
    assert first == 0 or first <= max(retired, default=0), "lines are missing"
    # Whoever can write to the directory can write what no checkpoint covers.
    assert finished <= len(covered), "a finished segment is not covered"
    numbers = [json.loads(line)["seq"] for line in after]
    assert numbers == list(range(size, size + len(after))), "numbers after the checkpoint"
    closed = own and own[-1]["seq"] == size - 1 and own[-1]["event_type"] == "audit.closed"
    assert not closed or reopened or not (after or rest), "lines after the end"


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
    note = (folder / "checkpoint").read_bytes().decode()
    text = note.split("\n\n")[0].split("\n")
    size, reopened = int(text[1]), "reopened" in text[3:]
    lines, finished, rest = read_lines(folder)
    first, hashes = leaves(folder, size, lines)
    public, last = handed_over(folder, bytes.fromhex(public), hashes)
    origin, _, signed_root = signed(note, public)
    assert root(hashes) == signed_root, "root"
    assert last is None or last[0] == origin, "the key was changed in another log"
    check_tiles(folder, hashes)
    check_lines(lines, rest, finished, first, hashes, reopened)
    print("good", size, "from", first)


main(*sys.argv[1:])
