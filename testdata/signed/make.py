#!/usr/bin/env python3
"""Makes the signed models of this directory with the real signing tool.

    python3 -m venv venv && venv/bin/pip install --require-hashes -r testdata/signed/requirements.txt
    venv/bin/python testdata/signed/make.py [OUT]

Writes model/, the public halves and one bundle a way of signing. Private keys
are made anew each time and not kept: tests that need a signer have their own.
"""

import datetime
import pathlib
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from model_signing import hashing, signing

PEM = serialization.Encoding.PEM
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def noise(count, seed):
    out, state = bytearray(), seed
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append(state >> 56)
    return bytes(out)


def make_model(root):
    files = {
        "config.json": b'{"model_type": "test"}\n',
        "weights.bin": noise(20_000, 1),
        "tokenizer/vocab.txt": b"a\nb\nc\n",
        "tokenizer-2.json": b"{}\n",
        "empty.txt": b"",
        "notes/draft.txt": b"not signed\n",
    }
    for name, contents in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)


def private_key(secret_dir, name, curve):
    """An EC key, or an RSA key where no curve is named."""
    key = ec.generate_private_key(curve) if curve else rsa.generate_private_key(65537, 2048)
    path = secret_dir / name
    text = key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(text)
    return key, path


def write_public(out, name, key):
    text = key.public_key().public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (out / name).write_bytes(text)


def name_of(common_name):
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Models"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def certificate(
    subject, key, issuer, issuer_key, is_ca, days=3650, mail=None, signs=True, permitted=None
):
    # Under P-521 both kinds: OpenSSL signs SHA-256 with every key unless it is told otherwise.
    strong = {384: hashes.SHA384, 521: hashes.SHA256 if is_ca else hashes.SHA512}
    hash_type = strong.get(issuer_key.key_size, hashes.SHA256)()
    usage = x509.KeyUsage(
        digital_signature=not is_ca and signs, key_cert_sign=is_ca, crl_sign=is_ca,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=not signs, encipher_only=False, decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(name_of(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(START + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    if not is_ca and signs:
        code = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        builder = builder.add_extension(code, critical=False)
    if mail:
        names = [x509.RFC822Name(mail), x509.UniformResourceIdentifier("https://example.com/ci")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if permitted:
        limits = x509.NameConstraints([x509.DNSName(permitted)], None)
        builder = builder.add_extension(limits, critical=True)
    return builder.sign(issuer_key, hash_type)


def config(**ignored):
    paths = ignored.get("paths", ["notes"])
    return hashing.Config().set_ignored_paths(paths=paths)


def with_key(model, out, secret_dir, name, curve, hashing_config=None):
    key, path = private_key(secret_dir, name, curve)
    write_public(out, f"{name}.pub", key)
    signer = signing.Config().use_elliptic_key_signer(private_key=path)
    signer.set_hashing_config(hashing_config or config()).sign(model, out / f"{name}.sig")
    return path


def with_certificate(
    model, out, secret_dir, name, leaf_usage=True, signs=True, mail="models@example.com",
    permitted=None, curves=(ec.SECP384R1(), ec.SECP256R1(), ec.SECP256R1()),
):
    root_key, _ = private_key(secret_dir, f"{name}-root", curves[0])
    middle_key, _ = private_key(secret_dir, f"{name}-middle", curves[1])
    leaf_key, leaf_path = private_key(secret_dir, f"{name}-leaf", curves[2])
    root = certificate("Root", root_key, "Root", root_key, True)
    middle = certificate(
        "Middle", middle_key, "Root", root_key, True, permitted=permitted
    )
    # Ended long ago by now or soon: bundles carry no time, see the reader.
    leaf = certificate(
        "Signer", leaf_key, "Middle", middle_key, not leaf_usage, 30, mail, signs,
    )
    (out / f"{name}-root.pem").write_bytes(root.public_bytes(PEM))
    paths = {}
    for part, cert in {"middle": middle, "leaf": leaf}.items():
        paths[part] = secret_dir / f"{name}-{part}.pem"
        paths[part].write_bytes(cert.public_bytes(PEM))
    signer = signing.Config().use_certificate_signer(
        private_key=leaf_path, signing_certificate=paths["leaf"],
        certificate_chain=[paths["middle"]],
    )
    signer.set_hashing_config(config()).sign(model, out / f"{name}.sig")


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    out.mkdir(parents=True, exist_ok=True)
    model = out / "model"
    make_model(model)
    shards = config().use_shard_serialization(shard_size=8192)
    blake3 = config().use_file_serialization(hashing_algorithm="blake3")
    with tempfile.TemporaryDirectory() as secret:
        secret = pathlib.Path(secret)
        with_key(model, out, secret, "p256", ec.SECP256R1())
        with_key(model, out, secret, "p384", ec.SECP384R1())
        with_key(model, out, secret, "p521", ec.SECP521R1())
        with_key(model, out, secret, "shards", ec.SECP256R1(), shards)
        with_key(model, out, secret, "blake3", ec.SECP256R1(), blake3)
        with_key(model / "weights.bin", out, secret, "single", ec.SECP256R1(), config(paths=[]))
        with_certificate(model, out, secret, "chain")
        with_certificate(model, out, secret, "wide", curves=[ec.SECP521R1()] * 3)
        # As many companies have it: their root is older than their habit of EC keys.
        with_certificate(model, out, secret, "rsa", curves=[None] + [ec.SECP256R1()] * 2)
        with_certificate(model, out, secret, "authority", leaf_usage=False)
        with_certificate(model, out, secret, "unfit", signs=False)
        # No other name than the common one, and a middle that may not give any.
        with_certificate(model, out, secret, "common", mail=None)
        with_certificate(model, out, secret, "limited", mail=None, permitted="example.com")


if __name__ == "__main__":
    main()
