//! What a handshake has agreed on.

use rustls::pki_types::CertificateDer;
use rustls::{Connection, ProtocolVersion, SupportedCipherSuite};

use super::TlsStream;

/// What the handshake has agreed on.
pub(super) struct Agreed {
    certificates: Option<Vec<CertificateDer<'static>>>,
    alpn: Option<Vec<u8>>,
    pub(super) version: Option<ProtocolVersion>,
    cipher_suite: Option<SupportedCipherSuite>,
    server_name: Option<String>,
}

impl Agreed {
    pub(super) fn new(tls: &Connection) -> Agreed {
        Agreed {
            certificates: tls.peer_certificates().map(<[_]>::to_vec),
            alpn: tls.alpn_protocol().map(<[_]>::to_vec),
            version: tls.protocol_version(),
            cipher_suite: tls.negotiated_cipher_suite(),
            server_name: match tls {
                Connection::Server(server) => server.server_name().map(str::to_owned),
                Connection::Client(_) => None,
            },
        }
    }
}

impl<S> TlsStream<S> {
    /// Returns the certificates that the other side has shown, its own one first; none before the
    /// end of the handshake, or if it has shown none.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::TlsConnector;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TlsConnector::new()?.connect("localhost", TcpStream::connect(listener.local_addr()?)?)?;
    /// assert_eq!(stream.peer_certificates(), None, "no handshake yet");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.agreed.get()?.certificates.as_deref()
    }

    /// Returns the application protocol that was agreed on (ALPN); none before the end of the
    /// handshake, or without one.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::{Identity, TlsAcceptor, TlsConnector};
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// # let acceptor = TlsAcceptor::builder().identity(identity).alpn(["h2", "http/1.1"]).build()?;
    /// # let builder = TlsConnector::builder().add_root_certificate(made.cert.pem());
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let addr = listener.local_addr()?;
    /// # let server = goby::go(move || acceptor.accept(listener.accept()?.0)?.handshake());
    /// let connector = builder.alpn(["http/1.1"]).build()?;
    /// let stream = connector.connect("localhost", TcpStream::connect(addr)?)?;
    /// stream.handshake()?;
    /// assert_eq!(stream.alpn_protocol(), Some(&b"http/1.1"[..]));
    /// # server.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "NegotiatedProtocol")]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.agreed.get()?.alpn.as_deref()
    }

    /// Returns the version of TLS that was agreed on; none before the end of the handshake.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::TlsConnector;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TlsConnector::new()?.connect("localhost", TcpStream::connect(listener.local_addr()?)?)?;
    /// assert_eq!(stream.protocol_version(), None, "no handshake yet");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.agreed.get()?.version
    }

    /// Returns the cipher suite that was agreed on; none before the end of the handshake.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::TlsConnector;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TlsConnector::new()?.connect("localhost", TcpStream::connect(listener.local_addr()?)?)?;
    /// assert_eq!(stream.cipher_suite(), None, "no handshake yet");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.agreed.get()?.cipher_suite
    }

    /// Returns, on a server, the name that the client has asked for (SNI); none before the end of
    /// the handshake, or if it has given none.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::{Identity, TlsAcceptor, TlsConnector};
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
    /// # let connector = TlsConnector::builder().add_root_certificate(made.cert.pem()).build()?;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let addr = listener.local_addr()?;
    /// let server = goby::go(move || -> std::io::Result<_> {
    ///     let stream = acceptor.accept(listener.accept()?.0)?;
    ///     stream.handshake()?;
    ///     Ok(stream.server_name().map(str::to_owned))
    /// });
    /// connector.connect("localhost", TcpStream::connect(addr)?)?.handshake()?;
    /// assert_eq!(server.join().unwrap()?.as_deref(), Some("localhost"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn server_name(&self) -> Option<&str> {
        self.agreed.get()?.server_name.as_deref()
    }
}
