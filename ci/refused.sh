#!/usr/bin/env bash
# The runtime's integration tests where the system calls that goby can do without are refused, as by valgrind, qemu's user
# mode, old kernels and sandboxes.
set -euo pipefail
. ci/lib.sh
dir=$(target_dir refused)
cc -O1 -Wall -Werror ci/refused/refuse.c -o "$dir/refuse"
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$dir/refuse"
run_tests 100 cargo test -p goby-runtime --test it --locked
