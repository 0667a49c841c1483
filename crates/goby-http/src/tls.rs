//! TLS: goby's, over the connection as hyper sees it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use goby::sync::OnceCell;
use goby::tls::{Identity, TlsConnector, TlsConnectorBuilder, TlsStream};

/// What a server shows of itself.
pub(crate) use goby::tls::TlsAcceptor as Acceptor;

use crate::stream::Link;

/// One side of a TLS session.
pub(crate) struct Tls {
    stream: TlsStream<Wire>,
}

/// What a client trusts and shows.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) roots: Vec<Vec<u8>>,
    pub(crate) system_roots: bool,
    pub(crate) identity: Option<Identity>,
    pub(crate) accepts_all: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { roots: Vec::new(), system_roots: true, identity: None, accepts_all: false }
    }
}

/// The configuration of a client.
pub(crate) struct Config {
    builder: TlsConnectorBuilder,
    /// Made for the first `https` URL: a program that has none need not read the system's roots.
    connector: OnceCell<TlsConnector>,
}

/// Makes the configuration of a client, with today's protocol versions.
pub(crate) fn client_config(options: Options) -> io::Result<Config> {
    static WARNED: Once = Once::new();
    if options.accepts_all {
        WARNED.call_once(|| {
            eprintln!(
                "goby-http: a client accepts every certificate: whoever is on the way can read and change everything"
            );
        });
    }
    let is_usual = options.roots.is_empty() && options.system_roots;
    let mut builder = TlsConnector::builder().alpn(["http/1.1"]).system_roots(options.system_roots);
    builder = builder.danger_accept_invalid_certs(options.accepts_all);
    for roots in options.roots {
        builder = builder.add_root_certificate(roots);
    }
    if let Some(identity) = options.identity {
        builder = builder.identity(identity);
    }
    let config = Config { builder, connector: OnceCell::new() };
    if !is_usual {
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
        let wire = Wire { link, awaits_hello: false.into() };
        Ok(Tls { stream: config.connector()?.connect(host, wire)? })
    }

    /// Makes a server's side.
    pub(crate) fn accept(acceptor: &Acceptor, link: Arc<Link>) -> io::Result<Tls> {
        Ok(Tls { stream: acceptor.accept(Wire { link, awaits_hello: true.into() })? })
    }

    /// The protocol that both sides have agreed on, if they have.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.stream.alpn_protocol()
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
    /// A server has not read anything yet. Relaxed: one goroutine at a time reads.
    awaits_hello: AtomicBool,
}

/// The error of a client that speaks HTTP without TLS. rustls has not seen its bytes, so no alert
/// was sent, which the client would take for the answer.
#[derive(Debug)]
struct PlainHttp;

impl fmt::Display for PlainHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client speaks plain HTTP, not TLS")
    }
}

impl StdError for PlainHttp {}

/// Whether a handshake failed because the client speaks HTTP without TLS.
pub(crate) fn is_plain_http(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<PlainHttp>())
}

/// How requests without TLS begin. Source: Go's `tlsRecordHeaderLooksLikeHTTP`.
const REQUESTS: [&[u8]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];

impl AsyncRead for &Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let n = ready!(self.link.poll_read(cx, buf))?;
        if self.awaits_hello.load(Ordering::Relaxed) {
            self.awaits_hello.store(false, Ordering::Relaxed);
            if REQUESTS.iter().any(|beginning| buf[..n].starts_with(beginning)) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, PlainHttp)));
            }
        }
        Poll::Ready(Ok(n))
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
