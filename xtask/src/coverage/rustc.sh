#!/bin/sh
# Stands before rustc for the crates of the workspace: those that ship are built to count which
# of their lines run. The test driver stays as it is, and so as fast. Names are left uncompressed
# for readers of the data that were built without zlib. Branches are behind an unstable option,
# which the stable compiler takes when it is told to.
case "$CARGO_PKG_NAME" in
  vram | vram-digest | vram-residency | vram-residency-cuda)
    if [ -n "$VRAM_COVERAGE_BRANCHES" ]; then
      export RUSTC_BOOTSTRAP=1
      set -- "$@" -Z coverage-options=branch
    fi
    exec "$@" -C instrument-coverage -C llvm-args=-enable-name-compression=false ;;
  *) exec "$@" ;;
esac
