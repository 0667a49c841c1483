//! The tree's private parts: which node is registered with which, and chains too deep for
//! recursion.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn entries(ctx: &Context) -> usize {
    ctx.node.as_ref().unwrap().entries()
}

/// Runs `f` on an OS thread with the stack of a goroutine.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(256 * 1024).spawn(f).unwrap().join().unwrap();
}

#[test]
fn a_canceled_child_is_unregistered() {
    let (parent, _cancel) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    assert_eq!(entries(&parent), 1);
    cancel_child.cancel();
    assert_eq!(entries(&parent), 0);
    assert_eq!(child.err(), Some(ContextError::Canceled));
    assert_eq!(parent.err(), None);
}

#[test]
fn a_dropped_child_is_unregistered() {
    let (parent, cancel) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_value(1).with_timeout(HOUR);
    cancel_child.disarm();
    let clone = child.clone();
    drop(child);
    assert_eq!(entries(&parent), 1);
    drop(clone);
    assert_eq!(entries(&parent), 0);
    cancel.cancel();
}

#[test]
fn an_expired_child_is_unregistered() {
    let (parent, _cancel) = Context::background().with_cancel();
    let (child, _cancel_child) = parent.with_timeout(Duration::from_millis(1));
    assert_eq!(entries(&parent), 1);
    let (ended, ends) = crate::chan::bounded(0);
    child.after_func(move || ended.send(()).unwrap());
    // Callbacks come after the node has left its parent.
    ends.recv().unwrap();
    assert_eq!(entries(&parent), 0);
}

#[test]
fn a_tree_is_canceled_and_forgets_its_children() {
    let (root, cancel) = Context::background().with_cancel();
    let children: Vec<_> = (0..10).map(|_| root.with_cancel()).collect();
    let leaves: Vec<_> = children.iter().flat_map(|(child, _)| (0..10).map(|_| child.with_timeout(HOUR))).collect();
    assert_eq!(entries(&root), 10);
    cancel.cancel();
    for (ctx, _) in children.iter().chain(&leaves) {
        assert_eq!(ctx.err(), Some(ContextError::Canceled));
        assert_eq!(entries(ctx), 0);
    }
    assert_eq!(entries(&root), 0);
}

#[test]
fn slots_are_reused() {
    let (parent, _cancel) = Context::background().with_cancel();
    let mut kept: Vec<_> = (0..100).map(|_| parent.with_cancel()).collect();
    for round in 0..1000 {
        drop(kept.swap_remove(round * 7 % kept.len()));
        kept.push(parent.with_cancel());
        assert_eq!(entries(&parent), 100);
    }
    let highest = kept.iter().map(|(ctx, _)| ctx.node.as_ref().unwrap().slot()).max();
    assert!(highest < Some(100), "a vacant slot comes first: {highest:?}");
    kept.clear();
    assert_eq!(entries(&parent), 0);
}

#[test]
fn waiting_is_what_makes_a_channel() {
    let (ctx, cancel) = Context::background().with_cancel();
    assert_eq!(ctx.err(), None);
    assert!(!ctx.node.as_ref().unwrap().has_channel());
    assert!(ctx.done().same_channel(ctx.clone().done()));
    assert!(ctx.node.as_ref().unwrap().has_channel());
    cancel.cancel();
    let (late, _cancel) = ctx.with_cancel();
    assert!(late.done().is_closed());
    assert!(!late.node.as_ref().unwrap().has_channel());
}

#[test]
fn a_chain_of_ten_thousand_layers_is_canceled_and_dropped_without_recursion() {
    on_a_small_stack(|| {
        let (root, cancel) = Context::background().with_cancel();
        let mut ctx = root.clone();
        let mut guards = Vec::new();
        for layer in 0..10_000 {
            ctx = ctx.with_value(layer);
            let (derived, guard) = ctx.with_cancel();
            guards.push(guard);
            ctx = derived;
        }
        cancel.cancel();
        assert_eq!(ctx.err(), Some(ContextError::Canceled));
        assert_eq!(ctx.value(), Some(&9_999));
        assert_eq!(ctx.to_string().matches("WithCancel").count(), 10_001);
        drop(guards);
        drop(ctx);
    });
    on_a_small_stack(|| {
        let mut ctx = Context::background();
        for layer in 0..10_000 {
            let (derived, guard) = ctx.with_value(layer).with_cancel();
            guard.disarm();
            ctx = derived;
        }
        assert_eq!(ctx.err(), None);
        drop(ctx);
    });
}

#[test]
fn dropping_a_leaf_unregisters_its_ancestors() {
    let (root, _cancel) = Context::background().with_cancel();
    let mut ctx = root.clone();
    for _ in 0..10 {
        let (derived, guard) = ctx.with_cancel();
        guard.disarm();
        ctx = derived;
    }
    assert_eq!(entries(&root), 1);
    drop(ctx);
    assert_eq!(entries(&root), 0);
}

#[test]
fn on_done_runs_inside_the_cancellation() {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = || {
        let runs = runs.clone();
        move || {
            runs.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (ctx, cancel) = Context::background().with_cancel();
    let (kept, stopped) = (ctx.on_done(count()), ctx.on_done(count()));
    drop(ctx.on_done(count()));
    assert!(stopped.stop());
    assert_eq!(entries(&ctx), 1);
    cancel.cancel();
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert!(!kept.stop());
    assert!(!ctx.on_done(count()).stop(), "at once");
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    assert!(Context::background().on_done(count()).stop());
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

#[test]
fn a_callback_may_use_the_tree() {
    let (parent, cancel) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    let _on_done = parent.on_done({
        let parent = parent.clone();
        move || {
            assert_eq!(parent.err(), Some(ContextError::Canceled));
            cancel_child.cancel();
            assert!(parent.with_cancel().0.done().is_closed());
        }
    });
    cancel.cancel();
    assert_eq!(child.err(), Some(ContextError::Canceled));
}

#[test]
fn sizes() {
    assert_eq!(size_of::<Context>(), 2 * size_of::<usize>());
    assert!(size_of::<Node>() <= 192, "{}", size_of::<Node>());
}

#[test]
fn send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Context>();
    check::<CancelGuard>();
    check::<CancelCauseGuard>();
    check::<AfterFunc>();
    check::<OnDone>();
}
