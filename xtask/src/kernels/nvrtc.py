"""nvrtc.py LIBRARY SOURCE OUT: compiles one CUDA source to PTX with NVRTC.

The library finds its built-ins through LD_LIBRARY_PATH, which the caller sets.
"""

import ctypes
import sys


def main(library, source, out):
    nvrtc = ctypes.CDLL(library)
    with open(source, "rb") as file:
        text = file.read()
    program = ctypes.c_void_p()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"vram.cu", 0, None, None))
    options = [b"--gpu-architecture=compute_60", b"--std=c++11"]
    array = (ctypes.c_char_p * len(options))(*options)
    status = nvrtc.nvrtcCompileProgram(program, len(options), array)
    log = fetch(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
    sys.stderr.write(log.decode("utf-8", "replace").strip("\n"))
    check(status)
    if log.strip():
        sys.exit("\nnvrtc: a warning is an error here")
    ptx = fetch(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    with open(out, "wb") as file:
        file.write(ptx)


def fetch(size_of, get, program):
    size = ctypes.c_size_t()
    check(size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    check(get(program, buffer))
    return buffer.value


def check(status):
    if status != 0:
        sys.exit("nvrtc: status %d" % status)


main(*sys.argv[1:])
