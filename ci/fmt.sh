#!/usr/bin/env bash
# All Rust code is as rustfmt leaves it, the packages outside the workspace too.
set -euo pipefail
cargo fmt --all --check
cargo fmt --manifest-path bench/Cargo.toml --check
cargo fmt --manifest-path bench/bridge/Cargo.toml --check
cargo fmt --manifest-path ci/crates/Cargo.toml --check
cargo fmt --manifest-path ci/fuzz/Cargo.toml --check
cargo fmt --manifest-path ci/tsan/Cargo.toml --check
cargo fmt --manifest-path ci/instructions/Cargo.toml --check
cargo fmt --manifest-path ci/loom-sync/Cargo.toml --check
