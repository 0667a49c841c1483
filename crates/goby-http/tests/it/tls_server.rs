//! A server over TLS: curl, openssl and goby's own client at the other end.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goby::net::TcpStream;
use goby::tls::{Identity, TlsAcceptor, TlsConnector};
use goby::{chan, num_goroutines};
use goby_http::{Client, Request, Response};

use crate::support::{Site, background, curl, curl_fails, read_head, rerun_alone, run, wait_until, with_workers};

/// A certificate for `localhost`, which vouches for itself, and a file that has it.
struct Certificate {
    pem: String,
    key: String,
    path: PathBuf,
}

impl Certificate {
    fn new() -> Certificate {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let name = format!("goby-http-{}-{}.pem", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let pem = made.cert.pem();
        std::fs::write(&path, &pem).unwrap();
        Certificate { pem, key: made.signing_key.serialize_pem(), path }
    }

    fn identity(&self) -> Identity {
        Identity::new(self.pem.as_bytes(), self.key.as_bytes()).unwrap()
    }

    fn file(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn start<R: Into<Response>>(certificate: &Certificate, handler: impl Fn(Request) -> R + Send + Sync + 'static) -> Site {
    let acceptor = TlsAcceptor::new(certificate.identity()).unwrap();
    Site::start_with(|server| server.tls(acceptor), handler)
}

fn url(site: &Site) -> String {
    format!("https://localhost:{}/", site.addr().port())
}

#[cfg(feature = "http2")]
#[test]
fn curl_chooses_the_version() {
    with_workers(|| {
        let certificate = Certificate::new();
        let site = start(&certificate, |request: Request| format!("{:?}", request.version()));
        let url = url(&site);
        for (version, answer) in [("--http2", "HTTP/2.0"), ("--http1.1", "HTTP/1.1"), ("--no-alpn", "HTTP/1.1")] {
            assert_eq!(curl(&["--cacert", certificate.file(), version, &url]), answer);
        }
        assert_eq!(curl(&["-k", "--http2", &url]), "HTTP/2.0");
        // curl does not know who made it.
        let refusal = curl_fails(&["--http2", &url]);
        assert!(refusal.contains("self-signed certificate"), "{refusal}");
    });
}

#[cfg(feature = "http2")]
#[test]
fn h2load_is_served_over_tls() {
    with_workers(|| {
        let certificate = Certificate::new();
        let site = start(&certificate, |_: Request| vec![7; 40_000]);
        let report = run("h2load", &["-n", "300", "-c", "3", "-m", "10", &url(&site)]);
        assert!(report.contains("300 succeeded, 0 failed") && report.contains("Application protocol: h2"), "{report}");
    });
}

#[test]
fn an_acceptor_that_names_protocols_chooses_for_both() {
    with_workers(|| {
        let certificate = Certificate::new();
        let acceptor = TlsAcceptor::builder().identity(certificate.identity()).alpn(["http/1.1"]).build().unwrap();
        let site =
            Site::start_with(|server| server.tls(acceptor), |request: Request| format!("{:?}", request.version()));
        assert_eq!(curl(&["--cacert", certificate.file(), "--http2", &url(&site)]), "HTTP/1.1");
    });
}

#[test]
fn openssl_sees_what_was_agreed() {
    with_workers(|| {
        let certificate = Certificate::new();
        let site = start(&certificate, |_: Request| "hello");
        let addr = site.addr().to_string();
        let session =
            run("openssl", &["s_client", "-connect", &addr, "-alpn", "http/1.1", "-CAfile", certificate.file()]);
        assert!(session.contains("ALPN protocol: http/1.1") && session.contains("Verification: OK"), "{session}");
    });
}

#[test]
fn goby_asks_goby() {
    with_workers(|| {
        let certificate = Certificate::new();
        let site = start(&certificate, |request: Request| request.text().unwrap().to_uppercase());
        let client = Client::builder().add_root_certificate(certificate.pem.clone()).build().unwrap();
        for _ in 0..3 {
            assert_eq!(client.post(&background(), url(&site), "hello").unwrap().text().unwrap(), "HELLO");
        }
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn certificates_are_reloaded() {
    with_workers(|| {
        let (old, new) = (Certificate::new(), Certificate::new());
        let acceptor = TlsAcceptor::new(old.identity()).unwrap();
        let site = Site::start_with(|server| server.tls(acceptor.clone()), |_: Request| "hello");
        assert_eq!(curl(&["--cacert", old.file(), &url(&site)]), "hello");
        acceptor.reload([new.identity()]).unwrap();
        assert_eq!(curl(&["--cacert", new.file(), &url(&site)]), "hello");
        curl_fails(&["--cacert", old.file(), &url(&site)]);
    });
}

#[test]
fn a_client_without_tls_is_told_so() {
    with_workers(|| {
        let certificate = Certificate::new();
        let site = start(&certificate, |_: Request| "hello");
        let answer = curl(&["-w", "%{response_code}", &site.url("/")]);
        assert_eq!(answer, "Client sent an HTTP request to an HTTPS server.\n400");
    });
}

#[test]
fn a_handshake_that_does_not_end_costs_its_connection() {
    with_workers(|| {
        let certificate = Certificate::new();
        let acceptor = TlsAcceptor::new(certificate.identity()).unwrap();
        let timeout = Duration::from_millis(30);
        let site = Site::start_with(|server| server.tls(acceptor).header_timeout(timeout), |_: Request| "hello");
        let before = num_goroutines();
        for beginning in [&b""[..], b"\x16\x03\x01"] {
            let mut stream = TcpStream::connect(site.addr()).unwrap();
            stream.set_read_deadline(Some(Instant::now() + Duration::from_secs(100)));
            stream.write_all(beginning).unwrap();
            assert!(matches!(stream.read(&mut [0]), Ok(0)));
        }
        wait_until("the goroutines to end", || num_goroutines() <= before);
    });
}

/// A crowd of clients that do not speak TLS makes one line, with the address and the reason.
#[test]
fn failed_handshakes_are_reported_once_in_a_while() {
    let Some(reports) = rerun_alone("tls_server::failed_handshakes_are_reported_once_in_a_while") else {
        with_workers(|| {
            let certificate = Certificate::new();
            let site = start(&certificate, |_: Request| "hello");
            for _ in 0..5 {
                let mut stream = TcpStream::connect(site.addr()).unwrap();
                stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").unwrap();
                // An alert, or a reset.
                let _ = stream.read_to_end(&mut Vec::new());
            }
            // Those that say nothing are not reported.
            drop(TcpStream::connect(site.addr()).unwrap());
        });
        return;
    };
    let lines: Vec<_> = reports.lines().filter(|line| line.contains("TLS handshake")).collect();
    // One per server: there are three runtimes.
    assert_eq!(lines.len(), 3, "{reports}");
    assert!(
        lines.iter().all(|line| line.contains("from 127.0.0.1:") && line.contains("does not speak TLS")),
        "{reports}"
    );
}

#[test]
fn the_context_of_a_request_ends_with_the_session() {
    with_workers(|| {
        let certificate = Certificate::new();
        let (ended, ends) = chan::bounded(1);
        let site = start(&certificate, move |request: Request| {
            let _ = request.context().done().recv();
            ended.send(()).unwrap();
        });
        let connector = TlsConnector::builder().add_root_certificate(certificate.pem.as_bytes()).build().unwrap();
        let mut stream = connector.connect("localhost", TcpStream::connect(site.addr()).unwrap()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        // The end is a message of TLS, and the socket stays open.
        stream.shutdown().unwrap();
        ends.recv().unwrap();
    });
}

/// Sessions last while their connections rest without a goroutine.
#[test]
fn sessions_rest_and_go_on() {
    with_workers(|| {
        let certificate = Certificate::new();
        let mut site = start(&certificate, |_: Request| "hello");
        let connector = TlsConnector::builder().add_root_certificate(certificate.pem.as_bytes()).build().unwrap();
        let before = num_goroutines();
        let mut sessions =
            [(); 3].map(|()| connector.connect("localhost", TcpStream::connect(site.addr()).unwrap()).unwrap());
        let mut body = [0; 5];
        for round in 0..2 {
            for session in &mut sessions {
                // In the second round two requests in one record.
                session.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(round + 1).as_slice()).unwrap();
                for _ in 0..=round {
                    assert!(read_head(&*session).starts_with("HTTP/1.1 200"));
                    session.read_exact(&mut body).unwrap();
                    assert_eq!(&body, b"hello");
                }
            }
            wait_until("the connections to rest", || num_goroutines() <= before);
            assert_eq!(site.open(), 3);
        }
        let [closed, mut dropped, mut left] = sessions;
        closed.shutdown().unwrap();
        wait_until("the first connection to end", || site.open() == 2);
        dropped.write_all(b"GET").unwrap();
        drop(dropped);
        wait_until("the second connection to end", || site.open() == 1);
        site.stop();
        site.join();
        // The server says that the session ends.
        assert_eq!(left.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_shutdown_ends_sessions_that_are_idle_or_half_open() {
    with_workers(|| {
        let certificate = Certificate::new();
        let mut site = start(&certificate, |_: Request| "hello");
        let connector = TlsConnector::builder().add_root_certificate(certificate.pem.as_bytes()).build().unwrap();
        let mut idle = connector.connect("localhost", TcpStream::connect(site.addr()).unwrap()).unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(read_head(&idle).starts_with("HTTP/1.1 200"));
        idle.read_exact(&mut [0; 5]).unwrap();
        let mut half_open = TcpStream::connect(site.addr()).unwrap();
        half_open.write_all(b"\x16\x03\x01").unwrap();
        site.stop();
        site.join();
        // The server says that the session ends.
        assert_eq!(idle.read(&mut [0]).unwrap(), 0);
        assert!(matches!(half_open.read(&mut [0]), Ok(0) | Err(_)));
    });
}
