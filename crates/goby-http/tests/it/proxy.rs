//! Requests through proxies: real ones (tinyproxy, microsocks), and such as do as they please.

use std::error::Error as _;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener as Reserved};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use goby::net::TcpStream;
use goby_http::{Client, Proxy, Request, Response};

use crate::support::{
    PATIENCE, Script, Site, answer, background, read_head, read_to_close, wait_until, with_workers, words,
};

/// A proxy in a process of its own, which ends with the test.
struct Real {
    child: Child,
    port: u16,
    /// Its configuration, if it reads one.
    file: Option<std::path::PathBuf>,
}

impl Real {
    fn start(program: &str, args: impl Fn(u16) -> (Vec<String>, Option<std::path::PathBuf>)) -> Real {
        for _ in 0..5 {
            let port = Reserved::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let (args, file) = args(port);
            let child = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let child = child.unwrap_or_else(|error| panic!("{program}: {error} (ci/setup.sh installs it)"));
            let mut real = Real { child, port, file };
            let mut has_ended = false;
            wait_until("the proxy to listen", || {
                has_ended = real.child.try_wait().unwrap().is_some();
                has_ended || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
            // If it has ended, somebody else had the port meanwhile.
            if !has_ended {
                return real;
            }
        }
        panic!("{program} ends at once");
    }

    /// A proxy for HTTP that wants a password.
    fn tinyproxy() -> Real {
        Real::start("tinyproxy", |port| {
            let file = std::env::temp_dir().join(format!("goby-http-tinyproxy-{port}.conf"));
            let text = format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nBasicAuth me secret\n");
            std::fs::write(&file, text).unwrap();
            (vec!["-d".to_owned(), "-c".to_owned(), file.display().to_string()], Some(file))
        })
    }

    /// A proxy for SOCKS 5.
    fn microsocks(args: &[&str]) -> Real {
        Real::start("microsocks", |port| {
            let own = ["-i".to_owned(), "127.0.0.1".to_owned(), "-p".to_owned(), port.to_string()];
            (own.into_iter().chain(args.iter().map(|arg| (*arg).to_owned())).collect(), None)
        })
    }

    fn client(&self, scheme: &str, credentials: &str) -> Client {
        through(&format!("{scheme}://{credentials}127.0.0.1:{}", self.port))
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn through(proxy: &str) -> Client {
    Client::builder().proxy(Proxy::all(proxy).unwrap()).build().unwrap()
}

/// The URL of a proxy that follows a script.
fn url_of(script: &Script) -> String {
    script.url("").replace("http://", "http://me:secret@")
}

#[track_caller]
fn assert_failed(error: &goby_http::Error, text: &str, reason: &str) {
    assert_eq!(words(error), text);
    assert_eq!(error.source().unwrap().to_string(), reason);
    assert!(error.is_connect(), "{error:?}");
}

/// Says what came, and where from.
fn tell(request: Request) -> String {
    let has_secret = request.headers().contains_key("proxy-authorization");
    format!("{} {has_secret}", request.path())
}

#[test]
fn http_goes_through_tinyproxy() {
    with_workers(|| {
        let proxy = Real::tinyproxy();
        let site = Site::start(tell);
        let client = proxy.client("http", "me:secret@");
        for _ in 0..2 {
            let response = client.get(&background(), site.url("/path")).unwrap();
            assert!(response.headers()["via"].to_str().unwrap().contains("tinyproxy"));
            assert_eq!(response.text().unwrap(), "/path false");
        }
        // Its answer to those without a password is a response as any other.
        let refused = proxy.client("http", "").get(&background(), site.url("/path")).unwrap();
        assert_eq!(refused.status(), 407);
        drop((client, refused));
    });
}

#[cfg(feature = "tls")]
mod https {
    use goby::tls::{Identity, TlsAcceptor};

    use super::*;

    fn secure() -> (Site, String, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
        let site = Site::start_with(|server| server.tls(TlsAcceptor::new(identity).unwrap()), tell);
        let url = format!("https://localhost:{}/path", site.addr().port());
        (site, url, made.cert.pem().into_bytes())
    }

    fn trusting(proxy: &str, certificate: &[u8]) -> Client {
        Client::builder().proxy(Proxy::https(proxy).unwrap()).add_root_certificate(certificate).build().unwrap()
    }

    #[test]
    fn https_goes_through_tinyproxy() {
        with_workers(|| {
            let proxy = Real::tinyproxy();
            let (site, url, certificate) = secure();
            let own = |credentials: &str| format!("http://{credentials}127.0.0.1:{}", proxy.port);
            let client = trusting(&own("me:secret@"), &certificate);
            for _ in 0..2 {
                assert_eq!(client.get(&background(), &url).unwrap().text().unwrap(), "/path false");
            }
            assert_eq!(site.connections(), 1);
            let error = trusting(&own("me:wrong@"), &certificate).get(&background(), &url).unwrap_err();
            let target = format!("localhost:{}", site.addr().port());
            let text = format!("asking the proxy {} for a tunnel to {target} failed", own("me:***@"));
            // Which of the two it is depends on the version.
            let reason = error.source().unwrap().to_string();
            assert!(reason.starts_with("it answered 40"), "{reason}");
            assert_failed(&error, &text, &reason);
            drop(client);
        });
    }

    #[test]
    fn both_go_through_microsocks() {
        with_workers(|| {
            let proxy = Real::microsocks(&["-u", "me", "-P", "sec:ret"]);
            let (site, url, certificate) = secure();
            let plain = Site::start(tell);
            let own = format!("socks5h://me:sec%3Aret@127.0.0.1:{}", proxy.port);
            let client = Client::builder().proxy(Proxy::all(own).unwrap()).add_root_certificate(certificate);
            let client = client.build().unwrap();
            assert_eq!(client.get(&background(), &url).unwrap().text().unwrap(), "/path false");
            assert_eq!(client.get(&background(), plain.url("/plain")).unwrap().text().unwrap(), "/plain false");
            drop((client, site));
        });
    }

    #[test]
    fn a_tunnel_is_asked_for_once_and_the_server_learns_nothing_of_the_proxy() {
        with_workers(|| {
            let made = rcgen::generate_simple_self_signed(["www.example.org".to_owned()]).unwrap();
            let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
            let acceptor = TlsAcceptor::new(identity).unwrap();
            let script = Script::start(move |_, mut stream| {
                let head = read_head(&stream);
                let wanted = "CONNECT www.example.org:443 HTTP/1.1\r\nhost: www.example.org:443\r\n\
                              proxy-authorization: Basic bWU6c2VjcmV0\r\n\r\n";
                assert_eq!(head, wanted);
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                let mut tls = acceptor.accept(stream).unwrap();
                for _ in 0..2 {
                    let head = read_head(&mut tls);
                    assert!(head.starts_with("GET /x HTTP/1.1\r\n") && !head.contains("proxy"), "{head}");
                    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
                }
                read_to_close(&mut tls);
            });
            let client = trusting(&url_of(&script), made.cert.pem().as_bytes());
            for _ in 0..2 {
                let response = client.get(&background(), "https://www.example.org/x").unwrap();
                assert_eq!(response.text().unwrap(), "hello");
            }
            drop(client);
        });
    }

    #[test]
    fn a_proxy_that_gives_no_tunnel_is_named() {
        let check = |answer: &'static [u8], text: &str, reason: &str, protocol: bool| {
            let script = Script::start(move |_, mut stream| {
                assert!(read_head(&stream).starts_with("CONNECT localhost:443 HTTP/1.1\r\n"));
                stream.write_all(answer).unwrap();
            });
            let error = through(&url_of(&script)).get(&background(), "https://localhost/").unwrap_err();
            let shown = url_of(&script).replace("secret", "***");
            let text = text.replace("PROXY", &format!("asking the proxy {shown} for a tunnel to localhost:443"));
            assert_failed(&error, &text, reason);
            assert_eq!(error.is_protocol(), protocol);
        };
        with_workers(|| {
            check(b"HTTP/1.1 502 Not today\r\n\r\n", "PROXY failed", "it answered 502 Bad Gateway", false);
            let refused = b"HTTP/1.1 407 No\r\nContent-Length: 4\r\n\r\nbody";
            check(refused, "PROXY failed", "it answered 407 Proxy Authentication Required", false);
            check(b"HTTP/1.1 200 OK\r\nx: y\r\n", "PROXY failed", "it closed the connection", false);
            check(b"", "PROXY failed", "it closed the connection", false);
            let bad = "no proper HTTP while PROXY";
            check(b"220 this is a mail server\r\n\r\n", bad, "its answer is not HTTP", true);
            check(b"HTTP/1.1 200 OK\r\n\r\nmore", bad, "it sent more than its answer", true);
            check(Box::leak(vec![b'x'; 70_000].into()), bad, "the head of its answer is too long", true);
        });
    }

    #[test]
    fn a_proxy_that_stalls_ends_with_the_time_for_connecting() {
        with_workers(|| {
            let script = Script::start(|_, stream| read_to_close(&stream));
            let builder = Client::builder().connect_timeout(Duration::from_millis(100));
            let client = builder.proxy(Proxy::all(script.url("")).unwrap()).build().unwrap();
            let error = client.get(&background(), "https://localhost/").unwrap_err();
            let text = format!("timeout asking the proxy {} for a tunnel to localhost:443", script.url(""));
            assert_eq!(words(&error), text);
            assert!(error.is_timeout() && error.is_connect());
        });
    }
}

#[test]
fn microsocks_says_whom_it_takes() {
    with_workers(|| {
        let proxy = Real::microsocks(&["-u", "me", "-P", "secret"]);
        let site = Site::start(tell);
        for (credentials, shown, reason) in
            [("", "", "it wants a user name"), ("me:wrong@", "me:***@", "it does not take this user name and password")]
        {
            let error = proxy.client("socks5", credentials).get(&background(), site.url("/")).unwrap_err();
            let text = format!(
                "asking the proxy socks5://{shown}127.0.0.1:{} for a tunnel to {} failed",
                proxy.port,
                site.addr()
            );
            assert_failed(&error, &text, reason);
        }
        let nobody = Reserved::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let error = proxy.client("socks5", "me:secret@").get(&background(), format!("http://{nobody}/")).unwrap_err();
        assert_eq!(error.source().unwrap().to_string(), "the host refused its connection");
    });
}

#[test]
fn a_socks_proxy_that_speaks_something_else_is_named() {
    with_workers(|| {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x05\x00\x05\x00\x00\x09"] {
            let script = Script::start(move |_, mut stream| {
                stream.write_all(answer).unwrap();
                read_to_close(&stream);
            });
            let proxy = script.url("").replace("http", "socks5");
            let error = through(&proxy).get(&background(), "http://www.example.org/").unwrap_err();
            let text = format!("asking the proxy {proxy} for a tunnel to www.example.org:80 failed");
            assert_failed(&error, &text, "its answer is not SOCKS 5");
        }
    });
}

#[test]
fn a_proxy_is_sent_the_whole_url_over_one_connection_for_all_hosts() {
    with_workers(|| {
        let script = Script::start(|_, stream| {
            for target in ["http://www.example.org/x?y", "http://www.example.com:81/"] {
                let head = read_head(&stream);
                assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{head}");
                let host = target.split('/').nth(2).unwrap();
                assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
                assert!(head.contains("\r\nproxy-authorization: Basic bWU6c2VjcmV0\r\n"), "{head}");
                (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
            read_to_close(&stream);
        });
        let client = through(&url_of(&script));
        for url in ["http://user:password@www.example.org/x?y#z", "http://www.example.com:81/"] {
            assert_eq!(client.get(&background(), url).unwrap().text().unwrap(), "ok");
        }
        drop(client);
    });
}

#[test]
fn the_password_of_a_proxy_stays_there() {
    with_workers(|| {
        let direct = Site::start(tell);
        let target = direct.url("/there");
        let proxy = Site::start(move |_: Request| Response::redirect(&target));
        let url = proxy.url("").replace("http://", "http://me:secret@");
        let client = Client::builder().proxy(Proxy::all(url).unwrap().no_proxy("127.0.0.1")).build().unwrap();
        let answer = client.get(&background(), "http://www.example.org/").unwrap();
        assert_eq!(answer.text().unwrap(), "/there false");
        drop(client);
    });
}

#[test]
fn the_first_proxy_for_a_request_is_used() {
    with_workers(|| {
        let script = Script::start(|_, stream| {
            answer(&stream, "proxied");
            read_to_close(&stream);
        });
        let site = Site::start(|_: Request| "direct");
        let builder = Client::builder().proxy(Proxy::https("127.0.0.1:9").unwrap());
        let own = Proxy::http(script.url("")).unwrap().no_proxy("127.0.0.0/8");
        let client = builder.proxy(own).proxy(Proxy::http("127.0.0.1:9").unwrap().no_proxy("*")).build().unwrap();
        assert_eq!(client.get(&background(), "http://www.example.org/").unwrap().text().unwrap(), "proxied");
        assert_eq!(client.get(&background(), site.url("/")).unwrap().text().unwrap(), "direct");
        let builder = Client::builder().proxy(Proxy::all("127.0.0.1:9").unwrap());
        let without = builder.no_proxy().build().unwrap();
        assert_eq!(without.get(&background(), site.url("/")).unwrap().text().unwrap(), "direct");
        drop((client, without));
    });
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    with_workers(|| {
        let nobody = Reserved::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let client = through(&format!("http://me:secret@{nobody}"));
        for url in ["http://www.example.org/", "https://www.example.org/"] {
            let error = client.get(&background(), url).unwrap_err();
            if cfg!(feature = "tls") || url.starts_with("http:") {
                assert_eq!(words(&error), format!("connecting to the proxy http://me:***@{nobody} failed"));
                assert!(error.is_connect());
            }
        }
        let unknown = Client::builder().resolver(|_| Err(std::io::Error::other("no such host")));
        let client = unknown.proxy(Proxy::all("http://proxy.invalid").unwrap()).build().unwrap();
        let error = client.get(&background(), "http://www.example.org/").unwrap_err();
        assert_eq!(words(&error), "looking up the proxy http://proxy.invalid:80 failed");
        assert!(error.is_resolve());
    });
}

#[test]
fn a_proxy_that_does_not_answer_ends_with_the_requests_own_time() {
    with_workers(|| {
        let script = Script::start(|_, stream| {
            assert_ne!(read_head(&stream), "");
            read_to_close(&stream);
        });
        let builder = Client::builder().header_timeout(Duration::from_millis(100)).connect_timeout(PATIENCE);
        let client = builder.proxy(Proxy::all(script.url("")).unwrap()).build().unwrap();
        let error = client.get(&background(), "http://www.example.org/").unwrap_err();
        assert_eq!(words(&error), "timeout awaiting response headers");
        drop(client);
    });
}
