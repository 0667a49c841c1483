//! HTTPS: rustls on both sides, with certificates made here. The server is straight-line code over
//! a goby socket.

use std::error::Error as _;
use std::io::{Read, Write};
use std::sync::Arc;

use goby::net::TcpStream;
use goby::tls::rustls::pki_types::PrivateKeyDer;
use goby::tls::rustls::{self, ServerConfig, ServerConnection, StreamOwned};
use goby_http::{Body, Client};
use rcgen::CertifiedKey;

use crate::support::{Script, answer, background, read_head, rerun_alone, with_workers, words};

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// A certificate for these names, and a server's configuration that uses it.
fn certificate(names: &[&str]) -> (Vec<u8>, Arc<ServerConfig>) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (cert.der().to_vec(), Arc::new(config))
}

fn serve(config: Arc<ServerConfig>, mut script: impl FnMut(usize, &mut Tls) + Send + 'static) -> Script {
    Script::start(move |n, stream| {
        let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        script(n, &mut tls);
    })
}

fn trusting(certificate: Vec<u8>) -> Client {
    Client::builder().add_root_certificate(certificate).build().unwrap()
}

fn url(script: &Script) -> String {
    format!("https://localhost:{}/", script.addr().port())
}

#[test]
fn a_trusted_certificate_is_accepted_and_the_connection_kept() {
    with_workers(|| {
        let (certificate, config) = certificate(&["localhost"]);
        let script = serve(config, |n, tls| {
            for request in 0..3 {
                answer(&mut *tls, &format!("connection {n} request {request}"));
            }
        });
        let client = trusting(certificate);
        for request in 0..3 {
            let response = client.get(&background(), url(&script)).unwrap();
            assert_eq!(response.text().unwrap(), format!("connection 0 request {request}"));
        }
    });
}

#[test]
fn roots_may_be_pem() {
    with_workers(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let identity = goby::tls::Identity::new(made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
        let acceptor = goby::tls::TlsAcceptor::new(identity).unwrap();
        let script = Script::start(move |_, stream| {
            let mut tls = acceptor.accept(stream).unwrap();
            answer(&mut tls, "hello");
            tls.shutdown().unwrap();
        });
        let client = trusting(made.cert.pem().into_bytes());
        assert_eq!(client.get(&background(), url(&script)).unwrap().text().unwrap(), "hello");
    });
}

#[test]
fn addresses_have_certificates_too() {
    with_workers(|| {
        let (certificate, config) = certificate(&["127.0.0.1"]);
        let script = serve(config, |_, tls| answer(tls, "hello"));
        let response = trusting(certificate).get(&background(), format!("https://{}/", script.addr())).unwrap();
        assert_eq!(response.text().unwrap(), "hello");
    });
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    with_workers(|| {
        let (_, config) = certificate(&["localhost"]);
        let script = serve(config, |_, tls| assert_eq!(read_head(tls), ""));
        let error = Client::new().get(&background(), url(&script)).unwrap_err();
        assert!(error.is_tls() && !error.is_timeout(), "{error:?}");
        assert_eq!(words(&error), "negotiating TLS with localhost failed");
        let tls = goby::tls::Error::find(&error).unwrap();
        assert_eq!(*tls.rustls_error(), rustls::CertificateError::UnknownIssuer.into());
    });
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    with_workers(|| {
        let (certificate, config) = certificate(&["elsewhere.example"]);
        let script = serve(config, |_, tls| assert_eq!(read_head(tls), ""));
        let error = trusting(certificate).get(&background(), url(&script)).unwrap_err();
        assert!(error.is_tls(), "{error:?}");
        let reason = error.source().unwrap().to_string();
        assert_eq!(reason, "the certificate is for elsewhere.example, not for localhost");
    });
}

#[test]
fn a_server_that_speaks_no_tls_is_refused() {
    with_workers(|| {
        let script = Script::start(|_, mut stream| {
            stream.read_exact(&mut [0; 5]).unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let error = Client::new().get(&background(), url(&script)).unwrap_err();
        assert!(error.is_tls() && goby::tls::Error::find(&error).unwrap().is_plain_http(), "{error:?}");
    });
}

#[test]
fn large_bodies_go_both_ways() {
    with_workers(|| {
        const LARGE: usize = 1_000_003;
        let (certificate, config) = certificate(&["localhost"]);
        let script = serve(config, |_, tls| {
            assert!(read_head(&mut *tls).contains(&format!("content-length: {LARGE}\r\n")));
            let mut body = vec![0; LARGE];
            tls.read_exact(&mut body).unwrap();
            write!(tls, "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").unwrap();
            tls.write_all(&body).unwrap();
            tls.flush().unwrap();
        });
        let body: Vec<u8> = (0..LARGE).map(|i| (i % 251) as u8).collect();
        let response = trusting(certificate).post(&background(), url(&script), Body::from(body.clone())).unwrap();
        assert!(response.bytes().unwrap() == body);
    });
}

/// A body that ends with the connection: it is complete only if the server sent its closing alert.
#[test]
fn a_connection_that_is_cut_is_not_the_end_of_a_body() {
    with_workers(|| {
        let (certificate, config) = certificate(&["localhost"]);
        let script = serve(config, |n, tls| {
            read_head(&mut *tls);
            tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
            if n == 1 {
                tls.conn.send_close_notify();
            }
            tls.flush().unwrap();
        });
        let client = trusting(certificate);
        let error = client.get(&background(), url(&script)).unwrap().text().unwrap_err();
        assert!(error.is_body(), "{error:?}");
        assert_eq!(client.get(&background(), url(&script)).unwrap().text().unwrap(), "hello");
    });
}

#[test]
fn only_the_given_roots_may_be_trusted() {
    with_workers(|| {
        let (certificate, config) = certificate(&["localhost"]);
        let script = serve(config, |_, tls| answer(tls, "hello"));
        let client = Client::builder().system_roots(false).add_root_certificate(certificate).build().unwrap();
        assert_eq!(client.get(&background(), url(&script)).unwrap().text().unwrap(), "hello");
        let error = Client::builder().system_roots(false).build().unwrap_err();
        assert!(error.is_build(), "{error:?}");
    });
}

#[test]
fn a_server_may_ask_for_a_certificate() {
    with_workers(|| {
        let server = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mine = rcgen::generate_simple_self_signed(["me".to_owned()]).unwrap();
        let identity = |made: &CertifiedKey<rcgen::KeyPair>| {
            goby::tls::Identity::new(made.cert.pem(), made.signing_key.serialize_pem()).unwrap()
        };
        let acceptor =
            goby::tls::TlsAcceptor::builder().identity(identity(&server)).require_client_certificates(mine.cert.pem());
        let acceptor = acceptor.build().unwrap();
        let script = Script::start(move |_, stream| {
            let mut tls = acceptor.accept(stream).unwrap();
            if tls.handshake().is_ok() {
                answer(&mut tls, "hello");
            }
        });
        let trusting = || Client::builder().add_root_certificate(server.cert.pem());
        let client = trusting().identity(identity(&mine)).build().unwrap();
        assert_eq!(client.get(&background(), url(&script)).unwrap().text().unwrap(), "hello");
        let error = trusting().build().unwrap().get(&background(), url(&script)).unwrap_err();
        assert!(goby::tls::Error::find(&error).is_some(), "{error:?}");
    });
}

#[test]
fn every_certificate_is_accepted_if_that_is_wanted_and_said_once() {
    let said = rerun_alone("tls::every_certificate_is_accepted_if_that_is_wanted_and_said_once");
    if let Some(said) = said {
        assert_eq!(said.matches("whoever is on the way can read and change everything").count(), 1, "{said}");
        return;
    }
    with_workers(|| {
        let (_, config) = certificate(&["elsewhere.example"]);
        let script = serve(config, |_, tls| answer(tls, "hello"));
        let client = Client::builder().danger_accept_invalid_certs(true).build().unwrap();
        assert_eq!(client.get(&background(), url(&script)).unwrap().text().unwrap(), "hello");
    });
}

#[test]
fn an_address_may_be_given_for_a_name() {
    with_workers(|| {
        let (certificate, config) = certificate(&["www.example.org"]);
        let script = serve(config, |_, tls| {
            let head = read_head(&mut *tls);
            assert!(head.contains("\r\nhost: www.example.org"), "{head}");
            tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
            tls.flush().unwrap();
        });
        let port = script.addr().port();
        for (given, url) in [
            (script.addr(), "https://WWW.example.org/".to_owned()),
            ((script.addr().ip(), 0).into(), format!("https://www.example.org:{port}/")),
        ] {
            let builder = Client::builder().resolve("www.Example.org", given).add_root_certificate(&certificate[..]);
            let client = builder.build().unwrap();
            assert_eq!(client.get(&background(), url).unwrap().text().unwrap(), "hello");
        }
    });
}
