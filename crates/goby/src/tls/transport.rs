//! What TLS needs of the stream beneath it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

/// A stream that TLS can run over.
///
/// Every type has it whose *reference* reads and writes by polling, that is, implements
/// [`futures_io`]'s traits: [`TcpStream`](crate::net::TcpStream), a
/// [`TlsStream`](super::TlsStream), or one of your own.
///
/// ```
/// fn takes(_: &impl goby::tls::Transport) {}
/// let listener = goby::net::TcpListener::bind("127.0.0.1:0")?;
/// takes(&goby::net::TcpStream::connect(listener.local_addr()?)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Transport {
    /// Reads, or registers the waker for the time when there is something to read; 0 at the end.
    ///
    /// # Errors
    ///
    /// The stream's.
    fn poll_receive(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes, or registers the waker for the time when there is room.
    ///
    /// If a deadline or a context of goby's ends this, pass its error on as it is: a write that the
    /// session has taken then counts as written.
    ///
    /// # Errors
    ///
    /// The stream's.
    fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends what the stream itself keeps back, if it does so.
    ///
    /// # Errors
    ///
    /// The stream's.
    fn poll_send_all(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Tells the other side that nothing more comes.
    ///
    /// # Errors
    ///
    /// The stream's.
    fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl<S> Transport for S
where
    for<'a> &'a S: AsyncRead + AsyncWrite,
{
    fn poll_receive(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }

    fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, buf)
    }

    fn poll_send_all(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}
