//! UDP sockets.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use goby::net::{UdpSocket, UnixDatagram};
use goby::{Context, go, now, scope};

use super::LOCAL;
use crate::alloc::allocations;
use crate::support::{MOMENT, PATIENCE, on_workers, pause, rerun_alone, size, with_workers};

fn bind() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(LOCAL).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

#[test]
fn several_goroutines_answer_through_one_socket() {
    with_workers(|| {
        let (server, addr) = bind();
        let (clients, rounds, n_servers) = (size(20, 200), 10, 4);
        scope(|s| {
            for _ in 0..n_servers {
                s.go(|| {
                    let mut buf = [0; 64];
                    loop {
                        let (n, from) = server.recv_from(&mut buf).unwrap();
                        if n == 0 {
                            return;
                        }
                        assert_eq!(server.send_to(&buf[..n], from).unwrap(), n);
                    }
                });
            }
            scope(|s| {
                for i in 0..clients {
                    s.go(move || {
                        let (client, _) = bind();
                        client.connect(addr).unwrap();
                        for round in 0..rounds {
                            let message = format!("{i} {round}");
                            client.send(message.as_bytes()).unwrap();
                            let mut buf = [0; 64];
                            client.set_read_deadline(Some(now() + PATIENCE));
                            let n = client.recv(&mut buf).unwrap();
                            assert_eq!(&buf[..n], message.as_bytes());
                        }
                    });
                }
            });
            let (last, _) = bind();
            for _ in 0..n_servers {
                last.send_to(b"", addr).unwrap();
            }
        });
    });
}

#[test]
fn a_connected_socket_hears_that_nobody_is_there_and_nobody_else() {
    with_workers(|| {
        let ((gone, nobody), (client, here), (other, _)) = (bind(), bind(), bind());
        drop(gone);
        client.connect(nobody).unwrap();
        client.send(b"x").unwrap();
        client.set_read_deadline(Some(now() + PATIENCE));
        assert_eq!(client.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        other.send_to(b"x", here).unwrap();
        client.set_read_deadline(Some(now() + MOMENT));
        assert_eq!(client.recv(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_datagram_is_cut_off_where_the_buffer_ends() {
    with_workers(|| {
        let ((a, from), (b, to)) = (bind(), bind());
        a.send_to(b"hello", to).unwrap();
        a.send_to(b"next", to).unwrap();
        let mut buf = [0; 2];
        assert_eq!(b.peek_from(&mut buf).unwrap(), (2, from));
        assert_eq!(b.recv_from(&mut buf).unwrap(), (2, from));
        assert_eq!(&buf, b"he");
        assert_eq!(b.recv(&mut [0; 16]).unwrap(), 4);
        let error = a.send_to(&[0; 100_000], to).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    });
}

#[test]
fn a_receive_ends_by_deadline_and_by_context() {
    with_workers(|| {
        let (socket, _) = bind();
        let start = now();
        socket.set_read_deadline(Some(start + Duration::from_millis(5)));
        assert_eq!(socket.recv_from(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(5));
        socket.set_read_deadline(None);
        let (ctx, cancel) = Context::background().with_cancel();
        socket.set_context(Some(&ctx));
        let socket = Arc::new(socket);
        let shared = socket.clone();
        let receiver = go(move || shared.recv_from(&mut [0]));
        pause(MOMENT);
        cancel.cancel();
        assert_eq!(receiver.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn of_several_addresses_that_of_the_sockets_family_is_taken() {
    with_workers(|| {
        let ((a, _), (b, to)) = (bind(), bind());
        for error in [a.send(b"x"), UnixDatagram::unbound().unwrap().send(b"x")] {
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("cannot send to nobody: "), "{error}");
            assert!(error.ends_with("; use send_to, or connect first"), "{error}");
        }
        let v6: SocketAddr = format!("[::1]:{}", to.port()).parse().unwrap();
        a.send_to(b"x", vec![v6, to]).unwrap();
        assert_eq!(b.recv(&mut [0]).unwrap(), 1);
        a.connect(vec![v6, to]).unwrap();
        assert_eq!(a.peer_addr().unwrap(), to);
        let error = a.send_to(b"x", v6).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot send to {v6}: ")), "{error}");
        assert!(error.ends_with("; the socket is bound to the other family of IP"), "{error}");
        let error = a.send_to(b"x", "255.255.255.255:9").unwrap_err().to_string();
        assert!(error.ends_with("; to broadcast, see set_broadcast"), "{error}");
        assert_eq!(a.send_to(b"x", Vec::new()).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(UdpSocket::bind(to).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(UdpSocket::bind(vec![to, LOCAL.into()]).unwrap().local_addr().unwrap().ip(), LOCAL.0);
    });
}

#[test]
fn sending_to_a_known_address_allocates_nothing() {
    if !rerun_alone("net::udp::sending_to_a_known_address_allocates_nothing") {
        return;
    }
    on_workers(1, 0, || {
        let ((a, _), (b, to)) = (bind(), bind());
        let text = to.to_string();
        let round = |_| {
            a.send_to(b"x", to).unwrap();
            a.send_to(b"x", text.as_str()).unwrap();
            assert_eq!(b.recv(&mut [0]).unwrap() + b.recv(&mut [0]).unwrap(), 2);
        };
        (0..100).for_each(round);
        let before = allocations();
        (0..1000).for_each(round);
        // The program has other threads. One allocation per round would be a thousand.
        let made = allocations() - before;
        assert!(made < 500, "{made} allocations");
    });
}

#[test]
fn broadcasts_are_allowed_on_demand() {
    with_workers(|| {
        let (socket, _) = bind();
        let everybody = (Ipv4Addr::BROADCAST, 9);
        assert_eq!(socket.send_to(b"x", everybody).unwrap_err().kind(), ErrorKind::PermissionDenied);
        socket.set_broadcast(true).unwrap();
        // Whether there is a way to them depends on the machine.
        if let Err(error) = socket.send_to(b"x", everybody) {
            assert_ne!(error.kind(), ErrorKind::PermissionDenied);
        }
    });
}

#[test]
fn a_group_is_joined_and_left() {
    with_workers(|| {
        let group = Ipv4Addr::new(239, 255, 71, 83);
        let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let to = (group, member.local_addr().unwrap().port());
        let (sender, _) = bind();
        socket2::SockRef::from(&sender).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        member.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        sender.send_to(b"x", to).unwrap();
        member.set_read_deadline(Some(now() + PATIENCE));
        assert_eq!(member.recv(&mut [0]).unwrap(), 1);
        member.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        assert!(member.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST).is_err());
    });
}
