#!/usr/bin/env python3
"""Loads one safetensors file with other loaders and with vram, in turn.

    vram synth model.safetensors --size 4GiB
    python3 benches/compare_loaders.py model.safetensors --vram target/release/vram

Every loader runs as a process of its own and ends with every tensor in memory
of its own and a digest of every byte, which is what `vram seal` does: a lazy
mapping or a load without a check is another thing. Rounds go through all of
them in turn, so that a busy hour hits all alike. Shown is the median of the
whole process with the fastest and the slowest; for the Python loaders also the
median of the load alone, since importing torch takes seconds.

  vram         vram seal FILE --device sim:SIZE: load, seal, verify all again, wipe
  safetensors  safe_open, each tensor copied, BLAKE3 of each
  runai        runai-model-streamer, buffered, BLAKE3 of each tensor
  b3sum        the b3sum command, then a plain read into fresh memory
  blake3       the same with the blake3 module, on all cores, from a mapping
  openssl      openssl dgst -sha256, then the same read (Debian's sha256sum does
               not use the CPU's SHA instructions)

With --device cuda:N (on a machine with that GPU) the loaders that fill its
memory take their turns as well. None of them checks a byte, so they are held
against a load and seal that does; `vram bench load --device` holds ours against
the same load without checks:

  vram-cuda        vram seal FILE --device cuda:N
  safetensors-cuda safe_open onto the device
  runai-cuda       runai-model-streamer, each tensor moved to the device
  fastsafetensors  fastsafe_open onto the device, without GPUDirect storage
  instanttensor    safe_open of instanttensor onto the device

What cannot run here is named, with the reason, and left out. Needs for all:
    pip install safetensors blake3 runai-model-streamer     (brings torch)
    pip install fastsafetensors instanttensor               (for a GPU)
    cargo install b3sum
"""

import argparse
import importlib
import importlib.util
import json
import mmap
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

GB = 1e9
ROOM = 1 << 30  # what a loader takes beside the model: torch, staging, copies
MADV_POPULATE_WRITE = 23  # Linux, not in Python's mmap


def hash_of(view):
    import blake3
    return blake3.blake3(view, max_threads=blake3.blake3.AUTO).hexdigest()


def digest(tensor):
    import torch
    hash_of(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return tensor


def run_safetensors(path):
    from safetensors import safe_open
    with safe_open(path, framework="pt") as reader:
        # A copy: what the reader gives is a mapping of the file.
        kept = {name: digest(reader.get_tensor(name).clone()) for name in reader.keys()}
    return sum(data.nbytes for data in kept.values())


def run_runai(path):
    from runai_model_streamer import SafetensorsStreamer
    with SafetensorsStreamer() as streamer:
        streamer.stream_file(path)
        kept = {name: digest(tensor) for name, tensor in streamer.get_tensors()}
    return sum(data.nbytes for data in kept.values())


def run_b3sum(path):
    subprocess.run(["b3sum", "--no-names", path], check=True, stdout=subprocess.DEVNULL)
    return fill(path)


def run_blake3(path):
    import blake3
    blake3.blake3(max_threads=blake3.blake3.AUTO).update_mmap(path).hexdigest()
    return fill(path)


def run_openssl(path):
    subprocess.run(["openssl", "dgst", "-sha256", path], check=True, stdout=subprocess.DEVNULL)
    return fill(path)


def fill(path):
    data = huge(os.path.getsize(path))
    view, done = memoryview(data), 0
    with open(path, "rb", buffering=0) as reader:
        while count := reader.readinto(view[done:done + (64 << 20)]):
            done += count
    return done


def run_safetensors_cuda(path, device):
    from safetensors import safe_open
    with safe_open(path, framework="pt", device=device) as reader:
        return arrived({name: reader.get_tensor(name) for name in reader.keys()})


def run_runai_cuda(path, device):
    from runai_model_streamer import SafetensorsStreamer
    with SafetensorsStreamer() as streamer:
        streamer.stream_file(path)
        return arrived({name: tensor.to(device) for name, tensor in streamer.get_tensors()})


def run_fastsafetensors(path, device):
    from fastsafetensors import fastsafe_open
    # GPUDirect storage reads past the page cache that this file lies in.
    with fastsafe_open(path, nogds=True, device=device) as reader:
        return arrived({name: reader.get_tensor(name) for name in reader.keys()})


def run_instanttensor(path, device):
    from instanttensor import safe_open
    with safe_open(path, framework="pt", device=int(device.split(":")[1])) as reader:
        return arrived(dict(reader.tensors()))


def arrived(tensors):
    """Bytes on a GPU, once all copies to it are done."""
    import torch
    torch.cuda.synchronize()
    if not all(tensor.is_cuda for tensor in tensors.values()):
        sys.exit("a tensor is not on the GPU")
    return sum(tensor.nbytes for tensor in tensors.values())


LOADERS = {"safetensors": run_safetensors, "runai": run_runai, "b3sum": run_b3sum,
           "blake3": run_blake3, "openssl": run_openssl}
CUDA_LOADERS = {"safetensors-cuda": run_safetensors_cuda, "runai-cuda": run_runai_cuda,
                "fastsafetensors": run_fastsafetensors, "instanttensor": run_instanttensor}
NEEDS = {"safetensors": ["safetensors", "torch", "blake3"],
         "runai": ["runai_model_streamer", "torch", "blake3"], "b3sum": [],
         "blake3": ["blake3"], "openssl": [],
         "safetensors-cuda": ["safetensors", "torch"],
         "runai-cuda": ["runai_model_streamer", "torch"],
         "fastsafetensors": ["fastsafetensors", "torch"],
         "instanttensor": ["instanttensor", "torch"]}


def no_gpu(vram, device):
    """What keeps everything from running on a GPU, or None."""
    try:
        ended = subprocess.run([vram, "devices", "--json"], stdout=subprocess.PIPE, text=True)
        shown = json.loads(ended.stdout.splitlines()[0]) if ended.returncode == 0 else {}
    except (OSError, ValueError, IndexError):
        shown = {}
    ordinals = [gpu["ordinal"] for gpu in shown.get("devices", []) if gpu["kind"] == "cuda"]
    if int(device.split(":")[1]) not in ordinals:
        return f"no GPU {device} on this machine"
    return None


def torch_sees(device):
    """In a process of its own: a context here would take memory of the GPU."""
    index = device.split(":")[1]
    asked = f"import sys, torch; sys.exit(torch.cuda.device_count() <= {index})"
    return subprocess.run([sys.executable, "-c", asked], stderr=subprocess.DEVNULL).returncode == 0


def missing(name, vram):
    """What keeps a loader from running, or None."""
    if name in ("vram", "vram-cuda"):
        return None if os.access(vram, os.X_OK) else f"no command at {vram}; see --vram"
    if name in ("b3sum", "openssl") and not shutil.which(name):
        return f"no command {name}"
    absent = [module for module in NEEDS[name] if not importlib.util.find_spec(module)]
    return f"no module {', '.join(absent)}" if absent else None


def command(name, path, vram, device):
    if name == "vram-cuda":
        return [vram, "seal", path, "--device", device, "--quiet"]
    if name == "vram":
        room = os.path.getsize(path) + (1 << 20)
        return [vram, "seal", path, "--device", f"sim:{room}", "--quiet"]
    return [sys.executable, os.path.abspath(__file__), path, "--run", name,
            *(["--device", device] if name in CUDA_LOADERS else [])]


def run_one(name, path, device):
    """Loads in this process; prints the seconds of that, imports apart, and those of `touch`."""
    for module in NEEDS[name]:
        importlib.import_module(module)
    if name in CUDA_LOADERS:
        import torch
        torch.zeros(1, device=device)  # the context, which comes with the imports
    touched = touch(os.path.getsize(path) + ROOM)
    started = time.monotonic()
    count = CUDA_LOADERS[name](path, device) if name in CUDA_LOADERS else LOADERS[name](path)
    if not 0 < count <= os.path.getsize(path):
        sys.exit(f"{name} loaded {count} bytes")
    print(time.monotonic() - started, touched)


def huge(count):
    """Fresh memory in huge pages: what numpy, torch and vram ask for as well."""
    memory = mmap.mmap(-1, count, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def touch(count):
    """Makes the machine's free memory ready and gives it back; says how long that took.

    A virtual machine's host takes free memory away and gives it back page by
    page at the first touch, 50 times slower than memory that is there. Who
    pays for that is chance, so nobody does.
    """
    started = time.monotonic()
    memory = huge(count)
    try:
        memory.madvise(MADV_POPULATE_WRITE)
    except OSError:  # before Linux 5.14
        for start in range(0, count, mmap.PAGESIZE):
            memory[start] = 1
    memory.close()
    return time.monotonic() - started


def timed(argv):
    """Seconds of the whole process but for its `touch`, and those of the load alone."""
    # Run:ai reads past the page cache unless told otherwise.
    env = dict(os.environ, RUNAI_STREAMER_FS_STRATEGY="sync_buffered")
    started = time.monotonic()
    ended = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, env=env)
    took = time.monotonic() - started
    if "--run" not in argv:
        return took, took
    load, touched = map(float, ended.stdout.split())
    return took - touched, load


def warm(path):
    with open(path, "rb", buffering=0) as reader:
        while reader.read(64 << 20):
            pass


def cuda_device(text):
    if not re.fullmatch(r"cuda:[0-9]+", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not cuda:N")
    return text


def candidates(args):
    """The loaders that can run here; the others are named with the reason."""
    names, on_gpu = [], ["vram-cuda", *CUDA_LOADERS]
    without = "--device cuda:N names no GPU"
    blind = None
    if args.device:
        without = no_gpu(args.vram, args.device)
        if not without and not torch_sees(args.device):
            blind = f"torch is absent or sees no {args.device}"
    for name in args.only or ["vram", *LOADERS, *on_gpu]:
        reason = missing(name, args.vram)
        if name in on_gpu:
            reason = without or (blind if name != "vram-cuda" else None) or reason
        if reason:
            print(f"{name:<16} left out: {reason}")
        else:
            names.append(name)
    return names


def main():
    parser = argparse.ArgumentParser(description="Compare loaders on one safetensors file.")
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--vram", default="target/release/vram")
    parser.add_argument("--device", type=cuda_device, help="cuda:N, for the loaders of a GPU")
    parser.add_argument("--only", nargs="+", metavar="LOADER",
                        choices=["vram", *LOADERS, "vram-cuda", *CUDA_LOADERS],
                        help="these and no others: %(choices)s")
    parser.add_argument("--run", choices=[*LOADERS, *CUDA_LOADERS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        run_one(args.run, args.model, args.device)
        return
    size = os.path.getsize(args.model)
    names = candidates(args)
    warm(args.model)
    times = {name: [] for name in names}
    load = os.getloadavg()[0]
    for turn in range(args.runs + 1):
        for name in names:
            argv = command(name, args.model, args.vram, args.device)
            if "--run" not in argv:
                touch(size + ROOM)  # the others do so themselves, after their imports
            took = timed(argv)
            # The first turn warms what each loader reads from disk.
            if turn:
                times[name].append(took)
    print(f"{size} bytes, {os.cpu_count()} cores, {args.runs} runs, "
          f"load average {load:.1f} before and {os.getloadavg()[0]:.1f} after")
    for name, both in times.items():
        seconds = [whole for whole, _ in both]
        middle = statistics.median(seconds)
        line = (f"{name:<16} {size / middle / GB:6.2f} GB/s   {middle:.2f} s "
                f"({min(seconds):.2f} to {max(seconds):.2f})")
        if name not in ("vram", "vram-cuda"):
            alone = statistics.median(load for _, load in both)
            line += f"; the load alone {size / alone / GB:.2f} GB/s, {alone:.2f} s"
        print(line)


if __name__ == "__main__":
    main()
