//! Responses that a function writes in pieces, and events.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan;
use goby::context::ContextError;
use goby::net::TcpStream;
use goby_http::sse::{Event, Sse};
use goby_http::{Body, Client, Request, Response, get};

use crate::support::{PATIENCE, Site, background, read_head, rerun_alone, wait_until, with_workers};

/// Sends a request on a connection of its own, and reads the head of the response.
fn begin(site: &Site, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(site.addr()).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(read_head(&stream).starts_with("HTTP/1.1 200 OK\r\n"));
    stream
}

#[test]
fn a_piece_arrives_before_the_next_one_is_written() {
    with_workers(|| {
        let (go_on, wait) = chan::bounded::<()>(0);
        let site = Site::start(move |request: Request| {
            let wait = wait.clone();
            Body::from_writer(request.context(), move |out| {
                for piece in 0..10 {
                    write!(out, "piece ")?;
                    write!(out, "{piece}")?;
                    out.flush()?;
                    wait.recv().map_err(io::Error::other)?;
                }
                write!(out, "the end")
            })
        });
        let mut body = get(&background(), site.url("/")).unwrap().into_body();
        for piece in 0..10 {
            assert_eq!(body.chunk().unwrap().unwrap(), format!("piece {piece}"));
            go_on.send(()).unwrap();
        }
        assert_eq!(body.bytes().unwrap(), "the end");
    });
}

/// Also when the socket does not take it at once.
#[test]
fn a_large_piece_arrives_before_the_next_one_is_written() {
    const LARGE: usize = 16 << 20;
    with_workers(|| {
        let (go_on, wait) = chan::bounded::<()>(0);
        let site = Site::start(move |request: Request| {
            let wait = wait.clone();
            Body::from_writer(request.context(), move |out| {
                out.send(vec![b'x'; LARGE])?;
                wait.recv().map_err(io::Error::other)?;
                out.send("the end")
            })
        });
        let mut response = get(&background(), site.url("/")).unwrap();
        let mut large = vec![0; LARGE];
        response.read_exact(&mut large).unwrap();
        assert!(large.iter().all(|&byte| byte == b'x'));
        go_on.send(()).unwrap();
        assert_eq!(response.bytes().unwrap(), "the end");
    });
}

#[test]
fn a_client_that_leaves_ends_a_writer_that_waits() {
    with_workers(|| {
        for pieces in [0, 1, 3] {
            let (ended, end) = chan::bounded(1);
            let site = Site::start(move |request: Request| {
                let ended = ended.clone();
                Body::from_writer(request.context(), move |out| {
                    for _ in 0..pieces {
                        out.send("piece")?;
                    }
                    let _ = out.context().done().recv();
                    ended.send(out.context().err()).map_err(io::Error::other)?;
                    out.send("too late")
                })
            });
            let mut stream = begin(&site, "/");
            for _ in 0..pieces {
                // In chunks: a length, the piece, and two line ends.
                stream.read_exact(&mut [0; 3 + 5 + 2]).unwrap();
            }
            drop(stream);
            assert_eq!(end.recv_timeout(PATIENCE).unwrap(), Some(ContextError::Canceled));
        }
    });
}

#[test]
fn a_client_that_leaves_ends_a_writer_that_writes() {
    with_workers(|| {
        let (ended, end) = chan::bounded(1);
        let site = Site::start(move |request: Request| {
            let ended = ended.clone();
            Body::from_writer(request.context(), move |out| {
                let error = loop {
                    if let Err(error) = out.send("piece") {
                        break error;
                    }
                };
                ended.send(error.kind()).map_err(io::Error::other)?;
                Err(error)
            })
        });
        let mut stream = begin(&site, "/");
        stream.read_exact(&mut [0; 100]).unwrap();
        drop(stream);
        assert_eq!(end.recv_timeout(PATIENCE).unwrap(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_server_that_closes_ends_a_writer() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            Body::from_writer(request.context(), |out| {
                out.send("piece")?;
                let _ = out.context().done().recv();
                Ok(())
            })
        });
        let mut response = get(&background(), site.url("/")).unwrap();
        response.read_exact(&mut [0; 5]).unwrap();
        site.close();
        assert!(response.bytes().unwrap_err().is_body());
    });
}

#[test]
fn a_body_that_is_not_sent_starts_no_writer() {
    with_workers(|| {
        let started = Arc::new(AtomicBool::new(false));
        let site = Site::start({
            let started = started.clone();
            move |request: Request| {
                let started = started.clone();
                Body::from_writer(request.context(), move |_| {
                    started.store(true, Ordering::SeqCst);
                    Ok(())
                })
            }
        });
        let head = || http::Request::head(site.url("/")).body(Body::empty()).unwrap();
        for _ in 0..3 {
            assert_eq!(Client::new().request(&background(), head()).unwrap().bytes().unwrap(), "");
        }
        assert!(!started.load(Ordering::SeqCst));
        assert_eq!(get(&background(), site.url("/")).unwrap().bytes().unwrap(), "");
        assert!(started.load(Ordering::SeqCst));
    });
}

#[test]
fn a_writer_that_fails_or_panics_breaks_the_message_off() {
    let Some(stderr) = rerun_alone("streams::a_writer_that_fails_or_panics_breaks_the_message_off") else {
        return with_workers(|| {
            let site = Site::start(|request: Request| {
                let fails = request.path() == "/fails";
                Body::from_writer(request.context(), move |out| {
                    out.send("piece")?;
                    assert!(fails, "the writer is at a loss");
                    Err(io::Error::other("the disk is gone"))
                })
            });
            for path in ["/fails", "/panics"] {
                let mut response = get(&background(), site.url(path)).unwrap();
                response.read_exact(&mut [0; 5]).unwrap();
                assert!(response.bytes().unwrap_err().is_body());
            }
        });
    };
    for said in
        ["GET /fails from", "the disk is gone", "panic while handling GET /panics from", "the writer is at a loss"]
    {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
}

/// A client that leaves is nothing to report.
#[test]
fn a_stream_that_its_client_leaves_is_not_reported() {
    let Some(stderr) = rerun_alone("streams::a_stream_that_its_client_leaves_is_not_reported") else {
        return with_workers(|| {
            let left = Arc::new(AtomicUsize::new(0));
            let site = Site::start({
                let left = left.clone();
                move |request: Request| {
                    let left = left.clone();
                    Body::from_writer(request.context(), move |out| {
                        out.send("piece")?;
                        let _ = out.context().done().recv();
                        left.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    })
                }
            });
            for _ in 0..3 {
                begin(&site, "/").read_exact(&mut [0; 5]).unwrap();
            }
            wait_until("the writers to end", || left.load(Ordering::SeqCst) == 3);
        });
    };
    assert!(!stderr.contains("goby-http:"), "{stderr}");
}

#[test]
fn dropping_a_body_ends_its_writer() {
    with_workers(|| {
        let mut body = Body::from_writer(&background(), |out| {
            loop {
                out.write_all(b"more and more")?;
            }
        });
        assert!(body.chunk().unwrap().unwrap().len() >= 16_000);
        drop(body);
        // The goroutine that has none to wake it is told by its context.
        let mut body = Body::from_writer(&background(), |out| {
            out.send("piece")?;
            let _ = out.context().done().recv();
            Ok(())
        });
        assert_eq!(body.chunk().unwrap().unwrap(), "piece");
        // `with_workers` waits for both goroutines.
    });
}

#[test]
fn a_client_sends_what_a_function_writes() {
    with_workers(|| {
        let site = Site::start(|request: Request| request.into_body());
        let body = Body::from_writer(&background(), |out| (0..1000).try_for_each(|i| writeln!(out, "line {i}")));
        let response = Client::new().post(&background(), site.url("/"), body).unwrap();
        assert_eq!(response.text().unwrap().lines().count(), 1000);
    });
}

#[test]
fn silence_is_filled_with_comments() {
    with_workers(|| {
        let (go_on, wait) = chan::bounded::<()>(0);
        let site = Site::start(move |request: Request| -> Response {
            let wait = wait.clone();
            Sse::new().keep_alive(Duration::from_millis(1)).stream(&request, move |events| {
                events.send(&Event::new().data("before"))?;
                wait.recv().map_err(io::Error::other)?;
                events.send(&Event::new().data("behind"))
            })
        });
        let mut response = get(&background(), site.url("/")).unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (mut text, mut buffer) = (String::new(), [0; 100]);
        while !text.ends_with(":\n\n:\n\n") {
            let n = response.read(&mut buffer).unwrap();
            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        go_on.send(()).unwrap();
        text += &response.text().unwrap();
        assert_eq!(text.replace(":\n\n", ""), "data: before\n\ndata: behind\n\n");
    });
}

#[cfg(feature = "http2")]
#[test]
fn events_arrive_at_once_over_http2() {
    use goby::process::{Command, Stdio};
    with_workers(|| {
        let (go_on, wait) = chan::bounded::<()>(0);
        let (ended, end) = chan::bounded(1);
        let handler = move |request: Request| {
            let (wait, ended) = (wait.clone(), ended.clone());
            goby_http::sse::stream(&request, move |events| {
                for i in 0..3 {
                    events.send(&Event::new().data(i.to_string()))?;
                    wait.recv().map_err(io::Error::other)?;
                }
                let _ = events.context().done().recv();
                ended.send(()).map_err(io::Error::other)
            })
        };
        let site = Site::start_with(|server| server.h2c(true), handler);
        let mut curl = Command::new("curl");
        curl.args(["-sSN", "--http2-prior-knowledge", &site.url("/")]).stdout(Stdio::piped());
        let mut curl = curl.spawn().unwrap();
        let mut stdout = curl.stdout.take().unwrap();
        for i in 0..3 {
            let mut event = [0; 9];
            stdout.read_exact(&mut event).unwrap();
            assert_eq!(event, format!("data: {i}\n\n").as_bytes());
            go_on.send(()).unwrap();
        }
        curl.kill().unwrap();
        curl.wait().unwrap();
        end.recv_timeout(PATIENCE).unwrap();
    });
}
