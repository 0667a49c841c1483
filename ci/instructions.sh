#!/usr/bin/env bash
# Instructions per operation on the hot paths, counted by callgrind, against the bounds in ci/instructions/bounds.txt.
#
# Times on shared machines drift; counts do not. Each path runs alone on one worker, twice, with two numbers of
# operations; the difference is what the operations cost, without start-up and end. Only the busiest thread counts, which
# is the worker: what the monitor does depends on the clock.
#
#     ci/instructions.sh            compares
#     ci/instructions.sh update     writes the bounds anew: what is counted now and 15 % on top
#     ci/instructions.sh measure [NAME...]   prints counts only
set -euo pipefail
shopt -s inherit_errexit
. ci/lib.sh

few=10000
many=40000
slack=15
bounds=ci/instructions/bounds.txt
mode=${1:-compare}
[ $# -eq 0 ] || shift

command -v valgrind >/dev/null || {
    echo "ci/instructions.sh: valgrind is not here: apt-get install valgrind" >&2
    exit 1
}

dir=$(target_dir instructions)
cargo build --release --locked --manifest-path ci/instructions/Cargo.toml --target-dir "$dir"
program="$dir/release/goby-instructions"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# count NAME N: the instructions of the busiest thread.
count() {
    if ! timeout 120 valgrind -q --tool=callgrind --separate-threads=yes --callgrind-out-file="$out/callgrind" \
        "$program" "$1" "$2" >"$out/log" 2>&1; then
        echo "ci/instructions.sh: $1 $2 failed under valgrind:" >&2
        tail -n 20 "$out/log" >&2
        exit 1
    fi
    sed -nE 's/^totals: ([0-9]+)$/\1/p' "$out"/callgrind-* | sort -n | tail -n 1
    rm -f "$out"/callgrind*
}

# per_operation NAME
per_operation() {
    local a b
    a=$(count "$1" $few)
    b=$(count "$1" $many)
    awk -v a="$a" -v b="$b" -v n=$((many - few)) 'BEGIN { printf "%.1f\n", (b - a) / n }'
}

case $mode in
measure)
    [ $# -gt 0 ] || mapfile -t names < <("$program" list)
    for name in "${names[@]:-$@}"; do
        printf '%-20s %8s\n' "$name" "$(per_operation "$name")"
    done
    ;;
update)
    {
        echo "# Instructions per operation, at most: what ci/instructions.sh counted (in brackets) and $slack % on top."
        for name in $("$program" list); do
            n=$(per_operation "$name")
            awk -v name="$name" -v n="$n" -v slack=$slack \
                'BEGIN { printf "%-20s %6d  (%s)\n", name, int(n * (1 + slack / 100) + 0.999), n }'
        done
    } >"$out/bounds"
    cp "$out/bounds" $bounds
    cat $bounds
    ;;
compare)
    wrong=0
    ran=0
    for name in $("$program" list); do
        bound=$(awk -v name="$name" '$1 == name { print $2 }' $bounds)
        if [ -z "$bound" ]; then
            echo "$name has no bound in $bounds: ci/instructions.sh update" >&2
            exit 1
        fi
        n=$(per_operation "$name")
        ran=$((ran + 1))
        verdict=ok
        if awk -v n="$n" -v bound="$bound" 'BEGIN { exit !(n > bound) }'; then
            verdict="TOO MANY"
            wrong=$((wrong + 1))
        fi
        printf '%-20s %8s of at most %6d instructions  %s\n' "$name" "$n" "$bound" "$verdict"
    done
    echo "$ran hot paths, $wrong over their bound"
    if [ "$wrong" -gt 0 ]; then
        echo "Find out where they went (valgrind --tool=callgrind $program NAME N; callgrind_annotate), or, if it is" \
            "worth it, say so in the commit and run ci/instructions.sh update." >&2
        exit 1
    fi
    [ "$ran" -ge 10 ]
    ;;
*)
    echo "ci/instructions.sh: no such mode: $mode" >&2
    exit 2
    ;;
esac
