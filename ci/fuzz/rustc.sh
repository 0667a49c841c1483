#!/usr/bin/env bash
# rustc for the fuzz targets (RUSTC_WRAPPER): lets libFuzzer follow the crates that see the bytes. Only those: the
# scheduler's paths depend on time, and would fill the corpus with inputs that say nothing.
set -euo pipefail
flags=()
if [[ " $* " =~ " --crate-name "(goby_http|h2|http|httparse|hyper)" " ]]; then
    flags=(-Cpasses=sancov-module -Ccodegen-units=1)
    for flag in level=4 inline-8bit-counters pc-table trace-compares; do
        flags+=("-Cllvm-args=-sanitizer-coverage-$flag")
    done
fi
exec "$@" "${flags[@]}"
