//! The access log: what it says of each request, and when.

use std::io::{self, Read, Write};

use goby::chan;
use goby_http::{Body, Client, Request, Response, Router, StatusCode, access_log, get};

use crate::support::{Site, background, rerun_alone, with_one_worker};

/// Runs requests with a subscriber that writes to standard error.
fn requests() {
    tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(io::stderr).init();
    let (go_on, wait) = chan::bounded::<()>(0);
    let router = Router::new()
        .get("/hello", |_: Request| "hello")
        .get("/large", |_: Request| "x".repeat(1_000_000))
        .get("/empty", |_: Request| StatusCode::NO_CONTENT)
        .get("/panics", |_: Request| -> &'static str { panic!("a panic that is expected") })
        .get("/fails", |_: Request| Err::<Response, _>(io::Error::other("it fails")))
        .get("/stream", move |request: Request| {
            let wait = wait.clone();
            Body::from_writer(request.context(), move |out| {
                out.send("one")?;
                wait.recv().map_err(io::Error::other)?;
                out.send("two")
            })
        })
        .get("/broken", |request: Request| {
            Body::from_writer(request.context(), |out| {
                out.send("one")?;
                Err(io::Error::other("it breaks off"))
            })
        });
    let site = Site::start(move |request: Request| access_log(request, &router));
    let client = Client::new();
    let request = http::Request::get(site.url("/hello?secret=1")).header("user-agent", "a \"test\"");
    client.request(&background(), request.body(Body::empty()).unwrap()).unwrap().bytes().unwrap();
    for path in ["/large", "/empty", "/panics", "/fails", "/missing"] {
        get(&background(), site.url(path)).unwrap().bytes().unwrap();
    }
    let head = http::Request::head(site.url("/hello")).body(Body::empty()).unwrap();
    client.request(&background(), head).unwrap();
    let mut stream = get(&background(), site.url("/stream")).unwrap();
    stream.read_exact(&mut [0; 3]).unwrap();
    io::stderr().write_all(b"the first half is there\n").unwrap();
    go_on.send(()).unwrap();
    assert_eq!(stream.bytes().unwrap(), "two");
    assert!(get(&background(), site.url("/broken")).unwrap().bytes().is_err());
}

#[test]
fn each_request_has_a_line() {
    let Some(stderr) = rerun_alone("access_log::each_request_has_a_line") else {
        return with_one_worker(requests);
    };
    let lines: Vec<_> =
        stderr.lines().filter(|line| line.contains(" goby_http::access: ") || line.contains("half")).collect();
    let expected = [
        r#"method="GET" path="/hello" status=200 bytes=5 complete=true "#,
        r#"method="GET" path="/large" status=200 bytes=1000000 complete=true "#,
        r#"method="GET" path="/empty" status=204 bytes=0 complete=true "#,
        r#"method="GET" path="/panics" status=500 bytes=0 complete=false "#,
        r#"method="GET" path="/fails" status=500 bytes=21 complete=true "#,
        r#"method="GET" path="/missing" status=404 bytes=9 complete=true "#,
        r#"method="HEAD" path="/hello" status=200 bytes=0 complete=true "#,
        "the first half is there",
        r#"method="GET" path="/stream" status=200 bytes=6 complete=true "#,
        r#"method="GET" path="/broken" status=200 bytes=3 complete=false "#,
    ];
    assert_eq!(lines.len(), expected.len(), "{stderr}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{line}\n{expected}\n{stderr}");
    }
    assert!(!stderr.contains("secret"), "{stderr}");
    assert!(lines[0].contains(r#"user_agent="a \"test\"""#), "{stderr}");
    assert!(lines[0].contains(" peer=127.0.0.1:"), "{stderr}");
}
