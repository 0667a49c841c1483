//! TCP, UDP and Unix sockets as straight-line code.
//!
//! Streams are [`TcpStream`] and [`UnixStream`], which are one type, [`Stream`]; they come
//! from [`TcpListener`] and [`UnixListener`]. For datagrams there are [`UdpSocket`] and
//! [`UnixDatagram`].
//!
//! A read, a write, an accept or a connect parks the goroutine until the system says that the
//! socket is ready. Its worker runs others meanwhile. There is no second, asynchronous API to
//! learn, but the same sockets also implement [`futures_io`]'s traits, for libraries that poll.
//!
//! Every wait can be bounded, from any goroutine and at any time: by a deadline
//! ([`TcpStream::set_read_deadline`] and its kin), and by a [`Context`](crate::Context)
//! ([`TcpStream::set_context`], [`TcpListener::set_context`], [`TcpStream::connect_ctx`]).
//!
//! A [`Dialer`] and a [`ListenConfig`] make sockets with other options than the usual ones.
//!
//! ```
//! use goby::net::{TcpListener, TcpStream};
//! use std::io::{Read, Write};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let server = goby::go(move || -> std::io::Result<()> {
//!     let (mut stream, _) = listener.accept()?;
//!     let mut line = String::new();
//!     stream.read_to_string(&mut line)?;
//!     stream.write_all(line.to_uppercase().as_bytes())
//! });
//!
//! let mut stream = TcpStream::connect(addr)?;
//! stream.write_all(b"hello")?;
//! stream.shutdown(std::net::Shutdown::Write)?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer)?;
//! assert_eq!(answer, "HELLO");
//! server.join().unwrap()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Closing
//!
//! A socket is closed when it is dropped. One that several goroutines hold, in an
//! [`Arc`](std::sync::Arc), is closed by `close`: the operations of the others end at once, as do
//! all later ones ([`Stream::close`], [`Listener::close`], [`DatagramSocket::close`]).
//!
//! # Sockets in a `select!`
//!
//! [`Stream::readable`], [`Stream::writable`], [`Listener::acceptable`] and
//! [`DatagramSocket::readable`] give channels that are closed when the socket is ready: a goroutine
//! waits for a socket and for channels at once, by a case `recv(stream.readable())`.
//!
//! # Errors
//!
//! Every operation fails with a [`std::io::Error`]. What the system says to connecting, binding and
//! listening comes with the address, as the error's [`source`](std::error::Error::source).
//!
//! The error of a wait that ended at a deadline is of kind `TimedOut`. If a context ended the wait,
//! the error is of kind `TimedOut` when the context's deadline has passed and of kind
//! `ConnectionAborted` when the context was canceled. Its [`source`](std::error::Error::source) is
//! the [`ContextError`](crate::context::ContextError), which tells it from all other errors. After
//! `close` the error is of kind `NotConnected`, with a [`ClosedError`] as its source.

#![forbid(unsafe_code)]

mod address;
mod connect;
mod dialer;
mod ends;
mod error;
mod keep_alive;
mod kind;
pub(crate) mod socket;
mod closed;
mod stream;
mod split;
mod listener;
mod listen_config;
mod datagram;
mod tcp;
mod udp;
mod unix;
mod unix_datagram;

pub use address::{Address, look_up, look_up_ctx};
pub use closed::ClosedError;
pub use datagram::DatagramSocket;
pub use dialer::Dialer;
pub use keep_alive::KeepAlive;
pub use kind::{AddrOf, Datagrams, Listening, StreamSocket};
pub use listen_config::ListenConfig;
pub use listener::{Incoming, Listener, TcpListener};
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
pub use stream::Stream;
pub use tcp::TcpStream;
pub use udp::UdpSocket;
pub use unix::{UCred, UnixListener, UnixStream};
pub use unix_datagram::UnixDatagram;
