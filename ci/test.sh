#!/usr/bin/env bash
# The README's test command, in debug: unit, integration and doc tests of all crates, every example, the README's code.
# A goroutine that is left behind for good fails its test, or its process.
set -euo pipefail
. ci/lib.sh
export GOBY_LEAKS=fatal
run_tests 100 cargo test --workspace --locked
