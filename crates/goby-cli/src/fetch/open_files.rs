//! The limit of open files: the sockets and saved files of all workers must fit.

use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::Usage;
use crate::text::{self, count};

/// Files that are open besides the sockets and saved files of the workers: standard streams, input,
/// output, the run's directory, names that are being resolved, and the like.
const OTHER_FILES: u64 = 16;
/// A thread of the runtime has a poller and a descriptor that wakes it.
const FILES_PER_THREAD: u64 = 2;

/// How many workers fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) workers: u32,
    /// Connections that can be kept idle.
    pub(crate) idle: usize,
}

/// Raises the soft limit to the hard one, as Go's runtime does, and warns if not all of `workers`
/// fit, with `per_worker` files each.
///
/// # Errors
/// If not even one does.
pub(crate) fn room(workers: u32, per_worker: u64) -> Result<Room, Usage> {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let allowed = if raised.is_ok() { limit.maximum } else { limit.current };
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let room = fit(allowed, threads, workers, per_worker)?;
    if room.workers < workers {
        text::complain(&format_args!(
            "warning: {} workers do not fit the limit of {} open files, so {} fetch; raise it with ulimit -n",
            count(u64::from(workers)),
            count(allowed.unwrap_or_default()),
            count(u64::from(room.workers)),
        ));
    }
    Ok(room)
}

fn fit(allowed: Option<u64>, threads: u64, workers: u32, per_worker: u64) -> Result<Room, Usage> {
    let Some(allowed) = allowed else { return Ok(Room { workers, idle: workers.max(100) as usize }) };
    let others = OTHER_FILES + FILES_PER_THREAD * threads;
    let left = allowed.saturating_sub(others);
    if left < per_worker {
        return Err(Usage::new(format!(
            "the limit of open files is {allowed}, and {} are needed; raise it with ulimit -n",
            others + per_worker
        )));
    }
    let workers = u32::try_from(left / per_worker).unwrap_or(u32::MAX).min(workers);
    let spare = left - u64::from(workers) * per_worker;
    let idle = (u64::from(workers.max(100))).min(spare.max(u64::from(workers)));
    Ok(Room { workers, idle: usize::try_from(idle).unwrap_or(usize::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_fit_the_limit() {
        let fit = |allowed, workers, saving| {
            fit(Some(allowed), 2, workers, if saving { 2 } else { 1 }).map(|room| room.workers).ok()
        };
        assert_eq!(fit(1024, 64, true), Some(64));
        assert_eq!(fit(48, 64, false), Some(28));
        assert_eq!(fit(48, 64, true), Some(14));
        assert_eq!(fit(21, 64, false), Some(1));
        assert_eq!(fit(21, 64, true), None);
        assert_eq!(fit(5, 1, false), None);
        assert_eq!(super::fit(None, 2, 100_000, 2).unwrap(), Room { workers: 100_000, idle: 100_000 });
    }

    #[test]
    fn kept_connections_fit_too() {
        let idle = |allowed, workers| fit(Some(allowed), 2, workers, 1).unwrap().idle;
        assert_eq!(idle(1024, 64), 100);
        assert_eq!(idle(100, 64), 64);
        assert_eq!(idle(40, 64), 20);
    }
}
