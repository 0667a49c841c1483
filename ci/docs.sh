#!/usr/bin/env bash
# The libraries' documentation builds without a warning: no broken link, nothing public without a word. Its examples run in
# the stage `test`.
set -euo pipefail
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --no-deps --locked
