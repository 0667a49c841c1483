//! Sockets: connecting, accepting, and transferring data.

mod close;
mod copy;
mod dial;
mod halves;
mod hostile;
mod limits;
mod names;
mod readiness;
mod socat;
mod udp;
mod unix;
mod waves;

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use goby::net::{
    Address, Listener, Listening, OwnedReadHalf, OwnedWriteHalf, Stream, TcpListener, TcpStream, UdpSocket,
    UnixDatagram, UnixListener, UnixStream, look_up,
};
use goby::{Context, block_on, chan, go, now, scope, spawn};

use self::unix::TestPath;
use crate::support::{MOMENT, PATIENCE, on_workers, pause, size, with_workers};

const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A listener and its address.
fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(LOCAL).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// The two ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let (listener, addr) = listen();
    let client = TcpStream::connect(addr).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Forty connections come one after the other, and stay: their goroutines live on both workers.
/// Another load on the machine may keep the second worker away: one success in ten tries is enough.
#[test]
fn connections_are_spread_over_the_workers() {
    fn n_here() -> usize {
        let (listener, addr) = listen();
        let (begun, threads) = chan::bounded(0);
        let mut clients = Vec::new();
        scope(|s| {
            let threads = (0..40).map(|_| {
                // There is a pause before each, so that the other worker sleeps in between.
                pause(Duration::from_micros(200));
                clients.push(std::net::TcpStream::connect(addr).unwrap());
                let (mut stream, _) = listener.accept().unwrap();
                let begun = begun.clone();
                s.go(move || {
                    begun.send(thread::current().id()).unwrap();
                    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the client ends it");
                });
                threads.recv().unwrap()
            });
            let n_here = threads.filter(|&thread| thread == thread::current().id()).count();
            clients.clear();
            n_here
        })
    }

    on_workers(2, 0, || {
        let n = (0..10).map(|_| n_here()).find(|&n| n <= 25);
        assert!(n.is_some(), "more than 25 of 40 live here, ten times");
    });
}

#[test]
fn many_connections_echo_at_once() {
    fn check<T: Listening>(
        listener: &Listener<T>,
        connect: impl Fn() -> io::Result<Stream<T::Connection>> + Send + Sync,
    ) {
        let (n, connect) = (size(100, 1000), &connect);
        scope(|s| {
            s.go(|| {
                for stream in listener.incoming().take(n) {
                    let stream = stream.unwrap();
                    s.go(move || io::copy(&mut &stream, &mut &stream).unwrap());
                }
            });
            for i in 0..n {
                s.go(move || {
                    let mut stream = connect().unwrap();
                    for round in 0..10 {
                        let message = format!("{i} {round}");
                        stream.write_all(message.as_bytes()).unwrap();
                        let mut echo = vec![0; message.len()];
                        stream.read_exact(&mut echo).unwrap();
                        assert_eq!(echo, message.as_bytes());
                    }
                });
            }
        });
    }

    with_workers(|| {
        let (listener, addr) = listen();
        check(&listener, || TcpStream::connect(addr));
        let path = TestPath::new();
        let listener = UnixListener::bind(&path.0).unwrap();
        check(&listener, || UnixStream::connect(&path.0));
    });
}

#[test]
fn both_directions_at_once_carry_every_byte() {
    with_workers(|| {
        let total = size(4 << 20, 64 << 20);
        let (a, b) = pair();
        let send = |stream: &TcpStream, seed: u8| {
            let mut stream = stream;
            let mut sent = 0;
            while sent < total {
                let chunk: Vec<u8> = (sent..(sent + 10_007).min(total)).map(|i| (i % 251) as u8 ^ seed).collect();
                stream.write_all(&chunk).unwrap();
                sent += chunk.len();
            }
            stream.shutdown(Shutdown::Write).unwrap();
        };
        let receive = |stream: &TcpStream, seed: u8| {
            let mut all = Vec::new();
            { stream }.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), total);
            assert!(all.iter().enumerate().all(|(i, byte)| *byte == (i % 251) as u8 ^ seed));
        };
        scope(|s| {
            s.go(|| send(&a, 1));
            s.go(|| send(&b, 2));
            s.go(|| receive(&a, 2));
            s.go(|| receive(&b, 1));
        });
    });
}

#[test]
fn the_end_of_the_stream_is_read_when_the_peer_drops_it() {
    with_workers(|| {
        let (mut client, server) = pair();
        let reader = go(move || client.read(&mut [0]));
        pause(MOMENT);
        drop(server);
        assert_eq!(reader.join().unwrap().unwrap(), 0);
    });
}

/// A short read says that the socket is empty, and a later read relies on that. But the end of the
/// stream may have come with the data, before the read or after the poller has told of it; and so
/// may more data.
#[test]
fn what_comes_right_after_a_short_read_is_not_missed() {
    with_workers(|| {
        // `told`: the poller tells of the data before it is read; `polled`: how it is read.
        for (told, polled) in [(false, false), (false, true), (true, false), (true, true)] {
            let (mut peer, mut stream) = pair();
            stream.set_read_deadline(Some(now() + PATIENCE));
            let read = move |stream: &mut TcpStream| {
                let mut buf = [0; 16];
                let n = match polled {
                    true => block_on(poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buf))),
                    false => stream.read(&mut buf),
                };
                buf[..n.expect("bytes or the end, in time")].to_vec()
            };
            let settle = || {
                if told {
                    pause(MOMENT)
                }
            };
            // The reader is parked when the bytes come, so that the socket is registered from here
            // on.
            let first = scope(|s| {
                let reader = s.go(|| read(&mut stream));
                pause(MOMENT);
                peer.write_all(b"a").unwrap();
                reader.join().unwrap()
            });
            assert_eq!(first, b"a");
            for text in [b"b", b"c"] {
                peer.write_all(text).unwrap();
                settle();
                assert_eq!(read(&mut stream), text);
            }
            peer.write_all(b"d").unwrap();
            drop(peer);
            settle();
            assert_eq!(read(&mut stream), b"d");
            assert_eq!(read(&mut stream), b"", "told: {told}, polled: {polled}");
            assert_eq!(read(&mut stream), b"");
        }
    });
}

#[test]
fn several_goroutines_accept_from_one_listener() {
    with_workers(|| {
        let (listener, addr) = listen();
        scope(|s| {
            for _ in 0..4 {
                s.go(|| {
                    for _ in 0..25 {
                        listener.accept().unwrap().0.write_all(b"x").unwrap();
                    }
                });
            }
            for _ in 0..100 {
                s.go(|| TcpStream::connect(addr).unwrap().read_exact(&mut [0]).unwrap());
            }
        });
    });
}

#[test]
fn connecting_is_refused_where_nobody_listens() {
    with_workers(|| {
        let (listener, addr) = listen();
        drop(listener);
        assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn connecting_tries_all_addresses() {
    with_workers(|| {
        let (closed, nobody) = listen();
        drop(closed);
        let (_listener, addr) = listen();
        let stream = TcpStream::connect(vec![nobody, addr]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
        let error = TcpStream::connect(vec![nobody, nobody]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = TcpStream::connect(Vec::<SocketAddr>::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn names_are_looked_up() {
    with_workers(|| {
        let (listener, addr) = listen();
        let client = TcpStream::connect(("localhost", addr.port())).unwrap();
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        assert!(TcpStream::connect_timeout(format!("localhost:{}", addr.port()), PATIENCE).is_ok());
        let (ctx, _cancel) = Context::background().with_timeout(PATIENCE);
        assert!(TcpStream::connect_ctx(&ctx, format!("localhost:{}", addr.port())).is_ok());
        assert!(look_up("localhost:80").unwrap().iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
    });
}

#[test]
fn what_is_no_address_is_said_to_be_none() {
    let numbers = ["localhost:", "localhost:http", "localhost:65536", ":80", ":"];
    for text in ["", "localhost", "http://localhost:80/", "::1:80", "[::1]", "a:b:1", "[fe80::1%eth0]:80"]
        .into_iter()
        .chain(numbers)
    {
        let error = TcpStream::connect(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        let said = error.to_string();
        let advice = said.strip_prefix(&format!("not an address of the form host:port: {text:?}")).unwrap();
        assert_eq!(
            advice,
            match text {
                "localhost" | "[::1]" => "; the port is missing",
                "::1:80" => "; an address of IPv6 is in brackets, as in [::1]:80",
                "http://localhost:80/" => "; write it without a scheme and a path",
                ":80" => "; to listen at all addresses write 0.0.0.0:80 or [::]:80",
                "localhost:http" | "localhost:65536" => "; the port is a number up to 65535",
                "[fe80::1%eth0]:80" => "; the zone of an address is a number, as in [fe80::1%2]:80",
                _ => "",
            }
        );
        assert_eq!(Address::from(text).to_string(), text);
    }
}

#[test]
fn polled_reads_and_writes_carry_bytes() {
    with_workers(|| {
        let (client, server) = pair();
        let total = size(1 << 20, 16 << 20);
        // One side as a spawned future, the other in a goroutine's block_on.
        let sender = spawn(async move {
            let mut client = client;
            let mut sent = 0;
            while sent < total {
                let chunk = [sent as u8; 5000];
                let len = chunk.len().min(total - sent);
                sent += poll_fn(|cx| Pin::new(&mut client).poll_write(cx, &chunk[..len])).await.unwrap();
            }
            poll_fn(|cx| Pin::new(&mut client).poll_close(cx)).await.unwrap();
        });
        let received = block_on(async {
            let (mut buffer, mut received) = (vec![0; 7000], 0);
            loop {
                let read = poll_fn(|cx| Pin::new(&mut &server).poll_read(cx, &mut buffer)).await.unwrap();
                if read == 0 {
                    break received;
                }
                received += read;
            }
        });
        assert_eq!(received, total);
        sender.join().unwrap();
    });
}

#[test]
fn peeking_leaves_the_bytes_there() {
    with_workers(|| {
        let (client, mut server) = pair();
        scope(|s| {
            let peeker = s.go(|| {
                let mut buffer = [0; 4];
                let n = client.peek(&mut buffer).unwrap();
                buffer[..n].to_vec()
            });
            pause(MOMENT);
            server.write_all(b"x").unwrap();
            assert_eq!(peeker.join().unwrap(), b"x");
        });
        let mut buffer = [0; 4];
        assert_eq!({ &client }.read(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], b'x');
    });
}

#[test]
fn plain_threads_use_sockets_too() {
    let (listener, addr) = listen();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.set_read_deadline(Some(now()));
        assert_eq!(stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        all
    });
    let mut client = TcpStream::connect(addr).unwrap();
    client.write_all(b"from a thread").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.join().unwrap(), b"from a thread");
}

#[test]
fn small_writes_are_sent_at_once_on_both_sides() {
    with_workers(|| {
        let (client, server) = pair();
        assert!(client.nodelay().unwrap());
        assert!(server.nodelay().unwrap());
    });
}

#[test]
fn sockets_are_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<TcpStream>();
    check::<TcpListener>();
    check::<UdpSocket>();
    check::<UnixStream>();
    check::<UnixListener>();
    check::<UnixDatagram>();
    check::<OwnedReadHalf>();
    check::<OwnedWriteHalf>();
    check::<Address>();
}

/// A read stops at urgent data, before the end of the data: it has not emptied the socket.
#[test]
fn urgent_data_does_not_hide_what_follows() {
    with_workers(|| {
        let (listener, addr) = listen();
        let peer = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        peer.connect(&addr.into()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        // Registers the socket.
        peer.send(b"0").unwrap();
        let mut buf = [0; 100];
        assert_eq!(stream.read(&mut buf).unwrap(), 1);
        peer.send(b"ab").unwrap();
        peer.send_out_of_band(b"!").unwrap();
        peer.send(b"cd").unwrap();
        pause(MOMENT);
        let mut got = Vec::new();
        stream.set_read_deadline(Some(now() + PATIENCE));
        while got.len() < 4 {
            let n = stream.read(&mut buf).unwrap();
            got.extend_from_slice(&buf[..n]);
        }
        assert_eq!(got, b"abcd");
    });
}
