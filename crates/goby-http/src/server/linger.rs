//! The end of a connection whose client is still sending.

use std::io::Read as _;
use std::time::Duration;

use super::Stopping;
use crate::stall::{after, earlier};
use crate::stream::Link;

/// Reads what the client still sends, until it closes, within limits; nothing more is written. If a
/// socket with unread bytes is closed, the system tells the client to drop what it was sent: also
/// the response to the request that it is still sending, as clients do that read only then.
///
/// Source: `lingering_close` of nginx, which waits for 5 s and for 30 s in all.
pub(super) fn linger(link: &Link, stopping: &Stopping) {
    /// How long nothing may come, how long all may take, and how many bytes may come: what a client
    /// has sent before it hears of the refusal, on a fast network with long ways.
    const QUIET: Duration = Duration::from_secs(2);
    const LONGEST: Duration = Duration::from_secs(15);
    const MOST: usize = 64 << 20;
    /// The same when the server stops. Source: Go's `rstAvoidanceDelay`.
    const AT_STOP: Duration = Duration::from_millis(500);
    let (start, mut read) = (goby::now(), 0);
    while read < MOST {
        let longest = if stopping.is_stopping() { AT_STOP } else { LONGEST };
        link.socket.set_read_deadline(earlier(after(Some(QUIET.min(longest))), start.checked_add(longest)));
        match (&link.socket).read(&mut [0; 8 << 10]) {
            Ok(n) if n > 0 => read += n,
            // The connection is over, whatever the result.
            _ => return,
        }
        // Without this, a client that never stops sending would keep other goroutines from running.
        goby::checkpoint();
    }
}
