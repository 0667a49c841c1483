//! Which orders the ways to choose take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex};

use goby::go;
use goby_check::sync::atomic::{AtomicU32, Ordering};
use goby_check::{Config, check};

/// Returns how often each order of the steps of two goroutines was taken.
fn orders(config: Config, first: u32, second: u32) -> HashMap<String, u32> {
    let counts: Arc<StdMutex<HashMap<String, u32>>> = Arc::default();
    let sees = counts.clone();
    check(config, move || {
        let order = Arc::new(StdMutex::new(String::new()));
        let turn = Arc::new(AtomicU32::new(0));
        let steps = |name: char, n: u32| {
            let (order, turn) = (order.clone(), turn.clone());
            go(move || {
                for _ in 0..n {
                    turn.fetch_add(1, Ordering::SeqCst);
                    order.lock().unwrap().push(name);
                }
            })
        };
        let both = [steps('a', first), steps('b', second)];
        both.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        let order = order.lock().unwrap().clone();
        *sees.lock().unwrap().entry(order).or_default() += 1;
    });
    let counts = counts.lock().unwrap();
    counts.clone()
}

#[test]
fn all_orders_are_taken() {
    for config in [Config::random(2000), Config::uniform(2000), Config::pos(2000), Config::pct(4, 2000)] {
        let orders = orders(config.clone().seed(1), 2, 2);
        assert_eq!(orders.len(), 6, "{config:?}: {orders:?}");
    }
}

/// One goroutine has one step and its beginning, the other ten. A random walk takes the one step
/// last in a few of a thousand executions, a uniform walk more often than at any other time: most
/// interleavings with the beginning are such.
#[test]
fn a_uniform_walk_is_uniform() {
    let last = "aaaaaaaaaab";
    let uniform = orders(Config::uniform(2200).seed(1), 10, 1);
    assert_eq!(uniform.len(), 11, "{uniform:?}");
    assert!(uniform.values().all(|&n| n >= 10) && uniform[last] > 200, "{uniform:?}");
    let random = orders(Config::random(2200).seed(1), 10, 1);
    assert!(random.get(last).is_none_or(|&n| n < 40), "{random:?}");
}

#[test]
fn steps_and_executions_are_counted() {
    let stats = Config::random(50).seed(1).run(|| go(|| ()).join().unwrap()).unwrap();
    assert_eq!(stats.executions, 50);
    assert!(stats.steps >= 150, "{stats:?}");
}

/// What is left behind by one execution does not go on in the next.
#[test]
fn leaks_may_be_allowed() {
    let stats = Config::random(100).leaks(false).run(|| {
        let (sender, receiver) = goby::chan::bounded::<u32>(0);
        let kept = sender.clone();
        go(move || {
            let got = receiver.recv();
            drop(kept);
            got
        });
        std::mem::forget(sender);
    });
    assert_eq!(stats.unwrap().executions, 100);
}
