//! Ending a server: it finishes the requests under way, and begins nothing new.

use std::io::{Read, Write};
use std::time::Duration;

use goby::context::ContextError;
use goby::net::TcpStream;
use goby::{chan, go, scope};
use goby_http::{Body, Client, Request, Response, Server};

use crate::support::{MOMENT, Site, background, pause, read_head, with_workers};

#[test]
fn what_is_under_way_is_finished() {
    with_workers(|| {
        let (called, calls) = chan::bounded(1);
        let (release, released) = chan::bounded::<()>(0);
        let mut site = Site::start(move |_: Request| {
            called.send(()).unwrap();
            let _ = released.recv();
            "finished"
        });
        let url = site.url("/");
        let client = Client::new();
        scope(|s| {
            let request = s.go(|| client.get(&background(), &url).unwrap());
            calls.recv().unwrap();
            site.stop();
            // The listener is closed, the request goes on.
            crate::support::wait_until("the listener to be closed", || TcpStream::connect(site.addr()).is_err());
            assert!(!request.is_finished());
            release.close();
            let response = request.join().unwrap();
            assert_eq!(response.headers()["connection"], "close");
            assert_eq!(response.text().unwrap(), "finished");
        });
        site.join();
    });
}

#[test]
fn a_streamed_response_is_finished() {
    with_workers(|| {
        let (piece, pieces) = chan::bounded::<&str>(0);
        let pieces = goby::sync::Mutex::new(Some(pieces));
        let mut site = Site::start(move |_: Request| Body::from_chunks(pieces.lock().take().unwrap()));
        let mut response = Client::new().get(&background(), site.url("/")).unwrap();
        piece.send("first ").unwrap();
        response.read_exact(&mut [0; 6]).unwrap();
        site.stop();
        pause(MOMENT);
        piece.send("last").unwrap();
        drop(piece);
        assert_eq!(response.text().unwrap(), "last");
        site.join();
    });
}

#[test]
fn idle_and_silent_connections_are_closed_at_once() {
    with_workers(|| {
        let mut site = Site::start(|_: Request| "hello");
        let mut silent = TcpStream::connect(site.addr()).unwrap();
        let mut idle = TcpStream::connect(site.addr()).unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_head(&idle);
        idle.read_exact(&mut [0; 5]).unwrap();
        site.stop();
        site.join();
        assert_eq!(idle.read(&mut [0]).unwrap(), 0);
        // It may not have been accepted at all.
        assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)));
    });
}

#[test]
fn a_kept_connection_to_a_server_that_is_gone_is_an_error() {
    with_workers(|| {
        let mut site = Site::start(|_: Request| "hello");
        let client = Client::new();
        client.get(&background(), site.url("/")).unwrap().text().unwrap();
        site.stop();
        site.join();
        assert!(client.get(&background(), site.url("/")).unwrap_err().is_connect());
    });
}

#[test]
fn shutdown_waits_no_longer_than_its_context() {
    with_workers(|| {
        let (called, calls) = chan::bounded(1);
        let (ended, ends) = chan::bounded(1);
        let handler = move |request: Request| {
            called.send(()).unwrap();
            let _ = request.context().done().recv();
            ended.send(()).unwrap();
        };
        let server = Server::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", server.local_addr());
        scope(|s| {
            let serving = s.go(|| server.serve(handler));
            let request = s.go(|| Client::new().get(&background(), url).and_then(Response::text));
            calls.recv().unwrap();
            let (ctx, _cancel) = background().with_timeout(Duration::from_millis(5));
            assert_eq!(server.shutdown(&ctx), Err(ContextError::DeadlineExceeded));
            assert!(!serving.is_finished());
            // The handler waits for its context, which `close` cancels.
            server.close();
            ends.recv().unwrap();
            assert_eq!(server.shutdown(&background()), Ok(()));
            serving.join().unwrap().unwrap();
            assert!(request.join().unwrap().is_err());
        });
    });
}

#[test]
fn a_server_that_was_shut_down_does_not_serve() {
    with_workers(|| {
        let server = Server::bind("127.0.0.1:0").unwrap();
        server.shutdown(&background()).unwrap();
        server.serve(|_: Request| "never").unwrap();
        assert!(TcpStream::connect(server.local_addr()).is_err());
    });
}

#[test]
fn a_server_serves_once() {
    with_workers(|| {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let (ctx, cancel) = background().with_cancel();
        scope(|s| {
            let serving = s.go(|| server.serve_ctx(&ctx, |_: Request| "hello"));
            let url = format!("http://{}/", server.local_addr());
            assert_eq!(Client::new().get(&background(), url).unwrap().text().unwrap(), "hello");
            assert!(server.serve(|_: Request| "hello").is_err());
            cancel.cancel();
            serving.join().unwrap().unwrap();
        });
    });
}

/// Clients come and go while the server stops. Every request gets its full answer, or fails because
/// it came too late.
#[test]
fn stopping_under_load_breaks_no_response_off() {
    with_workers(|| {
        for _ in 0..5 {
            let mut site = Site::start(|_: Request| vec![b'x'; 10_000]);
            let url = site.url("/");
            let clients: Vec<_> = (0..10)
                .map(|_| {
                    let url = url.clone();
                    go(move || {
                        let client = Client::new();
                        for n in 0.. {
                            match client.get(&background(), &url) {
                                Ok(response) => assert_eq!(response.bytes().unwrap().len(), 10_000),
                                Err(error) => {
                                    assert!(error.is_connect() || error.is_request(), "{error:?}");
                                    return n;
                                }
                            }
                        }
                        unreachable!("the server stops");
                    })
                })
                .collect();
            pause(Duration::from_millis(10));
            site.stop();
            site.join();
            for client in clients {
                client.join().unwrap();
            }
        }
    });
}
