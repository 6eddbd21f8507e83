#!/bin/sh
# Runs the GPU suite of vram-residency, commit @COMMIT@: tests, sanitizer, probe.
# Usage: ./run.sh OUT_DIR     (VRAM_REQUIRE_GPU=1: fail without a GPU)
set -u
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: ./run.sh OUT_DIR}
mkdir -p "$out"
cd "$here" || exit 1
# The driver's compile cache would hide what loading the PTX costs.
export CUDA_CACHE_DISABLE=1
failed=0

section() { printf '\n=== %s\n' "$1"; }

section "facts" | tee "$out/facts.log"
{
  echo "commit @COMMIT@"
  date -u +%Y-%m-%dT%H:%M:%SZ
  nvidia-smi --query-gpu=name,driver_version,memory.total,memory.free,ecc.mode.current,mig.mode.current --format=csv 2>&1
  ./vram doctor 2>&1
  ./vram devices --json 2>&1
} >> "$out/facts.log"
cat "$out/facts.log"

section "tests" | tee "$out/tests.log"
for test in tests/*; do
  echo "--- $test" >> "$out/tests.log"
  if timeout 150 "$test" --test-threads=1 >> "$out/tests.log" 2>&1; then
    echo "ok     $test"
  else
    echo "FAILED $test"
    failed=1
  fi
done
grep -E '^test result|FAILED|panicked' "$out/tests.log"

section "seal on the GPU" | tee "$out/seal.log"
if ./vram seal small.safetensors --device cuda:0 >> "$out/seal.log" 2>&1; then
  echo ok
else
  echo "the command failed; without a GPU that is expected"
  [ "${VRAM_REQUIRE_GPU:-0}" = 1 ] && failed=1
fi
cat "$out/seal.log"

section "compute-sanitizer" | tee "$out/sanitizer.log"
if command -v compute-sanitizer >/dev/null 2>&1; then
  for tool in memcheck racecheck initcheck; do
    echo "--- $tool" >> "$out/sanitizer.log"
    timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      ./gpu_probe --sizes-mib 2,4,8 --out /tmp --scratch /tmp >> "$out/sanitizer.log" 2>&1
    echo "$tool: exit $?" | tee -a "$out/sanitizer.log"
  done
else
  echo "compute-sanitizer is not on this machine: kernels were not checked by it" | tee -a "$out/sanitizer.log"
fi

section "probe" | tee "$out/probe.log"
scratch=/dev/shm
[ -w "$scratch" ] || scratch=/tmp
if timeout 300 ./gpu_probe --sizes-mib 1024,16384,65536 --out "$out" --scratch "$scratch" >> "$out/probe.log" 2>&1; then
  echo ok
else
  echo "the probe reported failures"
  failed=1
fi
cat "$out/probe.log"
exit "$failed"
