//! System calls that an older kernel, a sandbox, valgrind or qemu refuses: goby has a fallback for
//! each. Here seccomp refuses them, in child processes.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use goby_runtime::{BiasedLock, blocking, fences_work, go, now, sleep_until, yield_now};

use crate::stacks::{check_overflow, overflow};
use crate::support::{Door, in_child, pause, runtime, stderr};

/// What is refused: a system call, or only its calls with this third argument; and the answer,
/// where 0 means "done" though nothing is done.
struct Refused {
    call: libc::c_long,
    third: Option<u32>,
    errno: i32,
}

const fn refused(call: libc::c_long, errno: i32) -> Refused {
    Refused { call, third: None, errno }
}

/// `MADV_GUARD_INSTALL`.
const GUARD_INSTALL: u32 = 102;

const fn refused_guards(errno: i32) -> Refused {
    Refused { call: libc::SYS_madvise, third: Some(GUARD_INSTALL), errno }
}

/// Refuses some system calls of this process from now on, in all of its threads.
fn refuse(all: &[Refused]) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const SKIP_UNLESS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// The offsets in `seccomp_data` of the number, and of the lower half of the third argument.
    const NUMBER: u32 = 0;
    const THIRD: u32 = 16 + 2 * 8;
    let op = |code, k, jf| libc::sock_filter { code, jt: 0, jf, k };
    let mut program = Vec::new();
    for Refused { call, third, errno } in all {
        let answer = op(ANSWER, libc::SECCOMP_RET_ERRNO | *errno as u32, 0);
        program.push(op(LOAD, NUMBER, 0));
        match third {
            None => program.extend([op(SKIP_UNLESS, *call as u32, 1), answer]),
            Some(third) => program.extend([
                op(SKIP_UNLESS, *call as u32, 3),
                op(LOAD, THIRD, 0),
                op(SKIP_UNLESS, *third, 1),
                answer,
            ]),
        }
    }
    program.push(op(ANSWER, libc::SECCOMP_RET_ALLOW, 0));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter is a valid program, and the kernel copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
        assert_eq!(libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter), 0);
    }
}

/// Runs `body` in a child process where these are refused, and checks that it succeeds.
fn check(test: &str, all: &[Refused], body: impl FnOnce()) {
    let output = in_child(test, || {
        refuse(all);
        body();
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    assert_eq!(stderr(&output), "");
}

/// What a runtime does: it sleeps, is woken by threads and sockets, and runs many goroutines.
fn use_everything() {
    for workers in [1, 2, 4] {
        runtime(workers).run(|| {
            sleep_of_every_length();
            let door = Arc::new(Door::new());
            let all: Vec<_> = (0..1000)
                .map(|i| {
                    let door = door.clone();
                    go(move || {
                        door.pass();
                        i
                    })
                })
                .collect();
            pause(Duration::from_millis(1));
            let opens = door.clone();
            let opener = thread::spawn(move || opens.open());
            assert_eq!(all.into_iter().map(|handle| handle.join().unwrap()).sum::<i32>(), 499_500);
            opener.join().unwrap();
            assert_eq!(blocking(|| 7), 7);
            count_under_a_lock();
        });
    }
}

fn sleep_of_every_length() {
    for micros in [1, 60, 400, 999, 1000, 1001, 1700, 20_000] {
        let until = now() + Duration::from_micros(micros);
        sleep_until(until);
        assert!(now() >= until);
    }
    // A wait that another wake-up ends leaves its timer behind, which must not delay the next wait.
    let sleeper = go(|| pause(Duration::from_millis(30)));
    for _ in 0..20 {
        pause(Duration::from_micros(300));
        blocking(|| ());
    }
    sleeper.join().unwrap();
}

/// A lock that may be biased to a worker, and that threads and other workers want, too.
fn count_under_a_lock() {
    const ROUNDS: usize = 2000;
    let count = Arc::new(BiasedLock::new(0));
    let add = |count: Arc<BiasedLock<usize>>, pause: fn()| {
        move || {
            for _ in 0..ROUNDS {
                *count.lock() += 1;
                pause();
            }
        }
    };
    let goroutines = [(); 4].map(|()| go(add(count.clone(), yield_now)));
    let thread = thread::spawn(add(count.clone(), thread::yield_now));
    goroutines.into_iter().for_each(|handle| handle.join().unwrap());
    thread.join().unwrap();
    assert_eq!(*count.lock(), 5 * ROUNDS);
}

#[test]
fn without_epoll_pwait2_workers_sleep_all_the_same() {
    let test = "refused::without_epoll_pwait2_workers_sleep_all_the_same";
    check(test, &[refused(libc::SYS_epoll_pwait2, libc::ENOSYS)], use_everything);
}

/// A sandbox may answer like this instead.
#[test]
fn without_permission_for_epoll_pwait2_workers_sleep_all_the_same() {
    let test = "refused::without_permission_for_epoll_pwait2_workers_sleep_all_the_same";
    check(test, &[refused(libc::SYS_epoll_pwait2, libc::EPERM)], use_everything);
}

/// Timers then end whole milliseconds late, and no earlier.
#[test]
fn without_timerfd_either_sleeps_are_rounded_up() {
    let test = "refused::without_timerfd_either_sleeps_are_rounded_up";
    let all = [refused(libc::SYS_epoll_pwait2, libc::ENOSYS), refused(libc::SYS_timerfd_create, libc::EPERM)];
    check(test, &all, use_everything);
}

#[test]
fn without_epoll_pwait2_a_short_sleep_is_short() {
    let test = "refused::without_epoll_pwait2_a_short_sleep_is_short";
    check(test, &[refused(libc::SYS_epoll_pwait2, libc::ENOSYS)], || {
        runtime(1).run(|| {
            let shortest = (0..300).map(|_| {
                let start = now();
                sleep_until(start + Duration::from_micros(300));
                start.elapsed()
            });
            let shortest = shortest.min().unwrap();
            assert!(shortest < Duration::from_micros(900), "{shortest:?}");
        });
    });
}

#[test]
fn without_guard_install_stacks_have_guards_all_the_same() {
    check_guards("refused::without_guard_install_stacks_have_guards_all_the_same", libc::EINVAL);
}

#[test]
fn without_permission_for_guard_install_stacks_have_guards_all_the_same() {
    check_guards("refused::without_permission_for_guard_install_stacks_have_guards_all_the_same", libc::EPERM);
}

/// As qemu's user mode does.
#[test]
fn where_guard_install_does_nothing_stacks_have_guards_all_the_same() {
    check_guards("refused::where_guard_install_does_nothing_stacks_have_guards_all_the_same", 0);
}

fn check_guards(test: &str, errno: i32) {
    let output = in_child(test, || {
        refuse(&[refused_guards(errno)]);
        use_everything();
        runtime(1).run(overflow::<100>);
    });
    check_overflow(&output, 192);
}

/// A program may enter a sandbox when it has started.
#[test]
fn what_is_refused_later_has_a_fallback_too() {
    let output = in_child("refused::what_is_refused_later_has_a_fallback_too", || {
        runtime(2).run(|| {
            let all = || [(); 100].map(|()| go(|| pause(Duration::from_micros(1500))));
            all().into_iter().for_each(|handle| handle.join().unwrap());
            refuse(&[refused(libc::SYS_epoll_pwait2, libc::ENOSYS), refused_guards(libc::EPERM)]);
            use_everything();
            let few = all();
            // More goroutines than there were stacks for.
            let more = [(); 500].map(|()| go(|| pause(Duration::from_micros(1500))));
            few.into_iter().chain(more).for_each(|handle| handle.join().unwrap());
            overflow::<100>();
        });
    });
    check_overflow(&output, 192);
}

#[test]
fn without_membarrier_locks_and_fences_work() {
    let test = "refused::without_membarrier_locks_and_fences_work";
    check(test, &[refused(libc::SYS_membarrier, libc::ENOSYS)], || {
        use_everything();
        assert!(!fences_work());
    });
}

#[test]
fn without_any_of_them() {
    let all = [
        refused(libc::SYS_epoll_pwait2, libc::ENOSYS),
        refused_guards(libc::EINVAL),
        refused(libc::SYS_membarrier, libc::EPERM),
    ];
    check("refused::without_any_of_them", &all, use_everything);
}
