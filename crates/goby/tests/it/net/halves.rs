//! Split streams, copies of a socket, several buffers at once, TCP behind a Unix socket.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};

use goby::io::copy_bidirectional;
use goby::net::{Stream, StreamSocket, TcpListener, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use goby::process::Command;
use goby::{go, now};

use super::pair;
use crate::support::{MOMENT, pause, with_workers};

#[test]
fn the_halves_read_and_write_at_once_and_the_writers_drop_is_the_end() {
    fn check<T: StreamSocket>((client, mut server): (Stream<T>, Stream<T>)) {
        let (mut reader, mut writer) = client.into_split();
        let reading = go(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            (reader, all)
        });
        pause(MOMENT);
        assert_eq!(format!("{:?}", writer.peer_addr().unwrap()), format!("{:?}", server.local_addr().unwrap()));
        writer.set_write_deadline(Some(now()));
        assert_eq!(writer.write_all(b"question").unwrap_err().kind(), ErrorKind::TimedOut);
        writer.set_write_deadline(None);
        // It has room.
        assert!(writer.writable().recv().is_err());
        writer.write_all(b"question").unwrap();
        drop(writer);
        let mut all = Vec::new();
        server.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"question");
        server.write_all(b"answer").unwrap();
        drop(server);
        let (mut reader, all) = reading.join().unwrap();
        assert_eq!(all, b"answer");
        // It is at the end, until a limit comes first.
        assert!(reader.readable().recv().is_err());
        reader.set_read_deadline(Some(now()));
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
    with_workers(|| {
        check(pair());
        check(UnixStream::pair().unwrap());
    });
}

#[test]
fn the_halves_come_together_again() {
    with_workers(|| {
        let ((a, mut b), (c, _d)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let (a_reader, a_writer) = a.into_split();
        let (c_reader, c_writer) = c.into_split();
        let error = a_reader.reunite(c_writer).unwrap_err();
        assert_eq!(error.to_string(), "the halves are not of the same stream");
        let (a_reader, c_writer) = (error.0, error.1);
        assert!(c_reader.reunite(c_writer).is_ok());
        let a = a_reader.reunite(a_writer).unwrap();
        (&a).write_all(b"x").unwrap();
        assert_eq!(b.read(&mut [0]).unwrap(), 1);
        b.set_read_deadline(Some(now() + MOMENT));
        assert_eq!(b.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut, "it is still open for writing");
    });
}

#[test]
fn a_copy_lives_on_and_has_its_own_limits() {
    with_workers(|| {
        let (mut stream, mut peer) = pair();
        let mut copy = stream.try_clone().unwrap();
        stream.set_read_deadline(Some(now()));
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        let reader = go(move || (copy.read(&mut [0]).unwrap(), copy));
        pause(MOMENT);
        stream.close();
        peer.write_all(b"x").unwrap();
        let (n, copy) = reader.join().unwrap();
        assert_eq!(n, 1, "closing the other one did not end it");
        copy.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
}

/// More than a write joins into one piece, and more pieces than one call takes.
#[test]
fn several_buffers_are_read_and_written_in_one_call() {
    fn check<T: StreamSocket>((mut a, mut b): (Stream<T>, Stream<T>)) {
        let pieces: Vec<_> = (0..3u8).map(|i| vec![i; 1000]).collect();
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        assert_eq!(a.write_vectored(&slices).unwrap(), 3000);
        let (mut head, mut body) = ([0; 1500], [0; 1500]);
        let n = b.read_vectored(&mut [IoSliceMut::new(&mut head), IoSliceMut::new(&mut body)]).unwrap();
        assert_eq!(n, 3000);
        assert_eq!([&head[..], &body[..]].concat(), pieces.concat());

        let many = [7; 2];
        let slices = vec![IoSlice::new(&many); 2000];
        assert_eq!(a.write_vectored(&slices).unwrap(), 2 * 1024);
        let mut all = [0; 2 * 1024];
        b.read_exact(&mut all).unwrap();
        assert!(all.iter().all(|byte| *byte == 7));
    }
    with_workers(|| {
        check(pair());
        check(UnixStream::pair().unwrap());
    });
}

#[test]
fn a_proxy_joins_tcp_and_a_unix_socket() {
    with_workers(|| {
        let ((mut client, front), (back, mut server)) = (pair(), UnixStream::pair().unwrap());
        let proxy = go(move || copy_bidirectional(&front, &back));
        let serving = go(move || {
            let mut text = String::new();
            server.read_to_string(&mut text).unwrap();
            server.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HELLO");
        serving.join().unwrap();
        assert_eq!(proxy.join().unwrap().unwrap(), (5, 5));
    });
}

/// Whether calls on it wait in the system, as a child or a crate that knows std's expects.
fn blocks(socket: &impl AsFd) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_fd().as_raw_fd())).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    i32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_NONBLOCK == 0
}

#[test]
fn what_is_given_away_blocks() {
    with_workers(|| {
        let (a, mut b) = pair();
        assert!(!blocks(&a));
        // It has been in the poller.
        let reader = go(move || ((&a).read(&mut [0]).unwrap(), a));
        pause(MOMENT);
        b.write_all(b"x").unwrap();
        let mut a = reader.join().unwrap().1.into_std().unwrap();
        assert!(blocks(&a));
        b.write_all(b"y").unwrap();
        assert_eq!(a.read(&mut [0]).unwrap(), 1);

        assert!(blocks(&TcpListener::bind("127.0.0.1:0").unwrap().into_std().unwrap()));
        assert!(blocks(&UdpSocket::bind("127.0.0.1:0").unwrap().into_std().unwrap()));
        assert!(blocks(&UnixDatagram::unbound().unwrap().into_std().unwrap()));

        let (closed, _peer) = UnixStream::pair().unwrap();
        closed.close();
        assert_eq!(closed.into_std().unwrap_err().kind(), ErrorKind::NotConnected);
    });
}

/// Others may still connect to it.
#[test]
fn the_file_of_a_listener_that_is_given_away_stays() {
    let path = std::env::temp_dir().join(format!("goby-given-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap().into_std().unwrap();
    let client = UnixStream::connect(&path);
    fs::remove_file(&path).unwrap();
    client.unwrap();
    assert!(listener.accept().is_ok());
}

/// A server as inetd starts them: the connection is its input and output.
#[test]
fn a_child_may_have_a_socket() {
    with_workers(|| {
        let (client, server) = pair();
        let mut command = Command::new("sh");
        command.args(["-c", "grep flags /proc/self/fdinfo/0; exec cat"]);
        command.stdout(server.try_clone().unwrap()).stdin(server);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut flags = String::new();
        BufReader::new(&client).read_line(&mut flags).unwrap();
        let flags = i32::from_str_radix(flags.trim().strip_prefix("flags:").unwrap().trim(), 8).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        (&client).write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut echo = String::new();
        (&client).read_to_string(&mut echo).unwrap();
        assert_eq!(echo, "hello");
        assert!(child.wait().unwrap().success());
    });
}
