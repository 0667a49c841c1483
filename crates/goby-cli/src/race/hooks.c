/* The last drop of an Arc, told to ThreadSanitizer.
 *
 * std's Arc ends with `fetch_sub(1, Release)` and, in whoever was last, `fence(Acquire)`. TSan does not follow fences, so
 * each last drop of an Arc would be reported as a race of the destructor with the other owners' last uses. Suppressing
 * those reports would hide real races in destructors; instead the linker sends the calls through here (--wrap, see
 * hooks.rs): the address of the last atomic access is kept, and the fence acquires it. The load and the
 * compare-exchange are those of `Arc::{get_mut, make_mut, try_unwrap}`, which end with the same fence.
 *
 * A fence that has nothing to do with the access before it orders a little more than it should: it may hide a race,
 * it cannot invent one. */

#include <stdint.h>

typedef volatile uint64_t word;

static __thread void *last;

extern void __tsan_acquire(void *address);
extern uint64_t __real___tsan_atomic64_fetch_sub(word *a, uint64_t v, int order);
extern uint64_t __real___tsan_atomic64_load(const word *a, int order);
extern uint64_t __real___tsan_atomic64_compare_exchange_val(word *a, uint64_t old, uint64_t v, int order, int fail_order);
extern void __real___tsan_atomic_thread_fence(int order);

uint64_t __wrap___tsan_atomic64_fetch_sub(word *a, uint64_t v, int order) {
    last = (void *)a;
    return __real___tsan_atomic64_fetch_sub(a, v, order);
}

uint64_t __wrap___tsan_atomic64_load(const word *a, int order) {
    last = (void *)a;
    return __real___tsan_atomic64_load(a, order);
}

uint64_t __wrap___tsan_atomic64_compare_exchange_val(word *a, uint64_t old, uint64_t v, int order, int fail_order) {
    last = (void *)a;
    return __real___tsan_atomic64_compare_exchange_val(a, old, v, order, fail_order);
}

void __wrap___tsan_atomic_thread_fence(int order) {
    __real___tsan_atomic_thread_fence(order);
    if (last)
        __tsan_acquire(last);
    last = 0;
}
