//! Pipes and standard input.

use std::future::poll_fn;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use goby::io::{PipeReader, PipeWriter, copy, pipe, stdin};
use goby::process::{Command, Stdio};
use goby::{Context, block_on, diag, go, now};
use goby_test_support::{in_child, stderr};
use parking_lot::Mutex;
use rustix::fs::{OFlags, fcntl_getfl};

use crate::support::{MOMENT, Others, PATIENCE, first_byte, on_workers, rerun_alone, wait_until, with_workers};

/// Makes `fd` the standard input of this process, before anybody has used that.
fn as_stdin(fd: impl AsFd) {
    rustix::stdio::dup2_stdin(fd).unwrap();
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    stdin().read_line(&mut line).map(|_| line)
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

#[test]
fn a_pipe_carries_more_than_it_holds() {
    with_workers(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let input: Vec<u8> = (0..1_000_000u32).map(|i| (i / 7) as u8).collect();
        let sent = input.clone();
        let write = go(move || writer.write_all(&sent));
        let mut output = Vec::new();
        reader.read_to_end(&mut output).unwrap();
        write.join().unwrap().unwrap();
        assert!(output == input);
    });
}

/// Each message is read before the next is written: a read that has emptied the pipe waits for the
/// next one, with one system call less.
#[test]
fn messages_through_a_pipe_come_one_by_one() {
    with_workers(|| {
        let ((mut a, mut b), (mut c, mut d)) = (pipe().unwrap(), pipe().unwrap());
        let echo = go(move || {
            let mut buf = [0; 100];
            loop {
                match a.read(&mut buf).unwrap() {
                    0 => return,
                    n => d.write_all(&buf[..n]).unwrap(),
                }
            }
        });
        for i in 0..1000u32 {
            b.write_all(&i.to_le_bytes()).unwrap();
            let mut back = [0; 4];
            c.read_exact(&mut back).unwrap();
            assert_eq!(u32::from_le_bytes(back), i);
        }
        drop(b);
        echo.join().unwrap();
    });
}

#[test]
fn pipes_are_vectored_and_polled() {
    with_workers(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        assert_eq!(writer.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]).unwrap(), 4);
        let (mut one, mut rest) = ([0; 1], [0; 8]);
        let n = reader.read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut rest)]).unwrap();
        assert_eq!((n, &one, &rest[..3]), (4, b"a", &b"bcd"[..]));

        let write = go(move || {
            block_on(poll_fn(|cx| Pin::new(&mut writer).poll_write(cx, b"x"))).unwrap();
            block_on(poll_fn(|cx| Pin::new(&mut writer).poll_flush(cx))).unwrap();
        });
        assert_eq!(block_on(poll_fn(|cx| Pin::new(&mut reader).poll_read(cx, &mut rest))).unwrap(), 1);
        write.join().unwrap();
        assert_eq!(block_on(poll_fn(|cx| Pin::new(&mut reader).poll_read(cx, &mut rest))).unwrap(), 0);
    });
}

/// From a child's output through a pipe into a file, and from there into a pipe again.
#[test]
fn pipes_and_files_are_ends_of_a_copy() {
    with_workers(|| {
        let path = std::env::temp_dir().join(format!("goby-copy-{}", std::process::id()));
        let mut head = Command::new("head");
        let mut child = head.args(["-c", "300000", "/dev/zero"]).stdout(Stdio::piped()).spawn().unwrap();
        let file = goby::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        assert_eq!(copy(child.stdout.as_ref().unwrap(), &file).unwrap(), 300_000);
        assert!(child.wait().unwrap().success());
        (&file).rewind().unwrap();
        let (mut reader, writer) = pipe().unwrap();
        let sends = go(move || copy(&file, &writer).unwrap());
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!((sends.join().unwrap(), bytes.len()), (300_000, 300_000));
        goby::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn deadlines_of_a_pipe_hold_and_are_lifted() {
    with_workers(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let (started, limit) = (now(), Duration::from_millis(5));
        reader.set_read_deadline(Some(now() + limit));
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() >= limit);
        writer.set_write_deadline(Some(now() + limit));
        assert_eq!(writer.write_all(&[0; 1 << 20]).unwrap_err().kind(), ErrorKind::TimedOut);
        reader.set_read_deadline(None);
        assert!(reader.read(&mut [0]).unwrap() == 1);
    });
}

#[test]
fn pipes_of_std_come_and_go() {
    with_workers(|| {
        let (theirs, mut writer) = io::pipe().unwrap();
        let mut reader = PipeReader::from_fd(theirs).unwrap();
        assert!(is_nonblocking(&reader) && !is_nonblocking(&writer));
        writer.write_all(b"x").unwrap();
        assert_eq!(reader.read(&mut [0; 2]).unwrap(), 1);
        let fd = reader.into_fd().unwrap();
        assert!(!is_nonblocking(&fd));
        let mut writer = PipeWriter::from_fd(writer).unwrap();
        drop(fd);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

/// It is not put into non-blocking mode, and what a context cuts off is kept.
#[test]
fn standard_input_is_a_pipe() {
    if !rerun_alone("io::standard_input_is_a_pipe") {
        return;
    }
    let (reader, writer) = io::pipe().unwrap();
    as_stdin(&reader);
    let writer = Mutex::new(Some(writer));
    let write = |bytes: &[u8]| writer.lock().as_ref().unwrap().write_all(bytes).unwrap();
    on_workers(1, 0, || {
        let line = go(|| read_line().unwrap());
        wait_until("it to wait", || diag::dump().to_string().contains("[stdin read]"));
        write(b"one\ntwo\nthr");
        assert_eq!(line.join().unwrap(), "one\n");
        // A limit ends reads also of what has come.
        let (ctx, cancel) = Context::background().with_cancel();
        cancel.cancel();
        stdin().set_context(Some(&ctx));
        assert_eq!(read_line().unwrap_err().kind(), ErrorKind::ConnectionAborted);
        stdin().set_context(None);
        stdin().set_read_deadline(Some(now()));
        assert_eq!(stdin().read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        stdin().set_read_deadline(None);
        assert_eq!(read_line().unwrap(), "two\n");
        let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
        stdin().set_context(Some(&ctx));
        assert_eq!(read_line().unwrap_err().to_string(), "context deadline exceeded");
        stdin().set_context(None);
        stdin().set_read_deadline(Some(now() + MOMENT));
        assert_eq!(read_line().unwrap_err().kind(), ErrorKind::TimedOut);
        stdin().set_read_deadline(None);
        write(b"ee\nfo");
        assert_eq!(read_line().unwrap(), "three\n");
        let mut two = [0; 2];
        stdin().read_exact(&mut two).unwrap();
        assert_eq!(&two, b"fo");
        write(b"ur\r\nfive\n\xff\nsix");
        assert!(!is_nonblocking(&reader));
        let lines = go(|| stdin().lines().map(|line| line.map_err(|error| error.kind())).collect::<Vec<_>>());
        drop(writer.lock().take());
        let expected = [Ok("ur".into()), Ok("five".into()), Err(ErrorKind::InvalidData), Ok("six".to_string())];
        assert_eq!(lines.join().unwrap(), expected);
    });
}

#[test]
fn standard_input_is_a_file() {
    if !rerun_alone("io::standard_input_is_a_file") {
        return;
    }
    let path = std::env::temp_dir().join(format!("goby-stdin-{}", std::process::id()));
    let text: String = (0..50_000).map(|i| format!("line {i}\n")).collect();
    std::fs::write(&path, &text).unwrap();
    let mut file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // It begins where the file stands.
    file.read_exact(&mut [0; 7]).unwrap();
    as_stdin(&file);
    on_workers(1, 0, || {
        for (line, expected) in stdin().lines().zip(text.lines().skip(1)) {
            assert_eq!(line.unwrap(), expected);
        }
        assert_eq!(read_line().unwrap(), "");
        let (ctx, cancel) = Context::background().with_cancel();
        cancel.cancel();
        stdin().set_context(Some(&ctx));
        assert_eq!(read_line().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    });
}

/// Its position is locked by a long write of somebody who shares it.
#[test]
fn standard_input_is_a_file_that_is_written_to() {
    if !rerun_alone("io::standard_input_is_a_file_that_is_written_to") {
        return;
    }
    let path = std::env::temp_dir().join(format!("goby-stdin-written-{}", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    as_stdin(&file);
    on_workers(1, 0, || {
        // The write may be over too early.
        let has_run = (0..5).any(|_| {
            // What comes after the long write is in memory.
            let end = 256 << 20;
            file.set_len(0).unwrap();
            file.write_all_at(b"x", end as u64).unwrap();
            (&file).rewind().unwrap();
            let mut written = file.try_clone().unwrap();
            let writer = std::thread::spawn(move || written.write_all(&vec![1; end]).unwrap());
            let others = Others::start();
            wait_until("the write to begin", || first_byte(&file) == 1);
            let have_run = others.run_during(|| stdin().read(&mut [0]).unwrap());
            writer.join().unwrap();
            have_run
        });
        assert!(has_run);
    });
}

/// The goroutine of a dropped runtime never returns.
#[test]
fn standard_input_outlives_the_runtime_of_a_reader() {
    if !rerun_alone("io::standard_input_outlives_the_runtime_of_a_reader") {
        return;
    }
    let (reader, mut writer) = std::io::pipe().unwrap();
    as_stdin(&reader);
    // Made here: how the worker's thread registers it with its poller is hidden from
    // ThreadSanitizer, and so is that this comes before the drop.
    stdin().set_read_deadline(None);
    let runtime = goby::Runtime::builder().report_leaks(false).build().unwrap();
    drop(runtime.go(read_line));
    wait_until("it to wait", || diag::dump().to_string().contains("[stdin read]"));
    drop(runtime);
    writer.write_all(b"one\ntwo\n").unwrap();
    on_workers(1, 0, || {
        assert_eq!(read_line().unwrap(), "one\n");
        assert_eq!(read_line().unwrap(), "two\n");
    });
}

/// Lines of any length come in pieces of any length, and each goes to one reader. Meanwhile limits
/// end reads, of which some are tried again, and a runtime is dropped whose goroutines read too.
#[test]
fn each_line_of_standard_input_goes_to_one_of_many_readers() {
    if !rerun_alone("io::each_line_of_standard_input_goes_to_one_of_many_readers") {
        return;
    }
    let (reader, writer) = std::io::pipe().unwrap();
    as_stdin(&reader);
    on_workers(2, 0, || (0..200).for_each(|round| share_lines(&writer, round)));
}

const LINES: u64 = 60;
const READERS: usize = 8;

fn share_lines(mut writer: &std::io::PipeWriter, round: u64) {
    let mut state = round + 1;
    let mut below = move |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let lines: Vec<String> = (0..LINES)
        .map(|line| format!("{line:03}{}\n", "x".repeat(below([8, 200, 9000][line as usize % 3]) as usize)))
        .collect();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let runtime = goby::Runtime::builder().report_leaks(false).workers(1).build().unwrap();
    for _ in 0..3 {
        let taken = taken.clone();
        drop(runtime.go(move || take_lines(&taken, false)));
    }
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let taken = taken.clone();
            go(move || take_lines(&taken, reader % 4 == 0))
        })
        .collect();
    goby::blocking(|| {
        let bytes = lines.concat().into_bytes();
        let (mut left, dropped_at) = (&*bytes, below(bytes.len() as u64) as usize);
        let mut runtime = Some(runtime);
        while !left.is_empty() {
            if below(8) == 0 {
                stdin().set_read_deadline(Some(now() + Duration::from_micros(below(50))));
                std::thread::yield_now();
                stdin().set_read_deadline(None);
            }
            let (piece, rest) = left.split_at(left.len().min(1 + below(5000) as usize));
            writer.write_all(piece).unwrap();
            left = rest;
            if left.len() <= dropped_at {
                drop(runtime.take());
            }
        }
    });
    // One for each, also for those that have given up.
    writer.write_all(&b"end\n".repeat(READERS)).unwrap();
    let ended: usize = readers.into_iter().map(|reader| usize::from(reader.join().unwrap())).sum();
    for _ in ended..READERS {
        assert_eq!(read_line().unwrap(), "end\n");
    }
    let mut taken = std::mem::take(&mut *taken.lock());
    taken.sort();
    assert!(taken == lines, "round {round}: {} of {LINES} lines came", taken.len());
}

/// Takes lines, until one says that there are no more: returns true then. Returns false at a
/// deadline if it gives up by one.
fn take_lines(taken: &Mutex<Vec<String>>, gives_up: bool) -> bool {
    loop {
        match read_line() {
            Ok(line) if line == "end\n" => return true,
            // Nothing of goby is called in between, where its runtime could be dropped.
            Ok(line) => taken.lock().push(line),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                if gives_up {
                    return false;
                }
            }
        }
    }
}

#[test]
fn standard_input_is_nothing() {
    if !rerun_alone("io::standard_input_is_nothing") {
        return;
    }
    as_stdin(std::fs::File::open("/dev/null").unwrap());
    on_workers(1, 0, || {
        assert_eq!(read_line().unwrap(), "");
        assert_eq!(stdin().lines().count(), 0);
    });
}

#[test]
fn standard_input_is_closed() {
    if !rerun_alone("io::standard_input_is_closed") {
        return;
    }
    // SAFETY: nobody else in this process uses the descriptor.
    unsafe { libc::close(0) };
    let null = std::fs::File::open("/dev/null").unwrap();
    // The number is given to nobody else.
    drop(null);
    assert_eq!(read_line().unwrap(), "");
}

fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: the two are places to write to, and nothing else is asked for.
    assert_eq!(unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) }, 0);
    // SAFETY: both are open, and ours.
    unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

/// It cannot be polled: a terminal's controlling side has no other description. Those that wait for
/// it hold one helper thread, of 512.
#[test]
fn waiting_for_standard_input_leaves_helpers_to_others() {
    if !rerun_alone("io::waiting_for_standard_input_leaves_helpers_to_others") {
        return;
    }
    const READERS: usize = 600;
    let (master, slave) = terminal();
    as_stdin(&master);
    on_workers(2, 0, || {
        let readers: Vec<_> = (0..READERS).map(|_| go(|| read_line().unwrap())).collect();
        let n_waiting = || diag::goroutines().iter().filter(|info| info.status().to_string() == "stdin read").count();
        wait_until("all to wait", || n_waiting() == READERS);
        let (asked, asks) = goby::chan::bounded(1);
        go(move || asked.send(goby::fs::metadata("/").unwrap().is_dir()));
        let answer = goby::select! {
            recv(asks) -> is_dir => is_dir.ok(),
            default(PATIENCE / 2) => None,
        };
        let mut screen = std::fs::File::from(slave.try_clone().unwrap());
        (0..READERS).for_each(|_| screen.write_all(b"x\n").unwrap());
        // The terminal makes it two bytes.
        readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), "x\r\n"));
        assert_eq!(answer, Some(true));
    });
}

#[test]
fn standard_input_is_a_terminal() {
    if !rerun_alone("io::standard_input_is_a_terminal") {
        return;
    }
    let (master, slave) = terminal();
    as_stdin(&slave);
    on_workers(1, 0, || {
        let mut keyboard = std::fs::File::from(master.try_clone().unwrap());
        let line = go(|| read_line().unwrap());
        wait_until("it to wait", || diag::dump().to_string().contains("[stdin read]"));
        keyboard.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(line.join().unwrap(), "one\n");
        assert_eq!(read_line().unwrap(), "two\n");
        assert!(!is_nonblocking(&slave));
        // Ctrl-D.
        keyboard.write_all(&[4]).unwrap();
        assert_eq!(read_line().unwrap(), "");
    });
}

#[test]
fn standard_input_is_a_socket() {
    if !rerun_alone("io::standard_input_is_a_socket") {
        return;
    }
    let (a, b) = UnixStream::pair().unwrap();
    as_stdin(&b);
    on_workers(1, 0, || {
        let line = go(|| read_line().unwrap());
        wait_until("it to wait", || diag::dump().to_string().contains("[stdin read]"));
        (&a).write_all(b"one\n").unwrap();
        assert_eq!(line.join().unwrap(), "one\n");
        assert!(!is_nonblocking(&b));
        a.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_line().unwrap(), "");
    });
}

/// Another process writes, after the deadlock detector has looked.
#[test]
fn waiting_for_input_is_no_deadlock() {
    let output = in_child("io::waiting_for_input_is_no_deadlock", || {
        let start = |writer| {
            std::process::Command::new("sh")
                .args(["-c", "sleep 0.5; echo x"])
                .stdout::<std::process::Stdio>(writer)
                .spawn()
        };
        let (reader, writer) = io::pipe().unwrap();
        as_stdin(reader);
        let mut first = start(writer.into()).unwrap();
        goby::run(|| assert_eq!(read_line().unwrap(), "x\n"));
        let (reader, writer) = pipe().unwrap();
        let mut second = start(writer.into()).unwrap();
        goby::run(move || {
            let mut line = String::new();
            BufReader::new(reader).read_line(&mut line).unwrap();
            assert_eq!(line, "x\n");
        });
        first.wait().unwrap();
        second.wait().unwrap();
        eprintln!("done");
    });
    assert_eq!(stderr(&output), "done\n", "{}", output.status);
}
