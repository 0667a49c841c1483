//! How a listening socket is made.

use std::io;
use std::net::{self, SocketAddr};
use std::os::unix::net as unix_net;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};

use super::address::Limit;
use super::error::Action;
use super::{Address, KeepAlive, TcpListener, UnixListener, unix};
use crate::Context;

/// As many as the system allows (it cuts this down to `net.core.somaxconn`), so that a burst is not
/// turned away.
const BACKLOG: u32 = 65_535;

/// How to listen, where the defaults of [`TcpListener::bind`] and [`UnixListener::bind`] do not
/// fit.
///
/// ```
/// use goby::net::ListenConfig;
/// // Several sockets at one port: the system spreads the connections over them.
/// let config = ListenConfig::new().reuse_port(true).backlog(128);
/// let first = config.bind("127.0.0.1:0")?;
/// let second = config.bind(first.local_addr()?)?;
/// assert_eq!(first.local_addr()?, second.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Source: Go's `net.ListenConfig`, with the options that Go leaves to its `Control`.
#[derive(Clone, Debug)]
#[doc(alias("net.ListenConfig", "TcpSocket"))]
pub struct ListenConfig {
    backlog: u32,
    reuse_addr: bool,
    reuse_port: bool,
    only_v6: Option<bool>,
    keep_alive: Option<KeepAlive>,
    nodelay: bool,
}

impl ListenConfig {
    /// Makes the configuration of [`TcpListener::bind`] and [`UnixListener::bind`].
    ///
    /// ```
    /// let listener = goby::net::ListenConfig::new().bind("127.0.0.1:0")?;
    /// assert!(listener.local_addr()?.ip().is_loopback());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> ListenConfig {
        ListenConfig {
            backlog: BACKLOG,
            // So a server that is started again need not wait until old connections are forgotten.
            reuse_addr: true,
            reuse_port: false,
            only_v6: None,
            keep_alive: Some(KeepAlive::new()),
            nodelay: true,
        }
    }

    /// Sets how many connections the system keeps until they are accepted. Default: as many as it
    /// allows (`net.core.somaxconn`).
    ///
    /// ```
    /// let listener = goby::net::ListenConfig::new().backlog(16).bind("127.0.0.1:0")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn backlog(mut self, backlog: u32) -> ListenConfig {
        self.backlog = backlog;
        self
    }

    /// Sets whether several sockets may listen at one address and share its connections
    /// (`SO_REUSEPORT`). All of them have to set it. Default: false.
    ///
    /// ```
    /// use goby::net::ListenConfig;
    /// let first = ListenConfig::new().reuse_port(true).bind("127.0.0.1:0")?;
    /// assert!(ListenConfig::new().bind(first.local_addr()?).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias("SO_REUSEPORT"))]
    pub fn reuse_port(mut self, reuse_port: bool) -> ListenConfig {
        self.reuse_port = reuse_port;
        self
    }

    /// Sets whether the address may be taken while connections of an earlier listener are not yet
    /// forgotten (`SO_REUSEADDR`). Default: true, as for std's listeners.
    ///
    /// ```
    /// let listener = goby::net::ListenConfig::new().reuse_addr(false).bind("127.0.0.1:0")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias("SO_REUSEADDR"))]
    pub fn reuse_addr(mut self, reuse_addr: bool) -> ListenConfig {
        self.reuse_addr = reuse_addr;
        self
    }

    /// Sets whether a listener at an IPv6 address turns IPv4 away (`IPV6_V6ONLY`); otherwise `[::]`
    /// listens for both. `None` leaves it to the system (`net.ipv6.bindv6only`). Default: `None`.
    ///
    /// ```
    /// let config = goby::net::ListenConfig::new().only_v6(true);
    /// // It says nothing about IPv4.
    /// assert!(config.bind("127.0.0.1:0").is_ok());
    /// ```
    #[doc(alias("IPV6_V6ONLY"))]
    pub fn only_v6(mut self, only_v6: impl Into<Option<bool>>) -> ListenConfig {
        self.only_v6 = only_v6.into();
        self
    }

    /// Sets when accepted connections are probed; `None`: never. Default: [`KeepAlive::new`].
    ///
    /// ```
    /// let listener = goby::net::ListenConfig::new().keep_alive(None).bind("127.0.0.1:0")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn keep_alive(mut self, keep_alive: impl Into<Option<KeepAlive>>) -> ListenConfig {
        self.keep_alive = keep_alive.into();
        self
    }

    /// Sets whether accepted connections send small writes at once (`TCP_NODELAY`). Default: true.
    ///
    /// ```
    /// use goby::net::{ListenConfig, TcpStream};
    /// let listener = ListenConfig::new().nodelay(false).bind("127.0.0.1:0")?;
    /// let _client = TcpStream::connect(listener.local_addr()?)?;
    /// assert!(!listener.accept()?.0.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn nodelay(mut self, nodelay: bool) -> ListenConfig {
        self.nodelay = nodelay;
        self
    }

    /// Listens at `addr` as [`TcpListener::bind`] does.
    ///
    /// ```
    /// let listener = goby::net::ListenConfig::new().backlog(1).bind("127.0.0.1:0")?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while a name is looked up.
    ///
    /// # Errors
    ///
    /// Those of `bind`; `InvalidInput` if the system does not accept the [`KeepAlive`].
    pub fn bind(&self, addr: impl Into<Address>) -> io::Result<TcpListener> {
        self.bind_within(addr.into(), Limit::default())
    }

    /// Listens at `addr` as [`bind`](ListenConfig::bind) does, unless `ctx` is done first.
    ///
    /// ```
    /// use goby::{Context, net::ListenConfig};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert!(ListenConfig::new().bind_ctx(&ctx, "localhost:0").is_ok());
    /// cancel.cancel();
    /// let error = ListenConfig::new().bind_ctx(&ctx, "localhost:0").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// ```
    ///
    /// # Blocking
    ///
    /// As for `bind`.
    ///
    /// # Errors
    ///
    /// Those of `bind`, and those of the [module](super#errors) when the context is done.
    ///
    /// # Cancellation
    ///
    /// Returns at once when `ctx` is done, also while the name is looked up. The listener is
    /// independent of it.
    ///
    /// Source: Go's `ListenConfig.Listen`.
    pub fn bind_ctx(&self, ctx: &Context, addr: impl Into<Address>) -> io::Result<TcpListener> {
        self.bind_within(addr.into(), Limit { context: Some(ctx), deadline: None })
    }

    /// Listens at `path` as [`UnixListener::bind`] does, with this
    /// [`backlog`](ListenConfig::backlog): all other options are TCP's.
    ///
    /// ```
    /// use goby::net::{ListenConfig, UnixStream};
    /// let path = std::env::temp_dir().join(format!("goby-config-{}.sock", std::process::id()));
    /// let listener = ListenConfig::new().backlog(16).bind_unix(&path)?;
    /// let _client = UnixStream::connect(&path)?;
    /// assert!(listener.accept().is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`UnixListener::bind`].
    pub fn bind_unix(&self, path: impl AsRef<Path>) -> io::Result<UnixListener> {
        self.bind_unix_addr(&unix::address(Action::Listen, path.as_ref())?)
    }

    /// Listens at `addr` as [`bind_unix`](ListenConfig::bind_unix) does. It may be an abstract
    /// address.
    ///
    /// ```
    /// use goby::net::{ListenConfig, UnixStream};
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    /// let addr = SocketAddr::from_abstract_name(format!("goby-config-{}", std::process::id()))?;
    /// let listener = ListenConfig::new().backlog(16).bind_unix_addr(&addr)?;
    /// let _client = UnixStream::connect_addr(&addr)?;
    /// assert!(listener.accept().is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for `bind_unix`.
    pub fn bind_unix_addr(&self, addr: &unix_net::SocketAddr) -> io::Result<UnixListener> {
        unix::listen(addr, self.system_backlog())
    }

    fn bind_within(&self, addr: Address, limit: Limit<'_>) -> io::Result<TcpListener> {
        goby_runtime::checkpoint();
        addr.resolve(limit)?.try_each(Action::Listen, |addr| self.bind_one(&addr)).map(TcpListener::from_nonblocking)
    }

    fn bind_one(&self, addr: &SocketAddr) -> io::Result<net::TcpListener> {
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_socket_reuseaddr(&fd, self.reuse_addr)?;
        if self.reuse_port {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        if let Some(only_v6) = self.only_v6.filter(|_| addr.is_ipv6()) {
            sockopt::set_ipv6_v6only(&fd, only_v6)?;
        }
        // Accepted sockets inherit these two, which saves system calls per connection.
        sockopt::set_tcp_nodelay(&fd, self.nodelay)?;
        KeepAlive::apply(self.keep_alive, &fd)?;
        rustix::net::bind(&fd, addr)?;
        rustix::net::listen(&fd, self.system_backlog())?;
        Ok(net::TcpListener::from(fd))
    }

    fn system_backlog(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }
}

impl Default for ListenConfig {
    fn default() -> ListenConfig {
        ListenConfig::new()
    }
}
