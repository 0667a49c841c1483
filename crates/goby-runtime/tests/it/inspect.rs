//! Looking at goroutines: which ones there are, in which state, and where they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goby_runtime::{
    GoBuilder, GoroutineInfo, InheritedLocal, Local, Runtime, Status, WaitReason, go, goroutines, labels, name, now,
    with_labels,
};

use crate::support::{Door, pause, runtime, wait_until};

/// The goroutines other than the one that asks.
fn others() -> Vec<GoroutineInfo> {
    goroutines().into_iter().filter(|info| info.status() != Status::Running).collect()
}

fn function_names(info: &GoroutineInfo) -> Vec<String> {
    info.stack().expect("its stack").frames().into_iter().map(|frame| frame.function).collect()
}

#[inline(never)]
fn waits_at_the_door(door: &Door) {
    door.pass();
}

/// Parked goroutines on every worker, with reason, stack and start. A goroutine and a thread ask
/// for them.
#[test]
fn parked_goroutines_show_where_they_are() {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        let door = Arc::new(Door::new());
        let n = 50;
        let start_line = line!() + 2;
        for door in vec![door.clone(); n] {
            runtime.go(move || waits_at_the_door(&door));
        }
        wait_until("all to park", || runtime.goroutines().iter().filter(|i| i.waited().is_some()).count() == n);
        let check = |infos: &[GoroutineInfo]| {
            // A worker may have started another goroutine to drop an answer that came too late.
            let infos: Vec<_> = infos.iter().filter(|info| info.started_at().file() == file!()).collect();
            assert_eq!(infos.len(), n, "{workers} workers");
            for info in infos {
                assert_eq!(info.status(), Status::Waiting(WaitReason::CondWait));
                assert_eq!((info.started_at().file(), info.started_at().line()), (file!(), start_line));
                let names = function_names(info);
                assert!(names.iter().any(|name| name.ends_with("waits_at_the_door")), "{names:?}");
                // No frames of goby's parking, or of what runs the closure.
                assert!(names.len() <= 3, "{names:?}");
                assert!(!info.has_deadline() && !info.is_reached_by_context());
            }
        };
        check(&runtime.goroutines());
        runtime.run(|| check(&others()));
        door.open();
        wait_until("all to end", || runtime.num_goroutines() == 0);
        assert!(runtime.goroutines().is_empty());
    }
}

#[test]
fn a_goroutine_is_shown_in_a_line() {
    let runtime = runtime(1);
    let door = Arc::new(Door::new());
    runtime.run(|| {
        let [plain, named] = [door.clone(), door.clone()];
        let plain = go(move || plain.pass());
        let named = GoBuilder::new().name("a \"name\"").label("key", "value").go(move || named.pass());
        wait_until("both to park", || others().iter().filter(|info| info.waited().is_some()).count() == 2);
        let infos = others();
        assert_eq!(infos[0].started_at().file(), file!());
        let (id, at) = (plain.id(), infos[0].started_at());
        assert_eq!(infos[0].to_string(), format!("goroutine {id} [sync.Cond.Wait], started at {at}"));
        let (id, at) = (named.id(), infos[1].started_at());
        assert_eq!(infos[1].to_string(), format!(r#"goroutine {id} "a \"name\"" [sync.Cond.Wait], started at {at}"#));
        door.open();
        [plain, named].into_iter().for_each(|handle| handle.join().unwrap());
    });
}

/// The goroutine itself captures its stack. Its wait must go on as if nothing had happened, again
/// and again.
#[test]
fn looking_does_not_disturb_the_waits() {
    let runtime = runtime(2);
    let (tx, rx) = std::sync::mpsc::channel();
    let doors: Vec<_> = (0..100).map(|_| Arc::new(Door::new())).collect();
    for (i, door) in doors.iter().cloned().enumerate() {
        let tx = tx.clone();
        runtime.go(move || {
            let on_the_stack = [i; 16];
            door.pass();
            tx.send(on_the_stack.iter().sum::<usize>() / 16).unwrap();
        });
    }
    let looker = runtime.go(|| (0..50).map(|_| goroutines().len()).max());
    for door in &doors {
        runtime.goroutines();
        door.open();
    }
    drop(tx);
    let mut seen: Vec<usize> = rx.iter().collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    assert!(looker.join().unwrap() >= Some(1));
}

#[test]
fn unstarted_runnable_and_sleeping_ones_are_told_apart() {
    runtime(1).run(|| {
        go(|| pause(Duration::from_secs(3600)));
        wait_until("it to sleep", || others().iter().any(GoroutineInfo::has_deadline));
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stops, begins) = (stop.clone(), begun.clone());
        let yields = go(move || {
            begins.store(true, Ordering::Relaxed);
            while !stops.load(Ordering::Relaxed) {
                goby_runtime::yield_now();
            }
        });
        let statuses = || others().iter().map(GoroutineInfo::status).collect::<Vec<_>>();
        // By their ids.
        assert_eq!(statuses(), [Status::Waiting(WaitReason::Sleep), Status::Unstarted]);
        wait_until("the other to begin", || begun.load(Ordering::Relaxed));
        assert_eq!(statuses(), [Status::Waiting(WaitReason::Sleep), Status::Runnable]);
        stop.store(true, Ordering::Relaxed);
        yields.join().unwrap();
    });
}

/// The clock that each park notes: a wait is seen to last as long as it does, also if it began
/// after an idle time.
#[test]
fn since_when_they_wait() {
    let runtime = runtime(1);
    // The monitor falls asleep, and its clock stops.
    std::thread::sleep(Duration::from_millis(200));
    let begin = now();
    let door = Arc::new(Door::new());
    let waits = door.clone();
    runtime.go(move || waits.pass());
    wait_until("it to park", || door.has_waiters());
    let parked = now();
    std::thread::sleep(Duration::from_millis(50));
    let asked = now();
    let waited = runtime.goroutines()[0].waited().unwrap();
    let (least, most) = (asked - parked, now() - begin);
    let tick = Duration::from_millis(1);
    assert!(waited + tick >= least && waited <= most + tick, "{waited:?} is not between {least:?} and {most:?}");
    door.open();
}

/// A worker does not come back: the goroutine that it runs is shown with its stack, which a signal
/// takes.
#[test]
fn a_worker_that_does_not_answer_shows_what_it_runs() {
    #[inline(never)]
    fn computes(begun: &AtomicBool, stop: &AtomicBool) {
        begun.store(true, Ordering::Relaxed);
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    }
    let runtime = runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let (stops, begun) = (stop.clone(), Arc::new(AtomicBool::new(false)));
    let begins = begun.clone();
    let handle = runtime.go(move || {
        computes(&begins, &stops);
    });
    wait_until("it to run", || begun.load(Ordering::Relaxed));
    let infos = runtime.goroutines();
    let dump = goby_runtime::dump();
    stop.store(true, Ordering::Relaxed);
    assert_eq!(infos.len(), 1);
    assert_eq!((infos[0].id(), infos[0].status()), (handle.id(), Status::Running));
    let names = function_names(&infos[0]);
    assert!(names.iter().any(|name| name.ends_with("computes")), "{names:?}");
    assert!(!dump.silent_workers().is_empty());
    assert!(dump.to_string().contains("is not responding"));
    handle.join().unwrap();
}

/// A goroutine that has little of its stack left shows no stack, instead of overflowing it.
#[test]
fn a_deep_goroutine_is_not_overflown() {
    #[inline(never)]
    fn fill(door: &Door, bottom: usize) {
        let room = [0u8; 256];
        let here = std::hint::black_box(&room).as_ptr().addr();
        if bottom - here < 57 * 1024 {
            fill(door, bottom)
        } else {
            door.pass()
        }
        std::hint::black_box(&room);
    }
    let runtime = Runtime::builder().workers(1).stack_size(64 * 1024).build().unwrap();
    let door = Arc::new(Door::new());
    let waits = door.clone();
    runtime.go(move || {
        let bottom = 0u8;
        fill(&waits, (&raw const bottom).addr());
    });
    wait_until("it to park", || door.has_waiters());
    assert!(runtime.goroutines()[0].stack().is_none());
    door.open();
    wait_until("it to end", || runtime.num_goroutines() == 0);
}

#[test]
fn names_and_labels() {
    runtime(2).run(|| {
        let door = Arc::new(Door::new());
        let waits = door.clone();
        let parent = GoBuilder::new().name("parent").label("job", "7").label("job", "8").go(move || {
            let waits_too = waits.clone();
            let child = with_labels([("part", "a")], || {
                go(move || {
                    waits_too.pass();
                    (name(), labels())
                })
            });
            waits.pass();
            (name(), labels(), child.join().unwrap())
        });
        wait_until("both to park", || others().iter().filter(|info| info.waited().is_some()).count() == 2);
        let seen: Vec<_> = others()
            .iter()
            .map(|info| (info.name().map(str::to_owned), info.labels().map(|(k, v)| format!("{k}={v}")).collect()))
            .collect();
        let parts = |text: &[&str]| text.iter().map(|part| part.to_string()).collect::<Vec<_>>();
        assert_eq!(seen, [(Some("parent".into()), parts(&["job=8"])), (None, parts(&["job=8", "part=a"]))]);
        door.open();
        let (name, labels, (child_name, child_labels)) = parent.join().unwrap();
        assert_eq!((name.as_deref(), labels.len()), (Some("parent"), 1));
        assert_eq!((child_name, child_labels.len()), (None, 2));
    });
}

#[test]
fn locals_are_each_goroutines_own_and_dropped_at_its_end() {
    struct Noisy(std::rc::Rc<std::cell::Cell<u32>>, Option<std::sync::mpsc::Sender<u32>>);
    impl Drop for Noisy {
        fn drop(&mut self) {
            goby_runtime::yield_now();
            if let Some(tx) = &self.1 {
                tx.send(self.0.get()).unwrap();
            }
        }
    }
    static LOCAL: Local<std::cell::RefCell<Noisy>> =
        Local::new(|| std::cell::RefCell::new(Noisy(Default::default(), None)));
    runtime(2).run(|| {
        let (tx, rx) = std::sync::mpsc::channel();
        let handles: Vec<_> = (0..20)
            .map(|i| {
                let tx = tx.clone();
                go(move || {
                    LOCAL.with(|local| local.borrow_mut().1 = Some(tx));
                    for _ in 0..i {
                        LOCAL.with(|local| local.borrow().0.set(local.borrow().0.get() + 1));
                        goby_runtime::yield_now();
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        // Dropped before the join returned.
        let mut seen: Vec<u32> = rx.try_iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn inherited_locals_are_copied_at_the_start() {
    static DEPTH: InheritedLocal<u32> = InheritedLocal::new();
    static OTHER: InheritedLocal<String> = InheritedLocal::new();
    fn descend(n: u32) {
        assert_eq!(DEPTH.get(), Some(n));
        DEPTH.set(n + 1);
        if n < 10 {
            let child = go(move || descend(n + 1));
            DEPTH.set(100);
            child.join().unwrap();
            assert_eq!(DEPTH.get(), Some(100));
        }
    }
    runtime(2).run(|| {
        OTHER.set("kept".into());
        with_labels([("a", "b")], || DEPTH.set(0));
        go(|| descend(0)).join().unwrap();
        assert_eq!((DEPTH.get(), OTHER.get().as_deref()), (Some(0), Some("kept")));
        DEPTH.clear();
        assert_eq!(go(|| DEPTH.get()).join().unwrap(), None);
    });
    assert_eq!(OTHER.get(), None);
}

/// A worker takes a goroutine out of the queue of injected ones just after it has answered. Other
/// goroutines begin and end meanwhile, so counting does not show that one is missing.
#[test]
fn a_goroutine_that_is_just_begun_is_not_missed() {
    let runtime = runtime(2);
    for round in 0..1000 {
        let enough = Arc::new(AtomicBool::new(false));
        let stops = enough.clone();
        let churns = runtime.go(move || {
            while !stops.load(Ordering::Relaxed) {
                go(|| ()).join().unwrap();
            }
        });
        let seen = runtime.goroutines();
        enough.store(true, Ordering::Relaxed);
        assert!(seen.iter().any(|info| info.id() == churns.id()), "round {round}: {seen:?}");
        churns.join().unwrap();
    }
}
