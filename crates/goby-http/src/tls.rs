//! TLS over a socket: rustls, which does no input and output itself, driven by polling.

use std::error::Error as StdError;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::stream::Link;

/// The client's side of a TLS session.
pub(crate) struct Tls {
    session: ClientConnection,
}

/// The configuration of a client.
pub(crate) type Config = Arc<ClientConfig>;

/// Makes the configuration of a client: today's protocol versions, the roots that browsers trust,
/// and `extra` ones.
pub(crate) fn client_config(extra: &[Vec<u8>]) -> Result<Config, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for der in extra {
        roots.add(CertificateDer::from_slice(der).into_owned())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Returns an error if the crate was built without TLS. This one never does; see `no_tls.rs`.
pub(crate) fn check_is_built_in() -> io::Result<()> {
    Ok(())
}

/// Returns whether the error is TLS's own, as opposed to one of the socket below it.
pub(crate) fn is_failure(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    error.is::<rustls::Error>()
}

impl Tls {
    pub(crate) fn new(config: Config, host: &str) -> io::Result<Tls> {
        // A URL writes an IPv6 address in brackets.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Tls { session })
    }

    /// Drives the handshake to its end.
    pub(crate) fn poll_handshake(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(link, cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(link, cx))? == 0 {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed during the handshake");
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Offers plain bytes to `take`, which returns how many it took; it offers none at the end.
    pub(crate) fn poll_read(
        &mut self,
        link: &Link,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut reader = self.session.reader();
            match reader.fill_buf() {
                Ok(plain) => {
                    let n = take(plain);
                    reader.consume(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_receive(link, cx))?;
        }
    }

    /// Takes plain bytes into the session, which holds them until they are flushed or it is full.
    pub(crate) fn poll_write(&mut self, link: &Link, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let n = self.session.writer().write(buf)?;
            if n > 0 || buf.is_empty() {
                return Poll::Ready(Ok(n));
            }
            ready!(self.poll_flush(link, cx))?;
        }
    }

    pub(crate) fn poll_flush(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut socket = Polled { link, cx };
            match self.session.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the other side that nothing more comes.
    pub(crate) fn poll_close(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.send_close_notify();
        self.poll_flush(link, cx)
    }

    /// Receives what has come; 0 when the other side has closed.
    fn poll_receive(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let n = match self.session.read_tls(&mut Polled { link, cx }) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let processed = self.session.process_new_packets();
        // An alert that says why, or an answer to a key update, may be due. It is sent now if there
        // is room, otherwise with the next flush.
        let sent = self.poll_flush(link, cx);
        if let Err(error) = processed {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        if let Poll::Ready(Err(error)) = sent {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(n))
    }
}

/// A socket that says `WouldBlock` after registering a waker, as rustls wants it.
struct Polled<'a, 'b, 'c> {
    link: &'a Link,
    cx: &'b mut Context<'c>,
}

impl Read for Polled<'_, '_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.link.poll_read(self.cx, buf) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Polled<'_, '_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.link.poll_write(self.cx, buf) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
