#!/usr/bin/env python3
"""Checks a proof of one event with sigstore's parser of checkpoints and its Merkle
proofs, which share nothing with the library.

usage: audit_sigstore.py PROOF.json PUBLIC_KEY_HEX
"""
import hashlib
import json
import pathlib
import sys
from types import SimpleNamespace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint
from sigstore.errors import VerificationError


class Keyring:
    """One Ed25519 key; sigstore's own keyrings come from its trusted root."""

    def __init__(self, public):
        self.key = Ed25519PublicKey.from_public_bytes(public)

    def verify(self, *, key_id, signature, data):
        try:
            self.key.verify(signature, data)
        except InvalidSignature as error:
            raise VerificationError("invalid signature") from error


def main(proof, public):
    proof = json.loads(pathlib.Path(proof).read_text(encoding="utf-8"))
    public = bytes.fromhex(public)
    signed = SignedCheckpoint.from_text(proof["checkpoint"])
    checkpoint = signed.checkpoint
    # The key's id in C2SP signed notes: of its name, type and bytes.
    key_id = hashlib.sha256(checkpoint.origin.encode() + b"\n\x01" + public).digest()
    signed.signed_note.verify(Keyring(public), key_id)
    inclusion = SimpleNamespace(
        log_index=proof["seq"],
        tree_size=checkpoint.log_size,
        hashes=[bytes.fromhex(hash) for hash in proof["path"]],
        root_hash=bytes.fromhex(checkpoint.log_hash),
    )
    body = proof["line"].encode()
    inner = SimpleNamespace(inclusion_proof=inclusion, canonicalized_body=body)
    verify_merkle_inclusion(SimpleNamespace(_inner=inner))
    print("good", checkpoint.origin, checkpoint.log_size, checkpoint.log_hash)


main(*sys.argv[1:])
