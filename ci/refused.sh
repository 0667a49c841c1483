#!/usr/bin/env bash
# The runtime's integration tests where the system calls that goby can do without are refused, as by valgrind, qemu's user
# mode, old kernels and sandboxes. The binary is that of the stage `test`: built for goby-runtime alone, its dependencies
# would have other features, and it would be built anew.
set -euo pipefail
. ci/lib.sh
dir=$(target_dir refused)
cc -O1 -Wall -Werror ci/refused/refuse.c -o "$dir/refuse"
run_tests 200 ci/side_by_side.py --only goby-runtime --under "$dir/refuse" cargo test --workspace --test it --locked
