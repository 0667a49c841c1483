//! The connection as hyper sees it: a socket, with TLS over it or not.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use goby::net::TcpStream;
use hyper::rt::ReadBufCursor;

use crate::tls::Tls;

/// The most that one system call reads. hyper's own buffer is filled from a buffer of this size, one a worker, because
/// safe code can hand the system only memory that has been written before: copying what came is cheaper than clearing room for
/// what might.
const READ_AT_ONCE: usize = 64 * 1024;

/// A socket, shared by hyper's connection, which owns its [`Stream`], and by those who set its limits.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) tcp: TcpStream,
    /// Bytes received so far: whether a message has begun to come. Relaxed: it is read by who drives the connection.
    received: AtomicU64,
}

/// What hyper reads from and writes to.
pub(crate) struct Stream {
    link: Arc<Link>,
    tls: Option<Box<Tls>>,
}

impl Link {
    pub(crate) fn new(tcp: TcpStream) -> Arc<Link> {
        Arc::new(Link { tcp, received: AtomicU64::new(0) })
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut &self.tcp).poll_read(cx, buf))?;
        // No read-modify-write: one reads at a time, who drives the connection.
        self.received.store(self.received() + n as u64, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &self.tcp).poll_write_vectored(cx, bufs)
    }
}

impl Stream {
    pub(crate) fn new(link: Arc<Link>, tls: Option<Box<Tls>>) -> Stream {
        Stream { link, tls }
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Stream { link, tls } = &mut *self;
        if let Some(tls) = tls {
            let most = cursor.remaining();
            return tls.poll_read(link, cx, |plain| {
                let n = plain.len().min(most);
                cursor.put_slice(&plain[..n]);
                n
            });
        }
        thread_local! {
            static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        // Taken, not borrowed: should the read yield, the next goroutine gets another.
        let mut buffer = BUFFER.take();
        buffer.resize(READ_AT_ONCE, 0);
        let most = cursor.remaining().min(READ_AT_ONCE);
        let polled = link.poll_read(cx, &mut buffer[..most]);
        if let Poll::Ready(Ok(n)) = polled {
            cursor.put_slice(&buffer[..n]);
        }
        BUFFER.set(buffer);
        polled.map_ok(drop)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Stream { link, tls } = &mut *self;
        match tls {
            None => link.poll_write(cx, buf),
            Some(tls) => tls.poll_write(link, cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Stream { link, tls } = &mut *self;
        match tls {
            None => Poll::Ready(Ok(())),
            Some(tls) => tls.poll_flush(link, cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Stream { link, tls } = &mut *self;
        if let Some(tls) = tls {
            ready!(tls.poll_close(link, cx))?;
        }
        // The other side may have closed already.
        Poll::Ready(match link.tcp.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
            _ => Ok(()),
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_none()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Stream { link, tls } = &mut *self;
        match tls {
            None => link.poll_write_vectored(cx, bufs),
            Some(tls) => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                tls.poll_write(link, cx, first)
            }
        }
    }
}
