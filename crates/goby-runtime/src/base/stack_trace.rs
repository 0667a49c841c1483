//! Stacks as data: collected as instruction addresses, and given names only on demand.
//!
//! A goroutine's stack is collected on itself: its worker resumes it for a moment with the order to
//! do so (see `Worker::capture`), or a signal interrupts it (see `sample`). The walk ends where the
//! goroutine's own stack ends. Below that lies the scheduler's, which says nothing.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Frames collected at most. Go shows 100, its inner and outer ones.
pub(crate) const MAX_FRAMES: usize = 256;

/// How much of a stack a walk takes: the unwinder needs up to 3 KiB. A goroutine with less room
/// left shows no stack, rather than overflow.
const ROOM: usize = 8 * 1024;

/// Returns whether a walk fits what is left of the calling goroutine's stack.
pub(crate) fn has_room(usable: &Range<usize>) -> bool {
    let here = 0u8;
    usable.start + ROOM <= (&raw const here).addr()
}

/// Calls `each` with the return addresses on the part of this thread's stack that lies in `within`,
/// the innermost first.
///
/// Async-signal-safe where the unwinder is, if `each` is: see `sample`.
#[inline(never)]
pub(crate) fn walk(within: &Range<usize>, mut each: impl FnMut(usize) -> bool) {
    let mut entered = false;
    let visit = |frame: &backtrace::Frame| {
        if !within.contains(&frame.sp().addr()) {
            return !entered;
        }
        entered = true;
        each(frame.ip().addr())
    };
    // SAFETY: the lock of the synchronized form guards the debug libraries of Windows only.
    unsafe { backtrace::trace_unsynchronized(visit) };
}

/// Where a goroutine is: its calls, the innermost first.
///
/// Cheap to keep: names are looked up by [`frames`](StackTrace::frames).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct StackTrace {
    addresses: Box<[usize]>,
}

/// One call of a [`StackTrace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function, with its path, as far as debug information tells.
    pub function: String,
    /// The file and line that the call has come to.
    pub place: Option<(PathBuf, u32)>,
}

impl StackTrace {
    /// Collects the stack of the calling thread, which is no goroutine, from an address on its
    /// stack outwards.
    #[inline(never)]
    pub(crate) fn of_thread(begin: usize) -> StackTrace {
        StackTrace::collect(&(begin..usize::MAX))
    }

    /// Collects the stack of the calling goroutine, which may use this part of memory. None if too
    /// little of it is left.
    #[inline(never)]
    pub(crate) fn of_goroutine(usable: &Range<usize>) -> Option<StackTrace> {
        // No closure: `bool::then` would be a frame of the trace.
        if has_room(usable) { Some(StackTrace::collect(usable)) } else { None }
    }

    fn collect(within: &Range<usize>) -> StackTrace {
        // On the heap: the stack may have little room, and none of its pages should be touched
        // without need.
        let mut addresses = Vec::with_capacity(32);
        walk(within, |address| {
            addresses.push(address);
            addresses.len() < MAX_FRAMES
        });
        StackTrace::new(&addresses)
    }

    pub(crate) fn new(addresses: &[usize]) -> StackTrace {
        StackTrace { addresses: addresses.into() }
    }

    pub(crate) fn addresses(&self) -> &[usize] {
        &self.addresses
    }

    /// Returns whether nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Looks the calls up: those of the program and of goby's public functions. The frames in which
    /// goby parks, or runs a goroutine's closure, are left out. This takes milliseconds where a
    /// program is large, and the first time.
    pub fn frames(&self) -> Vec<Frame> {
        let mut names = Names::default();
        names.frames(self).into_iter().cloned().collect()
    }
}

impl fmt::Debug for StackTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackTrace").field("depth", &self.addresses.len()).finish_non_exhaustive()
    }
}

/// Function by function and line by line, as Go prints them.
impl fmt::Display for StackTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Names::default().write(self, f)
    }
}

/// Looks names up, each address once.
#[derive(Default)]
pub struct Names {
    known: HashMap<usize, Calls>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

/// The calls at an address, the innermost first, without goby's inside.
struct Calls {
    frames: Vec<Frame>,
    /// The calls below are how std runs a thread.
    is_last: bool,
}

impl Names {
    /// Looks the calls of a stack up, as [`StackTrace::frames`] does.
    pub fn frames(&mut self, stack: &StackTrace) -> Vec<&Frame> {
        self.calls(stack).into_iter().flat_map(|(_, frames)| frames).collect()
    }

    /// Looks the calls of a stack up: each return address with the calls that are there, one in
    /// the other if the compiler has put them so. An address with none is goby's own.
    pub fn calls(&mut self, stack: &StackTrace) -> Vec<(usize, &[Frame])> {
        for &address in &stack.addresses {
            // Looks up the call, not where it returns to, which may be another line or function.
            self.known.entry(address).or_insert_with(|| look_up(address.wrapping_sub(1)));
        }
        let mut found = Vec::new();
        for &address in &stack.addresses {
            let calls = &self.known[&address];
            found.push((address, &*calls.frames));
            if calls.is_last {
                break;
            }
        }
        found
    }

    /// Gives back the memory that looking names up has mapped and read, tens of MB where a program
    /// is large. The names stay; the next address that is not known reads it again.
    pub fn forget_symbols() {
        forget_symbols();
    }

    pub(crate) fn write(&mut self, stack: &StackTrace, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for frame in self.frames(stack) {
            writeln!(f, "{}", frame.function)?;
            match &frame.place {
                Some((file, line)) => writeln!(f, "\t{}:{line}", shorten(file).display())?,
                None => writeln!(f, "\t?")?,
            }
        }
        Ok(())
    }
}

/// Prints the stack of `who`, a goroutine or future that an earlier line has named. Looks names up,
/// which takes long.
pub(crate) fn print(who: impl fmt::Display, stack: &StackTrace) {
    let text = format!("goby: {who} was here:\n{stack}");
    // In one piece, whatever else is printed. An error is ignored: there is nowhere to report it.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    forget_symbols();
}

/// Gives back the memory that looking names up has mapped and read, tens of MB where a program is
/// large. The next look reads it again.
fn forget_symbols() {
    backtrace::clear_symbol_cache();
}

fn look_up(address: usize) -> Calls {
    /// std's mark on the stacks of threads, for its own backtraces.
    const MARK: &str = "__rust_begin_short_backtrace";
    let (mut frames, mut is_last) = (Vec::new(), false);
    backtrace::resolve(address as *mut c_void, |symbol| {
        let function = symbol.name().map_or_else(|| format!("{address:#x}"), |name| format!("{name:#}"));
        if function.contains(MARK) {
            is_last = true;
            return;
        }
        let file = symbol.filename();
        if !is_inside(&function, file.and_then(Path::to_str).unwrap_or_default()) {
            let place = file.zip(symbol.lineno());
            frames.push(Frame { function, place: place.map(|(file, line)| (file.to_path_buf(), line)) });
        }
    });
    if let Some(innermost) = frames.first_mut().filter(|frame| frame.place.is_none()) {
        innermost.place = place_before(address, &innermost.function, innermost_at);
    }
    Calls { frames, is_last }
}

/// How far before an address a line is looked for: a few instructions, as a loop's back-edge is.
const LINE_SEARCH: usize = 64;

/// Returns the nearest place before an address of `function` that has a line. The compiler gives
/// some instructions none, those of a loop's back-edge above all.
fn place_before(
    address: usize,
    function: &str,
    at: impl Fn(usize) -> Option<(String, Option<(PathBuf, u32)>)>,
) -> Option<(PathBuf, u32)> {
    let earlier = (1..=LINE_SEARCH).map_while(|back| at(address.checked_sub(back)?));
    earlier.take_while(|(name, _)| name == function).find_map(|(_, place)| place)
}

/// Returns the innermost function at an address, and its place there, if it has a line.
fn innermost_at(address: usize) -> Option<(String, Option<(PathBuf, u32)>)> {
    let mut found = None;
    backtrace::resolve(address as *mut c_void, |symbol| {
        if found.is_none() {
            let function = symbol.name().map_or_else(String::new, |name| format!("{name:#}"));
            let place = symbol.filename().zip(symbol.lineno());
            found = Some((function, place.map(|(file, line)| (file.to_path_buf(), line))));
        }
    });
    found
}

/// Returns whether a function belongs to how goby parks a goroutine, or to how it runs the closure.
/// It goes by the function's name, or by its file where debug information is line tables only and
/// gives inlined functions no path.
fn is_inside(function: &str, file: &str) -> bool {
    const NAMES: [&str; 21] = [
        "goby::chan::core::",
        "goby::chan::keeper::",
        "goby::selection::ordered::",
        "goby::selection::steps::",
        "goby::selection::unrolled::",
        "goby::sync::queue::",
        "goby::sync::raw_",
        "goby_runtime::",
        "goby_switch::",
        "corosensei::",
        "stack_init_trampoline",
        "async_task::",
        "backtrace::",
        "std::panicking::",
        "std::panic::",
        "std::sys::backtrace::",
        "core::ops::function::",
        "core::panic::unwind_safe::",
        "__restore_rt",
        "__rust",
        "_Unwind_",
    ];
    const FILES: [&str; 10] = [
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/"),
        "/goby-switch/src/",
        concat!("/goby-switch-", env!("CARGO_PKG_VERSION"), "/src/"),
        "/corosensei-",
        "/async-task-",
        "/backtrace-",
        "/library/core/src/ops/function.rs",
        "/library/core/src/panic/unwind_safe.rs",
        "/library/std/src/panic",
        "/library/std/src/sys/backtrace.rs",
    ];
    /// In goby's own sources.
    const PARTS: [&str; 7] = [
        "chan/core.rs",
        "chan/keeper.rs",
        "selection/ordered.rs",
        "selection/steps.rs",
        "selection/unrolled.rs",
        "sync/queue.rs",
        "sync/raw_",
    ];
    let function = function.trim_start_matches('<');
    let in_goby =
        file.split_once("/goby/src/").or(file.split_once(concat!("/goby-", env!("CARGO_PKG_VERSION"), "/src/")));
    NAMES.iter().any(|start| function.starts_with(start))
        || FILES.iter().any(|part| file.contains(part))
        || in_goby.is_some_and(|(_, file)| PARTS.iter().any(|part| file.starts_with(part)))
}

/// Returns a path below the current directory without that directory, as the compiler prints it.
fn shorten(file: &Path) -> &Path {
    let here = std::env::current_dir();
    here.as_ref().ok().and_then(|here| file.strip_prefix(here).ok()).unwrap_or(file)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_without_a_line_has_that_of_an_earlier_one_of_its_function() {
        let place = |line| Some((PathBuf::from("a.rs"), line));
        let at = |address: usize| match address {
            90..95 => Some(("other".to_owned(), place(1))),
            95 => Some(("f".to_owned(), place(7))),
            96..=100 => Some(("f".to_owned(), None)),
            _ => None,
        };
        assert_eq!(place_before(100, "f", at), place(7));
        assert_eq!(place_before(95, "f", at), None, "not the line of another function");
        assert_eq!(place_before(100, "g", at), None);
        assert_eq!(place_before(0, "f", at), None);
    }
}
