//! Copying: between sockets, from and to files, and in both directions at once.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::context::ContextError;
use goby::diag::{self, Status};
use goby::io::{PipeReader, copy, copy_bidirectional};
use goby::net::{TcpStream, UnixStream};
use goby::{Context, go, now, scope};
use rustix::net::SendFlags;

use super::limits::{assert_stopped_by, assert_timed_out, fill};
use super::pair;
use crate::support::{MOMENT, PATIENCE, pause, rerun_alone, size, wait_until, with_workers};

/// Bytes in which no two blocks are alike.
fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8 ^ (i >> 16) as u8).collect()
}

/// A file of its own, gone when it is dropped.
struct Temporary(std::path::PathBuf);

impl Temporary {
    fn with(content: &[u8]) -> Temporary {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("goby-copy-{}-{number}", std::process::id()));
        fs::write(&path, content).unwrap();
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn send_all(mut to: &TcpStream, data: &[u8]) {
    to.write_all(data).unwrap();
    to.shutdown(Shutdown::Write).unwrap();
}

fn receive_all(mut from: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn a_socket_is_copied_to_a_socket() {
    with_workers(|| {
        let data = bytes(size(5 << 20, 64 << 20) + 17);
        let ((source, from), (to, sink)) = (pair(), pair());
        scope(|s| {
            s.go(|| send_all(&source, &data));
            let copying = s.go(|| {
                let copied = copy(&from, &to).unwrap();
                to.shutdown(Shutdown::Write).unwrap();
                copied
            });
            assert!(receive_all(&sink) == data);
            assert_eq!(copying.join().unwrap(), data.len() as u64);
        });
    });
}

#[test]
fn files_are_copied_to_sockets_and_back() {
    with_workers(|| {
        let data = bytes((3 << 20) + 5);
        let source = Temporary::with(&data);
        let ((client, server), target) = (pair(), Temporary::with(b""));
        scope(|s| {
            s.go(|| {
                let mut file = File::open(&source.0).unwrap();
                // It begins where the file stands.
                file.read_exact(&mut [0; 5]).unwrap();
                assert_eq!(copy(&file, &client).unwrap(), 3 << 20);
                client.shutdown(Shutdown::Write).unwrap();
            });
            assert_eq!(copy(&server, &File::create(&target.0).unwrap()).unwrap(), 3 << 20);
        });
        assert!(fs::read(&target.0).unwrap() == data[5..]);
        let again = Temporary::with(b"");
        let copied = copy(&File::open(&source.0).unwrap(), &File::create(&again.0).unwrap()).unwrap();
        assert_eq!(copied, data.len() as u64);
        assert!(fs::read(&again.0).unwrap() == data);
    });
}

/// The system moves nothing into a file that is appended to, and tells so when the pipe is full.
#[test]
fn what_the_system_does_not_move_goes_through_a_buffer() {
    with_workers(|| {
        let data = bytes(1_000_003);
        let target = Temporary::with(b"before ");
        let append = || File::options().append(true).open(&target.0).unwrap();
        let (client, server) = pair();
        scope(|s| {
            s.go(|| send_all(&client, &data));
            assert_eq!(copy(&server, &append()).unwrap(), data.len() as u64);
        });
        // Neither does it send what is no regular file.
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b" after").unwrap();
        drop(writer);
        let reader = File::from(std::os::fd::OwnedFd::from(reader));
        assert_eq!(copy(&reader, &append()).unwrap(), 6);
        assert!(fs::read(&target.0).unwrap() == [b"before ", &*data, b" after"].concat());
    });
}

#[test]
fn a_copy_ends_by_deadline_and_by_context() {
    with_workers(|| {
        let ((source, from), (to, _sink)) = (pair(), pair());
        from.set_read_deadline(Some(now() + MOMENT));
        assert_timed_out(copy(&from, &to));
        from.set_read_deadline(None);
        // While it writes.
        fill(&to);
        to.set_write_deadline(Some(now() + Duration::from_millis(5)));
        let result = scope(|s| {
            s.go(|| {
                let mut source = &source;
                while source.write(&[0; 65536]).is_ok() {}
            });
            let result = copy(&from, &to);
            from.shutdown(Shutdown::Both).unwrap();
            // An error means that it was reset: there were bytes that `from` had not read.
            let _ = source.shutdown(Shutdown::Both);
            result
        });
        assert_timed_out(result);

        let ((_source, from), (to, _sink)) = (pair(), pair());
        let (ctx, cancel) = Context::background().with_cancel();
        to.set_context(Some(&ctx));
        from.set_context(Some(&ctx));
        let copying = go(move || copy_bidirectional(&from, &to));
        pause(MOMENT);
        cancel.cancel();
        assert_stopped_by(copying.join().unwrap(), ContextError::Canceled);
    });
}

#[test]
fn each_half_closes_by_itself() {
    with_workers(|| {
        let ((client, front), (back, server)) = (pair(), pair());
        scope(|s| {
            let proxy = s.go(|| copy_bidirectional(&front, &back));
            send_all(&client, b"a question");
            assert_eq!(receive_all(&server), b"a question");
            // The other half is open, for as long as it takes.
            let answer = bytes(1 << 20);
            s.go(|| assert!(receive_all(&client) == bytes(1 << 20)));
            send_all(&server, &answer);
            assert_eq!(proxy.join().unwrap().unwrap(), (10, 1 << 20));
        });
    });
}

#[test]
fn a_direction_that_fails_ends_the_other() {
    with_workers(|| {
        let ((client, front), (back, server)) = (pair(), pair());
        let proxy = go(move || copy_bidirectional(&front, &back));
        (&client).write_all(b"x").unwrap();
        assert_eq!((&server).read(&mut [0; 2]).unwrap(), 1);
        // A reset instead of an end.
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(proxy.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!((&server).read(&mut [0]).unwrap(), 0);
    });
}

/// A server that reads no further may still answer.
#[test]
fn an_answer_comes_through_although_the_question_was_not_read() {
    with_workers(|| {
        let ((mut client, front), (back, mut server)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let proxy = go(move || copy_bidirectional(&front, &back));
        server.shutdown(Shutdown::Read).unwrap();
        client.set_write_deadline(Some(now() + PATIENCE));
        // The client hears of it.
        let error = loop {
            if let Err(error) = client.write_all(&[1; 1000]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        server.write_all(b"the answer").unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "the answer");
        assert_eq!(proxy.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

/// A client over TCP that cannot be told that nobody reads sends all, and then reads all of the
/// answer: no reset cuts that off.
#[test]
fn an_answer_comes_through_while_a_tcp_client_sends_on() {
    const QUESTION: usize = 16 << 20;
    const ANSWER: usize = 1 << 20;
    with_workers(|| {
        for sends_first in [true, false] {
            let ((client, front), (back, server)) = (pair(), UnixStream::pair().unwrap());
            let (client, proxy) = (Arc::new(client), go(move || copy_bidirectional(&front, &back)));
            client.set_deadline(Some(now() + PATIENCE));
            let answering = go(move || {
                { &server }.read_exact(&mut [0]).unwrap();
                server.shutdown(Shutdown::Read).unwrap();
                { &server }.write_all(&bytes(ANSWER)).unwrap();
            });
            let asking = go({
                let client = client.clone();
                move || send_all(&client, &vec![1; QUESTION])
            });
            if sends_first {
                asking.join().unwrap();
                assert!(receive_all(&client) == bytes(ANSWER));
            } else {
                assert!(receive_all(&client) == bytes(ANSWER));
                asking.join().unwrap();
            }
            answering.join().unwrap();
            // Of a write to the server, or of a read of what it had left behind.
            let kind = proxy.join().unwrap().unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind}");
        }
    });
}

/// A Unix socket's writer is not told that nobody reads, as long as its queue is full.
#[test]
fn a_writer_that_waits_for_room_hears_that_nobody_reads() {
    with_workers(|| {
        let ((client, front), (back, server)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let client = Arc::new(client);
        server.shutdown(Shutdown::Read).unwrap();
        // More messages than the pipe of the copy has room for.
        socket2::SockRef::from(&*client).set_send_buffer_size(1 << 20).unwrap();
        while rustix::net::send(&*client, b"x", SendFlags::DONTWAIT).is_ok() {}
        client.set_write_deadline(Some(now() + PATIENCE));
        let writer = go({
            let client = client.clone();
            move || { &*client }.write_all(b"x")
        });
        pause(MOMENT);
        assert!(!writer.is_finished());
        let proxy = go(move || copy_bidirectional(&front, &back));
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
        { &server }.write_all(b"the answer").unwrap();
        drop(server);
        let mut answer = String::new();
        { &*client }.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "the answer");
        assert_eq!(proxy.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

/// A terminal cannot be told that nothing more comes, so it is read no further.
#[test]
fn the_end_of_a_stream_also_ends_the_reading_of_a_terminal() {
    with_workers(|| {
        let terminal = || File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        let own = PipeReader::from_fd(terminal()).unwrap();
        own.set_read_deadline(Some(now() + PATIENCE));
        let (near, far) = UnixStream::pair().unwrap();
        let far = go(move || {
            pause(MOMENT);
            drop(far);
        });
        assert_eq!(copy_bidirectional(&own, &near).unwrap(), (0, 0));
        far.join().unwrap();
        // That was for the copy alone.
        own.set_read_deadline(Some(now() + MOMENT));
        assert_timed_out((&own).read(&mut [0; 64]));
    });
}

#[test]
fn an_end_that_cannot_be_stopped_or_goes_one_way_is_refused() {
    with_workers(|| {
        let (reader, writer) = goby::io::pipe().unwrap();
        reader.set_read_deadline(Some(now() + PATIENCE));
        let (near, _far) = UnixStream::pair().unwrap();
        near.set_read_deadline(Some(now() + PATIENCE));
        let error = copy_bidirectional(&reader, &near).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let error = copy_bidirectional(&near, &writer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(
            error.to_string(),
            "copy_bidirectional reads and writes both ends, and one of them is open for one only"
        );
    });
    let terminal = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    let (near, _far) = UnixStream::pair().unwrap();
    near.shutdown(Shutdown::Both).unwrap();
    let error = copy_bidirectional(&near, &terminal).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("PipeReader::from_fd"), "{error}");
}

#[test]
fn plain_threads_copy_too() {
    let ((client, front), (back, server)) = (pair(), pair());
    let proxy = std::thread::spawn(move || copy_bidirectional(&front, &back));
    send_all(&client, b"ping");
    assert_eq!(receive_all(&server), b"ping");
    send_all(&server, b"pong!");
    assert_eq!(receive_all(&client), b"pong!");
    assert_eq!(proxy.join().unwrap().unwrap(), (4, 5));
}

#[test]
fn copies_that_wait_hold_no_pipe() {
    if !rerun_alone("net::copy::copies_that_wait_hold_no_pipe") {
        return;
    }
    fn n_pipes() -> usize {
        let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        open.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
    }
    with_workers(|| {
        let before = n_pipes();
        let mut ends = Vec::new();
        for _ in 0..100 {
            let ((client, front), (back, server)) = (pair(), pair());
            go(move || copy_bidirectional(&front, &back));
            (&client).write_all(b"x").unwrap();
            server.set_read_deadline(Some(now() + PATIENCE));
            assert_eq!((&server).read(&mut [0; 2]).unwrap(), 1);
            ends.push((client, server));
        }
        wait_until("all to wait", || {
            let infos = diag::goroutines();
            infos.iter().filter(|info| matches!(info.status(), Status::Waiting(_))).count() == 200
        });
        assert!(n_pipes() <= before.max(3) + 32, "{} pipes, {before} before", n_pipes());
    });
}

#[test]
fn ends_need_not_be_of_one_kind() {
    with_workers(|| {
        let (client, server) = pair();
        let addr: SocketAddr = client.local_addr().unwrap();
        assert_eq!(server.peer_addr().unwrap(), addr);
        let hole = File::options().write(true).open("/dev/null").unwrap();
        send_all(&client, b"nobody reads this");
        assert_eq!(copy(&server, &hole).unwrap(), 17);
        assert_eq!(copy(&File::open("/dev/null").unwrap(), &server).unwrap(), 0);
    });
}
