//! TLS over a stream, for clients and servers, over rustls.
//!
//! A [`TlsConnector`] makes a client's [`TlsStream`] out of a [`TcpStream`](crate::net::TcpStream),
//! a [`TlsAcceptor`] makes a server's. The stream reads and writes as the one beneath does: an
//! operation parks the goroutine, and the deadlines and the context of the stream beneath
//! ([`get_ref`](TlsStream::get_ref)) end it. One goroutine may read while another one writes.
//!
//! ```
//! use goby::net::{TcpListener, TcpStream};
//! use goby::tls::{Identity, TlsAcceptor, TlsConnector};
//! use std::io::{Read, Write};
//!
//! // A certificate for this example, which vouches for itself.
//! let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
//! let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
//! let connector = TlsConnector::builder().add_root_certificate(made.cert.pem()).build()?;
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let server = goby::go(move || -> std::io::Result<()> {
//!     let mut stream = acceptor.accept(listener.accept()?.0)?;
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text)?;
//!     stream.write_all(text.to_uppercase().as_bytes())?;
//!     stream.shutdown()
//! });
//!
//! let mut stream = connector.connect("localhost", TcpStream::connect(addr)?)?;
//! stream.write_all(b"hello")?;
//! stream.shutdown()?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer)?;
//! assert_eq!(answer, "HELLO");
//! server.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Whom a client trusts
//!
//! The system's roots, as programs that use OpenSSL do: those of the system's bundle, or of the
//! environment's `SSL_CERT_FILE` and `SSL_CERT_DIR`. A system that has none gets the roots that
//! browsers trust, which are compiled in. They are read once per process. Others can be
//! [added](TlsConnectorBuilder::add_root_certificate). The versions are TLS 1.2 and 1.3, the
//! cryptography is ring's, whatever other providers the process has.
//!
//! A certificate that vouches for itself, as openssl makes it for tests, has to name the server in
//! its `subjectAltName` (the `CN` is not looked at), and must not be an issuer's:
//!
//! ```text
//! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \\
//!   -keyout key.pem -out cert.pem -subj /CN=localhost \\
//!   -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE
//! ```
//!
//! # The end of a stream
//!
//! [`shutdown`](TlsStream::shutdown) tells the other side that nothing more comes. Nothing else
//! does: a stream that is only dropped looks cut off to the other side, as it should if a panic or
//! an error has dropped it. A read at the end returns 0 if the other side has said so, and
//! otherwise fails with `UnexpectedEof`. An attacker can cut a connection; only a protocol that
//! knows the length of what it reads, as HTTP mostly does, may take that error for an end.
//!
//! # Errors
//!
//! Every operation fails with a [`std::io::Error`]. Those of the stream beneath come as they are:
//! [deadlines and contexts](crate::net#errors), `ConnectionReset`, and so on. If TLS itself fails,
//! the kind is `InvalidData`, and what is inside is an [`Error`] that says why in plain
//! words; [`Error::find`] gets it out. A session that has failed fails again, with the same error.
//!
//! # Memory
//!
//! A session does not buffer without bound. It keeps at most one record of plain bytes that nobody
//! has read, 48 KiB of what has been received, and some 80 KiB of what the other side has not
//! taken yet. Then a write waits, and the other side's writes do. One that is idle keeps none of
//! that, but rustls' own 4 KiB.

#![forbid(unsafe_code)]

mod acceptor;
mod agreed;
mod alpn;
mod connector;
mod error;
mod halves;
mod pem;
mod roots;
mod session;
mod stream;
mod transport;
mod unverified;
mod waits;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use acceptor::{TlsAcceptor, TlsAcceptorBuilder};
pub use connector::{TlsConnector, TlsConnectorBuilder};
pub use error::Error;
pub use halves::{ReadHalf, WriteHalf};
pub use pem::Identity;
#[doc(no_inline)]
pub use rustls;
pub use stream::TlsStream;
pub use transport::Transport;

/// Returns ring, by name: a process in which another crate has brought a second provider has no
/// default one.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
