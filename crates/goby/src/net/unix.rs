//! Unix sockets: streams and listeners, and the files of listeners. `unix_datagram.rs` has the
//! datagrams.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{self, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goby_runtime::Direction;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};

use super::error::{Action, named, of_addr};
use super::{ListenConfig, Listener, Stream};
use crate::Context;

/// A connection over a Unix socket.
///
/// It has what a [`TcpStream`](super::TcpStream) has, but for TCP's options.
///
/// ```
/// use goby::net::UnixStream;
/// use std::io::{Read, Write};
/// let (mut a, mut b) = UnixStream::pair()?;
/// a.write_all(b"ping")?;
/// let mut message = [0; 4];
/// b.read_exact(&mut message)?;
/// assert_eq!(&message, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Reads, writes and connecting park the goroutine. On a plain OS thread they block the thread.
///
/// # Cancellation
///
/// A deadline ends a wait, and so does a [context](Stream::set_context) when it is done.
#[doc(alias("net.UnixConn", "UnixConn"))]
pub type UnixStream = Stream<net::UnixStream>;

/// A Unix socket that accepts connections.
///
/// # The file
///
/// Listening at a path makes a file there. As in Go, and not as in std and tokio, closing or
/// dropping the listener removes the file again, so that the next one can listen there: unless
/// another file is at the path by then, or
/// [`set_unlink_on_close`](UnixListener::set_unlink_on_close) forbids it. The clones of a listener
/// share the file, and the last one removes it. The file of a process
/// that was killed stays: listening there fails with `AddrInUse` until it is removed. What
/// [`from_std`](Listener::from_std) takes keeps its file, and an abstract address has none.
///
/// ```
/// use goby::net::{UnixListener, UnixStream};
/// use std::io::{Read, Write};
///
/// let path = std::env::temp_dir().join(format!("goby-{}.sock", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let mut client = UnixStream::connect(&path)?;
/// let (mut server, _) = listener.accept()?;
/// client.write_all(b"x")?;
/// assert_eq!(server.read(&mut [0])?, 1);
/// drop(listener);
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// [`accept`](Listener::accept) parks the goroutine. On a plain OS thread it blocks the thread.
///
/// # Cancellation
///
/// A [deadline](Listener::set_deadline) ends a wait, and so does a [context](Listener::set_context)
/// when it is done.
#[doc(alias("net.UnixListener", "net.ListenUnix"))]
pub type UnixListener = Listener<net::UnixListener>;

/// Who is at the other end of a Unix socket: what the system knew of it when it connected; from
/// [`UnixStream::peer_cred`].
///
/// ```
/// use goby::net::UnixStream;
/// let (a, b) = UnixStream::pair()?;
/// let cred = a.peer_cred()?;
/// assert_eq!((cred.uid(), cred.gid()), (b.peer_cred()?.uid(), b.peer_cred()?.gid()));
/// assert_eq!(cred.pid(), Some(std::process::id() as i32));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UCred {
    uid: u32,
    gid: u32,
    pid: i32,
}

impl UCred {
    /// Returns the user's number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the number of the group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Returns the number of the process, if it can be seen from here.
    pub fn pid(&self) -> Option<i32> {
        (self.pid != 0).then_some(self.pid)
    }
}

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// ```
    /// use goby::net::{UnixListener, UnixStream};
    /// let path = std::env::temp_dir().join(format!("goby-connect-{}.sock", std::process::id()));
    /// let _listener = UnixListener::bind(&path)?;
    /// let stream = UnixStream::connect(&path)?;
    /// assert_eq!(stream.peer_addr()?.as_pathname(), Some(&*path));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while the listener's queue is full. The system does not tell when that
    /// has room, so connecting is tried again every few milliseconds.
    ///
    /// # Errors
    ///
    /// The system's: `NotFound` if nothing is there, `ConnectionRefused` if nobody listens.
    #[doc(alias("net.Dial", "Dial"))]
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        connect(&address(Action::Connect, path.as_ref())?, None)
    }

    /// Connects to the socket at `addr`, which may be an abstract one.
    ///
    /// ```
    /// use goby::net::{UnixListener, UnixStream};
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    /// let name = format!("goby-doc-{}", std::process::id());
    /// let addr = SocketAddr::from_abstract_name(name)?;
    /// let listener = UnixListener::bind_addr(&addr)?;
    /// let _client = UnixStream::connect_addr(&addr)?;
    /// assert!(listener.accept().is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`connect`](UnixStream::connect).
    ///
    /// # Errors
    ///
    /// As for `connect`.
    pub fn connect_addr(addr: &SocketAddr) -> io::Result<UnixStream> {
        connect(addr, None)
    }

    /// Connects to the socket at `path` unless `ctx` is done first.
    ///
    /// ```
    /// use goby::{Context, net::UnixStream};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// let error = UnixStream::connect_ctx(&ctx, "/nowhere").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`connect`](UnixStream::connect).
    ///
    /// # Errors
    ///
    /// Those of `connect`, and those of the [module](super#errors) when the context is done.
    ///
    /// # Cancellation
    ///
    /// Returns at once when `ctx` is done. The connection is independent of it.
    pub fn connect_ctx(ctx: &Context, path: impl AsRef<Path>) -> io::Result<UnixStream> {
        connect(&address(Action::Connect, path.as_ref())?, Some(ctx))
    }

    /// Makes two streams that are connected to each other.
    ///
    /// ```
    /// use goby::net::UnixStream;
    /// use std::io::{Read, Write};
    /// let (mut a, mut b) = UnixStream::pair()?;
    /// a.write_all(b"x")?;
    /// assert_eq!(b.read(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, such as that of too many open files.
    #[doc(alias("socketpair", "net.Pipe"))]
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (a, b) = net::UnixStream::pair()?;
        Ok((UnixStream::from_std(a)?, UnixStream::from_std(b)?))
    }

    /// Returns who is at the other end.
    ///
    /// ```
    /// use goby::net::UnixStream;
    /// let (a, _b) = UnixStream::pair()?;
    /// assert_eq!(a.peer_cred()?.pid(), Some(std::process::id() as i32));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    #[doc(alias("SO_PEERCRED"))]
    pub fn peer_cred(&self) -> io::Result<UCred> {
        let cred = self.socket.ask(|socket| Ok(sockopt::socket_peercred(socket)?))?;
        let pid = rustix::process::Pid::as_raw(Some(cred.pid));
        Ok(UCred { uid: cred.uid.as_raw(), gid: cred.gid.as_raw(), pid })
    }
}

impl UnixListener {
    /// Listens at `path`, where it makes a [file](UnixListener#the-file).
    ///
    /// ```
    /// use goby::net::UnixListener;
    /// use std::io::ErrorKind;
    /// let path = std::env::temp_dir().join(format!("goby-bind-{}.sock", std::process::id()));
    /// let _listener = UnixListener::bind(&path)?;
    /// assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's: `AddrInUse` if anything is there, also a file that was left behind.
    #[doc(alias("net.Listen", "Listen"))]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        ListenConfig::new().bind_unix(path)
    }

    /// Listens at `addr`, which may be an abstract one.
    ///
    /// ```
    /// use goby::net::UnixListener;
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    /// let name = format!("goby-bind-{}", std::process::id());
    /// let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    /// assert_eq!(listener.local_addr()?.as_abstract_name(), Some(name.as_bytes()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`bind`](UnixListener::bind).
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixListener> {
        ListenConfig::new().bind_unix_addr(addr)
    }

    /// Sets whether closing or dropping the listener removes its [file](UnixListener#the-file); for
    /// all its clones. Default: true, for the file that [`bind`](UnixListener::bind) has made.
    ///
    /// ```
    /// use goby::net::UnixListener;
    /// let path = std::env::temp_dir().join(format!("goby-kept-{}.sock", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// listener.set_unlink_on_close(false);
    /// drop(listener);
    /// assert!(path.exists());
    /// std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: Go's `UnixListener.SetUnlinkOnClose`.
    pub fn set_unlink_on_close(&self, unlink: bool) {
        if let Some(file) = &*self.file.lock() {
            file.set_unlink(unlink);
        }
    }
}

/// The file that a listener has made. Dropping it removes the file, if it is still that one.
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    unlink: AtomicBool,
}

impl SocketFile {
    fn at(path: &Path) -> Option<SocketFile> {
        let file = fs::symlink_metadata(path).ok()?;
        Some(SocketFile { path: path.to_owned(), device: file.dev(), inode: file.ino(), unlink: true.into() })
    }

    pub(super) fn set_unlink(&self, unlink: bool) {
        // Relaxed: dropping the last `Arc` orders it.
        self.unlink.store(unlink, Ordering::Relaxed);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |file: fs::Metadata| file.dev() == self.device && file.ino() == self.inode;
        if *self.unlink.get_mut() && fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // It may be gone by now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn socket() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Listens at `addr`, and takes the file there for its own.
pub(super) fn listen(addr: &SocketAddr, backlog: i32) -> io::Result<UnixListener> {
    goby_runtime::checkpoint();
    let bound = || {
        let fd = socket()?;
        rustix::net::bind(&fd, &for_system(addr)?)?;
        rustix::net::listen(&fd, backlog)?;
        Ok(UnixListener::from_nonblocking(fd.into()))
    };
    let listener = bound().map_err(of_addr(Action::Listen, addr))?;
    *listener.file.lock() = addr.as_pathname().and_then(SocketFile::at).map(Arc::new);
    Ok(listener)
}

fn connect(addr: &SocketAddr, context: Option<&Context>) -> io::Result<UnixStream> {
    let connected = || {
        let to = for_system(addr)?;
        let stream = UnixStream::from_nonblocking(socket()?.into());
        stream.socket.set_context(context);
        // If the queue is full the system says so at once, and tells nobody when it has room.
        stream.socket.perform_again(Direction::Write, |socket| Ok(rustix::net::connect(socket, &to)?))?;
        stream.socket.set_context(None);
        Ok(stream)
    };
    connected().map_err(of_addr(Action::Connect, addr))
}

/// Makes an address of a path. std's errors say what is wrong with it.
pub(super) fn address(action: Action, path: &Path) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(path).map_err(|error| named(action, path, error))
}

fn for_system(addr: &SocketAddr) -> io::Result<SocketAddrUnix> {
    Ok(match (addr.as_pathname(), addr.as_abstract_name()) {
        (Some(path), _) => SocketAddrUnix::new(path)?,
        (None, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
        (None, None) => SocketAddrUnix::new_unnamed(),
    })
}
