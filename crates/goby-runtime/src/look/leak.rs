//! Leaks: goroutines that nothing will unpark.
//!
//! The runtime does not know what a goroutine waits for. So a leak is judged by the goroutines that
//! are left when their family should have ended. A goroutine is *live* if it may still do something
//! by itself: it runs, will run, is in a `blocking` call, or one of the file system, waits for a
//! child or for tokio, or a timer ends its wait. It is *stuck* if it is parked otherwise. A stuck
//! goroutine is leaked if no live one is left in its family that could free it, or if it provably
//! waits for nothing. A spawned future belongs to no family, and may wait for a timer, or for
//! something outside goby that wakes it: as long as one has not ended, the goroutines of its
//! runtime count as those that it could free. So a leak may be missed as long as there is a sleeper
//! in the family, or a future in the runtime. And goroutines outside the family that hold a sender
//! are not taken into account.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::base::policy;
use crate::base::stack_trace::Names;
use crate::engine::park::sleep_until;
use crate::engine::wait_reason::WaitReason;
use crate::look::dump;
use crate::look::inspect::{GoroutineInfo, Status};

impl GoroutineInfo {
    /// Returns whether it may go on by itself: it runs or will run, is in a `blocking` call, or one
    /// of the file system, waits for a child or for tokio, or a timer ends its wait.
    pub fn is_live(&self) -> bool {
        match self.status() {
            Status::Waiting(
                WaitReason::Blocking
                | WaitReason::FileRead
                | WaitReason::FileWrite
                | WaitReason::FileSystem
                | WaitReason::LookUp
                | WaitReason::ProcessStart
                | WaitReason::ProcessWait
                | WaitReason::Tokio,
            ) => true,
            Status::Waiting(_) => self.has_deadline(),
            Status::Unstarted | Status::Runnable | Status::Running => true,
        }
    }
}

/// Returns the goroutines that provably never go on, whatever others do: they wait on a nil channel
/// or in a select without cases, or join a goroutine that never goes on.
///
/// Only that much is proved: a waiter for a channel or a lock may be unparked by a holder of the
/// other end, and the runtime does not know the holders.
pub fn deadlocked(infos: &[GoroutineInfo]) -> Vec<GoroutineInfo> {
    let mut proved: HashSet<u64> =
        infos.iter().filter(|info| waits_for_nothing(info)).map(|info| info.id.as_u64()).collect();
    loop {
        let n = proved.len();
        let joins_one = |info: &&GoroutineInfo| info.joins().is_some_and(|joined| proved.contains(&joined));
        let joiners: Vec<u64> = infos.iter().filter(joins_one).map(|info| info.id.as_u64()).collect();
        proved.extend(joiners);
        if proved.len() == n {
            return infos.iter().filter(|info| proved.contains(&info.id.as_u64())).cloned().collect();
        }
    }
}

/// Returns whether nothing can end its wait.
fn waits_for_nothing(info: &GoroutineInfo) -> bool {
    use WaitReason::{ChanReceiveNil, ChanSendNil, SelectNoCases};
    matches!(info.status(), Status::Waiting(ChanReceiveNil | ChanSendNil | SelectNoCases)) && !info.has_deadline()
}

/// Returns the leaked ones among the goroutines of a family, or of a runtime: if none is live, and
/// there is no future beside them, all that are left; otherwise those that provably never go on.
pub fn leaked(family: &[GoroutineInfo]) -> Vec<GoroutineInfo> {
    if family.iter().any(|info| info.is_live() || info.beside_futures) { deadlocked(family) } else { family.to_vec() }
}

/// The number of looks after the first one. With the delays below they take 0.43 s. goleak's
/// number.
pub const LEAK_RETRIES: u32 = 20;
/// The longest delay between two looks. goleak's.
const MAX_DELAY: Duration = Duration::from_millis(100);

/// How long a goroutine that is about to run may delay the verdict, after the retries: on a busy
/// machine it may not have had its turn. Then it parks or ends; otherwise it is no leak.
const SETTLE: Duration = Duration::from_secs(10);

/// Asks `family` until no goroutine is left, or the retries are used up: goroutines may be about to
/// end. The last time it asks for stacks too. Of the goroutines that are left, those are leaked
/// that [`leaked`] returns; if live ones count too, all of them. Source: goleak's `Find`.
///
/// # Blocking
///
/// The goroutine, or the OS thread, between two looks.
///
/// # Errors
///
/// [`Leaks`], with the goroutines.
pub fn find_leaks(family: impl Fn(bool) -> Vec<GoroutineInfo>, retries: u32, live_too: bool) -> Result<(), Leaks> {
    let mut attempt = 0;
    let mut settled = None;
    loop {
        let delay = retry_delay(attempt, retries);
        let infos = family(delay.is_none());
        if infos.is_empty() {
            return Ok(());
        }
        let delay = match delay {
            Some(delay) => delay,
            None if live_too => return Err(Leaks::new(infos)),
            None => {
                let until = *settled.get_or_insert_with(|| policy::now() + SETTLE);
                if infos.iter().all(|info| matches!(info.status(), Status::Waiting(_))) || policy::now() >= until {
                    let found = leaked(&infos);
                    return if found.is_empty() { Ok(()) } else { Err(Leaks::new(found)) };
                }
                MAX_DELAY
            }
        };
        sleep_until(policy::now() + delay);
        attempt += 1;
    }
}

/// Leaked goroutines, as an error and, by its `Display`, as a report: one paragraph per goroutine,
/// and one for goroutines that are alike.
#[derive(Clone)]
pub struct Leaks {
    goroutines: Vec<GoroutineInfo>,
}

impl Leaks {
    /// Makes a report of these goroutines.
    pub fn new(goroutines: Vec<GoroutineInfo>) -> Leaks {
        Leaks { goroutines }
    }

    /// Returns the leaked goroutines, sorted by id.
    pub fn goroutines(&self) -> &[GoroutineInfo] {
        &self.goroutines
    }
}

impl fmt::Debug for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.goroutines).finish()
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.goroutines.len();
        writeln!(f, "{n} goroutine{} leaked", if n == 1 { "" } else { "s" })?;
        let mut names = Names::default();
        for group in dump::group(&self.goroutines) {
            writeln!(f)?;
            write_leak(&group, &mut names, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Leaks {}

fn write_leak(group: &[&GoroutineInfo], names: &mut Names, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    dump::write_group(group, names, f)?;
    let Some(waited) = group.iter().filter_map(|info| info.waited()).max() else {
        return writeln!(f, "still {}", group[0].status());
    };
    let context =
        if group[0].is_reached_by_context() { "until a context is done" } else { "and no context reaches it" };
    writeln!(f, "blocked for {}, {context}", Rounded(waited))
}

/// A time, rounded for a report.
struct Rounded(Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{} s", self.0.as_secs())
        }
    }
}

/// Returns how long to wait before the next look; none if there is no further look.
fn retry_delay(attempt: u32, retries: u32) -> Option<Duration> {
    let delay = 1u64.checked_shl(attempt).map_or(MAX_DELAY, Duration::from_micros);
    (attempt < retries).then(|| delay.min(MAX_DELAY))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn c315_retries_are_counted() {
        assert!((0..50).all(|attempt| retry_delay(attempt, 50).is_some()));
        assert!([50, 51, 52].iter().all(|&attempt| retry_delay(attempt, 50).is_none()));
        assert!((0..1000).all(|attempt| retry_delay(attempt, 1000) <= Some(MAX_DELAY)));
    }

    #[test]
    fn c311_the_delays_double_up_to_a_tenth_of_a_second() {
        let delays: Vec<Duration> = (0..).map_while(|attempt| retry_delay(attempt, LEAK_RETRIES)).collect();
        assert_eq!(delays[..3], [1, 2, 4].map(Duration::from_micros));
        assert_eq!(delays[19], MAX_DELAY);
        let total: Duration = delays.iter().sum();
        assert!((0.42..0.44).contains(&total.as_secs_f64()), "{total:?}");
    }
}
