#!/usr/bin/env bash
# The tests of the runtime, of channels and of select on aarch64, under qemu's user mode. Not in
# .ci/run's list, for the time it takes: `.ci/run aarch64` runs it.
#
# qemu shows what does not compile, link, switch stacks or catch an overflow there. It does not show
# what a weaker memory model allows: on x86-64 it orders memory as that does. Orderings are what the
# stage `loom` is for.
set -euo pipefail
. ci/lib.sh

target=aarch64-unknown-linux-gnu
root=/usr/aarch64-linux-gnu

# Not under qemu, each for its reason; everything else is. Names of tests are libtest's: a part of
# one is enough.
skip_runtime=(
    # qemu has a thread of its own, which the process's list of threads shows: so no deadlock is
    # ever certain.
    deadlock
    thread_waits::
    # The filters refuse system calls by the emulated processor's numbers; the kernel sees qemu's.
    refused::
    # Count memory, address space or threads, of which qemu has its own. It keeps tables of all that
    # is reserved: a stack of 1 GiB has it killed for want of memory.
    dropped::
    stacks::a_dropped_runtime_gives_its_memory_back
    stacks::an_idle_program_gives_the_memory_of_ended_futures_back
    stacks::goby_stack_sets_the_size_of_stacks
    stacks::little_address_space_is_not_the_end
    stacks::stacks_are_trimmed_after_deep_calls
    stacks::stacks_with_guards_by_mprotect_are_trimmed
    stacks::too_little_address_space_is_a_fatal_error_that_says_so
    stacks::waiting_for_who_gets_no_stack_is_fatal
    # Fails in one run of six: at the beginning goroutines are three turns apart, and the test
    # allows two.
    goroutines::yielding_goroutines_take_turns
    # Fails in one run of three: the innermost function is missing from the stack of a goroutine that
    # is interrupted.
    inspect::a_worker_that_does_not_answer
)

# Debian's packages, and the target's std by rustup.
wanted=()
command -v qemu-aarch64 >/dev/null || wanted+=(qemu-user)
command -v aarch64-linux-gnu-gcc >/dev/null || wanted+=(gcc-aarch64-linux-gnu)
[ -e "$root/lib/libc.so.6" ] || wanted+=(libc6-dev-arm64-cross)
if [ "${#wanted[@]}" -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "ci/aarch64.sh: not root, so install by hand: apt-get install ${wanted[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "${wanted[@]}"
fi
[ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] || rustup target add "$target"

dir=$(target_dir aarch64)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L $root"
# Emulated, it takes seconds to read all that a debugger is told, where tests look for names.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only
# Tests that start themselves again do so under it, too.
export GOBY_TEST_RUNNER=$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER

# it AT_LEAST PACKAGE [TEST OPTIONS]: a package's unit and integration tests.
it() {
    local at_least=$1 package=$2
    shift 2
    run_tests "$at_least" cargo test --target $target --target-dir "$dir" --locked -p "$package" \
        --lib --test it -- "$@"
}

it 200 goby-runtime "${skip_runtime[@]/#/--skip=}"
it 100 goby chan:: chan_async:: select::
