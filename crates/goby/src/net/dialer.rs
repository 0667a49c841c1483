//! How a connection is made.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::address::Limit;
use super::connect::{Attempt, race};
use super::error::{Action, Place, of_addr};
use super::{Address, KeepAlive, TcpStream};
use crate::Context;

/// How long an address may take before the next one is tried beside it (RFC 8305's figure).
const FALLBACK_DELAY: Duration = Duration::from_millis(250);

/// How to connect, where [`TcpStream::connect`]'s defaults do not fit.
///
/// # Several addresses
///
/// A name may have several addresses, and some may not answer. They are tried in turns of IPv6 and
/// IPv4, beginning with the first one that the resolver gave. If an address has neither answered
/// nor failed after the [`fallback_delay`](Dialer::fallback_delay), the next one is tried *beside*
/// it; if it fails, the next one is tried at once. The first connection that is made is the result,
/// and the others are closed. So an address that never answers costs 250 ms, not the time-out.
///
/// ```
/// use goby::net::{Dialer, TcpListener};
/// use std::time::Duration;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let dialer = Dialer::new().timeout(Duration::from_secs(10)).nodelay(false);
/// let stream = dialer.dial(listener.local_addr()?)?;
/// assert!(!stream.nodelay()?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Source: Go's `net.Dialer`; RFC 8305 ("happy eyeballs").
#[derive(Clone, Debug)]
#[doc(alias("net.Dialer", "happy eyeballs", "TcpSocket"))]
pub struct Dialer {
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    pub(super) local_addr: Option<SocketAddr>,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) nodelay: bool,
    pub(super) fallback_delay: Duration,
}

impl Dialer {
    /// Makes the configuration of [`TcpStream::connect`].
    ///
    /// ```
    /// use goby::net::{Dialer, TcpListener};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// assert!(Dialer::new().dial(listener.local_addr()?)?.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> Dialer {
        Dialer {
            timeout: None,
            deadline: None,
            local_addr: None,
            keep_alive: Some(KeepAlive::new()),
            nodelay: true,
            fallback_delay: FALLBACK_DELAY,
        }
    }

    /// Sets the limit of each dial, for the name and the connection together. Default: none; the
    /// system gives up after about two minutes.
    ///
    /// ```
    /// use goby::net::Dialer;
    /// use std::time::Duration;
    /// let error = Dialer::new().timeout(Duration::ZERO).dial("127.0.0.1:9").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// ```
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Dialer {
        self.timeout = timeout.into();
        self
    }

    /// Sets the time at which dialing ends, for several dials that share it. Default: none.
    ///
    /// ```
    /// use goby::net::Dialer;
    /// let error = Dialer::new().deadline(goby::now()).dial("127.0.0.1:9").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// ```
    pub fn deadline(mut self, deadline: impl Into<Option<Instant>>) -> Dialer {
        self.deadline = deadline.into();
        self
    }

    /// Sets the address to connect from; port 0 lets the system choose the port. Only addresses of
    /// its family are dialed. Default: the system chooses.
    ///
    /// ```
    /// use goby::net::{Dialer, TcpListener};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let dialer = Dialer::new().local_addr("127.0.0.2:0".parse().ok());
    /// dialer.dial(listener.local_addr()?)?;
    /// assert_eq!(listener.accept()?.1.ip().to_string(), "127.0.0.2");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias("LocalAddr"))]
    pub fn local_addr(mut self, addr: impl Into<Option<SocketAddr>>) -> Dialer {
        self.local_addr = addr.into();
        self
    }

    /// Sets when the connection is probed; `None`: never. Default: [`KeepAlive::new`].
    ///
    /// ```
    /// use goby::net::{Dialer, TcpListener};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// assert!(Dialer::new().keep_alive(None).dial(listener.local_addr()?).is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn keep_alive(mut self, keep_alive: impl Into<Option<KeepAlive>>) -> Dialer {
        self.keep_alive = keep_alive.into();
        self
    }

    /// Sets whether small writes are sent at once (`TCP_NODELAY`). Default: true.
    ///
    /// ```
    /// use goby::net::{Dialer, TcpListener};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// assert!(!Dialer::new().nodelay(false).dial(listener.local_addr()?)?.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn nodelay(mut self, nodelay: bool) -> Dialer {
        self.nodelay = nodelay;
        self
    }

    /// Sets how long an address may take before the next one is tried beside it. `Duration::MAX`:
    /// one address at a time, the next when the one before has failed. Default: 250 ms, the figure
    /// of RFC 8305.
    ///
    /// ```
    /// use goby::net::{Dialer, TcpListener};
    /// use std::time::Duration;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let addrs = vec!["127.0.0.1:1".parse().unwrap(), listener.local_addr()?];
    /// // The first one refuses, so the second one does not wait.
    /// assert!(Dialer::new().fallback_delay(Duration::MAX).dial(addrs).is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fallback_delay(mut self, delay: Duration) -> Dialer {
        self.fallback_delay = delay;
        self
    }

    /// Connects to `addr`.
    ///
    /// ```
    /// use goby::net::{Dialer, TcpListener};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = Dialer::new().dial(("127.0.0.1", listener.local_addr()?.port()))?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the name is looked up and a connection made.
    ///
    /// # Errors
    ///
    /// The error of the lookup; `TimedOut` when the time is up, with the errors of the addresses
    /// that had failed by then; that of the address if there is one, with the address; its
    /// [`source`](std::error::Error::source) is the system's. If there are several and all fail,
    /// the error names each with its own error, and has the kind of the last. `InvalidInput` if the
    /// system does not accept the [`KeepAlive`], or no address is of the family of the
    /// [`local_addr`](Dialer::local_addr).
    #[doc(alias("net.Dial", "Dial"))]
    pub fn dial(&self, addr: impl Into<Address>) -> io::Result<TcpStream> {
        self.dial_within(None, addr.into())
    }

    /// Connects to `addr` unless `ctx` is done first.
    ///
    /// Once it is made, the connection is independent of `ctx`;
    /// [`set_context`](TcpStream::set_context) ties them.
    ///
    /// ```
    /// use goby::{Context, net::Dialer};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// let error = Dialer::new().dial_ctx(&ctx, "127.0.0.1:9").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`dial`](Dialer::dial).
    ///
    /// # Errors
    ///
    /// Those of `dial`, and those of the [module](super#errors) when the context is done.
    ///
    /// # Cancellation
    ///
    /// Returns at once when `ctx` is done, also while the name is looked up. Half-made connections
    /// are closed.
    #[doc(alias("net.DialContext", "DialContext"))]
    pub fn dial_ctx(&self, ctx: &Context, addr: impl Into<Address>) -> io::Result<TcpStream> {
        self.dial_within(Some(ctx), addr.into())
    }

    fn dial_within(&self, context: Option<&Context>, addr: Address) -> io::Result<TcpStream> {
        goby_runtime::checkpoint();
        // A time-out that is too long to be reached is none.
        let timeout = self.timeout.and_then(|timeout| goby_runtime::now().checked_add(timeout));
        let deadline = [timeout, self.deadline].into_iter().flatten().min();
        let limit = Limit { context, deadline };
        let mut addrs = Vec::from(addr.resolve(limit)?);
        if let Some(local) = self.local_addr {
            addrs.retain(|addr| addr.is_ipv4() == local.is_ipv4());
        }
        match addrs[..] {
            [] => {
                let local = self.local_addr.expect("an address of its family is missing");
                let family = if local.is_ipv4() { "IPv4" } else { "IPv6" };
                let message = format!("no address is {family}, as the local address {local} is");
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
            [addr] => Attempt::start(self, addr)
                .and_then(|attempt| attempt.wait(limit))
                .map_err(of_addr(Action::Connect, Place::between(addr, self.local_addr))),
            _ => race(self, addrs, limit),
        }
    }
}

impl Default for Dialer {
    fn default() -> Dialer {
        Dialer::new()
    }
}
