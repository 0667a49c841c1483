#!/usr/bin/env bash
# No warning of the compiler's or clippy's, in libraries, binaries, tests, examples, the benchmark
# and the TSan programs; nor in the libraries and their tests without their default features, nor in
# goby-http with all features, nor in goby with TLS and nothing else that asks for TLS.
set -euo pipefail
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy -p goby-runtime -p goby -p goby-http -p goby-tokio --no-default-features --all-targets --locked -- -D warnings
cargo clippy -p goby-http --all-features --all-targets --locked -- -D warnings
cargo clippy -p goby --features tls --all-targets --locked -- -D warnings
for package in bench bench/bridge ci/tsan ci/instructions ci/crates; do
    cargo clippy --manifest-path "$package/Cargo.toml" --target-dir "${CARGO_TARGET_DIR:-target}" --all-targets --locked -- -D warnings
done
