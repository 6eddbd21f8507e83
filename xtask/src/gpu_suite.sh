#!/bin/sh
# The GPU suite of vram-residency, commit @COMMIT@.
# Usage: sh run.sh OUT_DIR [PART ...]   parts: probe commands tests sanitizer profile
#   VRAM_REQUIRE_GPU=1      the absence of a GPU is a failure
#   VRAM_SUITE_SECONDS=450  the whole run ends after about that many seconds
# Leaves results.json, results.txt, facts.log, probe.log, commands.log,
# tests.log, sanitizer.log and profile.log in OUT_DIR, each written as it goes.
set -u
# A killed process must not write its memory to disk.
# shellcheck disable=SC3045 # every shell that is /bin/sh on Linux has it
ulimit -c 0
begun=$(date +%s)
date=$(date -u +%Y-%m-%dT%H:%M:%SZ)
deadline=$((begun + ${VRAM_SUITE_SECONDS:-450}))
here=$(cd "$(dirname "$0")" && pwd) || exit 1
out=${1:?usage: sh run.sh OUT_DIR [PART ...]}
shift
parts=" ${*:-probe commands tests sanitizer profile} "
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
rm -f "$out/results.json" "$out/results.txt" "$out"/facts.log "$out"/probe.log \
  "$out"/commands.log "$out"/tests.log "$out"/sanitizer.log "$out"/profile.log
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# Tests put copies of the fake driver beside it, and modes may be lost on the way.
if [ ! -w "$here" ]; then
  cp -R "$here" "$work/suite" && here=$work/suite || exit 1
fi
cd "$here" || exit 1
chmod +x gpu_probe matvec vram tests/* 2>/dev/null
PATH=$PATH:/usr/local/cuda/bin
# Every process compiles the kernels anew where the home folder keeps no cache.
CUDA_CACHE_PATH=$work/compiled
export CUDA_CACHE_PATH
failed=0

# note NAME STATUS SECONDS: a line of the report.
note() {
  echo "$1: $2 ($3 s)"
  ./gpu_probe note "$1" "$2" "$3" --out "$out" --commit "@COMMIT@" --date "$date" || failed=1
}

# attempt NAME LIMIT LOG COMMAND...: at most LIMIT seconds and what is left of
# all. Sets $status and $word; anything but success fails the suite.
attempt() {
  name=$1 limit=$2 log=$3
  shift 3
  start=$(date +%s)
  left=$((deadline - start))
  [ "$limit" -lt "$left" ] || limit=$left
  status=124 word="SKIPPED: no time was left"
  if [ "$left" -ge 3 ]; then
    echo "=== $name" >> "$log"
    timeout -k 3 "$limit" "$@" >> "$log" 2>&1
    status=$?
    case $status in
      0) word=ok ;;
      124 | 137) word="TIMED OUT after $limit s" ;;
      *) word="FAILED with exit status $status" ;;
    esac
  fi
}

run() {
  attempt "$@"
  [ "$status" -eq 0 ] || failed=1
  note "$name" "$word" "$(($(date +%s) - start))"
}

probe() {
  run "probe: $1" "$2" "$out/probe.log" ./gpu_probe "$1" --out "$out" \
    --scratch "$scratch" --commit "@COMMIT@" --date "$date"
}

# judge BAR LOG: what `vram bench` says of a target becomes a line of the
# report. Like the bars of the probe, a miss is told and fails nothing; a bar
# that is not there fails.
judge() {
  said=$(grep -F "$1 " "$2" | grep ' target ' | tail -n 1 | tr -s ' ')
  word=${said#"$1 "}
  if [ -z "$said" ]; then
    word="NOT MEASURED" failed=1
  elif [ "$simulated" -eq 1 ]; then
    word="not judged on the fake driver"
  fi
  note "bar: $1" "$word" 0
}

banner() {
  for line in "$@"; do
    printf '!!! %s\n' "$line"
  done | tee -a "$out/facts.log"
}

# finish: what people read, and the exit status.
finish() {
  cat "$out/results.txt"
  echo "results in $out; exit status $failed after $(($(date +%s) - begun)) s"
  exit "$failed"
}

# Room for a model of 8 GiB, in memory if it can be.
room() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }'; }
scratch=$work
if [ -w /dev/shm ] && { [ "$(room /dev/shm)" -ge 17 ] || [ "$(room /dev/shm)" -ge "$(room "$work")" ]; }; then
  scratch=/dev/shm
fi

# 1. Is there a GPU?
attempt "probe: facts" 60 "$out/probe.log" ./gpu_probe facts --out "$out" --commit "@COMMIT@" --date "$date"
simulated=0
if [ "$status" -eq 77 ]; then
  banner "NO CUDA GPU: real VRAM, the driver and the kernels on a GPU are NOT verified." \
    "$(tail -n 1 "$out/probe.log")" "VRAM_REQUIRE_GPU=1 makes this a failure."
  [ "${VRAM_REQUIRE_GPU:-0}" = 1 ] && failed=1
  note gpu "NO CUDA GPU: nothing was measured" 0
  run doctor 30 "$out/facts.log" ./vram doctor
  finish
fi
[ "$status" -eq 0 ] || failed=1
note "$name" "$word" "$(($(date +%s) - start))"
if grep -q 'fake CUDA device' "$out/probe.log"; then
  simulated=1
  banner "SIMULATED DEVICE: a rehearsal on the fake driver. NO GPU is verified by it."
  [ "${VRAM_REQUIRE_GPU:-0}" = 1 ] && failed=1
else
  # No test may quietly leave its GPU half out.
  export VRAM_REQUIRE_GPU=1
fi
{
  timeout 20 nvidia-smi --format=csv --query-gpu=name,driver_version,memory.total,memory.free,clocks.sm,clocks.max.sm,ecc.mode.current,mig.mode.current
  timeout 20 nvidia-smi -q -d CLOCK,PERFORMANCE,POWER
  ldd --version | head -n 1
  uname -srm
  df -h /dev/shm "$work"
} >> "$out/facts.log" 2>&1

# 2. What no other machine can tell comes first.
case $parts in *" probe "*)
  CUDA_CACHE_DISABLE=1 probe jit 60
  probe cached 60
  probe roofs 60
  probe kernels 120
  probe memory 120
  probe sealing 90
  probe loading 120
  ;;
esac

# 3. The command and an engine's use of a lease, as users have them.
case $parts in *" commands "*)
  size=4GiB mib=1024
  [ "$simulated" -eq 0 ] || { size=4MiB mib=1; }
  run doctor 30 "$out/facts.log" ./vram doctor
  run devices 30 "$out/facts.log" ./vram devices --json
  run "execution on a lease" 60 "$out/commands.log" ./matvec cuda:0
  run "vram seal" 30 "$out/commands.log" ./vram seal small.safetensors --device cuda:0
  run "vram bench" 60 "$out/commands.log" ./vram bench --device cuda:0 --size-mib "$mib" --runs 3
  if ./vram bench verify --help 2>/dev/null | grep -q -e --device; then
    run "vram bench verify" 120 "$out/commands.log" ./vram bench verify --device cuda:0 --size-mib "$((mib * 16))"
  fi
  if ./vram bench load --help 2>/dev/null | grep -q -e --device; then
    model=$scratch/gpu-suite-$$.safetensors
    trap 'rm -rf "$work" "$model"' EXIT
    run "vram synth" 60 "$out/commands.log" ./vram synth "$model" --size "$size"
    run "vram bench load" 120 "$work/bench-load.log" ./vram bench load "$model" --device cuda:0 --runs 5
    cat "$work/bench-load.log" >> "$out/commands.log"
    rm -f "$model"
    judge "sealed load, share of the pinned copy" "$work/bench-load.log"
    judge "sealed load, time of a load without checks" "$work/bench-load.log"
    judge "pinned memory of the sealed load" "$work/bench-load.log"
  fi
  ;;
esac

# 4. Tests, each on the fake driver and on the GPU. The scenarios only on the GPU:
# on the fake driver they take minutes, and ran where they were built.
case $parts in *" tests "*)
  for test in tests/*; do
    set --
    [ "$test" != tests/behaviour ] || set -- --real-only
    run "test: ${test#tests/}" 120 "$out/tests.log" "./$test" "$@"
  done
  note "test: example_matvec" "NOT CARRIED: matvec itself runs on the GPU here" 0
  note "test: fault_sweep" "NOT CARRIED: it runs on the fake driver only" 0
  note "test: gpu_probe" "NOT CARRIED: it runs on the fake driver only" 0
  grep -E '^test .*FAILED|SKIPPED: |panicked|^test result|^behaviour|^[0-9]+ scenario' "$out/tests.log"
  ;;
esac

# 5. The kernels under compute-sanitizer, where it works.
case $parts in *" sanitizer "*)
  if command -v compute-sanitizer > /dev/null 2>&1; then
    for tool in memcheck racecheck initcheck synccheck; do
      # Refused calls are rows of the probe, not findings about kernels.
      set --
      [ "$tool" != memcheck ] || set -- --report-api-errors no
      attempt "compute-sanitizer $tool" 60 "$work/$tool.log" \
        compute-sanitizer --tool "$tool" --error-exitcode 9 --target-processes application-only \
        "$@" ./gpu_probe kernels --sizes-mib 2,4 --out "$work"
      if grep -qi 'device not supported' "$work/$tool.log" 2>/dev/null; then
        word="NOT AVAILABLE: it does not support this device"
      elif [ "$status" -eq 9 ]; then
        word="FINDINGS, see sanitizer.log" failed=1
      elif [ "$status" -ne 0 ]; then
        failed=1
      fi
      note "$name" "$word" "$(($(date +%s) - start))"
      cat "$work/$tool.log" >> "$out/sanitizer.log" 2>/dev/null
    done
  else
    note compute-sanitizer "NOT AVAILABLE: it is not on this machine" 0
  fi
  ;;
esac

# 6. Which unit of the GPU each kernel waits for, where the profiler works.
case $parts in *" profile "*)
  if command -v ncu > /dev/null 2>&1; then
    mib=1024
    [ "$simulated" -eq 0 ] || mib=2
    for kernel in vram_sum vram_sha256_blocks vram_nh_tags_1 vram_nh_tags_2; do
      attempt "ncu $kernel" 45 "$out/profile.log" \
        ncu --clock-control none --kernel-name "$kernel" --launch-skip 1 --launch-count 1 \
        --section SpeedOfLight --section LaunchStats --section Occupancy --section WarpStateStats \
        ./gpu_probe kernels --sizes-mib "$mib" --out "$work"
      # A figure less, and no failure of ours.
      [ "$status" -eq 0 ] || [ "$status" -eq 124 ] || word="NOT AVAILABLE: exit status $status"
      note "$name" "$word" "$(($(date +%s) - start))"
    done
  else
    note ncu "NOT AVAILABLE: it is not on this machine" 0
  fi
  ;;
esac
finish
