//! Goroutines, counted; what workers have to do, as data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goby_runtime::{
    Census, CensusFilter, CensusGroup, Status, WaitReason, census, go, loads, now, sleep_until, with_labels, yield_now,
};

use crate::support::{Door, leaky_runtime, on_workers, runtime, wait_until};

const HERE: &str = file!();

/// The goroutines that this file has started, but for the one that asks.
fn ours(filter: CensusFilter) -> Census {
    filter.started_at(HERE).count()
}

fn n_waiting(census: &Census) -> u64 {
    let waits = |group: &&CensusGroup| matches!(group.status, Status::Waiting(_));
    census.groups().iter().filter(waits).map(|group| group.n).sum()
}

#[inline(never)]
fn waits_here(door: &Door) {
    door.pass();
}

#[inline(never)]
fn waits_there(door: &Door) {
    // Equal functions would become one.
    std::hint::black_box("there");
    door.pass();
}

#[test]
fn goroutines_are_counted_by_start_and_status_with_the_places_where_they_wait() {
    for workers in [1, 2, 4] {
        let runtime = leaky_runtime(workers);
        let door = Arc::new(Door::new());
        let line = line!() + 3;
        for i in 0..100 {
            let door = door.clone();
            runtime.go(move || if i % 4 == 0 { waits_there(&door) } else { waits_here(&door) });
        }
        let at = format!("{HERE}:{line}:");
        let look = || CensusFilter::new().started_at(&at).stacks(100).count();
        wait_until("all to park", || n_waiting(&look()) == 100);
        let census = look();
        let [group] = census.groups() else { panic!("{census:?}") };
        assert_eq!((group.started_at.line(), group.status), (line, Status::Waiting(WaitReason::CondWait)));
        assert_eq!((census.n(), group.n, group.n_stacks(), group.waits.iter().sum::<u64>()), (100, 100, 100, 100));
        let mut places = Vec::new();
        for (stack, n) in group.estimate() {
            let name = stack.frames().into_iter().map(|frame| frame.function).find(|name| name.contains("waits_"));
            places.push((name.unwrap().rsplit("::").next().unwrap().to_owned(), n.round() as u64));
        }
        assert_eq!(places, [("waits_here".to_owned(), 75), ("waits_there".to_owned(), 25)]);
        let [example, ..] = &group.examples[..] else { panic!("{group:?}") };
        assert_eq!((example.started_at().line(), example.status()), (line, group.status));
        door.open();
        wait_until("all to end", || look().n() == 0);
    }
}

/// Far more goroutines than stacks: those that began late are seen, too.
#[test]
fn of_very_many_goroutines_some_have_their_stacks_taken() {
    let runtime = leaky_runtime(2);
    let door = Arc::new(Door::new());
    let n = 20_000;
    for _ in 0..n {
        let door = door.clone();
        runtime.go(move || waits_here(&door));
    }
    let look = || CensusFilter::new().started_at(HERE).stacks(10).count();
    wait_until("all to park", || look().groups().iter().any(|group| group.n >= n && group.longest > Duration::ZERO));
    let census = look();
    let group = census.groups().iter().max_by_key(|group| group.n).unwrap();
    assert!((20..1000).contains(&group.n_stacks()), "{}", group.n_stacks());
    assert!((group.estimate().map(|(_, n)| n).sum::<f64>() - group.n as f64).abs() < 1.0);
    assert!(
        group.examples.iter().any(|info| info.waited() >= Some(Duration::from_millis(1))),
        "the one that waits longest"
    );
    assert_eq!(CensusFilter::new().stacks(0).count().groups()[0].n_stacks(), 0);
    door.open();
}

#[test]
fn a_filter_counts_some() {
    on_workers(2, || {
        let door = Arc::new(Door::new());
        let handles: Vec<_> = [("7", 3), ("8", 5)]
            .into_iter()
            .flat_map(|(job, n)| {
                let doors = vec![door.clone(); n];
                with_labels([("job", job)], || {
                    doors.into_iter().map(|door| go(move || door.pass())).collect::<Vec<_>>()
                })
            })
            .collect();
        wait_until("all to park", || n_waiting(&ours(CensusFilter::new())) >= 8);
        assert_eq!(ours(CensusFilter::new().label("job", "7")).n(), 3);
        assert_eq!(ours(CensusFilter::new().label("job", "9")).n(), 0);
        assert_eq!(ours(CensusFilter::new().label("job", "8").status("Cond")).n(), 5);
        assert_eq!(ours(CensusFilter::new().label("job", "8").status("chan")).n(), 0);
        assert_eq!(ours(CensusFilter::new().label("job", "8").waited(Duration::from_secs(3600))).n(), 0);
        assert_eq!(CensusFilter::new().label("job", "8").started_at("nowhere.rs").count().n(), 0);
        let census = census();
        let labels: Vec<_> = census.labels().filter(|(key, ..)| *key == "job").collect();
        assert_eq!(labels, [("job", "8", 5), ("job", "7", 3)]);
        door.open();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
}

#[test]
fn what_does_not_wait_is_counted_too() {
    let runtime = runtime(1);
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (stops, begins) = (stop.clone(), begun.clone());
    let line = line!() + 1;
    let spinner = runtime.go(move || {
        begins.store(true, Ordering::Release);
        while !stops.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
    });
    wait_until("it to run", || begun.load(Ordering::Acquire));
    let waits = runtime.go(|| ());
    let census = CensusFilter::new().started_at(format!("{HERE}:{line}:")).count();
    // A worker that does not answer shows what it runs, where signals may look.
    assert!(!census.silent_workers().is_empty());
    if let Some(group) = census.groups().first() {
        assert_eq!((group.status, group.n, group.n_stacks()), (Status::Running, 1, 1));
    }
    stop.store(true, Ordering::Release);
    spinner.join().unwrap();
    waits.join().unwrap();

    runtime.run(|| {
        let line = line!() + 1;
        let handles: Vec<_> = (0..3).map(|_| go(|| ())).collect();
        let census = CensusFilter::new().started_at(format!("{HERE}:{line}:")).count();
        assert!(census.groups().iter().all(|group| group.status == Status::Unstarted));
        assert_eq!(census.n(), 3);
        handles.into_iter().for_each(|handle| handle.join().unwrap());

        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let line = line!() + 1;
        let yields = go(move || {
            while !stops.load(Ordering::Relaxed) {
                yield_now();
            }
        });
        let look = || CensusFilter::new().started_at(format!("{HERE}:{line}:")).status("runnable").count();
        wait_until("it to be seen as runnable", || look().n() == 1);
        stop.store(true, Ordering::Relaxed);
        yields.join().unwrap();
    });
}

#[test]
fn a_sleep_has_a_deadline_and_a_timer() {
    on_workers(1, || {
        let end = now() + Duration::from_millis(300);
        let sleeper = go(move || sleep_until(end));
        let sleeping = || ours(CensusFilter::new().status("sleep"));
        wait_until("it to sleep", || sleeping().n() == 1 || now() > end);
        let census = sleeping();
        if now() < end {
            assert_eq!(census.groups()[0].with_deadline, 1);
            assert!(census.timers() >= 1);
        }
        sleeper.join().unwrap();
    });
}

#[test]
fn the_load_of_a_runtime_counts_what_it_has_to_do() {
    let runtime = goby_runtime::Runtime::builder().workers(2).thread_name("loaded").build().unwrap();
    let load = || loads().into_iter().find(|load| load.name == "loaded");
    let door = Arc::new(Door::new());
    let handles: Vec<_> = vec![door.clone(); 10].into_iter().map(|door| runtime.go(move || door.pass())).collect();
    wait_until("all to begin", || load().unwrap().workers.iter().map(|worker| worker.begun).sum::<u64>() == 10);
    let now = load().unwrap();
    assert_eq!((now.n_configured, now.workers.len(), now.goroutines, now.created), (2, 2, 10, 10));
    assert_eq!(now.workers.iter().map(|worker| worker.goroutines).sum::<usize>(), 10);
    wait_until("the workers to sleep", || load().unwrap().workers.iter().all(|worker| worker.sleeps));
    door.open();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    wait_until("the ends to be counted", || load().unwrap().goroutines == 0);
    let done = load().unwrap();
    assert!(done.workers.iter().all(|worker| worker.ran > Some(Duration::ZERO)), "{done:?}");
    assert_eq!(done.workers.iter().map(|worker| worker.ended).sum::<u64>(), 10);
    drop(runtime);
    assert!(load().is_none());
}
