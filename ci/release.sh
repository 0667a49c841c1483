#!/usr/bin/env bash
# The concurrency tests again, optimised: other timings, other inlining around the switch.
set -euo pipefail
. ci/lib.sh
run_tests 20 cargo test --release --locked -p goby-runtime --lib --tests
run_tests 50 cargo test --release --locked -p goby --lib --tests
