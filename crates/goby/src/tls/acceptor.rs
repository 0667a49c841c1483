//! The server's side: the certificates that it shows, the clients that it lets in, and new
//! certificates for a server that runs.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{Connection, ServerConfig, ServerConnection};

use super::alpn::{self, Names};
use super::pem::Identity;
use super::roots::{Extra, Roots};
use super::{TlsStream, Transport, provider};

/// Makes the server's end of TLS out of a stream.
///
/// An acceptor is cheap to clone, and the clones are one: all of them see a
/// [`reload`](TlsAcceptor::reload).
///
/// ```
/// use goby::net::{TcpListener, TcpStream};
/// use goby::tls::{Identity, TlsAcceptor, TlsConnector};
/// use std::io::{Read, Write};
///
/// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// let server = goby::go(move || {
///     let mut stream = acceptor.accept(listener.accept()?.0)?;
///     stream.write_all(b"hello")?;
///     stream.shutdown()
/// });
/// let connector = TlsConnector::builder().add_root_certificate(made.cert.pem()).build()?;
/// let mut text = String::new();
/// connector.connect("localhost", TcpStream::connect(addr)?)?.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// server.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias("tls.Server", "tls.Listen"))]
pub struct TlsAcceptor {
    shared: Arc<Shared>,
    /// What it offers if the shared configuration names no protocols.
    offer: Option<Arc<Offer>>,
}

/// Protocols for configurations that name none.
struct Offer {
    protocols: Vec<Vec<u8>>,
    /// The configuration that was used last, and the one that was made of it.
    made: Mutex<Option<[Arc<ServerConfig>; 2]>>,
}

struct Shared {
    /// What the next handshake uses. Locked to be cloned or replaced.
    config: RwLock<Arc<ServerConfig>>,
    /// How to make another one; none for a configuration of rustls' own.
    recipe: Option<Recipe>,
}

/// What a reload keeps.
struct Recipe {
    clients: Arc<dyn ClientCertVerifier>,
    alpn: Vec<Vec<u8>>,
}

impl TlsAcceptor {
    /// Makes an acceptor that shows this certificate, and asks clients for none.
    ///
    /// ```
    /// use goby::tls::{Identity, TlsAcceptor};
    /// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`build`](TlsAcceptorBuilder::build).
    pub fn new(identity: Identity) -> io::Result<TlsAcceptor> {
        TlsAcceptor::builder().identity(identity).build()
    }

    /// Returns a builder, for other settings.
    ///
    /// ```
    /// use goby::tls::TlsAcceptor;
    /// assert!(TlsAcceptor::builder().build().is_err(), "a server needs a certificate");
    /// ```
    pub fn builder() -> TlsAcceptorBuilder {
        TlsAcceptorBuilder { identities: Vec::new(), clients: None, alpn: Vec::new() }
    }

    /// Makes the server's end of TLS out of a stream that a client has connected to.
    ///
    /// Nothing is waited for yet, so that the goroutine that accepts connections need not wait for
    /// a client. The handshake comes with the first read or write, or with
    /// [`handshake`](TlsStream::handshake): do that in the connection's own goroutine, under a
    /// deadline or a context.
    ///
    /// ```
    /// # use goby::tls::{Identity, TlsAcceptor};
    /// # use std::time::{Duration, Instant};
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
    /// # let listener = goby::net::TcpListener::bind("127.0.0.1:0")?;
    /// // A client that connects, and says nothing.
    /// let _silent = goby::net::TcpStream::connect(listener.local_addr()?)?;
    /// let stream = acceptor.accept(listener.accept()?.0)?;
    /// stream.get_ref().set_deadline(Some(Instant::now() + Duration::from_millis(20)));
    /// assert_eq!(stream.handshake().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// rustls' errors, for a configuration of its own that is not sound.
    pub fn accept<S: Transport>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let session = ServerConnection::new(self.config()).map_err(super::Error::from)?;
        Ok(TlsStream::new(stream, Connection::from(session)))
    }

    /// Gives an acceptor that offers `protocols` (ALPN) wherever this one names none. It shows the
    /// certificates of this one, also those of a later [`reload`](TlsAcceptor::reload).
    ///
    /// It is for servers of a protocol, which know what they speak.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use goby::tls::{Identity, TlsAcceptor, TlsConnector};
    ///
    /// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
    /// let acceptor = acceptor.with_default_alpn(["h2", "http/1.1"]);
    /// let connector = TlsConnector::builder().add_root_certificate(made.cert.pem()).alpn(["http/1.1"]).build()?;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let addr = listener.local_addr()?;
    /// let server = goby::go(move || acceptor.accept(listener.accept()?.0)?.handshake());
    /// let stream = connector.connect("localhost", TcpStream::connect(addr)?)?;
    /// stream.handshake()?;
    /// assert_eq!(stream.alpn_protocol(), Some(&b"http/1.1"[..]));
    /// server.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_default_alpn<P: Into<Vec<u8>>>(&self, protocols: impl IntoIterator<Item = P>) -> TlsAcceptor {
        let protocols = protocols.into_iter().map(Into::into).collect();
        TlsAcceptor { shared: self.shared.clone(), offer: Some(Arc::new(Offer { protocols, made: Mutex::default() })) }
    }

    /// The configuration of the next session.
    fn config(&self) -> Arc<ServerConfig> {
        let config = self.shared.config.read().clone();
        match &self.offer {
            Some(offer) => offer.apply(config),
            None => config,
        }
    }

    /// Replaces the certificates. New handshakes use the new ones, also those of clients that have
    /// been here before; connections that are there go on.
    ///
    /// If the new ones cannot be read, there is no [`Identity`] to pass, and the acceptor keeps the
    /// old ones.
    ///
    /// ```
    /// # use goby::tls::{Identity, TlsAcceptor};
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
    /// # let dir = tempfile_dir()?;
    /// # let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    /// # fn tempfile_dir() -> std::io::Result<std::path::PathBuf> {
    /// #     let dir = std::env::temp_dir().join(format!("goby-reload-{}", std::process::id()));
    /// #     std::fs::create_dir_all(&dir)?;
    /// #     Ok(dir)
    /// # }
    /// # std::fs::write(&cert, made.cert.pem())?;
    /// # std::fs::write(&key, made.signing_key.serialize_pem())?;
    /// // On SIGHUP, say.
    /// let reload = || acceptor.reload([Identity::from_files(&cert, &key)?]);
    /// reload()?;
    /// std::fs::write(&key, "nonsense")?;
    /// assert!(reload().is_err(), "the acceptor goes on with the old ones");
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` without an identity; `Unsupported` if the acceptor was made from rustls' own
    /// configuration, which is rustls' to change.
    #[doc(alias("GetCertificate", "GetConfigForClient"))]
    pub fn reload(&self, identities: impl IntoIterator<Item = Identity>) -> io::Result<()> {
        let Some(recipe) = &self.shared.recipe else {
            let text = "an acceptor that was made from a rustls::ServerConfig cannot be reloaded: give that \
                        configuration a resolver that changes, or make the acceptor by its builder";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        let config = recipe.config(identities.into_iter().collect())?;
        let old = std::mem::replace(&mut *self.shared.config.write(), config);
        drop(old);
        Ok(())
    }
}

impl Offer {
    /// Gives `config`, with the protocols if it names none.
    fn apply(&self, config: Arc<ServerConfig>) -> Arc<ServerConfig> {
        if !config.alpn_protocols.is_empty() {
            return config;
        }
        let mut made = self.made.lock();
        match &*made {
            Some([from, made]) if Arc::ptr_eq(from, &config) => made.clone(),
            _ => {
                let mut new = ServerConfig::clone(&config);
                new.alpn_protocols = self.protocols.clone();
                let new = Arc::new(new);
                *made = Some([config, new.clone()]);
                new
            }
        }
    }
}

impl Recipe {
    /// Makes a configuration. It knows no sessions: a client that resumed one would not see the new
    /// certificate.
    fn config(&self, identities: Vec<Identity>) -> io::Result<Arc<ServerConfig>> {
        if identities.is_empty() {
            let text = "a server needs a certificate: give at least one identity";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let keys = identities.into_iter().map(|identity| identity.key).collect();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(super::Error::from)?
            .with_client_cert_verifier(self.clients.clone())
            .with_cert_resolver(Arc::new(ByName { keys }));
        config.alpn_protocols = self.alpn.clone();
        Ok(Arc::new(config))
    }
}

/// Chooses the first certificate that is for the name that the client asks for; the first one of
/// all, if none is, or if the client gives no name.
#[derive(Debug)]
struct ByName {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let first = self.keys.first()?;
        if self.keys.len() == 1 {
            return Some(first.clone());
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_for = |key: &&Arc<CertifiedKey>| {
            let (Some(name), Some(leaf)) = (&name, key.cert.first()) else { return false };
            ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify_server_name(&leaf, name).is_ok())
        };
        Some(self.keys.iter().find(is_for).unwrap_or(first).clone())
    }
}

impl From<Arc<ServerConfig>> for TlsAcceptor {
    /// Takes rustls' own configuration, for what the builder does not have.
    fn from(config: Arc<ServerConfig>) -> TlsAcceptor {
        TlsAcceptor { shared: Arc::new(Shared { config: RwLock::new(config), recipe: None }), offer: None }
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config();
        f.debug_struct("TlsAcceptor").field("alpn", &Names(&config.alpn_protocols)).finish_non_exhaustive()
    }
}

/// Makes a [`TlsAcceptor`].
///
/// ```
/// use goby::tls::{Identity, TlsAcceptor};
/// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// let acceptor = TlsAcceptor::builder()
///     .identity(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)
///     .alpn(["h2", "http/1.1"])
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct TlsAcceptorBuilder {
    identities: Vec<Identity>,
    clients: Option<Clients>,
    alpn: Vec<Vec<u8>>,
}

/// Whose certificates let clients in.
#[derive(Clone)]
struct Clients {
    roots: Roots,
    is_optional: bool,
}

impl TlsAcceptorBuilder {
    /// Shows this certificate to clients. Of several, a client gets the first one that is for the
    /// name that it asks for, or else the first one.
    ///
    /// ```
    /// # use goby::tls::{Identity, TlsAcceptor};
    /// let mut builder = TlsAcceptor::builder();
    /// for name in ["one.example", "another.example"] {
    ///     let made = rcgen::generate_simple_self_signed([name.to_owned()])?;
    ///     builder = builder.identity(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?);
    /// }
    /// let acceptor = builder.build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn identity(mut self, identity: Identity) -> TlsAcceptorBuilder {
        self.identities.push(identity);
        self
    }

    /// Requires clients to show a certificate that one of these has issued: one root in DER, or any
    /// number of them in PEM.
    ///
    /// In TLS 1.3 a client that is refused may learn it only when it reads.
    ///
    /// ```
    /// # use goby::tls::{Identity, TlsAcceptor};
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let acceptor = TlsAcceptor::builder()
    ///     .identity(identity)
    ///     .require_client_certificates(made.cert.pem())
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("RequireAndVerifyClientCert", "ClientCAs"))]
    pub fn require_client_certificates(self, roots: impl Into<Vec<u8>>) -> TlsAcceptorBuilder {
        self.clients(Extra::Bytes(roots.into()), false)
    }

    /// Requires clients to show a certificate, as
    /// [`require_client_certificates`](TlsAcceptorBuilder::require_client_certificates) does, that
    /// one of those in this file has issued. [`build`](TlsAcceptorBuilder::build) reads it.
    ///
    /// ```
    /// use goby::tls::TlsAcceptor;
    /// let error = TlsAcceptor::builder().require_client_certificates_file("/nowhere/ca.pem").build().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// ```
    pub fn require_client_certificates_file(self, path: impl Into<PathBuf>) -> TlsAcceptorBuilder {
        self.clients(Extra::File(path.into()), false)
    }

    /// Asks clients for a certificate that one of these has issued, and lets those in, too, that
    /// have none. [`peer_certificates`](TlsStream::peer_certificates) tells them apart.
    ///
    /// ```
    /// # use goby::tls::{Identity, TlsAcceptor};
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let acceptor = TlsAcceptor::builder()
    ///     .identity(identity)
    ///     .request_client_certificates(made.cert.pem())
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "VerifyClientCertIfGiven")]
    pub fn request_client_certificates(self, roots: impl Into<Vec<u8>>) -> TlsAcceptorBuilder {
        self.clients(Extra::Bytes(roots.into()), true)
    }

    /// Asks clients for a certificate, as
    /// [`request_client_certificates`](TlsAcceptorBuilder::request_client_certificates) does, that
    /// one of those in this file has issued. [`build`](TlsAcceptorBuilder::build) reads it.
    ///
    /// ```
    /// use goby::tls::TlsAcceptor;
    /// let error = TlsAcceptor::builder().request_client_certificates_file("/nowhere/ca.pem").build().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// ```
    pub fn request_client_certificates_file(self, path: impl Into<PathBuf>) -> TlsAcceptorBuilder {
        self.clients(Extra::File(path.into()), true)
    }

    fn clients(mut self, roots: Extra, is_optional: bool) -> TlsAcceptorBuilder {
        let mut clients = self
            .clients
            .take()
            .unwrap_or_else(|| Clients { roots: Roots { with_system: false, extra: Vec::new() }, is_optional });
        clients.roots.extra.push(roots);
        clients.is_optional = is_optional;
        self.clients = Some(clients);
        self
    }

    /// Speaks these application protocols (ALPN, RFC 7301), the preferred one first. A client that
    /// offers others only is turned away. Default: none.
    ///
    /// ```
    /// # use goby::tls::{Identity, TlsAcceptor};
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let acceptor = TlsAcceptor::builder().identity(identity).alpn(["h2", "http/1.1"]).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "NextProtos")]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> TlsAcceptorBuilder {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Makes the acceptor.
    ///
    /// ```
    /// # use goby::tls::{Identity, TlsAcceptor};
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let acceptor = TlsAcceptor::builder().identity(identity).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while files are read.
    ///
    /// # Errors
    ///
    /// The system's errors for files, with their names, and `InvalidInput` without an identity, or
    /// for bytes that are no certificate, or if an application protocol has not 1 to 255 bytes.
    pub fn build(self) -> io::Result<TlsAcceptor> {
        alpn::check(&self.alpn)?;
        let clients = match self.clients {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(clients) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots.load()?, provider());
                let verifier = if clients.is_optional { verifier.allow_unauthenticated() } else { verifier };
                verifier.build().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?
            }
        };
        let recipe = Recipe { clients, alpn: self.alpn };
        let config = RwLock::new(recipe.config(self.identities)?);
        Ok(TlsAcceptor { shared: Arc::new(Shared { config, recipe: Some(recipe) }), offer: None })
    }
}

impl fmt::Debug for TlsAcceptorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut builder = f.debug_struct("TlsAcceptorBuilder");
        builder.field("identities", &self.identities).field("alpn", &Names(&self.alpn));
        builder.field("client_certificates", &self.clients.is_some()).finish()
    }
}
