//! HTTP/2: curl and h2load, and a client that sends frames as it likes.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::{chan, num_goroutines};
use goby_http::{Body, Request, Response, Server, StatusCode};

use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, INTERNAL_ERROR, PING, RST_STREAM,
    WINDOW_UPDATE, has_status, head,
};
use crate::support::{Site, curl, curl_fails, run, wait_until, with_one_worker, with_workers};

/// A server that takes HTTP/2 without TLS.
fn start<R: Into<Response>>(handler: impl Fn(Request) -> R + Send + Sync + 'static) -> Site {
    Site::start_with(|server| server.h2c(true), handler)
}

const VERSION: [&str; 2] = ["-w", " %{http_version} %{response_code}"];

#[test]
fn curl_is_served_by_prior_knowledge() {
    with_workers(|| {
        let site = start(|request: Request| {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let cookie = request.headers().get_all("cookie").iter().map(|cookie| cookie.to_str().unwrap().to_owned());
            let cookie = cookie.collect::<Vec<_>>().join("|");
            let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
            format!("{method} {uri} {version:?} {host} {cookie} {}", request.text().unwrap())
        });
        let addr = site.addr();
        let (url, other) = (site.url("/path?query"), site.url("/other"));
        let mut args = vec!["--http2-prior-knowledge", &url, "-H", "cookie: a=1", "-H", "cookie: b=2"];
        args.extend(VERSION);
        assert_eq!(curl(&args), format!("GET /path?query HTTP/2.0 {addr} a=1; b=2  2 200"));
        let mut args = vec!["--http2-prior-knowledge", "--data", "some data", &other];
        args.extend(VERSION);
        assert_eq!(curl(&args), format!("POST /other HTTP/2.0 {addr}  some data 2 200"));
        // The same port still speaks HTTP/1.1. A client that asks for an upgrade gets none.
        for version in ["--http1.1", "--http2"] {
            let mut args = vec![version, &other];
            args.extend(VERSION);
            assert_eq!(curl(&args), format!("GET /other HTTP/1.1 {addr}   1.1 200"));
        }
    });
}

#[test]
fn without_the_setting_there_is_no_prior_knowledge() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        curl_fails(&["--http2-prior-knowledge", &site.url("/")]);
    });
}

#[test]
fn bodies_are_streamed_both_ways() {
    with_workers(|| {
        const LARGE: usize = 3_000_001;
        let site = start(|request: Request| Body::from_reader(request.into_body()));
        let upload: Vec<u8> = (0..LARGE).map(|i| (i % 251) as u8).collect();
        let file = std::env::temp_dir().join(format!("goby-http-upload-{}", std::process::id()));
        std::fs::write(&file, &upload).unwrap();
        let back = file.with_extension("back");
        let data = format!("@{}", file.display());
        curl(&["--http2-prior-knowledge", "--data-binary", &data, "-o", back.to_str().unwrap(), &site.url("/")]);
        assert!(std::fs::read(&back).unwrap() == upload);
        std::fs::remove_file(file).unwrap();
        std::fs::remove_file(back).unwrap();
    });
}

#[test]
fn a_head_has_the_length_of_the_body_that_is_not_sent() {
    with_workers(|| {
        let site = start(|_: Request| "hello");
        let head = curl(&["--http2-prior-knowledge", "--head", &site.url("/")]);
        assert!(head.starts_with("HTTP/2 200") && head.contains("content-length: 5\r\n"), "{head}");
    });
}

#[test]
fn h2load_is_served() {
    with_workers(|| {
        let site = start(|_: Request| "hello");
        let report = run("h2load", &["-n", "600", "-c", "3", "-m", "20", &site.url("/")]);
        assert!(report.contains("600 succeeded, 0 failed"), "{report}");
    });
}

#[test]
fn a_reset_cancels_the_context_of_its_request_alone() {
    with_workers(|| {
        let (event, events) = chan::unbounded();
        let site = start(move |request: Request| {
            let ctx = request.context().clone();
            event.send(format!("{} began", request.path())).unwrap();
            let _ = ctx.done().recv();
            event.send(format!("{} ended", request.path())).unwrap();
        });
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/1", END_STREAM).unwrap();
        assert_eq!(events.recv().unwrap(), "/1 began");
        client.ask(3, "/3", END_STREAM).unwrap();
        assert_eq!(events.recv().unwrap(), "/3 began");
        client.send(RST_STREAM, 0, 1, &8u32.to_be_bytes()).unwrap();
        assert_eq!(events.recv().unwrap(), "/1 ended");
        client.settle();
        assert!(events.try_recv().is_err());
        // The other one ends with the connection.
        drop(client);
        assert_eq!(events.recv().unwrap(), "/3 ended");
    });
}

/// The source of the body waits for the context, and the client resets the stream.
#[test]
fn a_reset_cancels_the_context_of_a_response_that_is_streamed() {
    with_workers(|| {
        let (ended, ends) = chan::bounded(1);
        let site = start(move |request: Request| {
            let ended = ended.clone();
            let ctx = request.context().clone();
            Body::from_chunks((0..).map_while(move |n| {
                if n == 0 {
                    return Some("first");
                }
                let _ = ctx.done().recv();
                ended.send(()).unwrap();
                None
            }))
        });
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/", END_STREAM).unwrap();
        assert_eq!(client.receive_kind(crate::frames::DATA).payload, b"first");
        client.send(RST_STREAM, 0, 1, &8u32.to_be_bytes()).unwrap();
        ends.recv().unwrap();
    });
}

#[test]
fn a_panic_is_a_500_and_the_connection_goes_on() {
    with_workers(|| {
        let site = start(|request: Request| match request.path() {
            "/panic" => panic!("on purpose"),
            "/later" => Response::new(Body::from_chunks(
                ["first"].into_iter().chain(std::iter::from_fn(|| panic!("on purpose, in the body"))),
            )),
            _ => Response::new("fine"),
        });
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/panic", END_STREAM).unwrap();
        let (head, _) = client.response(1);
        assert!(has_status(&head, 500), "{head:x?}");
        client.ask(3, "/later", END_STREAM).unwrap();
        let reset = client.receive_kind(RST_STREAM);
        assert_eq!((reset.stream, reset.code()), (3, INTERNAL_ERROR));
        client.ask(5, "/fine", END_STREAM).unwrap();
        let (head, body) = client.response(5);
        assert!(has_status(&head, 200) && body == b"fine");
    });
}

#[test]
fn a_body_that_is_not_read_costs_its_stream_alone() {
    with_workers(|| {
        let site = start(|_: Request| StatusCode::NOT_FOUND);
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/", 0).unwrap();
        let (head, _) = client.response(1);
        assert!(has_status(&head, 404));
        client.ask(3, "/", END_STREAM).unwrap();
        client.response(3);
    });
}

#[test]
fn a_shutdown_finishes_what_is_under_way() {
    with_workers(|| {
        let (called, calls) = chan::bounded(1);
        let (release, released) = chan::bounded::<()>(0);
        let mut site = start(move |_: Request| {
            called.send(()).unwrap();
            let _ = released.recv();
            "finished"
        });
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/", END_STREAM).unwrap();
        calls.recv().unwrap();
        site.stop();
        client.receive_kind(GOAWAY);
        release.close();
        let (head, body) = client.response(1);
        assert!(has_status(&head, 200) && body == b"finished");
        client.drain();
        site.join();
    });
}

#[test]
fn idle_connections_are_told_to_end() {
    with_workers(|| {
        let moment = Duration::from_millis(500);
        let site = Site::start_with(
            |server| server.h2c(true).idle_timeout(moment).header_timeout(moment),
            |_: Request| "hello",
        );
        // One without any request, one that is idle after its first.
        let mut silent = Frames::connect(site.addr(), &[]);
        let mut idle = Frames::connect(site.addr(), &[]);
        idle.ask(1, "/", END_STREAM).unwrap();
        idle.response(1);
        for client in [&mut silent, &mut idle] {
            client.receive_kind(GOAWAY);
            client.drain();
        }
        // And one that says nothing at all.
        let mut mute = goby::net::TcpStream::connect(site.addr()).unwrap();
        assert_eq!(mute.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_connection_that_is_not_kept_alive_ends_with_its_first_request() {
    with_workers(|| {
        let site = Site::start_with(|server| server.h2c(true).keep_alive(false), |_: Request| "hello");
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/", END_STREAM).unwrap();
        client.receive_kind(GOAWAY);
        client.drain();
    });
}

/// Handlers whose stream has been reset go on, and still count.
#[test]
fn rapid_resets_do_not_run_more_handlers_than_streams_may_be_open() {
    with_workers(|| {
        const MOST: u32 = 3;
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (release, released) = chan::bounded::<()>(0);
        let (runs, peak) = (running.clone(), most.clone());
        let site = Site::start_with(
            |server| server.h2c(true).max_concurrent_streams(MOST),
            move |_: Request| {
                peak.fetch_max(runs.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let _ = released.recv();
                runs.fetch_sub(1, Ordering::SeqCst);
            },
        );
        let mut client = Frames::connect(site.addr(), &[]);
        // Each is taken before it is reset, so that h2's own limit does not count it.
        for n in 0..1000 {
            if client.ask(2 * n + 1, "/", END_STREAM).is_err() || !client.is_alive() {
                break;
            }
            if client.send(RST_STREAM, 0, 2 * n + 1, &8u32.to_be_bytes()).is_err() || !client.is_alive() {
                break;
            }
            assert!(n < 100, "the connection goes on");
        }
        wait_until("some handlers to run", || most.load(Ordering::SeqCst) > 0);
        release.close();
        wait_until("all handlers to end", || running.load(Ordering::SeqCst) == 0);
        assert!(most.load(Ordering::SeqCst) <= MOST as usize);
    });
}

#[test]
fn a_burst_of_resets_ends_the_connection() {
    with_workers(|| {
        let site = start(|request: Request| _ = request.context().done().recv());
        let before = num_goroutines();
        let mut client = Frames::connect(site.addr(), &[]);
        for n in 0..100_000 {
            let stream = 2 * n + 1;
            if client.ask(stream, "/", END_STREAM).is_err()
                || client.send(RST_STREAM, 0, stream, &8u32.to_be_bytes()).is_err()
            {
                break;
            }
            assert!(n < 99_999, "the connection goes on");
        }
        wait_until("the goroutines to end", || num_goroutines() <= before);
    });
}

#[test]
fn a_head_without_end_ends_the_connection() {
    with_workers(|| {
        let site = start(|_: Request| "hello");
        let before = num_goroutines();
        let mut client = Frames::connect(site.addr(), &[]);
        client.send(HEADERS, END_STREAM, 1, &head("/")).unwrap();
        // A field that is not indexed: "a: b".
        let field = [0x00, 1, b'a', 1, b'b'];
        for n in 0..1_000_000 {
            if client.send(CONTINUATION, 0, 1, &field).is_err() {
                break;
            }
            assert!(n < 999_999, "the connection goes on");
        }
        drop(client);
        wait_until("the goroutines to end", || num_goroutines() <= before);
    });
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    with_workers(|| {
        let site = start(|_: Request| "hello");
        let mut client = Frames::connect(site.addr(), &[]);
        // A field that is not indexed, with a value of 16,000 bytes: the length takes three bytes.
        let mut field = vec![0x00, 1, b'a', 0x7f, (16_000 - 127) as u8 | 0x80, ((16_000 - 127) >> 7) as u8];
        field.extend(vec![b'v'; 16_000]);
        client.send(HEADERS, END_STREAM, 1, &[head("/"), field.clone()].concat()).unwrap();
        for _ in 0..3 {
            client.send(CONTINUATION, 0, 1, &field).unwrap();
        }
        client.send(CONTINUATION, END_HEADERS, 1, &field).unwrap();
        let answer = client.receive_kind(HEADERS);
        // The status is none of those in the static table: it is spelled out, as 431.
        assert_eq!((answer.stream, answer.payload[0]), (1, 0x48));
        client.ask(3, "/", END_STREAM).unwrap();
        let (head, _) = client.response(3);
        assert!(has_status(&head, 200));
    });
}

/// A client that opens no window gets nothing, and keeps its stream until it does.
#[test]
fn a_body_waits_for_the_window() {
    with_workers(|| {
        let site = start(|_: Request| vec![7; 100_000]);
        let mut client = Frames::connect(site.addr(), &[(crate::frames::INITIAL_WINDOW_SIZE, 0)]);
        client.ask(1, "/", END_STREAM).unwrap();
        client.receive_kind(HEADERS);
        client.settle();
        client.send(WINDOW_UPDATE, 0, 0, &100_000u32.to_be_bytes()).unwrap();
        client.send(WINDOW_UPDATE, 0, 1, &100_000u32.to_be_bytes()).unwrap();
        let (_, body) = client.response(1);
        assert!(body == vec![7; 100_000]);
    });
}

/// A server that is closed while a client holds back its windows.
#[test]
fn close_ends_streams_that_wait() {
    with_workers(|| {
        let server = Arc::new(Server::bind("127.0.0.1:0").unwrap().h2c(true));
        let addr = server.local_addr();
        let serving = server.clone();
        let serving = goby::go(move || serving.serve(|_: Request| vec![7; 100_000]));
        let mut client = Frames::connect(addr, &[(crate::frames::INITIAL_WINDOW_SIZE, 0)]);
        client.ask(1, "/", END_STREAM).unwrap();
        client.receive_kind(HEADERS);
        server.close();
        serving.join().unwrap().unwrap();
    });
}

/// Without streams, a connection is not waited for: here the client answers no ping, so that hyper
/// does not know which requests are still on their way.
#[test]
fn a_shutdown_does_not_wait_for_a_silent_client() {
    with_one_worker(|| {
        let mut site = start(|_: Request| "hello");
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/", END_STREAM).unwrap();
        client.response(1);
        site.stop();
        site.join();
        assert!(client.drain().iter().any(|frame| frame.kind == GOAWAY));
    });
}

#[test]
fn a_client_that_answers_no_ping_is_gone() {
    with_one_worker(|| {
        let (ended, ends) = chan::bounded(1);
        let site = Site::start_with(
            |server| server.h2c(true).ping_interval(Duration::from_millis(20)),
            move |request: Request| {
                let _ = request.context().done().recv();
                ended.send(()).unwrap();
            },
        );
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/", END_STREAM).unwrap();
        client.drain();
        ends.recv().unwrap();
    });
}

/// How a response with status 413 begins, as hyper encodes it.
const TOO_LARGE: [u8; 5] = [0x48, 0x83, 0x68, 0x2c, 0xff];

#[test]
fn limits_of_bodies_hold() {
    with_workers(|| {
        let (called, calls) = chan::unbounded();
        let set_up = |server: Server| server.h2c(true).max_body_bytes(10);
        let site = Site::start_with(set_up, move |request: Request| {
            called.send(()).unwrap();
            request.text().inspect_err(|error| assert!(error.is_body() && !error.is_timeout()))
        });
        let post = |announced: bool, body: &str| {
            let mut client = Frames::connect(site.addr(), &[]);
            let mut fields = head("/");
            if announced {
                let len = body.len().to_string();
                // The name is of the static table.
                fields.extend([0x0f, 0x0d, u8::try_from(len.len()).unwrap()]);
                fields.extend(len.bytes());
            }
            client.send(HEADERS, END_HEADERS, 1, &fields).unwrap();
            client.send(DATA, END_STREAM, 1, body.as_bytes()).unwrap();
            client.response(1).0
        };
        for announced in [true, false] {
            assert!(has_status(&post(announced, "0123456789"), 200));
        }
        assert_eq!(calls.len(), 2);
        assert!(post(true, "0123456789+").starts_with(&TOO_LARGE));
        assert_eq!(calls.len(), 2, "no handler is called");
        assert!(post(false, "0123456789+").starts_with(&TOO_LARGE));
        assert_eq!(calls.len(), 3);
    });
}

#[test]
fn a_connection_ends_after_as_many_requests_as_it_may_carry() {
    with_workers(|| {
        let site = Site::start_with(|server| server.h2c(true).max_requests_per_connection(2), |_: Request| "hello");
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/", END_STREAM).unwrap();
        assert_eq!(client.response(1).1, b"hello");
        client.settle();
        client.ask(3, "/", END_STREAM).unwrap();
        let (mut is_told, mut is_answered) = (false, false);
        while let Some(frame) = client.receive() {
            if frame.kind == PING && frame.flags & ACK == 0 {
                client.send(PING, ACK, 0, &frame.payload).unwrap();
            }
            is_told |= frame.kind == GOAWAY;
            is_answered |= frame.kind == DATA && frame.stream == 3;
        }
        assert!(is_told && is_answered);
    });
}

#[test]
fn a_long_head_is_refused() {
    with_workers(|| {
        let site = Site::start_with(|server| server.h2c(true).max_head_bytes(5_000), |_: Request| "hello");
        let ask = |len| {
            let field = format!("x-long: {}", "x".repeat(len));
            curl(&[
                "--http2-prior-knowledge",
                "-H",
                &field,
                "-o",
                "/dev/null",
                "-w",
                "%{response_code}",
                &site.url("/"),
            ])
        };
        assert_eq!(ask(4_000), "200");
        assert_eq!(ask(5_000), "431");
    });
}

#[test]
fn limits_of_whole_requests_and_responses_hold() {
    with_workers(|| {
        let limit = Duration::from_millis(200);
        let (error, errors) = chan::bounded(1);
        let set_up = |server: Server| server.h2c(true).stall_timeout(None).read_timeout(limit).write_timeout(limit * 2);
        let site = Site::start_with(set_up, move |mut request: Request| -> Response {
            if request.path() == "/endless" {
                return Body::from_chunks(std::iter::repeat(vec![b'x'; 1000])).into();
            }
            let failed = std::iter::from_fn(|| request.reader().chunk().transpose()).find_map(Result::err);
            error.send(failed.unwrap()).unwrap();
            StatusCode::BAD_REQUEST.into()
        });
        // A body that drips.
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/", 0).unwrap();
        let failed = loop {
            client.send(DATA, 0, 1, b"x").unwrap();
            match errors.recv_timeout(limit / 20) {
                Ok(failed) => break failed,
                Err(error) => assert!(error.is_timeout()),
            }
        };
        assert!(failed.is_timeout() && failed.is_body(), "{failed:?}");
        // A response that never ends, to a client that always takes some.
        let mut client = Frames::connect(site.addr(), &[]);
        client.ask(1, "/endless", END_STREAM).unwrap();
        let mut taken = 0;
        loop {
            let frame = client.receive().expect("the connection lasts");
            if frame.kind == DATA {
                taken += frame.payload.len();
                let more = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                client.send(WINDOW_UPDATE, 0, 0, &more).unwrap();
                client.send(WINDOW_UPDATE, 0, 1, &more).unwrap();
            } else if frame.kind == RST_STREAM {
                break;
            }
        }
        assert!(taken > 100_000, "{taken}");
    });
}
