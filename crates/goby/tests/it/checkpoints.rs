//! Loops of calls that need not wait: on one worker, a neighbor that sleeps runs besides each of
//! them, and the partner of a loop that polls runs soon.

use std::future::pending;
use std::io::{Read, Write};
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use goby::chan::{self, Receiver, Select, Sender};
use goby::group::Group;
use goby::net::{TcpListener, TcpStream, look_up, look_up_ctx};
use goby::rate::{Keyed, Limit, Limiter, Sometimes};
use goby::singleflight;
use goby::sync::{
    Barrier, Cond, Latch, Mutex, Once, OnceCell, RwLock, RwLockUpgradableReadGuard, Semaphore, WaitGroup, once_func,
    once_value,
};
use goby::time::{self, Ticker, Timer};
use goby::{Context, block_on, block_on_ctx, go, goroutine, pattern, scope, select, spawn, try_go};

use crate::support::{PATIENCE, on_workers, with_workers};

const SLEEP: Duration = Duration::from_millis(50);
const HOUR: Duration = Duration::from_secs(3600);

/// Repeats `call` on one worker where a goroutine sleeps, until that goroutine has gone on.
#[track_caller]
fn repeat<R>(name: &str, mut call: impl FnMut() -> R) {
    let woken = Arc::new(AtomicBool::new(false));
    let neighbor = go({
        let woken = woken.clone();
        move || {
            time::sleep(SLEEP);
            woken.store(true, Ordering::Relaxed);
        }
    });
    // It sleeps by then.
    time::sleep(Duration::from_millis(1));
    let start = Instant::now();
    while !woken.load(Ordering::Relaxed) {
        assert!(start.elapsed() < PATIENCE, "a loop of {name} keeps its worker");
        drop(call());
    }
    neighbor.join().unwrap();
}

/// A context that is done.
fn done() -> Context {
    let (done, guard) = Context::background().with_cancel();
    drop(guard);
    done
}

fn past() -> Instant {
    Instant::now()
}

#[test]
fn loops_of_channel_calls_let_sleepers_run() {
    on_workers(1, 0, || {
        let (tx, rx) = chan::bounded::<u8>(0);
        let (closed_tx, closed_rx) = chan::bounded::<u8>(1);
        closed_tx.close();
        let (endless, drain) = chan::unbounded();
        let never = chan::never::<u8>();
        let done = done();
        repeat("send", || endless.send(1).unwrap());
        repeat("send and recv", || {
            endless.send(1).unwrap();
            assert_eq!(drain.recv(), Ok(1));
        });
        repeat("send on a closed channel", || closed_tx.send(1).unwrap_err());
        repeat("recv on a closed channel", || closed_rx.recv().unwrap_err());
        repeat("try_send", || tx.try_send(1).unwrap_err());
        repeat("try_send that succeeds", || endless.try_send(1).unwrap());
        repeat("try_send on a closed channel", || closed_tx.try_send(1).unwrap_err());
        repeat("Sender::never().try_send", || Sender::never().try_send(1).unwrap_err());
        repeat("try_recv", || rx.try_recv().unwrap_err());
        repeat("try_recv that succeeds", || drain.try_recv());
        repeat("try_recv on a closed channel", || closed_rx.try_recv().unwrap_err());
        repeat("never().try_recv", || never.try_recv().unwrap_err());
        repeat("try_iter", || assert_eq!(rx.try_iter().count(), 0));
        repeat("iter of a closed channel", || assert_eq!(closed_rx.iter().count(), 0));
        repeat("send_timeout", || tx.send_timeout(1, Duration::ZERO).unwrap_err());
        repeat("send_deadline", || tx.send_deadline(1, past()).unwrap_err());
        repeat("recv_timeout", || rx.recv_timeout(Duration::ZERO).unwrap_err());
        repeat("recv_deadline", || rx.recv_deadline(past()).unwrap_err());
        repeat("never().recv_timeout", || never.recv_timeout(Duration::ZERO).unwrap_err());
        repeat("send_ctx", || tx.send_ctx(&done, 1).unwrap_err());
        repeat("recv_ctx", || rx.recv_ctx(&done).unwrap_err());
        repeat("never().recv_ctx", || never.recv_ctx(&done).unwrap_err());
        repeat("recv of a done channel", || done.done().recv().unwrap_err());
        repeat("Sender::is_closed", || assert!(!tx.is_closed()));
        repeat("Receiver::is_closed", || assert!(!rx.is_closed()));
        repeat("Sender::len", || assert_eq!(tx.len(), 0));
        repeat("Receiver::len", || assert_eq!(rx.len(), 0));
        repeat("is_empty", || assert!(rx.is_empty()));
        repeat("is_full", || assert!(tx.is_full()));
        repeat("close", || assert!(!closed_tx.close()));
    });
}

#[test]
fn loops_of_selects_let_sleepers_run() {
    on_workers(1, 0, || {
        let (tx, rx) = chan::bounded::<u8>(0);
        let (full, drain) = chan::bounded(1);
        let done = done();
        repeat("select with a default", || {
            select! { recv(rx) -> _ => {}, send(tx, 1) -> _ => {}, default => {} }
        });
        repeat("select of a channel that is never", || {
            select! { recv(chan::never::<u8>()) -> _ => {}, default => {} }
        });
        repeat("select without a case but a default", || select! { default => {} });
        repeat("select that succeeds", || {
            select! { recv(done.done()) -> _ => {}, recv(rx) -> _ => {} }
        });
        repeat("select that times out", || {
            select! { recv(rx) -> _ => {}, default(Duration::ZERO) => {} }
        });
        repeat("select that fills and drains", || {
            select! { send(full, 1) -> _ => {}, recv(drain) -> _ => {}, default => {} }
        });
        repeat("try_select", || {
            let mut select = Select::new();
            select.recv(&rx);
            assert!(select.try_select().is_none());
        });
        repeat("try_ready", || {
            let mut select = Select::new();
            select.recv(&rx);
            assert!(select.try_ready().is_none());
        });
        repeat("ready that need not wait", || {
            let mut select = Select::new();
            select.recv(done.done());
            select.ready();
        });
        repeat("select_timeout", || {
            let mut select = Select::new();
            select.recv(&rx);
            assert!(select.select_timeout(Duration::ZERO).is_none());
        });
        repeat("select_deadline", || {
            let mut select = Select::new();
            select.recv(&rx);
            assert!(select.select_deadline(past()).is_none());
        });
        repeat("Select::select", || {
            let mut select = Select::new();
            select.recv(done.done());
            let mut selected = select.select();
            selected.recv(done.done()).unwrap_err();
        });
    });
}

#[test]
fn loops_of_context_calls_let_sleepers_run() {
    on_workers(1, 0, || {
        let (alive, guard) = Context::background().with_cancel();
        let (_, cause_guard) = Context::background().with_cancel_cause();
        let done = done();
        let cause = || -> goby::context::Cause { Arc::new(std::fmt::Error) };
        repeat("err", || assert!(alive.err().is_none()));
        repeat("err of one that is done", || assert!(done.err().is_some()));
        repeat("err of the background", || assert!(Context::background().err().is_none()));
        repeat("cause", || assert!(alive.cause().is_none()));
        repeat("with_cancel", || alive.with_cancel());
        repeat("with_cancel of one that is done", || done.with_cancel());
        repeat("with_cancel_cause", || alive.with_cancel_cause());
        repeat("with_timeout", || alive.with_timeout(HOUR));
        repeat("with_timeout_cause", || alive.with_timeout_cause(HOUR, cause()));
        repeat("with_deadline", || alive.with_deadline(past()));
        repeat("with_deadline_cause", || alive.with_deadline_cause(past(), cause()));
        repeat("Context::after_func and stop", || assert!(alive.after_func(|| ()).stop()));
        repeat("CancelCauseGuard::cancel", || cause_guard.cancel(cause()));
        repeat("CancelGuard::cancel", || guard.cancel());
        repeat("block_on_ctx", || block_on_ctx(&done, pending::<()>()).unwrap_err());
    });
}

#[test]
fn loops_of_lock_calls_let_sleepers_run() {
    on_workers(1, 0, || {
        let done = done();
        let (free, held) = (Mutex::new(0), Mutex::new(0));
        let _held = held.lock();
        repeat("lock", || *free.lock() += 1);
        repeat("try_lock", || assert!(held.try_lock().is_none()));
        repeat("try_lock that succeeds", || assert!(free.try_lock().is_some()));
        repeat("lock_ctx", || free.lock_ctx(&done).unwrap_err());
        repeat("lock_timeout", || assert!(held.lock_timeout(Duration::ZERO).is_none()));
        repeat("lock_deadline", || assert!(held.lock_deadline(past()).is_none()));
        let (free, held) = (RwLock::new(0), RwLock::new(0));
        let _held = held.write();
        repeat("read", || assert_eq!(*free.read(), 0));
        repeat("write", || *free.write() = 0);
        repeat("try_read", || assert!(held.try_read().is_none()));
        repeat("try_read that succeeds", || assert!(free.try_read().is_some()));
        repeat("try_write", || assert!(held.try_write().is_none()));
        repeat("try_write that succeeds", || assert!(free.try_write().is_some()));
        repeat("read_ctx", || free.read_ctx(&done).unwrap_err());
        repeat("write_ctx", || free.write_ctx(&done).unwrap_err());
        repeat("upgradable_read", || assert_eq!(*free.upgradable_read(), 0));
        repeat("try_upgradable_read", || assert!(held.try_upgradable_read().is_none()));
        repeat("upgradable_read_ctx", || free.upgradable_read_ctx(&done).unwrap_err());
        let (arc, arc_lock) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
        repeat("lock_arc", || *arc.lock_arc() += 1);
        repeat("lock_arc_ctx", || arc.lock_arc_ctx(&done).unwrap_err());
        repeat("read_arc", || assert_eq!(*arc_lock.read_arc(), 0));
        repeat("write_arc", || *arc_lock.write_arc() = 0);
        let _held = (arc.lock_arc(), arc_lock.write_arc());
        repeat("try_lock_arc", || assert!(arc.try_lock_arc().is_none()));
        repeat("try_read_arc", || assert!(arc_lock.try_read_arc().is_none()));
        repeat("try_write_arc", || assert!(arc_lock.try_write_arc().is_none()));
        let _reader = free.read();
        let mut guard = free.try_upgradable_read();
        repeat("try_upgrade", || guard = RwLockUpgradableReadGuard::try_upgrade(guard.take().unwrap()).err());
        repeat("upgrade_ctx", || {
            guard = RwLockUpgradableReadGuard::upgrade_ctx(guard.take().unwrap(), &done).err().map(|(guard, _)| guard);
        });
        let (mutex, cond) = (Mutex::new(0), Cond::new());
        repeat("signal", || cond.signal());
        repeat("notify_one", || cond.notify_one());
        repeat("broadcast", || cond.broadcast());
        repeat("notify_all", || cond.notify_all());
        repeat("wait_timeout", || assert!(cond.wait_timeout(mutex.lock(), Duration::ZERO).1.timed_out()));
        repeat("wait_deadline", || assert!(cond.wait_deadline(mutex.lock(), past()).1.timed_out()));
        repeat("Cond::wait_ctx", || cond.wait_ctx(mutex.lock(), &done).1.unwrap_err());
        repeat("wait_while", || cond.wait_while(mutex.lock(), |_| false));
        repeat("wait_while_ctx", || cond.wait_while_ctx(mutex.lock(), &done, |_| true).1.unwrap_err());
    });
}

#[test]
fn loops_of_other_sync_calls_let_sleepers_run() {
    on_workers(1, 0, || {
        let done = done();
        let semaphore = Semaphore::new(1);
        repeat("acquire", || semaphore.acquire(&Context::background(), 1).unwrap());
        repeat("acquire with a context that is done", || semaphore.acquire(&done, 1).unwrap_err());
        repeat("take", || semaphore.take(1));
        repeat("try_acquire", || assert!(semaphore.try_acquire(2).is_none()));
        repeat("try_acquire and release", || {
            semaphore.try_acquire(1).unwrap().forget();
            semaphore.release(1);
        });
        repeat("available", || assert_eq!(semaphore.available(), 1));
        let (lone, pair) = (Barrier::new(1), Barrier::new(2));
        repeat("Barrier::wait", || assert!(lone.wait().is_leader()));
        repeat("Barrier::wait_ctx", || pair.wait_ctx(&done).unwrap_err());
        let (shut, open) = (Latch::new(), Latch::new());
        repeat("Latch::open", || open.open());
        repeat("Latch::wait", || open.wait());
        repeat("Latch::wait_ctx", || shut.wait_ctx(&done).unwrap_err());
        repeat("Latch::wait_timeout", || assert!(!shut.wait_timeout(Duration::ZERO)));
        repeat("is_open", || assert!(!shut.is_open()));
        let wg = WaitGroup::new();
        repeat("WaitGroup::wait", || wg.wait());
        repeat("WaitGroup::add and done", || {
            wg.add(1);
            wg.done();
        });
        wg.add(1);
        repeat("WaitGroup::wait_ctx", || wg.wait_ctx(&done).unwrap_err());
        let tasks = WaitGroup::new();
        repeat("WaitGroup::go", || tasks.go(|| ()));
        tasks.wait();
        let (empty, once) = (Once::new(), Once::new());
        repeat("is_completed", || assert!(!empty.is_completed()));
        repeat("call_once_ctx with one that is done", || empty.call_once_ctx(&done, || ()).unwrap_err());
        repeat("call_once", || once.call_once(|| ()));
        repeat("call_once_ctx", || once.call_once_ctx(&done, || ()).unwrap());
        let (empty, cell) = (OnceCell::<u8>::new(), OnceCell::from(1));
        repeat("Once::wait", || once.wait());
        repeat("OnceCell::wait", || assert_eq!(*cell.wait(), 1));
        repeat("OnceCell::wait_ctx", || empty.wait_ctx(&done).unwrap_err());
        repeat("OnceCell::get", || assert!(empty.get().is_none()));
        repeat("get_or_init", || assert_eq!(*cell.get_or_init(|| 2), 1));
        repeat("get_or_try_init", || empty.get_or_try_init(|| Err::<u8, _>(())).unwrap_err());
        repeat("get_or_init_ctx", || assert_eq!(cell.get_or_init_ctx(&done, || 2), Ok(&1)));
        repeat("OnceCell::set", || assert_eq!(cell.set(2), Err(2)));
        let (func, value) = (once_func(|| ()), once_value(|| 1));
        repeat("once_func", func);
        repeat("once_value", || assert_eq!(value(), 1));
    });
}

#[test]
fn loops_of_time_calls_let_sleepers_run() {
    on_workers(1, 0, || {
        let done = done();
        repeat("sleep", || time::sleep(Duration::ZERO));
        repeat("sleep_until", || time::sleep_until(past()));
        repeat("sleep_ctx", || time::sleep_ctx(&done, HOUR).unwrap_err());
        repeat("after", || time::after(HOUR));
        repeat("at", || time::at(past()));
        repeat("tick", || time::tick(HOUR));
        repeat("tick of zero", || time::tick(Duration::ZERO));
        repeat("Timer::new and stop", || assert!(Timer::new(HOUR).stop()));
        let (timer, ticker, func) = (Timer::new(HOUR), Ticker::new(HOUR), time::after_func(HOUR, || ()));
        repeat("Timer::reset", || timer.reset(HOUR));
        repeat("Timer::stop", || timer.stop());
        repeat("Timer's try_recv", || timer.receiver().try_recv().unwrap_err());
        repeat("Timer::reset, with a receiver", || timer.reset(HOUR));
        repeat("Timer::stop, with a receiver", || timer.stop());
        repeat("Ticker::new", || Ticker::new(HOUR));
        repeat("Ticker::reset", || ticker.reset(HOUR));
        repeat("Ticker::stop", || ticker.stop());
        repeat("time::after_func", || time::after_func(HOUR, || ()).stop());
        repeat("after_func_once", || time::after_func_once(HOUR, || ()).stop());
        repeat("time::AfterFunc::reset", || func.reset(HOUR));
        repeat("time::AfterFunc::stop", || func.stop());
    });
}

#[test]
fn loops_of_socket_calls_let_sleepers_run() {
    on_workers(1, 0, || {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let done = done();
        let mut late = TcpStream::connect(addr).unwrap();
        late.set_deadline(Some(past()));
        repeat("read past the deadline", || late.read(&mut [0]).unwrap_err());
        repeat("write past the deadline", || late.write(&[0]).unwrap_err());
        repeat("peek past the deadline", || late.peek(&mut [0]).unwrap_err());
        let mut stopped = TcpStream::connect(addr).unwrap();
        stopped.set_context(Some(&done));
        repeat("read with a context that is done", || stopped.read(&mut [0]).unwrap_err());
        repeat("write with a context that is done", || stopped.write(&[0]).unwrap_err());
        repeat("peek with a context that is done", || stopped.peek(&mut [0]).unwrap_err());
        // A read that has emptied the socket: the next one waits first, and its deadline is past.
        let mut drained = TcpStream::connect(addr).unwrap();
        for _ in 0..2 {
            listener.accept().unwrap();
        }
        let mut peer = listener.accept().unwrap().0;
        peer.write_all(&[1]).unwrap();
        assert_eq!(drained.read(&mut [0; 8]).unwrap(), 1);
        drained.set_read_deadline(Some(past()));
        repeat("read of an empty socket past the deadline", || drained.read(&mut [0; 8]).unwrap_err());
        drained.set_read_deadline(None);
        drop(peer);
        repeat("read at the end", || assert_eq!(drained.read(&mut [0; 8]).unwrap_or(0), 0));
        let ended = TcpStream::from_std(std::net::TcpStream::connect(addr).unwrap()).unwrap();
        drop(listener.accept().unwrap());
        repeat("copy of nothing", || assert_eq!(goby::io::copy(&ended, &ended).unwrap_or(0), 0));
        repeat("connect_ctx", || TcpStream::connect_ctx(&done, addr).unwrap_err());
        repeat("connect to no address", || TcpStream::connect("nothing").unwrap_err());
        repeat("look_up", || look_up("127.0.0.1:80").unwrap());
        repeat("look_up of no address", || look_up("nothing").unwrap_err());
        repeat("look_up_ctx", || look_up_ctx(&done, "127.0.0.1:80").unwrap_err());
        repeat("bind", || TcpListener::bind("127.0.0.1:0").unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_deadline(Some(past()));
        repeat("accept past the deadline", || listener.accept().unwrap_err());
        listener.set_deadline(None);
        listener.set_context(Some(&done));
        repeat("incoming with a context that is done", || listener.incoming().next().unwrap().unwrap_err());
    });
}

#[test]
fn loops_of_limiter_calls_let_sleepers_run() {
    on_workers(1, 0, || {
        let done = done();
        let (limiter, free) = (Limiter::new(Limit::every(HOUR), 1), Limiter::new(Limit::INF, 1));
        let keyed = Keyed::new(Limit::every(HOUR), 1);
        let sometimes = Sometimes::new().first(1);
        assert!(limiter.allow());
        repeat("allow", || assert!(!limiter.allow()));
        repeat("allow that succeeds", || assert!(free.allow()));
        repeat("allow_n", || assert!(!limiter.allow_n(past(), 1)));
        repeat("reserve", || free.reserve().cancel());
        repeat("reserve_n", || free.reserve_n(past(), 1).cancel());
        repeat("reserve_within", || assert!(!limiter.reserve_within(past(), 1, Duration::ZERO).ok()));
        repeat("Limiter::wait", || limiter.wait(&done).unwrap_err());
        repeat("Limiter::wait that need not", || free.wait(&Context::background()).unwrap());
        repeat("wait_n of too many", || limiter.wait_n(&done, 9).unwrap_err());
        repeat("tokens", || assert!(limiter.tokens() < 1.0));
        repeat("tokens_at", || assert!(limiter.tokens_at(past()) < 1.0));
        repeat("Keyed::allow", || keyed.allow(&1));
        repeat("Keyed::allow_n", || keyed.allow_n(&1, past(), 1));
        repeat("Keyed::get", || keyed.get(&1));
        repeat("Keyed::wait", || keyed.wait(&done, &1).unwrap_err());
        repeat("Keyed::len", || assert_eq!(keyed.len(), 1));
        repeat("Sometimes::run", || sometimes.run(|| ()));
    });
}

#[test]
fn loops_of_calls_that_start_something_let_sleepers_run() {
    on_workers(1, 0, || {
        let done = done();
        let mut handles = Vec::new();
        repeat("go", || go(|| ()));
        repeat("try_go", || try_go(|| ()));
        repeat("Builder::go", || goroutine::Builder::new().name("a").go(|| ()));
        repeat("go, all kept", || handles.push(go(|| ())));
        repeat("join", || {
            if let Some(handle) = handles.pop() {
                handle.join().unwrap();
            } else {
                handles.push(go(|| ()));
            }
        });
        repeat("spawn", || spawn(async {}).detach());
        repeat("spawn and join", || spawn(async {}).join().unwrap());
        repeat("scope", || scope(|_| ()));
        scope(|s| repeat("Scope::go", || s.go(|| ())));
        repeat("block_on", || block_on(async {}));
        let (release, released) = chan::bounded::<()>(0);
        let waits = released.clone();
        let running = go(move || waits.recv());
        let task = spawn(async move { released.recv_async().await });
        repeat("JoinHandle::is_finished", || assert!(!running.is_finished()));
        repeat("Task::is_finished", || assert!(!task.is_finished()));
        repeat("num_goroutines", || assert!(goby::num_goroutines() > 1));
        repeat("checkpoint", goby::checkpoint);
        repeat("yield_now", goby::yield_now);
        drop(release);
        running.join().unwrap().unwrap_err();
        task.join().unwrap().unwrap_err();
        let group = Group::<(), std::io::Error>::new();
        group.set_limit(1);
        repeat("Group::go", || group.go(|| Ok(())));
        repeat("Group::wait", || group.wait());
        let (release, released) = chan::bounded::<()>(0);
        group.go(move || {
            released.recv().unwrap_err();
            Ok(())
        });
        repeat("Group::try_go", || assert!(group.try_go(|| Ok(())).is_err()));
        drop(release);
        group.wait().unwrap();
        let calls = singleflight::Group::new();
        repeat("singleflight's run", || calls.run(1, || 1));
        repeat("singleflight's run_ctx", || calls.run_ctx(&done, 1, || 1).unwrap_err());
        repeat("singleflight's run_chan", || calls.run_chan(1, || 1));
        repeat("forget", || calls.forget(&1));
    });
}

#[test]
fn loops_of_pattern_calls_let_sleepers_run() {
    on_workers(1, 0, || {
        let done = done();
        let input = || -> Receiver<u8> { chan::bounded(0).1 };
        repeat("source", || pattern::source(&done, [1]));
        repeat("worker_pool", || pattern::worker_pool(&done, input(), 1, |n| n));
        repeat("par_map", || pattern::par_map(&done, input(), 1, |n| n));
        repeat("fan_in", || pattern::fan_in(&done, vec![input()]));
        repeat("fan_out", || pattern::fan_out(&done, input(), 1, |n| n));
        repeat("batch", || pattern::batch(&done, input(), 1, HOUR));
        repeat("debounce", || pattern::debounce(&done, input(), HOUR));
        repeat("first", || pattern::first(&done, [|_: &Context| 1]).unwrap_err());
    });
}

/// The partner that a refused send, or a refused receive, waits for is on the same worker, and runs
/// at once, not only when the slice of the goroutine that tries is over. The test counts tries, so
/// that no machine is too slow for it.
#[test]
fn a_loop_of_refused_tries_gives_way_to_its_partner() {
    const ROUNDS: usize = 200;
    with_workers(|| {
        let (requests, requested) = chan::bounded::<()>(0);
        let (answers, answered) = chan::bounded(0);
        let partner = go(move || {
            requested.iter().for_each(|()| answers.send(()).unwrap());
            thread::current().id()
        });
        let (mut rounds, mut tries) = (0, 0);
        while rounds < ROUNDS {
            rounds += answered.try_iter().count();
            tries += 1;
            let _ = requests.try_send(());
        }
        drop(requests);
        // An answer may be on its way.
        answered.iter().for_each(drop);
        // On another worker the partner does not need this goroutine to yield.
        if partner.join().unwrap() == thread::current().id() {
            assert!(tries < 200 * ROUNDS, "{tries} tries for {ROUNDS} round trips");
        }
    });
}

/// The same for a look whether something has happened.
#[test]
fn a_loop_of_looks_gives_way_to_whom_it_waits_for() {
    on_workers(1, 0, || {
        let looks = |look: &dyn Fn() -> bool| (0..).take_while(|_| !look()).count();
        let finished = || {
            let handle = go(|| (0..100).for_each(|_| goby::yield_now()));
            looks(&|| handle.is_finished())
        };
        let filled = || {
            let (tx, rx) = chan::bounded(1);
            go(move || {
                goby::yield_now();
                tx.send(1).unwrap();
            });
            looks(&|| !rx.is_empty())
        };
        let set = || {
            let cell = Arc::new(OnceCell::new());
            let sets = cell.clone();
            go(move || sets.set(1));
            looks(&|| cell.get().is_some())
        };
        let unlocked = || {
            let mutex = Arc::new(Mutex::new(()));
            let (theirs, (tx, rx)) = (mutex.clone(), chan::bounded(0));
            go(move || {
                let _held = theirs.lock();
                tx.send(()).unwrap();
                goby::yield_now();
            });
            rx.recv().unwrap();
            looks(&|| mutex.try_lock().is_some())
        };
        for (name, n) in [("is_finished", finished()), ("is_empty", filled()), ("get", set()), ("try_lock", unlocked())]
        {
            assert!(n < 50_000, "{n} times {name}");
        }
    });
}
