#!/usr/bin/env bash
# The libraries' documentation builds without a warning: no broken link, nothing public without a word. Its examples run in
# the stage `test`. What the pages name exists, and the README's figures are those of bench/results.json.
set -euo pipefail
python3 ci/docs.py
python3 bench/readme.py --check
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --no-deps --locked
