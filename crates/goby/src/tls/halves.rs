//! The two halves of a stream.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::{TlsStream, Transport};

/// The half of a [`TlsStream`] that reads, made by [`into_split`](TlsStream::into_split).
///
/// Dropping it does not tell the other side anything. The stream beneath is closed when both halves
/// are dropped.
pub struct ReadHalf<S> {
    pub(super) stream: Arc<TlsStream<S>>,
}

/// The half of a [`TlsStream`] that writes, made by [`into_split`](TlsStream::into_split).
///
/// Only [`shutdown`](WriteHalf::shutdown) tells the other side that nothing more comes.
pub struct WriteHalf<S> {
    pub(super) stream: Arc<TlsStream<S>>,
}

impl<S> ReadHalf<S> {
    /// Returns the whole stream.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let tcp = TcpStream::connect(listener.local_addr()?)?;
    /// let (reader, _writer) = goby::tls::TlsConnector::new()?.connect("localhost", tcp)?.into_split();
    /// assert_eq!(reader.stream().get_ref().peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stream(&self) -> &TlsStream<S> {
        &self.stream
    }
}

impl<S> WriteHalf<S> {
    /// Returns the whole stream.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let tcp = TcpStream::connect(listener.local_addr()?)?;
    /// let (_reader, writer) = goby::tls::TlsConnector::new()?.connect("localhost", tcp)?.into_split();
    /// assert_eq!(writer.stream().get_ref().peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stream(&self) -> &TlsStream<S> {
        &self.stream
    }
}

impl<S: Transport> WriteHalf<S> {
    /// Tells the other side that nothing more comes, as [`TlsStream::shutdown`] does.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let tcp = TcpStream::connect(listener.local_addr()?)?;
    /// let (_reader, writer) = goby::tls::TlsConnector::new()?.connect("localhost", tcp)?.into_split();
    /// writer.stream().get_ref().set_deadline(Some(std::time::Instant::now()));
    /// assert_eq!(writer.shutdown().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`TlsStream::shutdown`].
    ///
    /// # Errors
    ///
    /// Those of [`TlsStream::shutdown`].
    pub fn shutdown(&self) -> io::Result<()> {
        self.stream.shutdown()
    }
}

impl<S: Transport> Read for ReadHalf<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read_some(buf)
    }
}

impl<S: Transport> Write for WriteHalf<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write_some(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush_all()
    }
}

impl<S: fmt::Debug> fmt::Debug for ReadHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadHalf").field(&self.stream).finish()
    }
}

impl<S: fmt::Debug> fmt::Debug for WriteHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteHalf").field(&self.stream).finish()
    }
}
