//! The settings of connections: their time-outs, where they lead, and whom they trust.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ClientBuilder;
use crate::client::proxy::Proxy;

impl ClientBuilder {
    /// Limits the time for making a connection: the lookup of the name, connecting, and TLS.
    /// Default: 30 seconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let client = goby_http::Client::builder().connect_timeout(Duration::from_secs(5)).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.connect_timeout = timeout.into();
        self
    }

    /// Limits the time for TLS alone, within that for [connecting](ClientBuilder::connect_timeout).
    /// Default: 10 seconds. Source: Go's `TLSHandshakeTimeout`.
    ///
    /// ```
    /// use goby::{Context, go, net::TcpListener};
    /// use std::{io::Read, time::Duration};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let url = format!("https://{}/", listener.local_addr()?);
    /// go(move || listener.accept().unwrap().0.read_to_end(&mut Vec::new()));
    /// let client = goby_http::Client::builder().tls_handshake_timeout(Duration::from_millis(10)).build()?;
    /// let error = client.get(&Context::background(), url).unwrap_err();
    /// # #[cfg(feature = "tls")]
    /// assert!(error.is_tls() && error.is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "TLSHandshakeTimeout")]
    pub fn tls_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.tls_handshake_timeout = timeout.into();
        self
    }

    /// Limits the time from the end of the request to the response's headers. It begins when the
    /// system has taken the last byte of the request. Default: no limit. Source: Go's
    /// `ResponseHeaderTimeout`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let client = goby_http::Client::builder().header_timeout(Duration::from_secs(5)).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    #[doc(alias = "ResponseHeaderTimeout")]
    pub fn header_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.header_timeout = timeout.into();
        self
    }

    /// Limits the time in which no byte moves, in either direction, while the request is sent or
    /// the response's body is read. Each byte that moves begins it again. The wait for the
    /// response's headers has a limit of [its own](ClientBuilder::header_timeout); the time that a
    /// caller takes between two reads does not count. Default: no limit.
    ///
    /// Responses without an end, such as streams of events, need a limit that is longer than their
    /// pauses.
    ///
    /// ```
    /// use goby::{Context, go, net::TcpListener};
    /// use std::{io::{Read, Write}, time::Duration};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let url = format!("http://{}/", listener.local_addr()?);
    /// go(move || {
    ///     let mut stream = listener.accept().unwrap().0;
    ///     stream.read(&mut [0; 1024]).unwrap();
    ///     stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").unwrap();
    ///     stream.read_to_end(&mut Vec::new())
    /// });
    /// let client = goby_http::Client::builder().stall_timeout(Duration::from_millis(10)).build()?;
    /// let error = client.get(&Context::background(), url)?.text().unwrap_err();
    /// assert!(error.is_body() && error.is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "read_timeout")]
    pub fn stall_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.stall_timeout = timeout.into();
        self
    }

    /// Limits how long the body of a request with `expect: 100-continue` waits for the server to
    /// ask for it. Then it is sent all the same. Default: 1 second. Source: Go's
    /// `ExpectContinueTimeout`.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::{Body, Client, Request, Server};
    /// use std::time::Duration;
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// // It reads no body that it does not want.
    /// goby::go(move || server.serve_ctx(&serving, |_: Request| "no, thank you"));
    ///
    /// let client = Client::builder().expect_continue_timeout(Duration::from_secs(60)).build()?;
    /// let large = Body::from_reader(std::io::repeat(b'x'));
    /// let request = http::Request::post(url).header("expect", "100-continue").body(large)?;
    /// assert_eq!(client.request(&Context::background(), request)?.text()?, "no, thank you");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("ExpectContinueTimeout", "expect100-timeout"))]
    pub fn expect_continue_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.expect_timeout = timeout;
        self
    }

    /// Looks up names with `resolve` instead of the system's resolver. It may block its thread.
    ///
    /// ```
    /// use std::net::{IpAddr, Ipv4Addr};
    /// use goby::Context;
    /// # use goby_http::{Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let port = server.local_addr().port();
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{:?}", request.headers()["host"])));
    /// let client = goby_http::Client::builder()
    ///     .resolver(|_host| Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]))
    ///     .build()?;
    /// let response = client.get(&Context::background(), format!("http://www.example.org:{port}/"))?;
    /// assert!(response.text()?.contains("www.example.org"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolver(
        mut self,
        resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.resolver = Some(Arc::new(resolve));
        self
    }

    /// Connects to `addr` for URLs with this host, instead of looking the name up; for those of one
    /// port, if the host has one (`www.example.org:8080`). With port 0 in `addr`, the URL's port is
    /// kept. Of several addresses for a host, all are tried. The host is still the URL's in headers
    /// and for certificates.
    ///
    /// ```
    /// use goby::Context;
    /// # use goby_http::{Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let addr = server.local_addr();
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{:?}", request.headers()["host"])));
    /// let client = goby_http::Client::builder().resolve("www.example.org", addr).build()?;
    /// let response = client.get(&Context::background(), "http://www.example.org/")?;
    /// assert_eq!(response.text()?, "\"www.example.org\"");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve(mut self, host: impl AsRef<str>, addr: SocketAddr) -> ClientBuilder {
        self.addresses.entry(host.as_ref().to_ascii_lowercase()).or_default().push(addr);
        self
    }

    /// Connects to the Unix socket at `path` for all URLs, whatever their hosts; there are no
    /// proxies then.
    ///
    /// ```
    /// use goby::{Context, net::UnixListener};
    /// use goby_http::{Client, Request, Server};
    /// # let path = std::env::temp_dir().join(format!("goby-http-example-{}", std::process::id()));
    /// # let _ = std::fs::remove_file(&path);
    /// let server = Server::from_unix(UnixListener::bind(&path)?)?;
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// goby::go(move || server.serve_ctx(&serving, |request: Request| format!("you asked for {}", request.path())));
    /// let client = Client::builder().unix_socket(&path).build()?;
    /// let response = client.get(&Context::background(), "http://docker/info")?;
    /// assert_eq!(response.text()?, "you asked for /info");
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "unix-socket")]
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> ClientBuilder {
        self.unix_socket = Some(path.into());
        self
    }

    /// Sends requests through a proxy, if it [is for](Proxy) them. Of several, the first one that
    /// is for a request is used. The environment's proxies are not used then.
    ///
    /// By default, the environment says which proxies are used. It is read when the client is
    /// built.
    ///
    /// | variable | |
    /// |---|---|
    /// | `HTTP_PROXY` | the URL of the proxy for `http` |
    /// | `HTTPS_PROXY` | the URL of the proxy for `https` |
    /// | `ALL_PROXY` | the URL of the proxy for those of the two that have none |
    /// | `NO_PROXY` | the hosts that are asked directly, with commas or spaces between them |
    ///
    /// The names may also be in small letters. With both, that in capitals counts. A program that a
    /// web server has started (CGI: there is a `REQUEST_METHOD`) ignores `HTTP_PROXY`, because
    /// whoever sends a request there chooses its value; `http_proxy` is used.
    ///
    /// `NO_PROXY` has names, addresses and networks (`10.0.0.0/8`). A name is that of a host and of
    /// all below it; one that begins with `.` or `*.` is only for those below. Names and addresses
    /// may have a port (`example.org:8080`), and are then for that port alone. `*` is for all
    /// hosts. The environment's proxies are never used for `localhost` and loopback addresses.
    ///
    /// Source: Go's `http.ProxyFromEnvironment`.
    ///
    /// ```
    /// use goby_http::{Client, Proxy};
    /// let client = Client::builder()
    ///     .proxy(Proxy::https("http://secure.example.org:3128")?)
    ///     .proxy(Proxy::all("http://me:secret@proxy.example.org:3128")?.no_proxy(".internal"))
    ///     .build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    #[doc(alias("ProxyURL", "ProxyFromEnvironment"))]
    pub fn proxy(mut self, proxy: Proxy) -> ClientBuilder {
        self.proxies.get_or_insert_default().push(proxy);
        self
    }

    /// Sets the hosts that are asked directly when the environment's proxies are used, in place of
    /// `NO_PROXY`.
    ///
    /// ```
    /// let client = goby_http::Client::builder().no_proxy_for("example.org, 10.0.0.0/8").build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn no_proxy_for(mut self, hosts: impl Into<String>) -> ClientBuilder {
        self.direct = Some(hosts.into());
        self
    }

    /// Uses no proxy: neither those of the environment nor those that were set before.
    ///
    /// ```
    /// let client = goby_http::Client::builder().no_proxy().build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn no_proxy(mut self) -> ClientBuilder {
        self.proxies = Some(Vec::new());
        self
    }

    /// Trusts servers with a certificate that was issued by one of those given here, too: one in
    /// DER, or any number of them in PEM. Needs the feature `tls`, which is on by default.
    ///
    /// By default a client trusts the system's roots, or those that `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name. A system without any gets the roots that browsers trust.
    ///
    /// ```
    /// let error = goby_http::Client::builder().add_root_certificate(*b"no certificate").build().unwrap_err();
    /// assert_eq!(error.to_string(), "building the client failed");
    /// ```
    #[cfg(feature = "tls")]
    pub fn add_root_certificate(mut self, certificates: impl Into<Vec<u8>>) -> ClientBuilder {
        self.tls.roots.push(certificates.into());
        self
    }

    /// Sets whether the system's roots are trusted, besides those that were
    /// [added](ClientBuilder::add_root_certificate). Default: true. Needs the feature `tls`.
    ///
    /// ```
    /// let error = goby_http::Client::builder().system_roots(false).build().unwrap_err();
    /// assert!(error.is_build(), "it would trust nobody");
    /// ```
    #[cfg(feature = "tls")]
    #[doc(alias("RootCAs", "cacert", "tls_certs_only"))]
    pub fn system_roots(mut self, with: bool) -> ClientBuilder {
        self.tls.system_roots = with;
        self
    }

    /// Shows this certificate to servers that ask for one. Default: none. Needs the feature `tls`.
    ///
    /// ```
    /// use goby::tls::Identity;
    /// let made = rcgen::generate_simple_self_signed(["a client".to_owned()])?;
    /// let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let client = goby_http::Client::builder().identity(identity).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tls")]
    pub fn identity(mut self, identity: goby::tls::Identity) -> ClientBuilder {
        self.tls.identity = Some(identity);
        self
    }

    /// Sets whether every certificate of a server is accepted: one that has expired, that is for
    /// another name, or that an attacker has made. Default: false. Needs the feature `tls`.
    ///
    /// **With true, whoever is on the way to the server can read and change everything.** The first
    /// such client of a process says so on standard error. To trust a server with a certificate of
    /// its own making, [add](ClientBuilder::add_root_certificate) that certificate instead.
    ///
    /// ```
    /// let client = goby_http::Client::builder().danger_accept_invalid_certs(true).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    #[cfg(feature = "tls")]
    #[doc(alias("InsecureSkipVerify", "insecure"))]
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> ClientBuilder {
        self.tls.accepts_all = accept;
        self
    }
}
