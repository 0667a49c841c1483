# Sourced by the stages that run tests.

# run_tests AT_LEAST COMMAND...: runs `cargo test` (or what prints like it) and fails when it fails, or when fewer than
# AT_LEAST tests passed: a filter that matches nothing is not a success.
run_tests() {
    local at_least=$1 log status=0 passed
    shift
    log=$(mktemp)
    echo "+ $*"
    "$@" 2>&1 | tee "$log" || status=$?
    passed=$(sed -nE 's/^test result: .* ([0-9]+) passed;.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
    rm -f "$log"
    echo "$passed tests passed"
    [ "$status" -eq 0 ] || return "$status"
    if [ "$passed" -lt "$at_least" ]; then
        echo "expected at least $at_least tests, $passed ran" >&2
        return 1
    fi
}

# Where the builds go that must not share their artefacts with the plain ones; absolute.
target_dir() {
    local dir="${CARGO_TARGET_DIR:-target}/$1"
    mkdir -p "$dir"
    (cd "$dir" && pwd)
}
