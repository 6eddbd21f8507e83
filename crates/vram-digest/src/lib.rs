//! fs-verity SHA-256 file digests and NHPoly1305 tags: bytes in, digests out, no I/O.
