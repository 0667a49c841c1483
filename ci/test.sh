#!/usr/bin/env bash
# The README's test command, in debug: unit, integration and doc tests of all crates, every example,
# the README's code. A goroutine that is left behind for good fails its test, or its process. Then
# what features change that are off, or off by default.
set -euo pipefail
. ci/lib.sh
export GOBY_LEAKS=fatal
run_tests 1000 ci/side_by_side.py cargo test --workspace --locked --tests
run_tests 400 cargo test --workspace --locked --doc
run_tests 1 cargo test -p goby-http --no-default-features --locked --test it no_tls
run_tests 20 cargo test -p goby-http --all-features --locked --test it -- multipart encoding websocket
