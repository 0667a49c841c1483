#!/usr/bin/env bash
# The concurrency tests again, optimized: other timings, other inlining around the switch.
set -euo pipefail
. ci/lib.sh
run_tests 700 ci/side_by_side.py cargo test --release --locked -p goby-runtime -p goby --tests
