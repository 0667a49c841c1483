//! Dialers and listen configurations: the options of sockets, and which of several addresses a dial
//! connects to.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as unix;
use std::time::Duration;

use goby::context::ContextError;
use goby::net::{Dialer, KeepAlive, ListenConfig, TcpListener, TcpStream, UnixDatagram, UnixListener, UnixStream};
use goby::{Context, go, now, scope};
use rustix::net::sockopt;

use super::limits::{assert_stopped_by, assert_timed_out, unresponsive};
use super::{LOCAL, listen, pair};
use crate::support::{MOMENT, PATIENCE, pause, rerun_alone, rerun_in_namespace, with_workers};

/// RFC 8305's delay.
const DELAY: Duration = Duration::from_millis(250);

/// An address where nobody listens.
fn refusing() -> SocketAddr {
    listen().1
}

fn keep_alive_of(stream: &TcpStream) -> Option<(Duration, Duration, u32)> {
    let numbers = (
        sockopt::tcp_keepidle(stream).unwrap(),
        sockopt::tcp_keepintvl(stream).unwrap(),
        sockopt::tcp_keepcnt(stream).unwrap(),
    );
    sockopt::socket_keepalive(stream).unwrap().then_some(numbers)
}

const GOS: Option<(Duration, Duration, u32)> = Some((Duration::from_secs(15), Duration::from_secs(15), 9));

#[test]
fn idle_peers_are_probed_as_in_go() {
    with_workers(|| {
        let (client, server) = pair();
        assert_eq!(keep_alive_of(&client), GOS);
        assert_eq!(keep_alive_of(&server), GOS);
        client.set_keep_alive(None).unwrap();
        assert_eq!(keep_alive_of(&client), None);
        client.set_keep_alive(KeepAlive::new().count(3)).unwrap();
        assert_eq!(keep_alive_of(&client).unwrap().2, 3);
        // What was made elsewhere stays as it was made.
        let (_listener, addr) = listen();
        let taken = TcpStream::from_std(std::net::TcpStream::connect(addr).unwrap()).unwrap();
        assert_eq!(keep_alive_of(&taken), None);
    });
}

#[test]
fn both_ends_get_the_options_that_were_chosen() {
    with_workers(|| {
        let seconds = Duration::from_secs;
        // A fraction of a second counts as a second.
        let keep_alive = KeepAlive::new().idle(Duration::from_millis(59_001)).interval(seconds(7)).count(4);
        let chosen = Some((seconds(60), seconds(7), 4));
        for (option, expected) in [(Some(keep_alive), chosen), (None, None)] {
            let listener = ListenConfig::new().keep_alive(option).nodelay(false).bind(LOCAL).unwrap();
            let dialer = Dialer::new().keep_alive(option).nodelay(false);
            let client = dialer.dial(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            for stream in [&client, &server] {
                assert_eq!(keep_alive_of(stream), expected);
                assert!(!stream.nodelay().unwrap());
            }
        }
    });
}

#[test]
fn the_system_refuses_times_that_it_cannot_keep() {
    let (_listener, addr) = listen();
    for (wrong, text) in [
        (KeepAlive::new().idle(Duration::ZERO), "keep-alive: an idle time of 0ns is not in 1s..=32767s"),
        (KeepAlive::new().interval(Duration::MAX), "is not in 1s..=32767s"),
        (KeepAlive::new().count(1000), "keep-alive: a count of 1000 is not in 1..=127"),
    ] {
        let dialing = Dialer::new().keep_alive(wrong).dial(addr).unwrap_err();
        let listening = ListenConfig::new().keep_alive(wrong).bind(LOCAL).unwrap_err();
        for error in [dialing, listening] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().ends_with(text), "{error}");
        }
    }
    let longest = KeepAlive::new().idle(Duration::from_secs(32767)).interval(Duration::from_secs(32767)).count(127);
    assert!(Dialer::new().keep_alive(longest).dial(addr).is_ok());
}

#[test]
fn a_dial_comes_from_the_local_address() {
    with_workers(|| {
        let (listener, addr) = listen();
        let dialer = Dialer::new().local_addr("127.0.0.3:0".parse::<SocketAddr>().unwrap());
        // The second is of another family, and is not tried.
        let _client = dialer.dial(vec!["[::1]:1".parse().unwrap(), addr]).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.3");

        let error = dialer.dial("[::1]:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "no address is IPv4, as the local address 127.0.0.3:0 is");
        let error = Dialer::new().local_addr("192.0.2.77:0".parse::<SocketAddr>().unwrap()).dial(addr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(error.to_string().starts_with(&format!("cannot connect to {addr} from 192.0.2.77:0: ")), "{error}");
    });
}

#[test]
fn listeners_share_a_port_if_all_of_them_agree() {
    with_workers(|| {
        let config = ListenConfig::new().reuse_port(true);
        let first = config.bind(LOCAL).unwrap();
        let addr = first.local_addr().unwrap();
        let second = config.bind(addr).unwrap();
        assert_eq!(ListenConfig::new().bind(addr).unwrap_err().kind(), ErrorKind::AddrInUse);
        // The system chooses by the client's port: each listener gets some of many.
        let clients: Vec<_> = (0..200).map(|_| TcpStream::connect(addr).unwrap()).collect();
        for listener in [&first, &second] {
            listener.set_deadline(Some(now() + PATIENCE));
            listener.accept().unwrap();
        }
        drop(clients);
    });
}

#[test]
fn a_backlog_bounds_what_is_not_accepted() {
    with_workers(|| {
        let listener = ListenConfig::new().backlog(1).bind(LOCAL).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        let error = loop {
            match TcpStream::connect_timeout(addr, Duration::from_millis(50)) {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
        };
        assert_timed_out::<()>(Err(error));
        assert_eq!(clients.len(), 2, "Linux keeps one more than it is told");
    });
}

#[test]
fn an_ipv6_listener_takes_ipv4_if_it_is_told_to() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        return println!("skipped: no IPv6 here: {error}");
    }
    with_workers(|| {
        for only_v6 in [false, true] {
            let listener = ListenConfig::new().only_v6(only_v6).bind("[::]:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(TcpStream::connect(("::1", port)).is_ok());
            assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_err(), only_v6);
        }
    });
}

#[test]
fn an_address_that_is_silent_costs_the_fallback_delay() {
    with_workers(|| {
        let (silent, _full) = unresponsive();
        let (listener, addr) = listen();
        let start = now();
        let mut stream = Dialer::new().timeout(PATIENCE).dial(vec![silent, addr]).unwrap();
        let took = start.elapsed();
        assert!((DELAY..PATIENCE / 2).contains(&took), "{took:?}");
        // No limit of the dial is left on the connection.
        listener.accept().unwrap().0.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 1);
        assert_eq!(stream.peer_addr().unwrap(), addr);
    });
}

#[test]
fn the_fallback_delay_can_be_chosen() {
    with_workers(|| {
        let (silent, _full) = unresponsive();
        let (listener, addr) = listen();
        let dial = |delay| {
            let start = now();
            Dialer::new().fallback_delay(delay).dial(vec![silent, silent, addr]).unwrap();
            start.elapsed()
        };
        let times = [(); 10].map(|()| dial(Duration::from_millis(5)));
        assert!(times.iter().all(|&took| took >= Duration::from_millis(10)), "{times:?}");
        assert!(times.iter().any(|&took| took < DELAY), "{times:?}");
        dial(Duration::ZERO);

        while listener.accept().is_ok() {
            listener.set_deadline(Some(now()));
        }
        listener.set_deadline(Some(now()));
        let one_by_one = Dialer::new().fallback_delay(Duration::MAX).timeout(Duration::from_millis(50));
        assert_timed_out(one_by_one.dial(vec![silent, addr]));
        assert_timed_out(listener.accept());
    });
}

#[test]
fn an_address_that_refuses_costs_no_delay() {
    with_workers(|| {
        let (_listener, addr) = listen();
        let start = now();
        let patient = Dialer::new().fallback_delay(PATIENCE);
        let stream = patient.dial(vec![refusing(), refusing(), addr]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
        assert!(start.elapsed() < PATIENCE / 2);
        // Nor if it is tried beside one that is silent.
        let (silent, _full) = unresponsive();
        let dialer = Dialer::new().fallback_delay(Duration::from_secs(1));
        let start = now();
        let stream = dialer.dial(vec![silent, refusing(), addr]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
        assert!(start.elapsed() >= Duration::from_secs(1));
    });
}

/// Which address has refused is not lost in the time-out that another one ends in.
#[test]
fn a_dial_that_is_cut_off_names_the_addresses_that_had_failed() {
    const LIMIT: Duration = Duration::from_millis(500);
    with_workers(|| {
        let (silent, _full) = unresponsive();
        let refusing = refusing();
        let late = format!("; before that, {refusing}: Connection refused (os error 111)");
        let error = Dialer::new().timeout(LIMIT).dial(vec![refusing, silent]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), format!("i/o timeout{late}"));

        let (ctx, _cancel) = Context::background().with_timeout(LIMIT);
        let error = Dialer::new().dial_ctx(&ctx, vec![refusing, silent]).unwrap_err();
        assert_eq!(error.to_string(), format!("context deadline exceeded{late}"));
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.downcast_ref(), Some(&ContextError::DeadlineExceeded));
    });
}

#[test]
fn the_error_names_every_address_in_the_order_of_the_attempts() {
    with_workers(|| {
        // The families take turns, beginning with the first one's. Nobody listens at port 1.
        let addrs = ["[::1]:1", "[::1]:2", "[::1]:3", "127.0.0.1:1", "127.0.0.1:2"];
        let addrs: Vec<SocketAddr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        let error = TcpStream::connect(addrs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        let (tried, errors): (Vec<_>, Vec<_>) = text.split("; ").map(|one| one.split_once(": ").unwrap()).unzip();
        assert_eq!(tried, ["[::1]:1", "127.0.0.1:1", "[::1]:2", "127.0.0.1:2", "[::1]:3"]);
        for error in errors {
            // Where there is no IPv6, it is another error.
            assert!(error.contains("(os error "), "{error}");
        }
        let last = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
        assert!(last.raw_os_error().is_some());
    });
}

/// So it is also for an address that is the only one, and for one at which to listen.
#[test]
fn the_error_of_one_address_names_it() {
    #[track_caller]
    fn check<T: std::fmt::Debug>(result: io::Result<T>, kind: ErrorKind, text: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind);
        let source = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
        assert!(source.raw_os_error().is_some());
        assert!(error.to_string().starts_with(&format!("{text}: {source}")), "{error}");
    }
    with_workers(|| {
        let nobody = refusing();
        check(TcpStream::connect(nobody), ErrorKind::ConnectionRefused, &format!("cannot connect to {nobody}"));
        let (_listener, taken) = listen();
        check(TcpListener::bind(taken), ErrorKind::AddrInUse, &format!("cannot listen at {taken}"));
        let socket = goby::net::UdpSocket::bind(LOCAL).unwrap();
        let bound = socket.local_addr().unwrap();
        check(goby::net::UdpSocket::bind(bound), ErrorKind::AddrInUse, &format!("cannot bind to {bound}"));
        let path = "/nowhere/at/all";
        let missing = ErrorKind::NotFound;
        check(UnixStream::connect(path), missing, "cannot connect to \"/nowhere/at/all\"");
        check(UnixListener::bind(path), missing, "cannot listen at \"/nowhere/at/all\"");
        check(UnixDatagram::bind(path), missing, "cannot bind to \"/nowhere/at/all\"");
        let socket = UnixDatagram::unbound().unwrap();
        check(socket.connect(path), missing, "cannot connect to \"/nowhere/at/all\"");
        check(socket.send_to(b"x", path), missing, "cannot send to \"/nowhere/at/all\"");
        let no_socket = UnixStream::connect("/etc/passwd").unwrap_err();
        assert!(no_socket.to_string().ends_with("; nobody listens there: the file was left behind, or is no socket"));
        let name = format!("goby-test-{}-{}", std::process::id(), goby::random());
        let addr = unix::SocketAddr::from_abstract_name(&name).unwrap();
        let refused = ErrorKind::ConnectionRefused;
        check(UnixStream::connect_addr(&addr), refused, &format!("cannot connect to @{name}"));
        check(socket.connect_addr(&addr), refused, &format!("cannot connect to @{name}"));
        let _bound = UnixDatagram::bind_addr(&addr).unwrap();
        check(UnixDatagram::bind_addr(&addr), ErrorKind::AddrInUse, &format!("cannot bind to @{name}"));
    });
}

/// The system is not asked where std sees that a path is none.
#[test]
fn the_error_of_a_path_that_cannot_be_names_it() {
    #[track_caller]
    fn check<T: std::fmt::Debug>(result: io::Result<T>, text: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(text), "{error}");
        assert!(error.to_string().ends_with("; a path has at most 107 bytes, none of them 0"), "{error}");
    }
    with_workers(|| {
        for path in ["x".repeat(108), "\0x".to_owned()] {
            check(UnixStream::connect(&path), &format!("cannot connect to {path:?}: "));
            check(UnixListener::bind(&path), &format!("cannot listen at {path:?}: "));
            check(UnixDatagram::bind(&path), &format!("cannot bind to {path:?}: "));
            check(UnixDatagram::unbound().unwrap().connect(&path), &format!("cannot connect to {path:?}: "));
        }
    });
}

/// Also when the system has not come as far as the address.
#[test]
fn the_error_of_too_many_descriptors_names_the_address_and_a_cure() {
    if !rerun_alone("net::dial::the_error_of_too_many_descriptors_names_the_address_and_a_cure") {
        return;
    }
    #[track_caller]
    fn check<T: std::fmt::Debug>(result: io::Result<T>, text: &str) {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
        assert!(error.ends_with("; see ulimit -n, or keep fewer connections open"), "{error}");
    }
    with_workers(|| {
        let (_listener, addr) = listen();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let none = rustix::process::Rlimit { current: Some(0), ..limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, none).unwrap();
        check(TcpStream::connect(addr), &format!("cannot connect to {addr}: "));
        check(TcpListener::bind(addr), &format!("cannot listen at {addr}: "));
        check(goby::net::UdpSocket::bind(addr), &format!("cannot bind to {addr}: "));
        check(UnixStream::connect("/nowhere"), "cannot connect to \"/nowhere\": ");
        check(UnixListener::bind("/nowhere/x"), "cannot listen at \"/nowhere/x\": ");
        check(UnixDatagram::bind("/nowhere/x"), "cannot bind to \"/nowhere/x\": ");
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    });
}

#[test]
fn a_race_ends_by_timeout_and_by_context() {
    with_workers(|| {
        let (silent, _full) = unresponsive();
        let addrs = vec![silent; 3];
        let dialer = Dialer::new().fallback_delay(Duration::from_millis(5));
        for timeout in [Duration::ZERO, Duration::from_millis(2), Duration::from_millis(50)] {
            let start = now();
            assert_timed_out(dialer.clone().timeout(timeout).dial(&addrs));
            assert_timed_out(dialer.clone().deadline(start + timeout).dial(&addrs));
            assert!(start.elapsed() >= timeout);
        }

        let (ctx, cancel) = Context::background().with_cancel();
        let dialing = go({
            let (dialer, addrs) = (dialer.clone(), addrs.clone());
            move || dialer.dial_ctx(&ctx, addrs)
        });
        pause(Duration::from_millis(20));
        cancel.cancel();
        assert_stopped_by(dialing.join().unwrap(), goby::context::ContextError::Canceled);

        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(20));
        assert_stopped_by(dialer.dial_ctx(&ctx, addrs), goby::context::ContextError::DeadlineExceeded);
    });
}

#[test]
fn a_plain_thread_races_too() {
    let (silent, _full) = unresponsive();
    let (_listener, addr) = listen();
    let stream = Dialer::new().fallback_delay(MOMENT).dial(vec![silent, addr]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr);
}

/// How many sockets this process has. (Runtimes have other descriptors.)
fn n_sockets() -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    open.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// Losers, and what is given up, are closed before the dial returns.
#[test]
fn a_race_leaves_no_socket_behind() {
    if !rerun_alone("net::dial::a_race_leaves_no_socket_behind") {
        return;
    }
    with_workers(|| {
        let (silent, _full) = unresponsive();
        let (listener, addr) = listen();
        let dialer = Dialer::new().fallback_delay(MOMENT);
        let before = n_sockets();
        scope(|s| {
            for _ in 0..50 {
                s.go(|| dialer.dial(vec![silent, silent, addr]).unwrap());
                s.go(|| assert_timed_out(dialer.clone().timeout(Duration::from_millis(10)).dial(vec![silent; 3])));
                s.go(|| dialer.dial(vec![refusing(), refusing()]).unwrap_err());
            }
            (0..50).for_each(|_| drop(listener.accept().unwrap()));
        });
        assert_eq!(n_sockets(), before);
    });
}

/// A network of two devices that are wired to each other: what is sent to 192.0.2.0/24 or
/// 2001:db8::/64 arrives at the second one, which ignores it.
pub(super) const BLACK_HOLE: &str = "
    ip link set lo up
    ip link add hole type veth peer name end
    ip link set hole arp off
    ip addr add 192.0.2.1/24 dev hole
    ip addr add 2001:db8::1/64 dev hole nodad
    ip link set end up
    ip link set hole up";

#[test]
fn an_address_behind_a_black_hole_costs_the_fallback_delay() {
    if !rerun_in_namespace("net::dial::an_address_behind_a_black_hole_costs_the_fallback_delay", BLACK_HOLE) {
        return;
    }
    with_workers(|| {
        let before = n_sockets();
        let (listener, addr) = listen();
        for hole in ["192.0.2.2:80", "[2001:db8::2]:80"] {
            let hole: SocketAddr = hole.parse().unwrap();
            // It is one: it neither answers nor refuses.
            assert_timed_out(TcpStream::connect_timeout(hole, Duration::from_millis(20)));
            let start = now();
            let stream = Dialer::new().timeout(PATIENCE).dial(vec![hole, addr]).unwrap();
            let took = start.elapsed();
            assert!((DELAY..PATIENCE / 2).contains(&took), "{took:?}");
            assert_eq!(stream.peer_addr().unwrap(), addr);
            listener.accept().unwrap();

            // Where it is not the first, it is not even tried.
            let start = now();
            Dialer::new().fallback_delay(PATIENCE).dial(vec![addr, hole]).unwrap();
            assert!(start.elapsed() < PATIENCE / 2);

            let (ctx, cancel) = Context::background().with_cancel();
            let dialing = go(move || TcpStream::connect_ctx(&ctx, vec![hole, hole]));
            pause(MOMENT);
            cancel.cancel();
            assert_stopped_by(dialing.join().unwrap(), goby::context::ContextError::Canceled);
        }
        drop(listener);
        assert_eq!(n_sockets(), before);
    });
}

/// No route at all: the attempt fails at once.
#[test]
fn an_address_without_a_route_costs_no_delay() {
    if !rerun_in_namespace("net::dial::an_address_without_a_route_costs_no_delay", "ip link set lo up") {
        return;
    }
    with_workers(|| {
        let (_listener, addr) = listen();
        let start = now();
        let nowhere = ["[2001:db8::2]:80".parse().unwrap(), "192.0.2.2:80".parse().unwrap()];
        Dialer::new().fallback_delay(PATIENCE).dial(vec![nowhere[0], nowhere[1], addr]).unwrap();
        assert!(start.elapsed() < PATIENCE / 2);
        let error = TcpStream::connect(&nowhere[..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
        assert!(error.to_string().starts_with("[2001:db8::2]:80: "), "{error}");
    });
}
