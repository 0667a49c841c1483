//! Connections that leave HTTP.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use goby::net::TcpStream;
use goby::{chan, now};
use goby_http::{Body, Client, Request, Response, StatusCode, Upgraded};

use crate::support::{Script, Site, background, curl, pause, read_head, rerun_alone, wait_until, with_workers};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c, Echo\r\n\r\n";

fn echo(stream: Upgraded) {
    let _ = io::copy(&mut &stream, &mut &stream);
}

fn connect(site: &Site, said: &str) -> TcpStream {
    let mut stream = TcpStream::connect(site.addr()).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    stream
}

fn switched(stream: &TcpStream) {
    let head = read_head(stream).to_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n") && head.contains("\r\nupgrade: echo\r\n"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
}

/// Bytes come before the answer, with it, and after it.
#[test]
fn bytes_are_the_users_from_the_head_on() {
    with_workers(|| {
        let site = Site::start(|request: Request| request.upgrade("echo", echo));
        // What comes behind the head looks like a long head.
        let early = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", "X-Many: x\r\n".repeat(200));
        for early in ["", "early", &early] {
            let mut stream = connect(&site, &format!("{ASK}{early}"));
            switched(&stream);
            stream.write_all(b" late").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = String::new();
            stream.read_to_string(&mut back).unwrap();
            assert_eq!(back, format!("{early} late"));
        }
    });
}

/// hyper gives up an answer that cannot be written at once, and a connection pretends that now and
/// then.
#[test]
fn the_head_is_sent_after_any_number_of_requests() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/" => request.upgrade("echo", echo),
            path => path.to_owned().into(),
        });
        for before in (0..100).chain([1000]) {
            let mut stream = connect(&site, &"GET /other HTTP/1.1\r\nHost: a\r\n\r\n".repeat(before));
            stream.write_all(ASK.as_bytes()).unwrap();
            for _ in 0..before {
                assert!(read_head(&stream).starts_with("HTTP/1.1 200 "));
                stream.read_exact(&mut [0; 6]).unwrap();
            }
            switched(&stream);
        }
    });
}

#[test]
fn a_request_that_does_not_ask_is_refused() {
    with_workers(|| {
        let site = Site::start(|request: Request| request.upgrade("echo", |_| panic!("not to be called")));
        let ask = |fields: &str| {
            let stream = connect(&site, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            let head = read_head(&stream).to_lowercase();
            assert!(head.starts_with("http/1.1 426 upgrade required\r\n"), "{head}");
            assert!(head.contains("\r\nupgrade: echo\r\n"), "{head}");
        };
        ask("");
        ask("Upgrade: echo\r\n");
        ask("Connection: upgrade\r\n");
        ask("Connection: upgrade\r\nUpgrade: other\r\n");
        ask("Connection: upgrade\r\nUpgrade: echo\r\nContent-Length: 4\r\n\r\nbody");
    });
}

#[test]
fn another_answer_keeps_the_connection() {
    with_workers(|| {
        let site = Site::start(|request: Request| -> Response {
            request.upgrade("echo", |_| panic!("not to be called")).with_status(StatusCode::OK)
        });
        let stream = connect(&site, &ASK.repeat(2));
        for _ in 0..2 {
            assert!(read_head(&stream).starts_with("HTTP/1.1 200 "));
        }
    });
}

/// The time that a connection may be idle, or stall, is HTTP's.
#[test]
fn limits_of_http_do_not_hold() {
    with_workers(|| {
        let limit = Duration::from_millis(100);
        let set_up = |server: goby_http::Server| {
            let server = server.idle_timeout(limit).stall_timeout(limit).read_timeout(limit).write_timeout(limit);
            server.max_requests_per_connection(1)
        };
        let site = Site::start_with(set_up, |request: Request| request.upgrade("echo", echo));
        let mut stream = connect(&site, ASK);
        switched(&stream);
        // More than the sockets hold, and nobody reads: the server cannot write for a while.
        let sent = vec![b'x'; 8 << 20];
        goby::scope(|s| {
            s.go(|| {
                (&stream).write_all(&sent).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            pause(limit * 4);
            let mut back = Vec::new();
            (&stream).read_to_end(&mut back).unwrap();
            assert!(back == sent);
        });
        stream.flush().unwrap();
    });
}

#[test]
fn a_stopping_server_ends_them_by_their_context() {
    with_workers(|| {
        let (says, said) = chan::bounded(2);
        let mut site = Site::start(move |request: Request| {
            let says = says.clone();
            request.upgrade("echo", move |mut stream| {
                let error = stream.read(&mut [0]).unwrap_err();
                assert!(stream.context().err().is_some());
                says.send(error.kind()).unwrap();
                // It fails until the context is lifted.
                stream.write_all(b"x").unwrap_err();
                stream.set_context(None);
                stream.write_all(b"bye").unwrap();
            })
        });
        let mut streams = [(); 2].map(|()| connect(&site, ASK));
        streams.iter().for_each(switched);
        site.stop();
        site.join();
        assert_eq!(said.iter().take(2).collect::<Vec<_>>(), [io::ErrorKind::ConnectionAborted; 2]);
        for stream in &mut streams {
            let mut last = String::new();
            stream.read_to_string(&mut last).unwrap();
            assert_eq!(last, "bye");
        }
    });
}

/// Shutting down waits for them, until its own context is done; closing does not.
#[test]
fn a_closing_server_closes_them() {
    with_workers(|| {
        let site = Site::start(move |request: Request| {
            request.upgrade("echo", move |mut stream| {
                stream.set_context(None);
                let _ = stream.read(&mut [0]);
            })
        });
        let mut stream = connect(&site, ASK);
        switched(&stream);
        assert_eq!(site.open(), 1);
        site.close();
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
        wait_until("the connection to end", || site.open() == 0);
    });
}

#[test]
fn deadlines_are_the_users() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            request.upgrade("echo", |mut stream| {
                stream.set_read_deadline(now().checked_add(Duration::from_millis(20)));
                let error = stream.read(&mut [0]).unwrap_err();
                write!(stream, "{:?}", error.kind()).unwrap();
            })
        });
        let mut stream = connect(&site, ASK);
        switched(&stream);
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, "TimedOut");
    });
}

#[test]
fn a_panic_is_reported_and_closes_the_connection() {
    let Some(stderr) = rerun_alone("upgrade::a_panic_is_reported_and_closes_the_connection") else {
        return with_workers(|| {
            let site = Site::start(|request: Request| request.upgrade("echo", |_| panic!("oh no")));
            let mut stream = connect(&site, ASK);
            switched(&stream);
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        });
    };
    assert_eq!(stderr.matches("oh no; connection closed").count(), 3, "{stderr}");
}

/// A proxy: curl asks it for a tunnel to another server.
#[test]
fn curl_goes_through_a_tunnel() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let proxy = Site::start(|request: Request| {
            let wanted = request.uri().to_string();
            request.tunnel(move |stream| {
                let upstream = TcpStream::connect(wanted).unwrap();
                goby::scope(|s| {
                    s.go(|| {
                        let _ = io::copy(&mut &stream, &mut &upstream);
                        let _ = upstream.shutdown(Shutdown::Write);
                    });
                    let _ = io::copy(&mut &upstream, &mut &stream);
                    let _ = stream.shutdown_write();
                });
            })
        });
        let (url, through) = (site.url("/"), proxy.url("/"));
        assert_eq!(curl(&["--proxytunnel", "--proxy", &through, &url, &url]), "hello".repeat(2));
        assert_eq!(curl(&["-w", "%{response_code}", "-o", "/dev/null", &through]), "405");
    });
}

fn ask_for(url: String) -> http::Request<Body> {
    let request = http::Request::get(url).header("connection", "upgrade").header("upgrade", "echo");
    request.body(Body::empty()).unwrap()
}

#[test]
fn a_client_upgrades() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/" => request.upgrade("echo", echo),
            path => path.to_owned().into(),
        });
        // The time-out is for the response.
        let client = Client::builder().timeout(Duration::from_millis(500)).max_connections_per_host(1).build().unwrap();
        for _ in 0..2 {
            // On a connection that has carried a request.
            assert_eq!(client.get(&background(), site.url("/x")).unwrap().text().unwrap(), "/x");
            let response = client.request(&background(), ask_for(site.url("/"))).unwrap();
            assert_eq!(response.status(), 101);
            let mut stream = response.upgrade().unwrap();
            pause(Duration::from_millis(600));
            stream.write_all(b"hello").unwrap();
            stream.shutdown_write().unwrap();
            let mut back = String::new();
            stream.read_to_string(&mut back).unwrap();
            assert_eq!(back, "hello");
        }
        let refused = client.request(&background(), ask_for(site.url("/other"))).unwrap();
        let error = refused.upgrade().unwrap_err();
        assert_eq!(error.to_string(), "the server has not upgraded the connection: it says 200 OK");
    });
}

/// Bytes come with the head; and the context of the request ends a read.
#[test]
fn a_clients_context_goes_on_to_hold() {
    with_workers(|| {
        let (wait, waits) = chan::bounded::<()>(0);
        let script = Script::start(move |_, mut stream| {
            read_head(&stream);
            stream.write_all(b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly").unwrap();
            let _ = waits.recv();
        });
        let (ctx, cancel) = background().with_cancel();
        let mut stream = Client::new().request(&ctx, ask_for(script.url("/"))).unwrap().upgrade().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        goby::scope(|s| {
            let reading = s.go(|| (&stream).read(&mut [0]));
            cancel.cancel();
            assert_eq!(reading.join().unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        });
        wait.close();
        stream.set_context(None);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
}
