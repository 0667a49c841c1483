//! Against openssl: its s_server and s_client, with TLS 1.2 and 1.3. Where it is not
//! installed these tests only say so, except in CI.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use goby::net::{TcpListener, TcpStream};
use goby::tls::{Identity, TlsAcceptor, TlsConnectorBuilder, TlsStream, rustls::ProtocolVersion};
use goby::{blocking, go};
use goby_test_support::has;

use super::support::{Authority, echo};
use crate::support::on_workers;

/// A folder with a root and what it has issued; removed in the end.
struct Folder {
    authority: Authority,
    path: PathBuf,
}

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("goby-tls-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let authority = Authority::new("root");
        fs::write(path.join("ca.pem"), authority.pem()).unwrap();
        let folder = Folder { authority, path };
        folder.issue("server", &["localhost"], (2001, 3001));
        folder.issue("client", &["a client"], (2001, 3001));
        folder
    }

    fn issue(&self, name: &str, names: &[&str], years: (i32, i32)) {
        let (chain, key) = self.authority.issue_pem(names, years);
        fs::write(self.path.join(format!("{name}.pem")), chain).unwrap();
        fs::write(self.path.join(format!("{name}.key")), key).unwrap();
    }

    fn identity(&self, name: &str) -> Identity {
        let file = |end| self.path.join(format!("{name}.{end}"));
        Identity::from_files(file("pem"), file("key")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).unwrap();
    }
}

/// A process of openssl's, which is ended at the latest when this is dropped.
struct Openssl {
    child: Child,
}

impl Openssl {
    fn start(folder: &Path, arguments: &[&str]) -> Openssl {
        let child = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Openssl { child }
    }

    /// A server that sends each line back in reverse.
    fn server(folder: &Path, identity: &str, more: &[&str]) -> (Openssl, SocketAddr) {
        let (cert, key) = (format!("{identity}.pem"), format!("{identity}.key"));
        let fixed = ["s_server", "-rev", "-accept", "127.0.0.1:0", "-cert", &cert, "-key", &key, "-CAfile", "ca.pem"];
        let mut server = Openssl::start(folder, &[&fixed, more].concat());
        let stdout = server.child.stdout.take().unwrap();
        let (addr, rest) = blocking(|| {
            let mut lines = BufReader::new(stdout).lines();
            let addr = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned));
            (addr.expect("openssl says where it listens").parse().unwrap(), lines)
        });
        // Read on, so that it can write.
        std::thread::spawn(move || rest.for_each(drop));
        (server, addr)
    }

    /// A client that sends what it is given, and then waits for the end.
    fn client(folder: &Path, addr: SocketAddr, more: &[&str]) -> (Openssl, ChildStdin) {
        let addr = addr.to_string();
        let fixed =
            ["s_client", "-connect", &addr, "-CAfile", "ca.pem", "-servername", "localhost", "-quiet", "-no_ign_eof"];
        let mut client = Openssl::start(folder, &[&fixed, more].concat());
        let stdin = client.child.stdin.take().unwrap();
        (client, stdin)
    }

    /// What it has said, on both outputs, when it has ended.
    fn finish(mut self) -> (bool, String) {
        blocking(|| {
            let mut text = String::new();
            self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
            self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            (self.child.wait().unwrap().success(), text)
        })
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const VERSIONS: [(&str, ProtocolVersion); 2] =
    [("-tls1_2", ProtocolVersion::TLSv1_2), ("-tls1_3", ProtocolVersion::TLSv1_3)];

fn connect(builder: TlsConnectorBuilder, addr: SocketAddr) -> TlsStream {
    builder.build().unwrap().connect("localhost", TcpStream::connect(addr).unwrap()).unwrap()
}

/// Sends a line, and returns the answer.
fn exchange(stream: &TlsStream, line: &str) -> String {
    let mut stream = stream;
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = vec![0; line.len()];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_client_talks_to_openssl() {
    if !has("openssl") {
        return;
    }
    on_workers(2, 0, || {
        let folder = Folder::new("client");
        for (option, version) in VERSIONS {
            let (_server, addr) = Openssl::server(
                &folder.path,
                "server",
                &[option, "-Verify", "1", "-verify_return_error", "-alpn", "foo,bar"],
            );
            let builder = folder.authority.trusting().alpn(["nope", "bar"]);
            let stream = connect(builder.identity(folder.identity("client")), addr);
            assert_eq!(exchange(&stream, "hello\n"), "olleh\n");
            assert_eq!(stream.protocol_version(), Some(version));
            assert_eq!(stream.alpn_protocol(), Some(&b"bar"[..]));
            stream.shutdown().unwrap();
            // Its answer is a close_notify, so this is an end, and no error.
            assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
        }
    });
}

#[test]
fn openssl_refuses_a_client_without_certificate() {
    if !has("openssl") {
        return;
    }
    on_workers(2, 0, || {
        let folder = Folder::new("refused");
        for (option, expected) in [
            ("-tls1_2", "the other side gave up the handshake"),
            ("-tls1_3", "the other side wants a client certificate, and got none"),
        ] {
            let (_server, addr) = Openssl::server(&folder.path, "server", &[option, "-Verify", "1"]);
            let error = (&connect(folder.authority.trusting(), addr)).read(&mut [0]).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{option}: {error}");
        }
    });
}

#[test]
fn openssl_s_certificates_are_judged() {
    if !has("openssl") {
        return;
    }
    on_workers(2, 0, || {
        let folder = Folder::new("judged");
        folder.issue("other", &["elsewhere.example"], (2001, 3001));
        folder.issue("old", &["localhost"], (2001, 2002));
        for (option, _) in VERSIONS {
            let refused = |name: &str, builder: TlsConnectorBuilder| {
                let (_server, addr) = Openssl::server(&folder.path, name, &[option]);
                connect(builder, addr).handshake().unwrap_err().to_string()
            };
            let trusting = || folder.authority.trusting();
            assert_eq!(refused("other", trusting()), "the certificate is for elsewhere.example, not for localhost");
            assert_eq!(refused("old", trusting()), "the certificate expired on 2002-01-01 00:00 UTC");
            let unknown = refused("server", Authority::new("another root").trusting());
            assert!(unknown.starts_with("the certificate was issued by somebody who is not trusted here"), "{unknown}");
        }
    });
}

#[test]
fn openssl_talks_to_a_server() {
    if !has("openssl") {
        return;
    }
    on_workers(2, 0, || {
        let folder = Folder::new("server");
        let acceptor = TlsAcceptor::builder()
            .identity(folder.identity("server"))
            .require_client_certificates(folder.authority.pem())
            .alpn(["foo"])
            .build()
            .unwrap();
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = listener.local_addr().unwrap();
        for (option, version) in VERSIONS {
            let (acceptor, listener) = (acceptor.clone(), listener.clone());
            let server = go(move || {
                let stream = acceptor.accept(listener.accept().unwrap().0).unwrap();
                let copied = echo(&stream).unwrap();
                (copied, stream.protocol_version(), stream.alpn_protocol().map(<[_]>::to_vec))
            });
            let shown = ["-cert", "client.pem", "-key", "client.key", "-verify_return_error", "-alpn", "bar,foo"];
            let (mut client, mut stdin) = Openssl::client(&folder.path, addr, &[&[option][..], &shown].concat());
            blocking(|| stdin.write_all(b"hello\n").unwrap());
            let mut line = [0; 6];
            blocking(|| client.child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap());
            assert_eq!(&line, b"hello\n");
            drop(stdin);
            let (_, said) = client.finish();
            assert_eq!(server.join().unwrap(), (6, Some(version), Some(b"foo".to_vec())), "{said}");
        }
    });
}

#[test]
fn a_server_refuses_openssl_without_certificate() {
    if !has("openssl") {
        return;
    }
    on_workers(2, 0, || {
        let folder = Folder::new("refuses");
        let acceptor = TlsAcceptor::builder()
            .identity(folder.identity("server"))
            .require_client_certificates(folder.authority.pem())
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        for (option, _) in VERSIONS {
            let (client, _stdin) = Openssl::client(&folder.path, addr, &[option]);
            let error = acceptor.accept(listener.accept().unwrap().0).unwrap().handshake().unwrap_err();
            assert_eq!(error.to_string(), "the other side sent no certificate, and one is required");
            let (success, said) = client.finish();
            assert!(!success && said.contains("alert"), "{said}");
        }
    });
}
