#!/usr/bin/env bash
# The models of the lock-free files and of the wake-up protocols, explored by loom.
set -euo pipefail
. ci/lib.sh
export RUSTFLAGS="--cfg loom"
dir=$(target_dir loom)

# The runtime's: its short lock, its wait queues, the inbox and the sleep of a worker. Three preemptions find what two
# threads and a third can do to each other; without a bound a model takes hours.
LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}" \
    run_tests 3 cargo test --release --locked --target-dir "$dir" -p goby-runtime --lib loom

# Those of goby itself, over the production sources, in a package of their own.
run_tests 25 cargo test --release --locked --target-dir "$dir" --manifest-path ci/loom-sync/Cargo.toml --lib
