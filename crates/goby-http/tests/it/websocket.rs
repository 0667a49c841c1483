//! WebSockets, with tungstenite's own ends at the other side.

use std::error::Error as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;

use goby::{chan, go, num_goroutines, scope};
use goby_http::websocket::{Acceptance, Message};
use goby_http::{Client, Request};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message as Raw, WebSocket};

use crate::support::{Site, background, curl, wait_until, with_one_worker, with_workers};

fn echo(request: Request) -> goby_http::Response {
    request.websocket(|socket| {
        while let Ok(Some(message)) = socket.receive() {
            if socket.send(message).is_err() {
                break;
            }
        }
    })
}

/// Runs a client on a thread of its own, and waits for it.
fn with_client(site: &Site, client: impl FnOnce(WebSocket<MaybeTlsStream<TcpStream>>) + Send + 'static) {
    let url = format!("ws://{}/", site.addr());
    let (done, over) = chan::bounded::<()>(1);
    let thread = thread::spawn(move || {
        let (socket, response) = tungstenite::connect(url).unwrap();
        assert_eq!(response.status(), 101);
        client(socket);
        drop(done);
    });
    let _ = over.recv();
    thread.join().unwrap();
}

#[test]
fn messages_of_all_sizes_come_back() {
    with_workers(|| {
        let site = Site::start(echo);
        with_client(&site, |mut socket| {
            for len in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
                let (text, bytes) = (Raw::text("x".repeat(len)), Raw::binary(vec![7; len]));
                for message in [text, bytes] {
                    socket.send(message.clone()).unwrap();
                    assert_eq!(socket.read().unwrap(), message);
                }
            }
            socket.send(Raw::Ping("sign".into())).unwrap();
            assert_eq!(socket.read().unwrap(), Raw::Pong("sign".into()));
            let frame = CloseFrame { code: CloseCode::Library(4000), reason: "enough".into() };
            socket.close(Some(frame.clone())).unwrap();
            assert_eq!(socket.read().unwrap(), Raw::Close(Some(frame)));
            assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
        });
        wait_until("the connection to end", || site.open() == 0);
    });
}

/// One goroutine receives, others send.
#[test]
fn goroutines_share_a_socket() {
    with_workers(|| {
        const EACH: usize = 200;
        let site = Site::start(|request: Request| {
            request.websocket(|socket| {
                scope(|s| {
                    for sender in 0..4 {
                        s.go(move || {
                            for n in 0..EACH {
                                socket.send(format!("{sender} {n} {}", "x".repeat(n * 50))).unwrap();
                            }
                        });
                    }
                    for n in 0..EACH {
                        assert_eq!(socket.receive().unwrap(), Some(Message::from(n.to_string())));
                    }
                });
            })
        });
        let socket = Client::new().websocket(&background(), &format!("ws://{}/", site.addr())).unwrap();
        scope(|s| {
            s.go(|| (0..EACH).for_each(|n| socket.send(n.to_string()).unwrap()));
            let mut next = [0; 4];
            while let Some(message) = socket.receive().unwrap() {
                let Message::Text(text) = message else { panic!("{message:?}") };
                let mut words = text.split(' ');
                let (sender, n) = (words.next().unwrap(), words.next().unwrap());
                let next = &mut next[sender.parse::<usize>().unwrap()];
                assert_eq!(n, next.to_string());
                assert_eq!(words.next().unwrap().len(), *next * 50);
                *next += 1;
            }
            assert_eq!(next, [EACH; 4]);
        });
    });
}

#[test]
fn a_stopping_server_says_that_it_goes() {
    with_workers(|| {
        let mut site = Site::start(echo);
        let (ready, is_ready) = chan::bounded(1);
        let url = format!("ws://{}/", site.addr());
        let client = thread::spawn(move || {
            let (mut socket, _) = tungstenite::connect(url).unwrap();
            socket.send(Raw::text("hello")).unwrap();
            socket.read().unwrap();
            ready.send(()).unwrap();
            let Raw::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close") };
            assert_eq!(frame.code, CloseCode::Away);
            while socket.read().is_ok() {}
        });
        is_ready.recv().unwrap();
        site.stop();
        site.join();
        client.join().unwrap();
    });
}

#[test]
fn what_is_no_handshake_is_refused() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            Acceptance::new().allow_origin("https://friend.example").accept(&request, |_| {})
        });
        let url = site.url("/");
        let status = |fields: &[&str]| {
            let mut args = vec!["--max-time", "20", "-s", "-o", "/dev/null", "-w", "%{response_code}"];
            let asks = ["connection: upgrade", "upgrade: websocket"];
            args.extend(asks.iter().chain(fields).flat_map(|field| ["-H", field]));
            args.push(&url);
            curl(&args)
        };
        let (version, key) = ("sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(status(&[key]), "426");
        assert_eq!(status(&["sec-websocket-version: 8", key]), "426");
        assert_eq!(status(&[version]), "400");
        assert_eq!(status(&[version, key, "origin: https://evil.example"]), "403");
        assert_eq!(status(&[version, key, "origin: null"]), "403");
        assert_eq!(curl(&["-o", "/dev/null", "-w", "%{response_code}", &url]), "426");
        for origin in ["https://friend.example", &format!("http://{}", site.addr())] {
            let request = http::Request::get(&url).header("origin", origin).body(goby_http::Body::empty()).unwrap();
            assert_eq!(Client::new().websocket_with(&background(), request).unwrap().receive().unwrap(), None);
        }
        let error = Client::new().websocket(&background(), "not a url").unwrap_err();
        assert!(error.is_url(), "{error:?}");
    });
}

#[test]
fn long_messages_and_wrong_frames_are_errors() {
    with_one_worker(|| {
        let (says, said) = chan::bounded(2);
        let site = Site::start(move |request: Request| {
            let says = says.clone();
            Acceptance::new().max_message_bytes(1000).accept(&request, move |socket| {
                let error = loop {
                    if let Err(error) = socket.receive() {
                        break error;
                    }
                };
                assert!(error.is_protocol(), "{error:?}");
                says.send(format!("{error}: {}", error.source().unwrap())).unwrap();
            })
        });
        let socket = Client::new().websocket(&background(), &format!("ws://{}/", site.addr())).unwrap();
        socket.send("x".repeat(1000)).unwrap();
        socket.send("x".repeat(1001)).unwrap();
        assert_eq!(said.recv().unwrap(), "no proper WebSocket: Space limit exceeded: Message too long: 1001 > 1000");
        let socket = Client::new().websocket(&background(), &format!("ws://{}/", site.addr())).unwrap();
        // A frame without a mask, which a client's must have.
        (&mut { socket.stream() }).write_all(&[0x81, 1, b'x']).unwrap();
        assert!(said.recv().unwrap().starts_with("no proper WebSocket"));
    });
}

/// The other side is told why, even one that has not sent all yet.
#[test]
fn a_refusal_says_why() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            Acceptance::new().max_message_bytes(1000).accept(&request, |socket| {
                scope(|s| {
                    // Nobody waits for a message that does not come.
                    s.go(|| while let Ok(Some(_)) = socket.receive() {});
                    while let Ok(Some(_)) = socket.receive() {}
                });
            })
        });
        let told = |frame: Vec<u8>, code: u16| {
            with_client(&site, move |mut socket| {
                socket.get_mut().write_all(&frame).unwrap();
                let answer = socket.read().unwrap();
                assert!(matches!(&answer, Raw::Close(Some(why)) if u16::from(why.code) == code), "{answer:?}");
            });
        };
        let long = 3_000_000u64;
        told([&[0x82, 0xff][..], &long.to_be_bytes(), &[0; 4], &vec![0; long as usize]].concat(), 1009);
        told(vec![0x81, 1, b'x'], 1002);
        told(vec![0x81, 0x81, 0, 0, 0, 0, 0xff], 1007);
        wait_until("the connections to end", || site.open() == 0);
    });
}

/// A client that is gone leaves no goroutine.
#[test]
fn a_client_that_breaks_off_ends_it() {
    with_workers(|| {
        let site = Site::start(echo);
        let before = num_goroutines();
        for _ in 0..3 {
            let socket = Client::new().websocket(&background(), &format!("ws://{}/", site.addr())).unwrap();
            socket.send("hello").unwrap();
            drop(socket);
        }
        wait_until("the goroutines to end", || num_goroutines() <= before);
        let socket = Client::new().websocket(&background(), &format!("ws://{}/", site.addr())).unwrap();
        let (ctx, cancel) = background().with_cancel();
        socket.stream().set_context(Some(&ctx));
        let reading = go(move || socket.receive());
        cancel.cancel();
        assert!(reading.join().unwrap().is_err());
    });
}
