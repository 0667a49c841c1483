//! What becomes of a handler that fails: by an error, by a panic, by `goexit`.

use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use goby::net::TcpStream;
use goby::{chan, go, goexit};
use goby_http::{Body, Client, Handler, Rejection, Request, Response, StatusCode};

use crate::support::{Site, background, read_head, rerun_alone, with_one_worker, with_workers};

type Failure = Box<dyn Error + Send + Sync>;

/// An error with a cause.
#[derive(Debug)]
struct Wrapped(Failure);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("asking the store")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Sends a request on `stream`, and reads its answer, which has a length.
fn ask(stream: &mut TcpStream, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let head = read_head(&mut *stream);
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("it has a length");
    let mut body = vec![0; len.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head.lines().next().unwrap().to_owned(), String::from_utf8(body).unwrap())
}

fn get(stream: &mut TcpStream, path: &str) -> (String, String) {
    ask(stream, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
}

fn fail(request: Request) -> Result<Response, Failure> {
    let missing = || Rejection::new(StatusCode::NOT_FOUND, "no such thing");
    match request.path() {
        "/parse" => Ok(format!("{}", request.query().unwrap_or("?").parse::<u32>()?).into()),
        "/text" => Ok(request.text()?.into()),
        "/rejected" => Err(missing().into()),
        "/wrapped" => Err(Wrapped(missing().into()).into()),
        "/in-io" => Err(io::Error::other(missing()).into()),
        "/deep" => Err(Wrapped(io::Error::other(Wrapped(missing().into())).into()).into()),
        "/busy" => Err(Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "come again").into()),
        "/plain" => Err("the store\r\nis down".into()),
        "/cause" => Err(Wrapped(io::Error::other("no route").into()).into()),
        _ => Ok(Response::from("fine")),
    }
}

#[test]
fn an_error_is_answered_and_the_connection_goes_on() {
    with_workers(|| {
        let site = Site::start(fail);
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        let (internal, missing) = ("HTTP/1.1 500 Internal Server Error", "HTTP/1.1 404 Not Found");
        for (path, status, body) in [
            ("/parse?7", "HTTP/1.1 200 OK", "7"),
            ("/parse", internal, "Internal Server Error"),
            ("/plain", internal, "Internal Server Error"),
            ("/rejected", missing, "no such thing"),
            ("/wrapped", missing, "no such thing"),
            ("/in-io", missing, "no such thing"),
            ("/deep", missing, "no such thing"),
            ("/busy", "HTTP/1.1 503 Service Unavailable", "come again"),
            ("/", "HTTP/1.1 200 OK", "fine"),
        ] {
            assert_eq!(get(&mut stream, path), (status.to_owned(), body.to_owned()), "{path}");
        }
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn errors_are_reported_unless_the_client_made_them() {
    if let Some(stderr) = rerun_alone("handlers::errors_are_reported_unless_the_client_made_them") {
        let reports: Vec<_> = stderr.lines().filter(|line| line.starts_with("goby-http: ")).collect();
        let expected = [
            "error while handling GET /parse?x from 127.0.0.1:PORT: invalid digit found in string; answered with 500",
            "error while handling GET /busy from 127.0.0.1:PORT: come again; answered with 503",
            "error while handling GET /plain from 127.0.0.1:PORT: the store  is down; answered with 500",
            "error while handling GET /cause from 127.0.0.1:PORT: asking the store: no route; answered with 500",
            "panic while handling GET /panic from 127.0.0.1:PORT: on purpose; answered with 500",
            "panic while handling GET /stream from 127.0.0.1:PORT: on purpose; connection closed",
        ];
        assert_eq!(reports.len(), expected.len(), "{stderr}");
        for (report, expected) in reports.iter().zip(expected) {
            let (before, after) = expected.split_once("PORT").unwrap();
            let rest = report.strip_prefix("goby-http: ").unwrap().strip_prefix(before);
            let rest = rest.unwrap_or_else(|| panic!("{report:?} is not {expected:?}"));
            assert_eq!(rest.trim_start_matches(|c: char| c.is_ascii_digit()), after);
        }
        return;
    }
    with_one_worker(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/panic" => panic!("on purpose"),
            "/stream" => Ok(Body::from_chunks((0..).map(|n| ["piece"].get(n).copied().expect("on purpose"))).into()),
            _ => fail(request),
        });
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        for path in ["/parse?x", "/rejected", "/deep", "/busy", "/plain", "/cause", "/panic"] {
            get(&mut stream, path);
        }
        let error = Client::new().get(&background(), site.url("/stream")).unwrap().text().unwrap_err();
        assert!(error.is_body(), "{error:?}");
    });
}

#[test]
fn a_body_that_cannot_be_read_is_the_clients_mistake() {
    with_workers(|| {
        let site = Site::start(fail);
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        stream.write_all(b"POST /text HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\xff").unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 400 Bad Request\r\n"));
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        stream.write_all(b"POST /text HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n").unwrap();
        // hyper may close without an answer.
        let head = read_head(&mut stream);
        assert!(head.is_empty() || head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
    });
}

#[test]
fn a_panic_is_answered_and_the_connection_goes_on() {
    with_workers(|| {
        let site = Site::start(|mut request: Request| {
            match request.path() {
                "/panic" => panic!("on purpose"),
                "/read" => {
                    let mut text = String::new();
                    request.read_to_string(&mut text).unwrap();
                    panic!("{text}");
                }
                _ => {}
            }
            "fine"
        });
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        let post = |path, body: &str| {
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let failed = ("HTTP/1.1 500 Internal Server Error".to_owned(), "Internal Server Error".to_owned());
        let fine = ("HTTP/1.1 200 OK".to_owned(), "fine".to_owned());
        assert_eq!(get(&mut stream, "/panic"), failed);
        assert_eq!(ask(&mut stream, &post("/panic", "")), failed);
        assert_eq!(ask(&mut stream, &post("/read", "a body")), failed);
        let chunked = "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        assert_eq!(ask(&mut stream, chunked), failed);
        assert_eq!(get(&mut stream, "/"), fine);
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn a_panic_before_the_body_was_read_closes_the_connection() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/panic" => panic!("on purpose"),
            _ => "fine",
        });
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        stream.write_all(b"POST /panic HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\npart").unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "Internal Server Error");
        // One body that was not read says nothing of the next request on another connection.
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        assert_eq!(get(&mut stream, "/panic").0, "HTTP/1.1 500 Internal Server Error");
        assert_eq!(get(&mut stream, "/").0, "HTTP/1.1 200 OK");
    });
}

#[test]
fn a_panic_while_the_body_is_read_elsewhere() {
    with_workers(|| {
        let (bodies, taken) = chan::unbounded();
        let site = Site::start(move |request: Request| -> Response {
            let body = request.into_body();
            let bodies = bodies.clone();
            go(move || bodies.send(body.text().unwrap()).unwrap());
            panic!("on purpose");
        });
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\none ").unwrap();
        // Before or after the panic: the connection's goroutine serves the body either way.
        stream.write_all(b"piece").unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
        assert_eq!(taken.recv().unwrap(), "one piece");
    });
}

#[test]
fn a_panic_in_the_midst_of_a_response_costs_its_connection_alone() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/stream" => Body::from_chunks((0..).map(|n| ["piece"].get(n).copied().expect("on purpose"))).into(),
            _ => Response::from("fine"),
        });
        let client = Client::new();
        let response = client.get(&background(), site.url("/stream")).unwrap();
        assert!(response.text().unwrap_err().is_body());
        assert_eq!(client.get(&background(), site.url("/")).unwrap().text().unwrap(), "fine");
        assert_eq!(site.connections(), 2);
    });
}

#[test]
fn a_handler_that_ends_its_goroutine_ends_its_connection() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/exit" => goexit(),
            _ => "fine",
        });
        let client = Client::new();
        assert!(client.post(&background(), site.url("/exit"), "").unwrap_err().is_request());
        assert_eq!(client.get(&background(), site.url("/")).unwrap().text().unwrap(), "fine");
    });
}

#[test]
fn handlers_are_values() {
    with_workers(|| {
        let boxed: Box<dyn Handler> = Box::new(fail);
        let shared: Arc<dyn Handler> = Arc::new(boxed);
        let around = {
            let shared = shared.clone();
            move |request: Request| {
                let response = shared.handle(request);
                match response.error() {
                    Some(error) => Response::new(format!("sorry: {error}")).with_status(response.status()),
                    None => response,
                }
            }
        };
        let (shared, around) = (Site::start(shared), Site::start(around));
        let text = |site: &Site, path| {
            let response = Client::new().get(&background(), site.url(path)).unwrap();
            (response.status().as_u16(), response.text().unwrap())
        };
        assert_eq!(text(&shared, "/rejected"), (404, "no such thing".to_owned()));
        assert_eq!(text(&around, "/rejected"), (404, "sorry: no such thing".to_owned()));
        assert_eq!(text(&around, "/"), (200, "fine".to_owned()));
    });
}

#[test]
fn a_status_beside_an_error_gives_way_to_it() {
    let created = |result: Result<&'static str, Rejection>| Response::from((StatusCode::CREATED, result));
    assert_eq!(created(Ok("made")).status(), 201);
    assert_eq!(created(Err(StatusCode::CONFLICT.into())).status(), 409);
}
