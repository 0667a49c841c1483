#!/usr/bin/env bash
# Other crates under goby, as the guide's page "Other crates" says: a test for each row of its table.
set -euo pipefail
. ci/lib.sh
run_tests 40 cargo test --locked --manifest-path ci/crates/Cargo.toml --target-dir "$(target_dir .)"
