#!/usr/bin/env bash
# ThreadSanitizer over the runtime's, the channels' and select's tests, and over programs that race on purpose.
#
# Goroutine switches are made known to it by goby-runtime (src/tsan.rs). Three things are this script's:
# - goby-switch, which holds the switch itself, is built without instrumentation: instrumented code enters and leaves
#   functions in pairs, a switch does not;
# - std is not instrumented (the nightly toolchain has no sources of it) and is linked all the same
#   (-Cunsafe-allow-abi-mismatch); the last drop of an `Arc` is told to TSan at link time (tsan/arc_fence.c), and what
#   else std does inside is suppressed, line by line, in tsan.supp;
# - --target, without which build scripts and proc macros would be built under TSan too.
#
#     ci/tsan.sh            all of it
#     ci/tsan.sh programs   only the racy and the clean programs
#     ci/tsan.sh tests      only the tests
set -euo pipefail
. ci/lib.sh

part=${1:-all}
target=x86_64-unknown-linux-gnu
dir=$(target_dir tsan)

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "ci/tsan.sh: ThreadSanitizer needs a nightly toolchain: rustup toolchain install nightly" >&2
    exit 1
fi

cc -O1 -c ci/tsan/arc_fence.c -o "$dir/arc_fence.o"
wrap=""
for name in atomic64_fetch_sub atomic64_load atomic64_compare_exchange_val atomic_thread_fence; do
    wrap+=",--wrap=__tsan_$name"
done

off='["-Cllvm-args=-tsan-instrument-func-entry-exit=0 -tsan-instrument-memory-accesses=0 -tsan-instrument-atomics=0 -tsan-instrument-memintrinsics=0"]'
export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer -Clink-arg=$dir/arc_fence.o -Clink-arg=-Wl$wrap"
# No backtraces: std's code for them is not instrumented either.
export RUST_BACKTRACE=0
# history_size: long enough to show the first access's stack. Workers and helpers outlive `main`, which is no leak.
export RUST_BACKTRACE=0
export TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp exitcode=66 history_size=7 die_after_fork=0 report_thread_leaks=0 atexit_sleep_ms=0 ${TSAN_OPTIONS:-}"
cargo_tsan() {
    local command=$1
    shift
    cargo +nightly "$command" --locked --target "$target" --target-dir "$dir" -Zprofile-rustflags \
        --config "profile.dev.package.goby-switch.rustflags=$off" "$@"
}

programs() {
    cargo_tsan build --manifest-path ci/tsan/Cargo.toml
    local program="$dir/$target/debug/goby-tsan-programs" name workers status out ran=0 wrong=0
    out=$(mktemp)
    for workers in 1 2; do
        for name in $("$program" list racy); do
            status=0
            timeout 60 "$program" "$name" "$workers" >"$out" 2>&1 || status=$?
            ran=$((ran + 1))
            # Reported as a race, in this program's own functions.
            if [ "$status" -ne 66 ] || ! grep -q 'WARNING: ThreadSanitizer: data race' "$out" || ! grep -q 'racy::' "$out"; then
                echo "NOT REPORTED: $name on $workers (exit status $status)"
                tail -n 20 "$out" | cut -c1-160
                wrong=$((wrong + 1))
            fi
        done
        for name in $("$program" list clean); do
            status=0
            timeout 60 "$program" "$name" "$workers" >"$out" 2>&1 || status=$?
            ran=$((ran + 1))
            if [ "$status" -ne 0 ] || grep -q 'WARNING: ThreadSanitizer' "$out"; then
                echo "FALSE REPORT: $name on $workers (exit status $status)"
                head -n 40 "$out" | cut -c1-160
                wrong=$((wrong + 1))
            fi
        done
    done
    rm -f "$out"
    echo "$ran runs of programs, $wrong wrong"
    [ "$ran" -ge 60 ] && [ "$wrong" -eq 0 ]
}

# One test at a time: libtest's own threads meet in std's locks.
it() {
    local at_least=$1 package=$2
    shift 2
    run_tests "$at_least" cargo_tsan test -p "$package" --test it -- --no-capture --test-threads=1 "$@"
}

tests() {
    run_tests 4 cargo_tsan test -p goby-runtime --lib -- --no-capture --test-threads=1
    # Not under TSan: what counts the memory and overflows the stacks (TSan needs more of both), a test that makes
    # 512 threads meet in a lock of std's, and what interrupts threads (TSan keeps signals back).
    it 100 goby-runtime --skip stacks:: --skip pinning:: --skip blocking::there_are_as_many_helpers_as_calls \
        --skip stalls:: --skip inspect::a_deep_goroutine --skip inspect::a_worker_that_does_not_answer
    # Goroutines that share thread-locals of their worker, in turn: races between threads only.
    GOBY_TSAN=threads it 4 goby-runtime pinning::
    it 100 goby chan select sync pattern rate
}

case $part in
all)
    programs
    tests
    ;;
programs) programs ;;
tests) tests ;;
*)
    echo "ci/tsan.sh: no such part: $part" >&2
    exit 2
    ;;
esac
