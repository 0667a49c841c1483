//! Reading from and writing to a stream, in goroutines and by polls.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{self, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use goby_runtime::Direction;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::{Stream, StreamSocket};

/// The most that a vectored write joins into one piece.
const JOINED: usize = 1024;
/// The most pieces that one system call takes (`IOV_MAX`).
const PIECES: usize = 1024;

fn receive(socket: &impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buf, RecvFlags::empty())?.0)
}

fn look_ahead(socket: &impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buf, RecvFlags::PEEK)?.0)
}

fn receive_vectored(socket: &impl AsFd, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    Ok(rustix::io::readv(socket, bufs)?)
}

fn transmit(socket: &impl AsFd, buf: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, buf, SendFlags::NOSIGNAL)?)
}

/// Sends the pieces in one system call. Joins small ones, because the system takes a list of them
/// much more slowly than one piece.
fn transmit_vectored(socket: &impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut joined = [0; JOINED];
    let mut len = 0;
    for buf in bufs {
        let Some(room) = joined.get_mut(len..len + buf.len()) else { return transmit_list(socket, bufs) };
        room.copy_from_slice(buf);
        len += buf.len();
    }
    transmit(socket, &joined[..len])
}

fn transmit_list(socket: &impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let bufs = &bufs[..bufs.len().min(PIECES)];
    Ok(rustix::net::sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?)
}

impl<T: StreamSocket> Stream<T> {
    pub(super) fn peek_into(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return self.socket.read_nothing();
        }
        self.socket.perform(Direction::Read, |socket| look_ahead(socket, buf))
    }

    pub(super) fn poll_peek_into(&self, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(self.socket.look(Direction::Read).map(|()| 0));
        }
        self.socket.poll_perform(Direction::Read, cx, |socket| look_ahead(socket, buf))
    }

    #[inline]
    fn receive(&self, room: usize, read: impl FnMut(&T) -> io::Result<usize>) -> io::Result<usize> {
        // The system would wait until there is something, and then take nothing of it.
        if room == 0 {
            return self.socket.read_nothing();
        }
        if const { T::EMPTIED_BY_SHORT_READ } {
            self.socket.read(room, read)
        } else {
            self.socket.perform(Direction::Read, read)
        }
    }

    #[inline]
    fn poll_receive(
        &self,
        room: usize,
        cx: &mut task::Context<'_>,
        read: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if room == 0 {
            return Poll::Ready(self.socket.look(Direction::Read).map(|()| 0));
        }
        if const { T::EMPTIED_BY_SHORT_READ } {
            self.socket.poll_read(room, cx, read)
        } else {
            self.socket.poll_perform(Direction::Read, cx, read)
        }
    }
}

impl<T: StreamSocket> Read for &Stream<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf.len(), |socket| receive(socket, buf))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        self.receive(room, |socket| receive_vectored(socket, bufs))
    }
}

impl<T: StreamSocket> Write for &Stream<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.perform(Direction::Write, |socket| transmit(socket, buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.perform(Direction::Write, |socket| transmit_vectored(socket, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: StreamSocket> Read for Stream<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl<T: StreamSocket> Write for Stream<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: StreamSocket> AsyncRead for &Stream<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_receive(buf.len(), cx, |socket| receive(socket, buf))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_receive(room, cx, |socket| receive_vectored(socket, bufs))
    }
}

impl<T: StreamSocket> AsyncWrite for &Stream<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_perform(Direction::Write, cx, |socket| transmit(socket, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_perform(Direction::Write, cx, |socket| transmit_vectored(socket, bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

impl<T: StreamSocket> AsyncRead for Stream<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read_vectored(cx, bufs)
    }
}

impl<T: StreamSocket> AsyncWrite for Stream<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}
