//! Writes that a limit ends after the session has taken their bytes; what reports say of limits.

use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use goby::diag::GoroutineInfo;
use goby::net::TcpStream;
use goby::sync::Mutex;
use goby::tls::Transport;
use goby::{Context, diag, go, now};

use super::support::{Authority, tcp_pair};
use crate::support::{wait_until, with_workers};

/// What happens when the session sends: a limit is reached, or the socket fails.
type Event = Box<dyn FnOnce(&TcpStream) -> io::Result<()> + Send>;

/// A socket to which something happens at the next send.
struct Eventful {
    socket: TcpStream,
    event: Mutex<Option<Event>>,
}

impl Transport for Eventful {
    fn poll_receive(&self, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &self.socket).poll_read(cx, buf)
    }

    fn poll_send(&self, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(event) = self.event.lock().take() {
            event(&self.socket)?;
        }
        Pin::new(&mut &self.socket).poll_write(cx, buf)
    }

    fn poll_send_all(&self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &self.socket).poll_flush(cx)
    }

    fn poll_finish(&self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &self.socket).poll_close(cx)
    }
}

/// Writes `text`, while the event happens, and returns the result of that write and of the next
/// one. Then lifts all limits, and returns what the other side gets.
fn write_during(event: Event) -> (io::Result<usize>, io::Result<usize>, String) {
    let authority = Authority::new("root");
    let (client, server) = tcp_pair();
    let server = authority.acceptor(&["localhost"]).accept(server).unwrap();
    let reading = go(move || io::read_to_string(&server).unwrap());
    let client = Eventful { socket: client, event: Mutex::new(None) };
    let client = authority.connector().connect("localhost", client).unwrap();
    client.handshake().unwrap();
    *client.get_ref().event.lock() = Some(event);
    let first = (&client).write(b"once");
    let second = (&client).write(b"never");
    client.get_ref().socket.set_context(None);
    client.get_ref().socket.set_deadline(None);
    client.shutdown().unwrap();
    (first, second, reading.join().unwrap())
}

#[test]
fn a_write_that_a_limit_ends_says_what_it_took() {
    with_workers(|| {
        let check = |event: Event, kind| {
            let (first, second, got) = write_during(event);
            assert_eq!((first.unwrap(), second.unwrap_err().kind(), got.as_str()), (4, kind, "once"));
        };
        let canceled = |socket: &TcpStream| {
            let (ctx, cancel) = Context::background().with_cancel();
            cancel.cancel();
            socket.set_context(Some(&ctx));
            Ok(())
        };
        let expired = |socket: &TcpStream| {
            let (ctx, _cancel) = Context::background().with_deadline(now());
            socket.set_context(Some(&ctx));
            Ok(())
        };
        let late = |socket: &TcpStream| {
            socket.set_write_deadline(Some(now()));
            Ok(())
        };
        check(Box::new(canceled), ErrorKind::ConnectionAborted);
        check(Box::new(expired), ErrorKind::TimedOut);
        check(Box::new(late), ErrorKind::TimedOut);
    });
}

/// The kernel has given up the connection, so the next write would not say `TimedOut` again.
#[test]
fn a_write_that_the_kernel_ends_fails() {
    with_workers(|| {
        let gone = |_: &TcpStream| Err(rustix::io::Errno::TIMEDOUT.into());
        let (first, ..) = write_during(Box::new(gone));
        assert_eq!(first.unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// The limits are those of the stream beneath, even where TLS polls it through another one. They
/// may be set and lifted while the goroutine waits.
#[test]
fn reports_show_the_limits_of_the_stream_beneath() {
    with_workers(|| {
        let hour = Duration::from_secs(3600);
        let authority = Authority::new("root");
        let (client, server) = tcp_pair();
        let server = authority.acceptor(&["localhost"]).accept(server).unwrap();
        let silent = go(move || {
            server.handshake().unwrap();
            server
        });
        let client = Eventful { socket: client, event: Mutex::new(None) };
        let client = Arc::new(authority.connector().connect("localhost", client).unwrap());
        client.handshake().unwrap();
        let server = silent.join().unwrap();
        let reads = client.clone();
        let reader = go(move || (&*reads).read(&mut [0]));
        let id = reader.id();
        let look = || diag::goroutines().into_iter().find(|info| info.id() == id && info.waited().is_some());
        let shows = |what: &dyn Fn(&GoroutineInfo) -> bool| look().is_some_and(|info| what(&info));
        wait_until("a wait without limits", || shows(&|info| !info.has_deadline() && !info.is_reached_by_context()));
        client.get_ref().socket.set_read_deadline(Some(now() + hour));
        wait_until("a deadline", || shows(&|info| info.has_deadline() && info.is_live()));
        client.get_ref().socket.set_read_deadline(None);
        wait_until("no deadline", || shows(&|info| !info.has_deadline()));
        (&server).write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 1);

        let (ctx, cancel) = Context::background().with_cancel();
        client.get_ref().socket.set_context(Some(&ctx));
        let reads = client.clone();
        let reader = go(move || (&*reads).read(&mut [0]));
        let id = reader.id();
        let look = || diag::goroutines().into_iter().find(|info| info.id() == id && info.waited().is_some());
        wait_until("a context", || look().is_some_and(|info| info.is_reached_by_context() && !info.has_deadline()));
        cancel.cancel();
        assert_eq!(reader.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    });
}
