#!/usr/bin/env bash
# goby under ThreadSanitizer, by `goby race`: programs that race on purpose and correct ones, then goby's own tests.
#
#     ci/tsan.sh            all of it but for the stress programs
#     ci/tsan.sh programs   only the racy and the clean programs
#     ci/tsan.sh tests      only the tests of goby-runtime and goby
#     ci/tsan.sh users      only those of what is built on goby: goby-http, goby-cli, the examples, and all doc tests
#     ci/tsan.sh stress     goby's stress programs
#     ci/tsan.sh PART       one of what `all` runs side by side: see the end
set -euo pipefail
. ci/lib.sh

part=${1:-all}
cargo build --locked -p goby-cli
goby="$(target_dir debug)/goby"

# Not under TSan, each for its reason; everything else is. Names of tests are libtest's: a part of one is enough.
skip_runtime=(
    # Counts memory and overflows stacks, of which TSan needs more and which it guards by itself.
    stacks::
    # Has 20,000 goroutines, each a thread to TSan.
    census::of_very_many_goroutines
    # Goroutines that share thread-locals of their worker in turn: run apart, with GOBY_TSAN=threads.
    pinning::
    # So do these, in an initializer.
    thread_locals::no_slice_ends_inside_an_initializer
    # 512 threads that meet in a lock of std's, which is not followed.
    blocking::there_are_as_many_helpers_as_calls
    # There is no bias: TSan knows nothing of membarrier.
    biased::
    gate::a_gate_entered_again_by_who_is_inside_aborts
    # Interrupt threads, and TSan keeps signals back.
    stalls::
    inspect::a_deep_goroutine
    inspect::a_worker_that_does_not_answer
    census::what_does_not_wait_is_counted_too
    errands::a_goroutine_local_in_an_answer_that_came_late
    # Memory that is given back or used again when a runtime is dropped: under TSan it is not.
    dropped::
)

skip_goby=(
    # What tracing-subscriber keeps of a thread, goroutines use in turn: run apart, as `pinning`.
    tracing::
    # The stage part `stress`.
    stress::
    # Time limits of tests, in child processes under the harness: tested in the stage `test`.
    macros::
    # Counts tries within microseconds, of which each takes longer here.
    checkpoints::a_loop_of_
)

skip_cli=(
    # Tested in the stage `test`, with TSan inside.
    race::
    # Counts memory.
    streams::a_long_input_takes_bounded_memory
)

skip_examples=(
    # Takes all descriptors, and a symbolizer needs two: a report without names is not suppressed.
    servers_outlive_a_lack_of_descriptors
)

# race_run PROGRAM ARGS...: one of the programs of ci/tsan, built in our own target directory.
race_run() {
    CARGO_TARGET_DIR=$(target_dir .) timeout 300 "$goby" race run --locked --quiet --manifest-path ci/tsan/Cargo.toml -- "$@"
}

programs() {
    local name workers status out ran=0 wrong=0 racy clean
    racy=$(race_run list racy)
    clean=$(race_run list clean)
    out=$(mktemp)
    for workers in 1 2; do
        for name in $racy; do
            # A race that one schedule hides, on a busy machine say, another one shows.
            for _ in 1 2 3; do
                status=0
                race_run "$name" "$workers" >"$out" 2>&1 || status=$?
                [ "$status" -eq 0 ] || break
            done
            ran=$((ran + 1))
            # Reported as a race, in this program's own functions.
            if [ "$status" -ne 66 ] || ! grep -q 'WARNING: ThreadSanitizer: data race' "$out" || ! grep -q 'racy::' "$out"; then
                echo "NOT REPORTED: $name on $workers (exit status $status)"
                tail -n 20 "$out" | cut -c1-160
                wrong=$((wrong + 1))
            fi
        done
        for name in $clean; do
            status=0
            race_run "$name" "$workers" >"$out" 2>&1 || status=$?
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

# The dependencies of each package have the features that the whole workspace asks for: so they are built once, not for each
# package. A setting of nightly cargo's.
race_test() {
    CARGO_UNSTABLE_FEATURE_UNIFICATION=true CARGO_RESOLVER_FEATURE_UNIFICATION=workspace "$goby" race test --locked "$@"
}

# it AT_LEAST PACKAGE [TEST OPTIONS]: a package's unit and integration tests.
it() {
    local at_least=$1 package=$2
    shift 2
    run_tests "$at_least" race_test -p "$package" --tests -- "$@"
}

# Builds all tests, then runs these parts side by side: the tests of each run one by one.
side_by_side() {
    local part commands=()
    race_test --workspace --tests --no-run
    for part in "$@"; do
        commands+=("$0" "$part" ';')
    done
    ci/side_by_side.py "${commands[@]}"
}

tests=(goby runtime diag conformance pinning tracing)
users=(http cli examples doc doc-threads)

case $part in
all) side_by_side "${tests[@]}" "${users[@]}" programs ;;
tests) side_by_side "${tests[@]}" ;;
users) side_by_side "${users[@]}" ;;
programs) programs ;;
# Not of every run of CI, for the time they take. Tokio's locks are std's: that part needs std's source.
stress) it 60 goby stress:: ;;
tokio) it 20 goby-tokio ;;
runtime) it 100 goby-runtime "${skip_runtime[@]/#/--skip=}" ;;
pinning) GOBY_TSAN=threads run_tests 4 race_test -p goby-runtime --test it -- pinning:: ;;
# One makes its subscribers at the same time, under a lock of std's in tracing-core, which is not followed; one takes minutes.
tracing)
    GOBY_TSAN=threads run_tests 25 race_test -p goby --test it -- tracing:: --skip each_goroutine_has_its_own_default --skip ten_thousand_
    GOBY_TSAN=threads run_tests 1 race_test -p goby-http --test it -- access_log::
    ;;
# The three parts are all else of goby's tests: what the others name, the third skips.
conformance) it 150 goby "${skip_goby[@]/#/--skip=}" conformance:: ;;
diag) it 40 goby "${skip_goby[@]/#/--skip=}" --skip=conformance:: diag:: ;;
goby) it 150 goby "${skip_goby[@]/#/--skip=}" --skip=conformance:: --skip=diag:: ;;
http) it 90 goby-http --skip=access_log:: ;;
# Everything is slow here, and the tests compare what is printed.
cli) GOBY_STALLS=off it 100 goby-cli "${skip_cli[@]/#/--skip=}" ;;
examples) it 10 goby-examples "${skip_examples[@]/#/--skip=}" ;;
# Two show thread-locals that goroutines of a worker share in turn, one of them tracing's: as `pinning` above.
# The page of `try_run` waits for a deadlock to be seen, which TSan's own thread prevents. Tokio's locks are std's.
doc) run_tests 350 race_test --workspace --exclude goby-tokio --exclude goby-check --doc -- --skip src/sync.rs --skip guide::production --skip try_run.rs ;;
doc-threads) GOBY_TSAN=threads run_tests 1 race_test -p goby --doc -- src/sync.rs guide::production ;;
*)
    echo "ci/tsan.sh: no such part: $part" >&2
    exit 2
    ;;
esac
