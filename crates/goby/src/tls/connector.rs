//! The client's side: what it trusts, and how it makes a stream.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, Connection};

use super::alpn::{self, Names};
use super::pem::Identity;
use super::roots::{Extra, Roots};
use super::unverified::Unverified;
use super::{TlsStream, Transport, provider};

/// Makes the client's end of TLS out of a stream.
///
/// A connector is cheap to clone. Make it once, and use it for all connections: it remembers the
/// sessions of servers, and takes them up again.
///
/// ```
/// use goby::net::TcpStream;
/// use goby::tls::{TlsConnector, TlsStream};
/// use std::io::{self, Read, Write};
///
/// fn hello(connector: &TlsConnector, host: &str) -> io::Result<Vec<u8>> {
///     let mut stream: TlsStream = connector.connect(host, TcpStream::connect((host, 443))?)?;
///     write!(stream, "GET / HTTP/1.0\r\nhost: {host}\r\n\r\n")?;
///     let mut answer = Vec::new();
///     stream.read_to_end(&mut answer)?;
///     Ok(answer)
/// }
/// # let connector = TlsConnector::new()?;
/// # assert!(hello(&connector, "host.invalid").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias("tls.Client", "tls.Dial"))]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
}

impl TlsConnector {
    /// Makes a connector that trusts the system's roots.
    ///
    /// ```
    /// let connector = goby::tls::TlsConnector::new()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`build`](TlsConnectorBuilder::build).
    ///
    /// # Errors
    ///
    /// Those of [`build`](TlsConnectorBuilder::build).
    pub fn new() -> io::Result<TlsConnector> {
        TlsConnector::builder().build()
    }

    /// Returns a builder, for other settings.
    ///
    /// ```
    /// let connector = goby::tls::TlsConnector::builder().alpn(["h2", "http/1.1"]).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> TlsConnectorBuilder {
        TlsConnectorBuilder {
            roots: Roots { with_system: true, extra: Vec::new() },
            identity: None,
            alpn: Vec::new(),
            accepts_all: false,
        }
    }

    /// Makes the client's end of TLS out of a stream that is connected to the server `name`.
    ///
    /// `name` is what the server's certificate has to be for: the name of a host, or an IP address.
    /// Names are also sent to the server (SNI), in the clear.
    ///
    /// Nothing is sent yet. The handshake comes with the first read or write, or with
    /// [`handshake`](TlsStream::handshake).
    ///
    /// ```
    /// use goby::{net::{TcpListener, TcpStream}, tls::TlsConnector};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// let error = TlsConnector::new()?.connect("not a name", stream).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput`, if `name` is neither the name of a host nor an IP address.
    pub fn connect<S: Transport>(&self, name: &str, stream: S) -> io::Result<TlsStream<S>> {
        // URLs write an IPv6 address in brackets.
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let server = ServerName::try_from(bare.to_owned()).map_err(|_| {
            let text = format!("{name:?} is neither the name of a host nor an IP address");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let session = ClientConnection::new(self.config.clone(), server).map_err(super::Error::from)?;
        Ok(TlsStream::new(stream, Connection::from(session)))
    }
}

impl From<Arc<ClientConfig>> for TlsConnector {
    /// Takes rustls' own configuration, for what the builder does not have.
    fn from(config: Arc<ClientConfig>) -> TlsConnector {
        TlsConnector { config }
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").field("alpn", &Names(&self.config.alpn_protocols)).finish_non_exhaustive()
    }
}

/// Makes a [`TlsConnector`].
///
/// ```
/// use goby::tls::TlsConnector;
/// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// let connector = TlsConnector::builder()
///     .add_root_certificate(made.cert.pem())
///     .system_roots(false)
///     .alpn(["http/1.1"])
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct TlsConnectorBuilder {
    roots: Roots,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    accepts_all: bool,
}

impl TlsConnectorBuilder {
    /// Trusts servers whose certificate was issued by one of these, too: one certificate in DER, or
    /// any number of them in PEM.
    ///
    /// ```
    /// use goby::tls::TlsConnector;
    /// let error = TlsConnector::builder().add_root_certificate("no certificate").build().unwrap_err();
    /// assert!(error.to_string().starts_with("the root certificate: it is neither PEM"));
    /// ```
    #[doc(alias = "RootCAs")]
    pub fn add_root_certificate(mut self, certificates: impl Into<Vec<u8>>) -> TlsConnectorBuilder {
        self.roots.extra.push(Extra::Bytes(certificates.into()));
        self
    }

    /// Trusts servers whose certificate was issued by one of those in this file, too.
    /// [`build`](TlsConnectorBuilder::build) reads it.
    ///
    /// ```
    /// use goby::tls::TlsConnector;
    /// let error = TlsConnector::builder().add_root_file("/nowhere/ca.pem").build().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// ```
    pub fn add_root_file(mut self, path: impl Into<PathBuf>) -> TlsConnectorBuilder {
        self.roots.extra.push(Extra::File(path.into()));
        self
    }

    /// Sets whether the system's roots are trusted. Default: true.
    ///
    /// ```
    /// use goby::tls::TlsConnector;
    /// assert!(TlsConnector::builder().system_roots(false).build().is_err(), "it would trust nobody");
    /// ```
    pub fn system_roots(mut self, with: bool) -> TlsConnectorBuilder {
        self.roots.with_system = with;
        self
    }

    /// Shows this certificate to servers that ask for one. Default: none.
    ///
    /// ```
    /// use goby::tls::{Identity, TlsConnector};
    /// let made = rcgen::generate_simple_self_signed(["a client".to_owned()])?;
    /// let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let connector = TlsConnector::builder().identity(identity).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn identity(mut self, identity: Identity) -> TlsConnectorBuilder {
        self.identity = Some(identity);
        self
    }

    /// Offers these application protocols (ALPN, RFC 7301), the preferred one first. Default: none.
    /// [`alpn_protocol`](TlsStream::alpn_protocol) says which one the server has chosen.
    ///
    /// ```
    /// let connector = goby::tls::TlsConnector::builder().alpn(["h2", "http/1.1"]).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "NextProtos")]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> TlsConnectorBuilder {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Sets whether every certificate is accepted: one that has expired, that is for another name,
    /// or that an attacker has made. Default: false.
    ///
    /// **With true, whoever is on the way to the server can read and change everything.** TLS then
    /// keeps out only those who just listen. To trust a server with a certificate of its own
    /// making, [add](TlsConnectorBuilder::add_root_certificate) that certificate instead; how to
    /// make one that is accepted then is in the [module](super#whom-a-client-trusts).
    ///
    /// ```
    /// let connector = goby::tls::TlsConnector::builder().danger_accept_invalid_certs(true).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias("InsecureSkipVerify", "insecure"))]
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> TlsConnectorBuilder {
        self.accepts_all = accept;
        self
    }

    /// Makes the connector.
    ///
    /// ```
    /// let connector = goby::tls::TlsConnector::builder().build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while files are read: those that were given, and those of the system's
    /// roots, once per process.
    ///
    /// # Errors
    ///
    /// The system's errors for files, with their names, and `InvalidInput` for bytes that are no
    /// certificate, for an `SSL_CERT_FILE` or `SSL_CERT_DIR` without any, if nobody is trusted, or
    /// if an application protocol has not 1 to 255 bytes.
    pub fn build(self) -> io::Result<TlsConnector> {
        alpn::check(&self.alpn)?;
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(super::Error::from)?;
        let builder = match self.accepts_all {
            true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified::new(provider()))),
            false => builder.with_root_certificates(self.roots.load()?),
        };
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let shown = SingleCertAndKey::from(identity.key.as_ref().clone());
                builder.with_client_cert_resolver(Arc::new(shown))
            }
        };
        config.alpn_protocols = self.alpn;
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl fmt::Debug for TlsConnectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut builder = f.debug_struct("TlsConnectorBuilder");
        builder.field("system_roots", &self.roots.with_system).field("extra_roots", &self.roots.extra.len());
        builder.field("identity", &self.identity).field("alpn", &Names(&self.alpn));
        builder.field("danger_accept_invalid_certs", &self.accepts_all).finish()
    }
}
