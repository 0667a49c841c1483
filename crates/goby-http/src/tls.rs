//! TLS for the client: goby's, over the connection as hyper sees it.

use std::error::Error as StdError;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use goby::sync::OnceCell;
use goby::tls::{TlsConnector, TlsConnectorBuilder, TlsStream};

use crate::stream::Link;

/// The client's side of a TLS session.
pub(crate) struct Tls {
    stream: TlsStream<Wire>,
}

/// The configuration of a client.
pub(crate) struct Config {
    builder: TlsConnectorBuilder,
    /// Made for the first `https` URL: a program that has none need not read the system's roots.
    connector: OnceCell<TlsConnector>,
}

/// Makes the configuration of a client: today's protocol versions, the roots that the system
/// trusts, and `extra` ones.
pub(crate) fn client_config(extra: &[Vec<u8>]) -> io::Result<Config> {
    let builder = TlsConnector::builder().alpn(["http/1.1"]);
    let builder = extra.iter().fold(builder, |builder, roots| builder.add_root_certificate(&roots[..]));
    let config = Config { builder, connector: OnceCell::new() };
    if !extra.is_empty() {
        // Now, because one of them may be wrong.
        config.connector()?;
    }
    Ok(config)
}

impl Config {
    fn connector(&self) -> io::Result<&TlsConnector> {
        self.connector.get_or_try_init(|| self.builder.clone().build())
    }
}

/// Returns an error if the crate was built without TLS. This one never does; see `no_tls.rs`.
pub(crate) fn check_is_built_in() -> io::Result<()> {
    Ok(())
}

/// Returns whether the error is TLS's own, as opposed to one of the socket below it.
pub(crate) fn is_failure(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    error.is::<goby::tls::Error>()
}

impl Tls {
    pub(crate) fn new(config: &Config, host: &str, link: Arc<Link>) -> io::Result<Tls> {
        Ok(Tls { stream: config.connector()?.connect(host, Wire { link })? })
    }

    /// Drives the handshake to its end.
    pub(crate) fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_handshake(cx)
    }

    /// Offers plain bytes to `take`, which returns how many it took; it offers none at the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, take: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<()>> {
        self.stream.poll_read_with(cx, take)
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &self.stream).poll_write(cx, buf)
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &self.stream).poll_flush(cx)
    }

    /// Tells the other side that nothing more comes, and closes the connection for writing.
    pub(crate) fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &self.stream).poll_close(cx)
    }
}

/// The connection beneath.
struct Wire {
    link: Arc<Link>,
}

impl AsyncRead for &Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.link.poll_read(cx, buf)
    }
}

impl AsyncWrite for &Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.link.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.link.socket.shutdown(Shutdown::Write))
    }
}
