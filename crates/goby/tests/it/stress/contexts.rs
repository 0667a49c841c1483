//! S27: trees of contexts, canceled at the root, inside, from all sides at once, and one by one.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goby::context::{CancelCauseGuard, CancelGuard, Cause, ContextError};
use goby::{Context, chan, go, yield_now};
use rustix::time::{ClockId, clock_gettime};

use crate::support::{debug_or_release, size, wait_until, with_workers};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Why(usize);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cause {}", self.0)
    }
}

impl Error for Why {}

/// A tree, level by level: the children of `n` are `arity * n + 1` to `arity * n + arity`.
struct Tree {
    arity: usize,
    contexts: Vec<Context>,
    guards: Vec<CancelCauseGuard>,
}

impl Tree {
    fn new(arity: usize, n_nodes: usize) -> Tree {
        let (root, guard) = Context::background().with_cancel_cause();
        let mut tree = Tree { arity, contexts: vec![root], guards: vec![guard] };
        for child in 1..n_nodes {
            let (ctx, guard) = tree.contexts[(child - 1) / arity].with_cancel_cause();
            tree.contexts.push(ctx);
            tree.guards.push(guard);
        }
        tree
    }

    /// Whether `node` is `ancestor` or below it.
    fn is_below(&self, mut node: usize, ancestor: usize) -> bool {
        while node > ancestor {
            node = (node - 1) / self.arity;
        }
        node == ancestor
    }
}

#[track_caller]
fn assert_done(ctx: &Context, cause: &Cause) {
    assert_eq!(ctx.err(), Some(ContextError::Canceled));
    assert!(ctx.done().is_closed());
    assert!(Arc::ptr_eq(&ctx.cause().unwrap(), cause), "{:?}", ctx.cause());
}

#[track_caller]
fn assert_open(ctx: &Context) {
    assert_eq!(ctx.err(), None);
    assert!(!ctx.done().is_closed());
}

#[test]
fn s27a_all_of_a_tree_at_once() {
    with_workers(|| {
        for _ in 0..size(10, 1000) {
            let Tree { contexts, guards, .. } = Tree::new(4, 101);
            let cancelers: Vec<_> = guards
                .into_iter()
                .enumerate()
                .map(|(node, guard)| go(move || guard.cancel(Arc::new(Why(node)))))
                .collect();
            cancelers.into_iter().for_each(|canceler| canceler.join().unwrap());
            for (node, ctx) in contexts.iter().enumerate() {
                assert_eq!(ctx.err(), Some(ContextError::Canceled));
                // Its own cause, or the cause of a context above it.
                let Why(by) = *ctx.cause().unwrap().downcast_ref::<Why>().unwrap();
                let mut ancestor = node;
                while ancestor > by {
                    ancestor = (ancestor - 1) / 4;
                }
                assert_eq!(ancestor, by, "node {node} was canceled by {by}");
            }
        }
    });
}

#[test]
fn s27b_the_root_ends_all() {
    with_workers(|| {
        for (arity, n_nodes) in [(4, 5461), (10, 11_111)] {
            let tree = Tree::new(arity, n_nodes);
            // One context in ten has a waiter.
            let waiters: Vec<_> = tree
                .contexts
                .iter()
                .step_by(10)
                .map(|ctx| {
                    let ctx = ctx.clone();
                    go(move || ctx.done().recv().is_err())
                })
                .collect();
            yield_now();
            let cause: Cause = Arc::new(Why(0));
            tree.guards[0].cancel(cause.clone());
            // Right after the return, not some time later.
            tree.contexts.iter().for_each(|ctx| assert_done(ctx, &cause));
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        }
    });
}

#[test]
fn s27b_an_inner_node_ends_exactly_its_subtree() {
    with_workers(|| {
        for (arity, n_nodes) in [(4, 5461), (10, 11_111)] {
            let tree = Tree::new(arity, n_nodes);
            // A node that has a node above it and, most often, below it.
            let inner = 1 + goby_runtime::random() as usize % (n_nodes / arity);
            let cause: Cause = Arc::new(Why(inner));
            tree.guards[inner].cancel(cause.clone());
            for (node, ctx) in tree.contexts.iter().enumerate() {
                if tree.is_below(node, inner) { assert_done(ctx, &cause) } else { assert_open(ctx) }
            }
        }
    });
}

#[test]
fn s27c_four_cancel_in_random_order() {
    with_workers(|| {
        let Tree { contexts, mut guards, .. } = Tree::new(10, 11_111);
        for i in (1..guards.len()).rev() {
            guards.swap(i, goby_runtime::random() as usize % (i + 1));
        }
        let cause: Cause = Arc::new(Why(0));
        let cancelers: Vec<_> = (0..4)
            .map(|_| {
                let (mine, cause) = (guards.split_off(guards.len() - guards.len().min(2778)), cause.clone());
                go(move || mine.iter().for_each(|guard| guard.cancel(cause.clone())))
            })
            .collect();
        assert!(guards.is_empty());
        cancelers.into_iter().for_each(|canceler| canceler.join().unwrap());
        contexts.iter().for_each(|ctx| assert_done(ctx, &cause));
    });
}

struct Layer(usize);

/// A layer of the chain: its context, and the guard if it has one.
fn layer(ctx: &Context, number: usize) -> (Context, Option<CancelGuard>) {
    let with_guard = |(ctx, guard)| (ctx, Some(guard));
    match goby_runtime::random() % 4 {
        0 => (ctx.with_value(Layer(number)), None),
        1 => with_guard(ctx.with_cancel()),
        2 => with_guard(ctx.with_timeout(HOUR)),
        _ => with_guard(ctx.with_deadline(Instant::now() + 2 * HOUR)),
    }
}

#[test]
fn s27d_a_random_layer_of_a_random_chain() {
    with_workers(|| {
        for _ in 0..size(100, 1000) {
            let n_layers = 30 + goby_runtime::random() as usize % 20;
            let mut chain = vec![Context::background().with_cancel()];
            let mut layers = vec![(chain[0].0.clone(), None)];
            let mut last_value = None;
            for number in 0..n_layers {
                let (ctx, guard) = layer(&layers.last().unwrap().0, number);
                if guard.is_none() {
                    last_value = Some(number);
                }
                layers.push((ctx, guard));
            }
            let cancelable: Vec<_> = (0..layers.len()).filter(|i| layers[*i].1.is_some()).collect();
            let canceled = cancelable[goby_runtime::random() as usize % cancelable.len()];
            layers[canceled].1.as_ref().unwrap().cancel();
            for (i, (ctx, _)) in layers.iter().enumerate() {
                assert_eq!(ctx.err(), (i >= canceled).then_some(ContextError::Canceled), "layer {i} of {ctx}");
            }
            // Values are found beyond the end.
            let leaf = &layers.last().unwrap().0;
            assert_eq!(leaf.value::<Layer>().map(|layer| layer.0), last_value);
            chain.pop().unwrap().1.cancel();
            assert!(layers.iter().all(|(ctx, _)| ctx.err() == Some(ContextError::Canceled)));
        }
    });
}

/// On the stack of a goroutine: neither the cancellation nor the drops may recurse.
#[test]
fn s27d_a_chain_of_ten_thousand_layers() {
    with_workers(|| {
        let (root, cancel) = Context::background().with_cancel();
        let mut layers = vec![(root, None)];
        for _ in 0..10_000 {
            let (ctx, guard) = layers.last().unwrap().0.with_cancel();
            layers.push((ctx, Some(guard)));
        }
        let leaf = layers.last().unwrap().0.clone();
        let waiter = go(move || leaf.done().recv().is_err());
        cancel.cancel();
        assert!(layers.iter().all(|(ctx, _)| ctx.err() == Some(ContextError::Canceled)));
        assert!(waiter.join().unwrap());
    });
}

/// The processor time of the calling thread. The goroutine stays on its thread, so other programs
/// do not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below a second"))
}

/// Checks that ten times as many cost about ten times as much, by the best of several tries. If the
/// cost of each, which should be constant, were linear, they would cost a hundred times as much.
fn check_linear(few: usize, cost: impl Fn(usize) -> Duration) {
    let mut tries = Vec::new();
    for _ in 0..10 {
        let (few_cost, many_cost) = (cost(few), cost(10 * few));
        if many_cost < 40 * few_cost {
            return;
        }
        tries.push((few_cost, many_cost));
    }
    panic!("{few} cost, ten times as many cost: {tries:?}");
}

/// Registers `n` children with one parent, and ends them one by one, by cancel and by drop.
fn register_and_end(n: usize) -> Duration {
    let (parent, _cancel) = Context::background().with_cancel();
    let start = processor_time();
    let mut children: Vec<_> = (0..n).map(|_| parent.with_cancel()).collect();
    while !children.is_empty() {
        let (child, guard) = children.swap_remove(goby_runtime::random() as usize % children.len());
        if children.len() % 2 == 0 {
            guard.cancel();
            assert_eq!(child.err(), Some(ContextError::Canceled));
        } else {
            guard.disarm();
        }
    }
    assert_open(&parent);
    processor_time() - start
}

/// `src/context/tests.rs` checks that the parent's count returns to zero. This test checks that the
/// time of each does not grow.
#[test]
fn s27e_children_one_by_one() {
    with_workers(|| check_linear(1000, register_and_end));
}

/// A tree of 100 000 contexts is canceled at a cost that grows only with its size.
#[test]
fn s27_a_hundred_thousand_contexts_at_a_linear_cost() {
    let cancel_all = |n: usize| {
        let tree = Tree::new(10, n);
        let start = processor_time();
        tree.guards[0].cancel(Arc::new(Why(0)));
        let took = processor_time() - start;
        assert!(tree.contexts.iter().all(|ctx| ctx.err() == Some(ContextError::Canceled)));
        took
    };
    with_workers(|| check_linear(10_000, cancel_all));
}

/// Waiters of one primitive, each with its own context, give up in random order.
#[test]
fn s27_many_waits_are_canceled_in_random_order() {
    with_workers(|| {
        let n = debug_or_release(2000, 20_000);
        let mutex = Arc::new(goby::sync::Mutex::new(()));
        let held = mutex.lock();
        let (ready, waiting) = chan::unbounded();
        let mut guards = Vec::new();
        let waiters: Vec<_> = (0..n)
            .map(|_| {
                let (ctx, guard) = Context::background().with_cancel();
                guards.push(guard);
                let (mutex, ready) = (mutex.clone(), ready.clone());
                go(move || {
                    ready.send(()).unwrap();
                    mutex.lock_ctx(&ctx).map(drop)
                })
            })
            .collect();
        (0..n).for_each(|_| waiting.recv().unwrap());
        for i in (1..n).rev() {
            guards.swap(i, goby_runtime::random() as usize % (i + 1));
        }
        guards.iter().for_each(|guard| guard.cancel());
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(ContextError::Canceled));
        }
        drop(held);
        wait_until("the lock to be free", || mutex.try_lock().is_some());
    });
}
