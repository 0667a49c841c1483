//! Requests that two servers could read differently: where the one sees a body, the other sees
//! another request, which an attacker has smuggled past the first one's rules. Each of them is
//! refused, and nothing behind it on its connection is looked at.
//!
//! Where nginx (1.22) or Go (1.27's `net/http`) does otherwise, the tests say so.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby::net::TcpStream;
use goby_http::Request;

use crate::support::{Site, read_head, with_workers};

/// What an attacker would smuggle.
const SECOND: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// A site that counts its requests. It reads bodies, and answers with the path and the body.
struct Counting {
    site: Site,
    seen: Arc<AtomicUsize>,
}

impl Counting {
    fn start() -> Counting {
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = seen.clone();
        let site = Site::start(move |request: Request| {
            counter.fetch_add(1, Ordering::SeqCst);
            let path = request.path().to_owned();
            // A body that is not proper is an error, which is answered with 400.
            request.text().map(|body| format!("{path} {body}"))
        });
        Counting { site, seen }
    }

    /// Sends `bytes` on a connection of its own. Returns all that comes until the server closes,
    /// and how many requests handlers have seen.
    fn send(&self, bytes: &str) -> (String, usize) {
        let before = self.seen.load(Ordering::SeqCst);
        let mut stream = TcpStream::connect(self.site.addr()).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer, self.seen.load(Ordering::SeqCst) - before)
    }

    /// Checks that the server refuses a request with this status, and closes.
    #[track_caller]
    fn refuses(&self, what: &str, request: &str, status: u16) {
        let (answer, seen) = self.send(&format!("{request}{SECOND}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer:?}");
        assert!(seen <= 1 && !answer.contains("smuggled"), "{what}: {seen} requests, {answer:?}");
    }

    /// Checks that a request is served, with this body, and the next one on its connection.
    #[track_caller]
    fn serves(&self, what: &str, request: &str, body: &str) {
        let last = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let (answer, seen) = self.send(&format!("{request}{last}"));
        assert_eq!(seen, 2, "{what}: {answer:?}");
        let (first, rest) =
            answer.split_once("HTTP/1.1 200 OK\r\n").map(|(_, rest)| rest).unwrap().split_once("HTTP/1.1").unwrap();
        assert!(first.ends_with(&format!("\r\n\r\n/ {body}")), "{what}: {answer:?}");
        assert!(rest.ends_with("/last "), "{what}: {answer:?}");
    }
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}

/// A length beside a transfer coding: a server that goes by the one, behind a proxy that goes by
/// the other. nginx refuses these, too; Go goes by the coding and keeps the connection.
#[test]
fn a_length_beside_a_coding_is_refused() {
    with_workers(|| {
        let site = Counting::start();
        let many = "A: b\r\n".repeat(150);
        for (what, fields, body) in [
            ("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG"),
            ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 3", "1\r\nx\r\n0\r\n\r\n"),
            ("small letters", "transfer-encoding: chunked\r\ncontent-length: 3", "0\r\n\r\n"),
            ("a length of 0", "Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            ("a length that is none", "Transfer-Encoding: chunked\r\nContent-Length: x", "0\r\n\r\n"),
            // Where hyper does not see all fields.
            ("many", &format!("{many}Transfer-Encoding: chunked\r\nContent-Length: 3"), "0\r\n\r\n"),
            ("length and many", &format!("Content-Length: 3\r\n{many}Transfer-Encoding: chunked"), "0\r\n\r\n"),
        ] {
            site.refuses(what, &post(fields, body), 400);
        }
        let mut stream = TcpStream::connect(site.site.addr()).unwrap();
        for byte in post("Transfer-Encoding: chunked\r\nContent-Length: 3", "").chars() {
            stream.write_all(byte.to_string().as_bytes()).unwrap();
            goby::yield_now();
        }
        assert!(read_head(&stream).starts_with("HTTP/1.1 400 "));
        // Neither the length of the request before counts, nor a similar name.
        site.serves("a similar name", &post("Content-Type: a\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), "");
        let before = post("Content-Length: 2", "hi");
        let (answer, seen) = site.send(&format!("{before}{}", post(CHUNKED_LAST, "1\r\nx\r\n0\r\n\r\n")));
        assert!(seen == 2 && answer.ends_with("/ x"), "{answer:?}");
    });
}

const CHUNKED_LAST: &str = "Connection: close\r\nTransfer-Encoding: chunked";

/// Behind a body that no handler read, heads are not followed, so a length beside a coding is not
/// seen. Then the request with the coding is the last one.
#[test]
fn where_a_length_may_be_unseen_a_coding_ends_the_connection() {
    with_workers(|| {
        let site = Site::start(|request: Request| request.path().to_owned());
        let chunked = |path: &str| {
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        };
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        let both = "POST /both HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        stream.write_all(format!("{}{both}{SECOND}", chunked("/first")).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(!answer.contains("/smuggled"), "{answer:?}");
        assert!(answer.contains("/first"), "{answer:?}");
    });
}

#[test]
fn an_obscure_coding_is_refused() {
    with_workers(|| {
        let site = Counting::start();
        let check = |fields: &str, status| site.refuses(fields, &post(fields, "0\r\n\r\n"), status);
        for fields in [
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunkedx",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: identity",
            "Transfer-Encoding:",
            "Transfer-Encoding:\u{b}chunked",
            "Transfer-Encoding:\0chunked",
            "Transfer-Encoding: chunked\u{b}",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            " Transfer-Encoding: chunked",
            "X: y\r\n Transfer-Encoding: chunked",
            "Transfer-Encoding:\r\n chunked",
            "Transfer-Encoding\r\n: chunked",
            "X: y\rTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        ] {
            check(fields, 400);
        }
        // Without `chunked` at the end of the codings the request has no end: section 6.3. nginx
        // and Go answer 501 or 400 to all codings but `chunked`.
        for fields in [
            "Transfer-Encoding: x, chunked",
            "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: ,chunked",
        ] {
            check(fields, 501);
        }
        // An old client knows no codings. Go ignores them then.
        let old = "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let (answer, seen) = site.send(&format!("{old}{SECOND}"));
        assert!(answer.starts_with("HTTP/1.1 400 ") && seen == 0, "{answer:?}");
        // Other fields, to everybody.
        for fields in ["Transfer_Encoding: chunked", "X-Transfer-Encoding: chunked", "TE: chunked"] {
            site.serves(fields, &post(fields, ""), "");
        }
        site.serves("capitals", &post("TRANSFER-ENCODING:\tCHUNKED \t", "1\r\nx\r\n0\r\n\r\n"), "x");
    });
}

#[test]
fn a_length_has_one_meaning() {
    with_workers(|| {
        let site = Counting::start();
        for length in [
            "+5",
            "-5",
            "0x5",
            "5 5",
            "5, 5",
            "5,6",
            "5;6",
            "5.0",
            "5e0",
            "",
            "five",
            "\u{ff15}",
            "99999999999999999999",
        ] {
            let fields = format!("Content-Length: {length}");
            site.refuses(&fields, &post(&fields, "hello"), 400);
        }
        for fields in [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\nContent-Length:",
            "Content-Length : 5",
            "Content-Length\t: 5",
            "X: y\r\n Content-Length: 5",
            "Content-Length:\r\n 5",
            "Content-Length: 5\0",
            "Content-Length: 5\rX: y",
        ] {
            site.refuses(fields, &post(fields, "hello"), 400);
        }
        // Go takes them, too; nginx refuses a second one.
        site.serves("the same twice", &post("Content-Length: 5\r\nContent-Length: 5", "hello"), "hello");
        site.serves("leading zeros", &post("Content-Length: 0005", "hello"), "hello");
        site.serves("GET", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "hello");
    });
}

#[test]
fn a_chunk_has_one_meaning() {
    with_workers(|| {
        let site = Counting::start();
        for body in [
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "5_\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            // 2^64 + 5.
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            // Ends of lines that not everybody takes for one. nginx takes the first, Go none.
            "5\nhello\r\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5\r\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            // Two extensions, of which one looks like a chunk.
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5;\n0\r\n\r\n",
            "5\r\nhello\r\n0;a\n\r\n",
            // Trailers.
            "0\r\nX y\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
        ] {
            site.refuses(body, &post("Transfer-Encoding: chunked", body), 400);
        }
        for body in [
            "5\r\nhello\r\n0\r\n\r\n",
            "05\r\nhello\r\n000\r\n\r\n",
            "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n",
            // Section 7.1.1 has spaces before an extension, and a recipient that takes them
            // elsewhere.
            "5 ;a\r\nhello\r\n0\r\n\r\n",
            "5\t\r\nhello\r\n0 \r\n\r\n",
        ] {
            site.serves(body, &post("Transfer-Encoding: chunked", body), "hello");
        }
        // hyper takes trailers that are none, and drops what they hide. So a request with trailers
        // is the last one of its connection.
        for trailers in
            ["X: y\r\n\r\n", "Content-Length: 50\r\nHost: b\r\n\r\n", "\nX y\r\n\r\n", "\nGET / HTTP/1.1\r\n\r\n"]
        {
            let body = format!("5\r\nhello\r\n0\r\n{trailers}");
            let (answer, seen) = site.send(&format!("{}{SECOND}", post("Transfer-Encoding: chunked", &body)));
            assert!(seen == 1 && answer.ends_with("/ hello"), "{trailers:?}: {answer:?}");
        }
    });
}

#[test]
fn lines_and_names_have_one_meaning() {
    with_workers(|| {
        let site = Counting::start();
        for fields in [
            "X : y",
            " X: y",
            "X\t: y",
            ": y",
            // nginx ignores it.
            "X",
            // A field over several lines. Go takes it, nginx does not.
            "X: a\r\n b",
            "X: a\r\n\tb",
            "X: a\0b",
            "X\0: y",
            "X: a\rb",
            "X: a\r\r\nY: b",
            "(X): y",
            "X y: z",
            "X: a\u{7f}",
        ] {
            site.refuses(fields, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"), 400);
            // Behind so many fields that hyper is not given all of them.
            let many = "A: b\r\n".repeat(85);
            site.refuses(fields, &format!("GET / HTTP/1.1\r\nHost: a\r\n{many}{fields}\r\n\r\n"), 400);
        }
        for line in [
            "GET / HTTP/1.1 ",
            "GET  / HTTP/1.1",
            "GET /\tHTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / HTTP/2.0",
            "GET / HTTP/0.9",
            "GET / http/1.1",
            "GET / HTTP/1.10",
            "GET /",
            " GET / HTTP/1.1",
            "G\0T / HTTP/1.1",
            "GET /\0 HTTP/1.1",
            "GET /\r HTTP/1.1",
        ] {
            site.refuses(line, &format!("{line}\r\nHost: a\r\n\r\n"), 400);
        }
        // A line feed alone ends a line of a head, as section 2.2 allows, for nginx and Go, too.
        site.serves("line feeds", "GET / HTTP/1.1\nHost: a\n\n", "");
        site.serves("empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "");
    });
}

/// The host that a request is for is that of its target, if the target has one: RFC 9112, section
/// 3.2.2. A handler sees no other.
#[test]
fn a_request_has_one_host() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            let hosts = request.headers().get_all("host").iter().map(|host| host.to_str().unwrap());
            format!("{} {}", request.path(), hosts.collect::<Vec<_>>().join("|"))
        });
        let ask = |target: &str, host: &str| {
            let mut stream = TcpStream::connect(site.addr()).unwrap();
            write!(stream, "GET {target} HTTP/1.1\r\n{host}Connection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            format!("{} {body}", head.split(' ').nth(1).unwrap())
        };
        assert_eq!(ask("/x", "Host: a\r\n"), "200 /x a");
        assert_eq!(ask("http://b:80/x", "Host: a\r\n"), "200 /x b:80");
        assert_eq!(ask("http://b/x", "Host: b\r\n"), "200 /x b");
        for (target, host) in [
            ("http://b/x", ""),
            ("http://b/x", "Host: a\r\nHost: b\r\n"),
            ("http://user@b/x", "Host: b\r\n"),
            ("/x", ""),
            ("/x", "Host: a\r\nHost: a\r\n"),
            ("/x", "Host: a, b\r\nHost: c\r\n"),
            ("/x", "Host: a/b\r\n"),
            ("/x", "Host: a b\r\n"),
            ("//b/x?http://c", ""),
        ] {
            assert_eq!(ask(target, host), "400 Bad Request", "{target} {host:?}");
        }
    });
}

/// A refusal is heard though the client has sent more, and goes on sending.
#[test]
fn a_refusal_is_heard_behind_a_bad_head() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        for n in [0, 100_000, 5_000_000] {
            let mut stream = TcpStream::connect(site.addr()).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n").unwrap();
            stream.write_all(&vec![b'x'; n]).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{n}: {answer:?}");
        }
    });
}

/// Requests of HTTP/2 that would mean something else in HTTP/1.1, to a server behind a proxy.
#[cfg(feature = "http2")]
mod http2 {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use goby_http::Request;

    use crate::frames::{DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, has_status};
    use crate::support::{Site, with_workers};

    const METHOD_GET: &[u8] = &[0x82];
    const METHOD_POST: &[u8] = &[0x83];
    const SCHEME: &[u8] = &[0x86];
    const PATH: &[u8] = &[0x84];

    /// A field, encoded as it is.
    fn field(name: &str, value: &str) -> Vec<u8> {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    }

    fn authority() -> Vec<u8> {
        field(":authority", "test")
    }

    #[test]
    fn what_would_mean_something_else_in_http_1_is_refused() {
        with_workers(|| {
            let seen = Arc::new(AtomicUsize::new(0));
            let counter = seen.clone();
            let site = Site::start_with(
                |server| server.h2c(true),
                move |request: Request| {
                    let fine = request.method() == "GET" && request.headers().len() == 1;
                    counter.fetch_add(1, Ordering::SeqCst);
                    if fine { "fine" } else { "not fine" }
                },
            );
            let get = [METHOD_GET, SCHEME, PATH, &authority()].concat();
            let with = |name: &str, value: &str| [&get[..], &field(name, value)].concat();
            for (what, head) in [
                ("connection", with("connection", "close")),
                ("a field that it names", with("connection", "x-internal")),
                ("keep-alive", with("keep-alive", "5")),
                ("proxy-connection", with("proxy-connection", "close")),
                ("a coding", with("transfer-encoding", "chunked")),
                ("an upgrade", with("upgrade", "websocket")),
                ("te", with("te", "chunked")),
                ("a name in capitals", with("Transfer-Encoding", "chunked")),
                ("a name with a space", with("content-length ", "5")),
                ("a name with a colon", with("content-length: 5", "x")),
                ("an empty name", with("", "x")),
                ("a line in a name", with("x: y\r\ntransfer-encoding", "chunked")),
                ("a line in a value", with("x", "y\r\ntransfer-encoding: chunked")),
                ("a line feed in a value", with("x", "y\nz")),
                ("a nul in a value", with("x", "y\0z")),
                (
                    "a line in the path",
                    [METHOD_GET, SCHEME, &field(":path", "/ HTTP/1.1\r\nx: y"), &authority()].concat(),
                ),
                ("a space in the path", [METHOD_GET, SCHEME, &field(":path", "/a b"), &authority()].concat()),
                (
                    "a line in the method",
                    [&field(":method", "GET / HTTP/1.1\r\nx: y"), SCHEME, PATH, &authority()].concat(),
                ),
                ("no path", [METHOD_GET, SCHEME, &authority()].concat()),
                ("an empty path", [METHOD_GET, SCHEME, &field(":path", ""), &authority()].concat()),
                ("no method", [SCHEME, PATH, &authority()].concat()),
                ("two paths", [&get[..], PATH].concat()),
                ("two authorities", [&get[..], &authority()].concat()),
                ("a pseudo-header behind a field", [METHOD_GET, SCHEME, &field("x", "y"), PATH, &authority()].concat()),
                ("an unknown pseudo-header", with(":host", "test")),
                ("that of a response", with(":status", "200")),
                ("a length that is none", with("content-length", "+5")),
                ("a length without a body", with("content-length", "5")),
            ] {
                let mut frames = Frames::connect(site.addr(), &[]);
                frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &head).unwrap();
                check(&mut frames, what);
            }
            let before = seen.load(Ordering::SeqCst);
            let mut frames = Frames::connect(site.addr(), &[]);
            frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &get).unwrap();
            let (head, body) = frames.response(1);
            assert!(has_status(&head, 200) && body == b"fine");
            assert_eq!(seen.load(Ordering::SeqCst), before + 1);
        });
    }

    /// A length that does not fit the body: the handler never has that body.
    #[test]
    fn a_length_has_to_fit() {
        with_workers(|| {
            let site = Site::start_with(|server| server.h2c(true), |request: Request| request.text());
            for (what, length) in [("a longer body", "4"), ("a shorter body", "6"), ("a body of none", "0")] {
                let mut frames = Frames::connect(site.addr(), &[]);
                let head = [METHOD_POST, SCHEME, PATH, &authority(), &field("content-length", length)].concat();
                frames.send(HEADERS, END_HEADERS, 1, &head).unwrap();
                frames.send(DATA, END_STREAM, 1, b"hello").unwrap();
                check(&mut frames, what);
            }
            // The host is that of the authority: RFC 9113, section 8.3.1.
            let site = Site::start_with(
                |server| server.h2c(true),
                |request: Request| {
                    let hosts = request.headers().get_all("host").iter().map(|host| host.to_str().unwrap());
                    hosts.collect::<Vec<_>>().join("|")
                },
            );
            let mut frames = Frames::connect(site.addr(), &[]);
            let head = [METHOD_GET, SCHEME, PATH, &authority(), &field("host", "other")].concat();
            frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &head).unwrap();
            assert_eq!(frames.response(1).1, b"test");
        });
    }

    /// Checks that the stream is reset, or the connection ends, or the answer is 400.
    #[track_caller]
    fn check(frames: &mut Frames, what: &str) {
        loop {
            let frame = frames.receive().unwrap_or_else(|| panic!("{what}: the connection ended without a word"));
            match frame.kind {
                RST_STREAM | GOAWAY => return,
                HEADERS => return assert!(has_status(&frame.payload, 400), "{what}: {frame:?}"),
                _ => {}
            }
        }
    }
}
