//! The same streams, polled: by futures, and by another TLS on top.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::Arc;

use futures_io::{AsyncRead, AsyncWrite};
use goby::tls::{TlsStream, Transport};
use goby::{block_on, go, scope, spawn};

use super::support::{Authority, connected, echo, pair};
use crate::support::with_workers;

async fn write_all<S: Transport>(stream: &TlsStream<S>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let n = poll_fn(|cx| Pin::new(&mut &*stream).poll_write(cx, bytes)).await.unwrap();
        bytes = &bytes[n..];
    }
    poll_fn(|cx| Pin::new(&mut &*stream).poll_flush(cx)).await.unwrap();
}

async fn read_to_end<S: Transport>(stream: &TlsStream<S>) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), vec![0; 5000]);
    loop {
        match poll_fn(|cx| Pin::new(&mut &*stream).poll_read(cx, &mut piece)).await.unwrap() {
            0 => return all,
            n => all.extend_from_slice(&piece[..n]),
        }
    }
}

async fn close<S: Transport>(stream: &TlsStream<S>) {
    poll_fn(|cx| Pin::new(&mut &*stream).poll_close(cx)).await.unwrap();
}

const LEN: usize = 500_000;

#[test]
fn a_future_reads_while_another_writes() {
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = pair(&authority.connector(), "localhost", &authority.acceptor(&["localhost"]));
        let client = Arc::new(client);
        let echoing = go(move || echo(&server).unwrap());
        // Both begin before the handshake, and drive it together.
        let reader = spawn({
            let client = client.clone();
            async move { read_to_end(&client).await }
        });
        let writer = spawn(async move {
            write_all(&client, &[9; LEN]).await;
            close(&client).await;
        });
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), [9; LEN]);
        assert_eq!(echoing.join().unwrap(), LEN as u64);
    });
}

/// Goroutines and futures on one stream, all before the handshake. They meet at the session's lock,
/// for which a future must not block its worker: the goroutine that gets it next may be on that.
#[test]
fn goroutines_and_futures_may_share_a_stream() {
    with_workers(|| {
        let authority = Authority::new("root");
        for _ in 0..20 {
            let (client, server) = pair(&authority.connector(), "localhost", &authority.acceptor(&["localhost"]));
            let (client, server) = (Arc::new(client), Arc::new(server));
            let shaking = [&client, &server, &client, &server].map(|stream| {
                let stream = stream.clone();
                go(move || stream.handshake().unwrap())
            });
            let reader = spawn(async move { read_to_end(&server).await });
            let mut goroutine = &*client;
            goroutine.write_all(&[1; 1000]).unwrap();
            block_on(write_all(&client, &[2; 1000]));
            client.shutdown().unwrap();
            assert_eq!(reader.join().unwrap(), [[1; 1000], [2; 1000]].concat());
            shaking.into_iter().for_each(|handle| handle.join().unwrap());
        }
    });
}

/// A write that nobody flushes arrives, too.
#[test]
fn a_polled_write_is_sent_without_a_flush() {
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = connected(&authority.connector(), "localhost", &authority.acceptor(&["localhost"]));
        let written = block_on(poll_fn(|cx| Pin::new(&mut &client).poll_write(cx, b"hello")));
        assert_eq!(written.unwrap(), 5);
        let mut text = [0; 5];
        (&server).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
    });
}

/// One who says that it took more than there is has taken all of it.
#[test]
fn a_taker_cannot_take_more_than_there_is() {
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = connected(&authority.connector(), "localhost", &authority.acceptor(&["localhost"]));
        (&server).write_all(b"hello").unwrap();
        let mut offered = Vec::new();
        block_on(poll_fn(|cx| {
            client.poll_read_with(cx, |plain| {
                offered = plain.to_vec();
                usize::MAX
            })
        }))
        .unwrap();
        assert_eq!(offered, b"hello");
        (&server).write_all(b"again").unwrap();
        let mut text = [0; 5];
        (&client).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"again");
    });
}

#[test]
fn tls_runs_over_tls() {
    with_workers(|| {
        let (outer, inner) = (Authority::new("outer"), Authority::new("inner"));
        let (client, server) = connected(&outer.connector(), "proxy.example", &outer.acceptor(&["proxy.example"]));
        let client = inner.connector().connect("localhost", client).unwrap();
        let server = inner.acceptor(&["localhost"]).accept(server).unwrap();
        scope(|s| {
            s.go(|| {
                let copied = std::io::copy(&mut &server, &mut &server).unwrap();
                server.shutdown().unwrap();
                copied
            });
            let reader = s.go(|| {
                let mut all = Vec::new();
                (&client).read_to_end(&mut all).unwrap();
                all
            });
            (&client).write_all(&[5; LEN]).unwrap();
            client.shutdown().unwrap();
            assert_eq!(reader.join().unwrap(), [5; LEN]);
        });
    });
}
