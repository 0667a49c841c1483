//! Names: what the system's resolver is asked, in a child process whose only name server is this
//! test's.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use goby::context::ContextError;
use goby::diag::{self, Status};
use goby::net::{Dialer, TcpListener, TcpStream, look_up, look_up_ctx};
use goby::{Context, Runtime, go, now, scope};
use parking_lot::Mutex;

use super::dial::BLACK_HOLE;
use super::limits::{assert_stopped_by, assert_timed_out};
use crate::support::{PATIENCE, on_workers, rerun_in_namespace, wait_until};

/// The child asks a name server at 127.0.0.1, once, and nobody else.
const RESOLVER: &str = r#"
    own=$(mktemp)
    printf 'nameserver 127.0.0.1\nsearch .\noptions timeout:30 attempts:1\n' > "$own"
    mount --bind "$own" /etc/resolv.conf
    printf 'hosts: files dns\n' > "$own.switch"
    [ ! -e /etc/nsswitch.conf ] || mount --bind "$own.switch" /etc/nsswitch.conf
    rm "$own" "$own.switch""#;

fn rerun(test: &str) -> bool {
    rerun_in_namespace(&format!("net::names::{test}"), &format!("{BLACK_HOLE}\n{RESOLVER}"))
}

const A: u16 = 1;
const AAAA: u16 = 28;

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;

/// What the name server knows: a code, and the addresses of a name.
fn zone(name: &str) -> (u8, &'static [&'static str]) {
    match name {
        "four.test" => (NO_ERROR, &["127.0.0.4"]),
        "six.test" => (NO_ERROR, &["::1"]),
        "both.test" => (NO_ERROR, &["::1", "127.0.0.1"]),
        "hole.test" => (NO_ERROR, &["2001:db8::2", "127.0.0.1"]),
        "held.test" => (NO_ERROR, &["127.0.0.5"]),
        "empty.test" => (NO_ERROR, &[]),
        "lame.test" => (SERVER_FAILURE, &[]),
        _ => (NAME_ERROR, &[]),
    }
}

/// A name server at 127.0.0.1:53, in a thread that lives as long as the process.
struct NameServer {
    socket: UdpSocket,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often each name and type was asked for.
    asked: HashMap<(String, u16), usize>,
    /// Answers to `held.test`, until they are released.
    held: Vec<(Vec<u8>, SocketAddr)>,
}

impl NameServer {
    fn start() -> Arc<NameServer> {
        let server = Arc::new(NameServer { socket: UdpSocket::bind("127.0.0.1:53").unwrap(), state: Mutex::default() });
        let serving = server.clone();
        thread::spawn(move || serving.serve());
        server
    }

    fn serve(&self) {
        let mut query = [0; 512];
        loop {
            let (_, from) = self.socket.recv_from(&mut query).unwrap();
            let (name, kind, end) = question(&query);
            let reply = answer(&query[..end], &name, kind);
            let mut state = self.state.lock();
            *state.asked.entry((name.clone(), kind)).or_default() += 1;
            if name == "held.test" {
                state.held.push((reply, from));
            } else {
                self.socket.send_to(&reply, from).unwrap();
            }
        }
    }

    fn asked(&self, name: &str, kind: u16) -> usize {
        self.state.lock().asked.get(&(name.to_owned(), kind)).copied().unwrap_or(0)
    }

    /// Waits until a look-up of `held.test` has begun.
    fn wait_held(&self) {
        wait_until("both questions", || self.state.lock().held.len() == 2);
    }

    fn release(&self) {
        for (reply, to) in self.state.lock().held.drain(..) {
            self.socket.send_to(&reply, to).unwrap();
        }
    }
}

/// The name and the type that a query asks for, and where the question ends.
fn question(query: &[u8]) -> (String, u16, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let label = &query[at + 1..][..query[at].into()];
        labels.push(std::str::from_utf8(label).unwrap().to_lowercase());
        at += 1 + label.len();
    }
    (labels.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]), at + 5)
}

/// The answer to a query, of which only the header and the question are given.
fn answer(query: &[u8], name: &str, kind: u16) -> Vec<u8> {
    let (code, addrs) = zone(name);
    let addrs = addrs.iter().map(|addr| addr.parse::<IpAddr>().unwrap());
    let addrs: Vec<_> = addrs.filter(|addr| kind == if addr.is_ipv4() { A } else { AAAA }).collect();
    let mut reply = query.to_vec();
    // An answer, to what was asked for recursively; one question, as many answers, nothing more.
    reply[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, addrs.len() as u8, 0, 0, 0, 0]);
    for addr in addrs {
        let octets = match addr {
            IpAddr::V4(addr) => addr.octets().to_vec(),
            IpAddr::V6(addr) => addr.octets().to_vec(),
        };
        // The name that stands at 12, its type, the Internet, for no time.
        reply.extend([0xC0, 12, 0, kind as u8, 0, 1, 0, 0, 0, 0, 0, octets.len() as u8]);
        reply.extend(octets);
    }
    reply
}

fn ips(addrs: Vec<SocketAddr>) -> Vec<String> {
    let mut ips: Vec<_> = addrs.iter().map(|addr| addr.ip().to_string()).collect();
    ips.sort();
    ips
}

fn is_parked(info: &diag::GoroutineInfo) -> bool {
    matches!(info.status(), Status::Waiting(_))
}

#[test]
fn names_have_the_addresses_that_the_server_gives() {
    if !rerun("names_have_the_addresses_that_the_server_gives") {
        return;
    }
    let server = NameServer::start();
    on_workers(2, 0, || {
        assert_eq!(look_up("four.test:80").unwrap(), ["127.0.0.4:80".parse().unwrap()]);
        assert_eq!(look_up("six.test:81").unwrap(), ["[::1]:81".parse().unwrap()]);
        assert_eq!(ips(look_up("both.test:80").unwrap()), ["127.0.0.1", "::1"]);
        assert_eq!((server.asked("four.test", A), server.asked("four.test", AAAA)), (1, 1));
        // Nothing is kept.
        let (ctx, _cancel) = Context::background().with_timeout(PATIENCE);
        assert_eq!(ips(look_up_ctx(&ctx, "four.test:80").unwrap()), ["127.0.0.4"]);
        assert_eq!(server.asked("four.test", A), 2);
    });
}

#[test]
fn the_error_of_a_look_up_names_the_name() {
    if !rerun("the_error_of_a_look_up_names_the_name") {
        return;
    }
    let _server = NameServer::start();
    on_workers(2, 0, || {
        for (name, reason) in [
            ("nothing.test", "Name or service not known"),
            ("empty.test", "No address associated with hostname"),
            ("lame.test", "Temporary failure in name resolution"),
        ] {
            let text = format!("looking up {name:?}: {reason}");
            let (ctx, _cancel) = Context::background().with_timeout(PATIENCE);
            let addr = (name, 80);
            assert_eq!(look_up(addr).unwrap_err().to_string(), text);
            assert_eq!(look_up_ctx(&ctx, addr).unwrap_err().to_string(), text);
            assert_eq!(TcpStream::connect(addr).unwrap_err().to_string(), text);
            assert_eq!(TcpListener::bind(addr).unwrap_err().to_string(), text);
            assert_eq!(look_up(addr).unwrap_err().kind() == ErrorKind::NotFound, name != "lame.test", "{name}");
        }
    });
}

/// Deadline, context and closing end a look-up that a datagram socket makes.
#[test]
fn the_limits_of_a_datagram_socket_end_its_look_ups() {
    if !rerun("the_limits_of_a_datagram_socket_end_its_look_ups") {
        return;
    }
    let server = NameServer::start();
    let calls: [fn(&goby::net::UdpSocket) -> io::Result<()>; 2] =
        [|socket| socket.send_to(b"x", "held.test:9").map(drop), |socket| socket.connect("held.test:9")];
    for call in calls {
        on_workers(2, 0, || {
            let socket = Arc::new(goby::net::UdpSocket::bind("127.0.0.1:0").unwrap());
            let start = || {
                let socket = socket.clone();
                let running = go(move || call(&socket));
                server.wait_held();
                running
            };
            let running = start();
            socket.set_write_deadline(Some(now()));
            assert_timed_out(running.join().unwrap());
            // One that is past ends it before it begins, and the next one later.
            assert_timed_out(call(&socket));
            socket.set_write_deadline(Some(now() + Duration::from_millis(20)));
            assert_timed_out(call(&socket));
            socket.set_write_deadline(None);

            // Those of reading do not end it.
            let running = start();
            socket.set_read_deadline(Some(now()));
            let (ctx, cancel) = Context::background().with_cancel();
            socket.set_context(Some(&ctx));
            cancel.cancel();
            assert_stopped_by(running.join().unwrap(), ContextError::Canceled);
            socket.set_context(None);

            let running = start();
            socket.close();
            assert_eq!(running.join().unwrap().unwrap_err().to_string(), "use of closed network connection");
            let (ctx, cancel) = Context::background().with_cancel();
            let binding = go(move || goby::net::UdpSocket::bind_ctx(&ctx, "held.test:0"));
            cancel.cancel();
            assert_stopped_by(binding.join().unwrap(), ContextError::Canceled);
            server.release();
            wait_until("the look-up to end", || {
                server.release();
                diag::goroutines().len() == 1
            });
        });
    }
}

#[test]
fn a_thousand_goroutines_that_ask_for_one_slow_name_make_one_query() {
    if !rerun("a_thousand_goroutines_that_ask_for_one_slow_name_make_one_query") {
        return;
    }
    let server = NameServer::start();
    for workers in [1, 4] {
        on_workers(workers, 0, || {
            let before = server.asked("held.test", A);
            let (ctx, _cancel) = Context::background().with_timeout(PATIENCE);
            scope(|s| {
                for n in 0..1000 {
                    let ctx = &ctx;
                    s.go(move || {
                        let addr = ("held.test", n);
                        let addrs = if n % 2 == 0 { look_up(addr) } else { look_up_ctx(ctx, addr) };
                        assert_eq!(addrs.unwrap(), [SocketAddr::from(([127, 0, 0, 5], n))]);
                    });
                }
                wait_until("all to wait", || {
                    let infos = diag::goroutines();
                    infos.len() > 1000 && infos.iter().filter(|info| !is_parked(info)).count() == 1
                });
                server.wait_held();
                server.release();
            });
            assert_eq!(server.asked("held.test", A) - before, 1);
        });
    }
}

/// The caller that began the look-up leaves, and another one that joined it; the rest stay.
#[test]
fn a_caller_that_leaves_does_not_end_the_look_up() {
    if !rerun("a_caller_that_leaves_does_not_end_the_look_up") {
        return;
    }
    let server = NameServer::start();
    on_workers(2, 0, || {
        let (ctx, cancel) = Context::background().with_cancel();
        let first = go(move || look_up_ctx(&ctx, "held.test:80"));
        server.wait_held();
        let start = now();
        assert_timed_out(TcpStream::connect_timeout("held.test:80", Duration::from_millis(20)));
        assert!(start.elapsed() < PATIENCE / 2);
        scope(|s| {
            let patient = s.go(|| look_up("held.test:80"));
            let limited = s.go(|| {
                let (ctx, _cancel) = Context::background().with_timeout(PATIENCE);
                look_up_ctx(&ctx, "held.test:80")
            });
            wait_until("both to join", || diag::goroutines().iter().filter(|info| !is_parked(info)).count() == 1);
            cancel.cancel();
            assert_stopped_by(first.join().unwrap(), ContextError::Canceled);
            server.release();
            assert_eq!(ips(patient.join().unwrap().unwrap()), ["127.0.0.5"]);
            assert_eq!(ips(limited.join().unwrap().unwrap()), ["127.0.0.5"]);
        });
        assert_eq!(server.asked("held.test", A), 1);
    });
}

/// A look-up outlives the runtime in which it began: callers of another one get its answer.
#[test]
fn a_look_up_outlives_its_runtime() {
    if !rerun("a_look_up_outlives_its_runtime") {
        return;
    }
    let server = NameServer::start();
    for limited in [false, true] {
        let runtime = Runtime::builder().workers(1).report_leaks(false).build().unwrap();
        runtime.go(move || {
            let (ctx, _cancel) = Context::background().with_timeout(PATIENCE);
            if limited { look_up_ctx(&ctx, "held.test:80") } else { look_up("held.test:80") }
        });
        server.wait_held();
        let other = thread::spawn(|| {
            let runtime = Runtime::builder().workers(1).build().unwrap();
            runtime.run(|| look_up("held.test:80"))
        });
        drop(runtime);
        server.release();
        // It joined the first look-up, or came after its end and made one of its own.
        while !other.is_finished() {
            server.release();
            thread::yield_now();
        }
        assert_eq!(ips(other.join().unwrap().unwrap()), ["127.0.0.5"]);
    }
}

#[test]
fn a_name_whose_first_address_is_silent_is_reached_by_the_second() {
    if !rerun("a_name_whose_first_address_is_silent_is_reached_by_the_second") {
        return;
    }
    let _server = NameServer::start();
    on_workers(2, 0, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(look_up(("hole.test", port)).unwrap()[0].ip().to_string(), "2001:db8::2");
        let start = now();
        let stream = TcpStream::connect_timeout(("hole.test", port), PATIENCE).unwrap();
        let took = start.elapsed();
        assert!((Duration::from_millis(250)..PATIENCE / 2).contains(&took), "{took:?}");
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());

        // And it is refused by both where nobody listens; the time is that of the system's answers.
        drop(listener);
        let error = Dialer::new().fallback_delay(PATIENCE).dial(("both.test", port)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        for addr in [format!("[::1]:{port}: "), format!("127.0.0.1:{port}: ")] {
            assert!(text.contains(&addr), "{text}");
        }
        assert!(start.elapsed() < PATIENCE / 2);
    });
}
