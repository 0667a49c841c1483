//! Names mistakes with thread-locals, which the goroutines of a worker share, where they can be seen: in debug builds, and
//! under `goby race`. `goby::thread_locals` says what the mistakes are.
//!
//! - A goroutine that parks inside the initializer of a thread-local: another one of its worker may initialize it as well, and
//!   std then drops the first value under whoever borrows it. Told when it parks.
//! - A goroutine that panics because a `RefCell` is borrowed, while another one of its worker is parked inside `LocalKey::with`.
//!   Told when it has panicked.
//!
//! Both are found on the stack (`frames`). Release builds look for neither: a walk costs some microseconds, a park 5 ns, and
//! `LocalKey::with` is inlined there.

use std::any::Any;
use std::panic::Location;
use std::ptr;
use std::time::Instant;

use parking_lot::Mutex;

use crate::frames::{self, Function};
use crate::goroutine::{Goroutine, payload_text, report};
use crate::inspect::{self, Want};
use crate::park::WaitReason;
use crate::policy;
use crate::runtime::spawn_own_thread;
use crate::stack_trace::{self, StackTrace};
use crate::worker::Worker;

/// Whether mistakes are looked for.
pub(crate) const ARE_SOUGHT: bool = cfg!(any(debug_assertions, goby_tsan));
/// Looks take one part in so many of a worker's time, at most.
const SHARE: u32 = 10;

/// Looks whether `g`, which is about to park, is inside the initializer of a thread-local.
#[cold]
pub(crate) fn look_at_park(worker: &Worker, g: &Goroutine, reason: WaitReason) {
    let start = policy::now();
    if worker.next_look.get().is_some_and(|next| start < next) {
        return;
    }
    let found = frames::is_inside(g, Function::LocalInitializer);
    let took = policy::now().duration_since(start);
    worker.next_look.set(start.checked_add(took * SHARE));
    if !found || !is_news(g.spawned_at) {
        return;
    }
    report(format_args!(
        "goroutine {}, started at {}, waits [{reason}] inside the initializer of a thread-local: another goroutine of its \
         worker may initialize it meanwhile, and one of the values is dropped while it is used; see goby::thread_locals",
        g.id, g.spawned_at
    ));
    if let Some(stack) = own_stack(g) {
        let id = g.id;
        // Names take long. Without a further thread there are none.
        let _ = spawn_own_thread("goby-report", move || stack_trace::print(id, &stack));
    }
}

/// Whether no goroutine that was started there has been reported.
fn is_news(place: &'static Location<'static>) -> bool {
    static REPORTED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let place = ptr::from_ref(place).addr();
    let mut reported = REPORTED.lock();
    let is_news = !reported.contains(&place);
    if is_news {
        reported.push(place);
    }
    is_news
}

/// The stack of the goroutine that calls.
fn own_stack(g: &Goroutine) -> Option<StackTrace> {
    let usable = g.usable_stack()?;
    let mut addresses = Vec::new();
    stack_trace::walk(&usable, |address| {
        addresses.push(address);
        addresses.len() < stack_trace::MAX_FRAMES
    });
    Some(StackTrace::new(&addresses))
}

/// Whether a panic says that a `RefCell` is borrowed already.
pub(crate) fn is_of_borrow(payload: &(dyn Any + Send)) -> bool {
    let text = payload_text(payload);
    text.contains("already borrowed") || text.contains("already mutably borrowed")
}

/// Looks whether `g`, which runs, here, and has panicked, found a `RefCell` borrowed by a neighbor that is parked inside
/// `LocalKey::with`. It parks to ask for their stacks.
#[cold]
pub(crate) fn look_at_panic(g: &Goroutine, payload: &(dyn Any + Send)) {
    if !is_of_borrow(payload) || g.runtime.is_shut_down() {
        return;
    }
    let neighbors = inspect::collect(&[g.runtime], Want::ALL).goroutines;
    let home = ptr::from_ref(g.home()).addr();
    let holds = |info: &&inspect::GoroutineInfo| {
        let is_inside = |stack: &StackTrace| frames::contains(stack.addresses(), Function::LocalAccess);
        info.id != g.id && info.home == home && info.stack.as_ref().is_some_and(is_inside)
    };
    if let Some(holder) = neighbors.iter().find(holds) {
        report(format_args!(
            "goroutine {}, started at {}, panicked: {}. Meanwhile goroutine {}, started at {}, is parked [{}] inside a \
             `LocalKey::with` of the same worker: if that is the RefCell, it is borrowed across a wait; see goby::thread_locals",
            g.id,
            g.spawned_at,
            payload_text(payload),
            holder.id,
            holder.started_at,
            holder.status,
        ));
    }
}

/// When a worker looks next.
pub(crate) type NextLook = std::cell::Cell<Option<Instant>>;
