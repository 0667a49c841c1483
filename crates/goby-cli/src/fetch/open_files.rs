//! The limit of open files: as many sockets as workers must fit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::text;

/// Open besides the sockets and saved files of the workers: input, output, pollers and the like.
const OTHER_FILES: u64 = 32;

/// Raises the soft limit to the hard one, as Go's runtime does, and warns if that is not enough for `workers`.
pub(crate) fn raise_limit(workers: u32, saving: bool) {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let (Some(allowed), Some(maximum)) = (limit.current, limit.maximum) else { return };
    let allowed = if raised.is_ok() { maximum } else { allowed };
    let needed = u64::from(workers) * if saving { 2 } else { 1 } + OTHER_FILES;
    if needed > allowed {
        let count = text::count;
        text::complain(&format_args!(
            "warning: {} workers may need {} open files, but the limit is {}; \
             raise it with ulimit -n, or take fewer with -w",
            count(u64::from(workers)),
            count(needed),
            count(allowed)
        ));
    }
}
