//! Both directions at once, through one stream.

use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use goby::net::{TcpListener, TcpStream};
use goby::tls::{TlsStream, Transport};
use goby::{go, scope, yield_now};

use super::support::{Authority, connected};
use crate::support::{debug_or_release, pause, with_workers};

/// Bytes that look random, made anew by whoever knows the seed.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut all = Vec::with_capacity(len + 8);
    while all.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(len);
    all
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn send<S: Transport>(stream: &TlsStream<S>, seed: u64, len: usize) {
    let mut stream_ref = stream;
    for piece in bytes(seed, len).chunks(70_001) {
        stream_ref.write_all(piece).unwrap();
    }
    stream.shutdown().unwrap();
}

fn receive<S: Transport>(mut stream: &TlsStream<S>) -> (usize, u64) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    (all.len(), hash(&all))
}

#[test]
fn large_transfers_go_both_ways_at_once() {
    let len = debug_or_release(3_000_000, 40_000_000);
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = connected(&authority.connector(), "localhost", &authority.acceptor(&["localhost"]));
        let (client, server) = (Arc::new(client), Arc::new(server));
        let sender = |stream: &Arc<TlsStream>, seed| {
            let stream = stream.clone();
            go(move || send(&stream, seed, len))
        };
        let senders = [sender(&client, 1), sender(&server, 2)];
        let receiver = go(move || receive(&server));
        assert_eq!(receive(&client), (len, hash(&bytes(2, len))));
        assert_eq!(receiver.join().unwrap(), (len, hash(&bytes(1, len))));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

/// Neither side reads before it has written all: as with TCP, that works only for as much as the
/// buffers hold. With a reader beside the writer it always works.
#[test]
fn halves_live_in_goroutines_of_their_own() {
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = connected(&authority.connector(), "localhost", &authority.acceptor(&["localhost"]));
        let len = 1_000_000;
        let halves = [client, server].map(TlsStream::into_split);
        let running = halves.map(|(mut reader, mut writer)| {
            let writer = go(move || {
                writer.write_all(&bytes(3, len)).unwrap();
                writer.shutdown().unwrap();
            });
            let reader = go(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                hash(&all)
            });
            (writer, reader)
        });
        for (writer, reader) in running {
            writer.join().unwrap();
            assert_eq!(reader.join().unwrap(), hash(&bytes(3, len)));
        }
    });
}

/// A stream that counts what has passed it.
struct Counted {
    tcp: TcpStream,
    received: AtomicUsize,
    sent: AtomicUsize,
}

impl AsyncRead for &Counted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut &self.tcp).poll_read(cx, buf);
        if let Poll::Ready(Ok(n)) = &polled {
            self.received.fetch_add(*n, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for &Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut &self.tcp).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = &polled {
            self.sent.fetch_add(*n, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &self.tcp).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &self.tcp).poll_close(cx)
    }
}

fn counted_pair() -> (Counted, Counted) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let client = TcpStream::connect(addr).unwrap();
    let ends = [client, listener.accept().unwrap().0];
    let [client, server] = ends.map(|tcp| Counted { tcp, received: 0.into(), sent: 0.into() });
    (client, server)
}

/// A reader that is slow holds the writer up: what is neither read nor in the system's buffers is
/// bounded by what the page of the module says, on both sides.
#[test]
fn a_slow_reader_holds_the_writer_up() {
    const PLAIN: usize = 16 * 1024 + 4096;
    const RECEIVED: usize = 48 * 1024;
    const UNSENT: usize = 80 * 1024;
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = counted_pair();
        let client = authority.connector().connect("localhost", client).unwrap();
        let server = authority.acceptor(&["localhost"]).accept(server).unwrap();
        let len = 8_000_000;
        let written = AtomicUsize::new(0);
        scope(|s| {
            s.go(|| {
                for piece in bytes(4, len).chunks(10_000) {
                    (&server).write_all(piece).unwrap();
                    written.fetch_add(piece.len(), Ordering::Relaxed);
                    let unsent =
                        written.load(Ordering::Relaxed).saturating_sub(server.get_ref().sent.load(Ordering::Relaxed));
                    assert!(unsent <= UNSENT, "{unsent} bytes kept by the writer");
                }
                server.shutdown().unwrap();
            });
            let (mut all, mut piece) = (Vec::new(), [0; 3000]);
            loop {
                let n = (&client).read(&mut piece).unwrap();
                if n == 0 {
                    break;
                }
                all.extend_from_slice(&piece[..n]);
                let kept = client.get_ref().received.load(Ordering::Relaxed) - all.len();
                // The records' own bytes are 22 per 10,000, and some thousands in the handshake.
                let overhead = 8000 + all.len() / 100;
                assert!(kept <= PLAIN + RECEIVED + overhead, "{kept} bytes kept by the reader");
                if all.len() < 300_000 {
                    pause(Duration::from_micros(100));
                } else {
                    yield_now();
                }
            }
            assert_eq!(hash(&all), hash(&bytes(4, len)));
        });
    });
}

/// Several goroutines write, each a message at a time, and several read: no message is torn, and
/// nobody is forgotten.
#[test]
fn any_number_of_goroutines_may_read_and_write() {
    const WRITERS: usize = 6;
    const MESSAGES: usize = 50;
    const LEN: usize = 1000;
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = connected(&authority.connector(), "localhost", &authority.acceptor(&["localhost"]));
        let sum = AtomicUsize::new(0);
        scope(|s| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let client = &client;
                    s.go(move || {
                        for _ in 0..MESSAGES {
                            assert_eq!((&mut &*client).write(&[writer as u8 + 1; LEN]).unwrap(), LEN);
                        }
                    })
                })
                .collect();
            for _ in 0..4 {
                s.go(|| {
                    let mut piece = [0; 777];
                    loop {
                        match (&server).read(&mut piece).unwrap() {
                            0 => return,
                            n => sum.fetch_add(piece[..n].iter().map(|&byte| byte as usize).sum(), Ordering::Relaxed),
                        };
                    }
                });
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            client.shutdown().unwrap();
        });
        assert_eq!(sum.into_inner(), LEN * MESSAGES * (1..=WRITERS).sum::<usize>());
    });
}
