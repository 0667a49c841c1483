//! Probes that find out whether the peer of an idle connection is still there.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// When the system asks the peer of an idle connection whether it is still there, and when it gives
/// it up (`SO_KEEPALIVE`).
///
/// A peer that has lost its power or its network says nothing, so a read would wait forever. With
/// probes that read fails with `TimedOut` after `idle + count × interval`: 150 s by default.
///
/// The system counts in whole seconds, up to 32767; a fraction counts as a second. It sends up to
/// 127 probes.
///
/// ```
/// use goby::net::{Dialer, KeepAlive, TcpListener};
/// use std::time::Duration;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let patient = KeepAlive::new().idle(Duration::from_secs(600)).interval(Duration::from_secs(60)).count(5);
/// let stream = Dialer::new().keep_alive(patient).dial(listener.local_addr()?)?;
/// stream.set_keep_alive(None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Source: Go's `net.KeepAliveConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias("net.KeepAliveConfig", "KeepAliveConfig", "SO_KEEPALIVE"))]
pub struct KeepAlive {
    idle: Duration,
    interval: Duration,
    count: u32,
}

impl KeepAlive {
    /// Probes after 15 seconds, every 15 seconds, nine times: what connections of goby begin with.
    ///
    /// ```
    /// use goby::net::KeepAlive;
    /// assert_eq!(KeepAlive::new(), KeepAlive::default());
    /// ```
    pub fn new() -> KeepAlive {
        KeepAlive::default()
    }

    /// Sets how long a connection is idle before the first probe (`TCP_KEEPIDLE`). Default: 15
    /// seconds.
    ///
    /// ```
    /// use goby::net::KeepAlive;
    /// assert_eq!(KeepAlive::new().idle(std::time::Duration::from_secs(15)), KeepAlive::new());
    /// ```
    pub fn idle(mut self, idle: Duration) -> KeepAlive {
        self.idle = idle;
        self
    }

    /// Sets the time from one probe to the next while none is answered (`TCP_KEEPINTVL`). Default:
    /// 15 seconds.
    ///
    /// ```
    /// use goby::net::KeepAlive;
    /// assert_eq!(KeepAlive::new().interval(std::time::Duration::from_secs(15)), KeepAlive::new());
    /// ```
    pub fn interval(mut self, interval: Duration) -> KeepAlive {
        self.interval = interval;
        self
    }

    /// Sets after how many probes without an answer the connection fails (`TCP_KEEPCNT`). Default:
    /// 9.
    ///
    /// ```
    /// use goby::net::KeepAlive;
    /// assert_eq!(KeepAlive::new().count(9), KeepAlive::new());
    /// ```
    pub fn count(mut self, count: u32) -> KeepAlive {
        self.count = count;
        self
    }

    /// Makes `socket` probe as `keep_alive` says, or not at all.
    pub(super) fn apply(keep_alive: Option<KeepAlive>, socket: impl AsFd) -> io::Result<()> {
        if let Some(KeepAlive { idle, interval, count }) = keep_alive {
            check("idle time", idle)?;
            check("interval", interval)?;
            if !(1..=MAX_COUNT).contains(&count) {
                let message = format!("keep-alive: a count of {count} is not in 1..={MAX_COUNT}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            sockopt::set_tcp_keepidle(&socket, idle)?;
            sockopt::set_tcp_keepintvl(&socket, interval)?;
            sockopt::set_tcp_keepcnt(&socket, count)?;
        }
        Ok(sockopt::set_socket_keepalive(&socket, keep_alive.is_some())?)
    }
}

/// Linux's limits: `MAX_TCP_KEEPIDLE`, which is `MAX_TCP_KEEPINTVL` too, and `MAX_TCP_KEEPCNT`.
const MAX_TIME: Duration = Duration::from_secs(32767);
const MAX_COUNT: u32 = 127;

fn check(what: &str, time: Duration) -> io::Result<()> {
    if time.is_zero() || time > MAX_TIME {
        let message = format!("keep-alive: an {what} of {time:?} is not in 1s..={MAX_TIME:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

impl Default for KeepAlive {
    fn default() -> KeepAlive {
        // Go's figures.
        KeepAlive { idle: Duration::from_secs(15), interval: Duration::from_secs(15), count: 9 }
    }
}
