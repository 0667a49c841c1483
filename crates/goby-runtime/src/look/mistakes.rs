//! Reports mistakes with thread-locals, which the goroutines of a worker share. It can see them in
//! debug builds, and under `goby race`. `goby::thread_locals` explains the mistakes.
//!
//! - A goroutine parks inside the initializer of a thread-local. Another goroutine of its worker
//!   may initialize the local as well, and std then drops the first value while it is borrowed.
//!   Reported when the goroutine parks.
//! - A goroutine panics because a `RefCell` is borrowed, while another goroutine of its worker is
//!   parked inside `LocalKey::with`. Reported when the goroutine has panicked.
//!
//! Both are found on the stack (`frames`). Release builds look for neither: a walk costs some
//! microseconds, a park 5 ns. Besides, `LocalKey::with` is inlined there.

use std::any::Any;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::base::report::{payload_text, report};
use crate::base::stack_trace::StackTrace;
use crate::base::{policy, stack_trace};
use crate::engine::frames;
use crate::engine::frames::Function;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::threads::spawn_own_thread;
use crate::engine::unjoined::is_of_borrow;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::Worker;
use crate::look::inspect;
use crate::look::inspect::Want;

/// So many first looks of a worker are made without a delay: most initializers run when a program
/// has just begun, and the first look of all takes milliseconds.
const FIRST_LOOKS: u32 = 64;
/// From then on looks take at most one part in so many of the worker's time.
const SHARE: u32 = 10;

/// At most so many parks are kept until the program's symbols have been read. The first park starts
/// the reading.
const KEPT: usize = 64;

/// A park, to be judged by its stack.
struct Park {
    id: GoroutineId,
    started_at: &'static Location<'static>,
    reason: WaitReason,
    stack: StackTrace,
}

/// Looks whether `g`, which is about to park, is inside the initializer of a thread-local.
#[cold]
pub(crate) fn look_at_park(worker: &Worker, g: &Goroutine, reason: WaitReason) {
    let start = policy::now();
    let (n, next) = worker.next_look.get();
    if n >= FIRST_LOOKS && next.is_some_and(|next| start < next) {
        return;
    }
    if let Some(stack) = g.usable_stack().and_then(|usable| StackTrace::of_goroutine(&usable)) {
        let park = Park { id: g.id, started_at: g.origin.spawned_at, reason, stack };
        if frames::are_known() {
            park.judge();
        } else {
            keep(park);
        }
    }
    let took = policy::now().duration_since(start);
    worker.next_look.set((n.saturating_add(1), start.checked_add(took * SHARE)));
}

static UNJUDGED: Mutex<Vec<Park>> = Mutex::new(Vec::new());

/// Keeps a park until it can be judged. Most initializers run when a program has just begun.
fn keep(park: Park) {
    static BEGIN: AtomicBool = AtomicBool::new(true);
    let mut unjudged = UNJUDGED.lock();
    if unjudged.len() < KEPT {
        unjudged.push(park);
    }
    drop(unjudged);
    // Relaxed: it only matters that one thread begins. If the kept parks have been judged already,
    // the caller judges its park here.
    if BEGIN.swap(false, Ordering::Relaxed) {
        let _ = spawn_own_thread("goby-symbols", || {
            frames::learn();
            judge_kept();
        });
    } else if frames::are_known() {
        judge_kept();
    }
}

fn judge_kept() {
    let kept = std::mem::take(&mut *UNJUDGED.lock());
    kept.into_iter().for_each(Park::judge);
}

impl Park {
    /// Reports the park if it was inside an initializer, and no goroutine of the same start place
    /// has been reported.
    fn judge(self) {
        let Park { id, started_at, reason, stack } = self;
        if !frames::contains(stack.addresses(), Function::LocalInitializer) || !is_news(started_at) {
            return;
        }
        report(format_args!(
            "goroutine {id}, started at {started_at}, waits [{reason}] inside the initializer of a thread-local: another \
             goroutine of its worker may initialize it meanwhile, and one of the values is dropped while it is used; see \
             goby::thread_locals"
        ));
        // Looking names up takes long. If no thread can be started, no stack is printed.
        let _ = spawn_own_thread("goby-report", move || stack_trace::print(format_args!("goroutine {id}"), &stack));
    }
}

/// Returns whether no goroutine that was started at `place` has been reported.
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

/// Looks whether `g`, the running goroutine, has panicked because a `RefCell` was borrowed by a
/// neighbor that is parked inside `LocalKey::with`. It parks to ask for the neighbors' stacks.
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
            g.origin.spawned_at,
            payload_text(payload),
            holder.id,
            holder.started_at,
            holder.status,
        ));
    }
}
