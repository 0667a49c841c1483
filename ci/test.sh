#!/usr/bin/env bash
# The README's test command, in debug: unit, integration and doc tests of all crates, every example, the README's code.
set -euo pipefail
. ci/lib.sh
run_tests 100 cargo test --workspace --locked
