#!/usr/bin/env bash
# What the other stages need of the machine: installed if it can be, named if not.
set -euo pipefail

missing() {
    echo "ci/setup.sh: $1" >&2
    exit 1
}

command -v cargo >/dev/null || missing "cargo is not here: install Rust with rustup (https://rustup.rs)"
cargo fmt --version >/dev/null 2>&1 || missing "rustfmt is not here: rustup component add rustfmt"
cargo clippy --version >/dev/null 2>&1 || missing "clippy is not here: rustup component add clippy"
cargo +nightly --version >/dev/null 2>&1 || missing "ThreadSanitizer needs a nightly toolchain: rustup toolchain install nightly"

# Debian's packages: nginx for goby fetch's test on real input and beside goby-http's files, a C compiler for linking and
# for ring, llvm-symbolizer for the names in ThreadSanitizer's reports (addr2line reads all of a large test binary first,
# in each process: seven seconds, with which tests run into their limits of time), valgrind to count instructions, Python
# for the scripts, ip for the tests that have a network of their own, openssl for the other end of TLS, h2load for that of
# HTTP/2, Chromium for that of pages; PostgreSQL, redis and NATS for the clients of ci/crates.
wanted=()
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || wanted+=(nginx-light)
# For the other end of Unix sockets and UDP.
command -v socat >/dev/null || wanted+=(socat)
command -v cc >/dev/null || wanted+=(gcc libc6-dev)
command -v llvm-symbolizer >/dev/null || wanted+=(llvm)
command -v valgrind >/dev/null || wanted+=(valgrind)
command -v python3 >/dev/null || wanted+=(python3)
# For a venv, which Debian keeps apart.
! command -v python3 >/dev/null || python3 -c 'import ensurepip' 2>/dev/null || wanted+=(python3-venv)
command -v ip >/dev/null || wanted+=(iproute2)
command -v openssl >/dev/null || wanted+=(openssl)
# To ask the servers of examples, and of goby-http.
command -v curl >/dev/null || wanted+=(curl)
command -v h2load >/dev/null || wanted+=(nghttp2-client)
# To load pages: Chromium without what draws windows, 100 MB.
command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || wanted+=(chromium-headless-shell)
# Between its client and its servers.
command -v tinyproxy >/dev/null || wanted+=(tinyproxy)
command -v microsocks >/dev/null || wanted+=(microsocks)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || wanted+=(postgresql)
command -v redis-server >/dev/null || wanted+=(redis-server)
command -v nats-server >/dev/null || [ -x /usr/sbin/nats-server ] || wanted+=(nats-server)
# To read the profiles that goby writes.
command -v go >/dev/null || wanted+=(golang-go)
if [ "${#wanted[@]}" -gt 0 ]; then
    [ "$(id -u)" -eq 0 ] || missing "not root, so install by hand: apt-get install ${wanted[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "${wanted[@]}"
fi

rustc --version
rustc +nightly --version
nginx -v 2>&1 || /usr/sbin/nginx -v 2>&1
