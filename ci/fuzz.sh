#!/usr/bin/env bash
# goby-http's server and client under libFuzzer: no input makes them panic, hang, leave a goroutine behind, or read a
# message otherwise than a second, strict reading does (crates/goby-http/tests/fuzz). Not in .ci/run's list, for the time
# its build takes: `.ci/run fuzz` runs it. The tests of goby-http go through the same corpus in any case.
#
#     ci/fuzz.sh                            both targets, 20 seconds each, from the corpus
#     ci/fuzz.sh server SECONDS [FOLDER]    one of them (server, client); what it finds stays in FOLDER
set -euo pipefail
. ci/lib.sh

dir=$(target_dir fuzz)
RUSTC_WRAPPER="$PWD/ci/fuzz/rustc.sh" \
    cargo build --release --locked --manifest-path ci/fuzz/Cargo.toml --target-dir "$dir"

# fuzz TARGET SECONDS FOLDER
fuzz() {
    local target=$1 seconds=$2 folder=$3
    mkdir -p "$folder"
    "$dir/release/$target" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=2048 -max_len=4096 \
        -dict=ci/fuzz/http.dict -print_final_stats=1 -artifact_prefix="$folder/" \
        "$folder" "crates/goby-http/tests/fuzz/corpus/$target"
}

if [ $# -gt 0 ]; then
    fuzz "$1" "$2" "${3:-$dir/found-$1}"
    exit
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for target in server client; do
    fuzz "$target" 20 "$folder/$target" 2>&1 | tee "$folder/log"
    ran=$(sed -nE 's/^stat::number_of_executed_units: +([0-9]+)$/\1/p' "$folder/log")
    if [ "${ran:-0}" -lt 500 ]; then
        echo "$target: ${ran:-0} inputs were tried" >&2
        exit 1
    fi
done
