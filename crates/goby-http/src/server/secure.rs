//! TLS for a server.

use goby::tls::TlsAcceptor;

use super::{Server, http2};

impl Server {
    /// Serves over TLS, with the certificates of `acceptor`.
    ///
    /// If the acceptor names no protocols (ALPN), the server offers HTTP/2 and HTTP/1.1, and the
    /// client chooses. An acceptor that names them chooses for both: `alpn(["http/1.1"])` leaves
    /// HTTP/2 out. [`reload`](TlsAcceptor::reload) of a clone of the acceptor changes the
    /// certificates of later connections.
    ///
    /// A handshake must be over in the [time for a head](Server::header_timeout). One that fails
    /// costs its connection, and a line on standard error, but no more than one such line every ten
    /// seconds. A client that speaks HTTP without TLS is told so (400).
    ///
    /// ```
    /// use goby::Context;
    /// use goby::tls::{Identity, TlsAcceptor};
    /// use goby_http::{Client, Request, Server};
    ///
    /// // A certificate for this example, which vouches for itself.
    /// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let server = Server::bind("127.0.0.1:0")?.tls(TlsAcceptor::new(identity)?);
    /// let url = format!("https://localhost:{}/", server.local_addr().port());
    /// let (serving, _stop) = Context::background().with_cancel();
    /// goby::go(move || server.serve_ctx(&serving, |_: Request| "hello"));
    ///
    /// let client = Client::builder().add_root_certificate(made.cert.pem()).build()?;
    /// assert_eq!(client.get(&Context::background(), url)?.text()?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Source: Go's `Server.ServeTLS`.
    #[must_use]
    pub fn tls(mut self, acceptor: TlsAcceptor) -> Server {
        self.settings.tls = Some(acceptor.with_default_alpn(http2::OFFERED));
        self
    }
}
