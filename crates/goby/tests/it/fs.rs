//! Files and directories.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use goby::fs::{self, File, OpenOptions};
use goby::sync::WaitGroup;
use goby::{Context, diag, go};
use goby_test_support::{in_child, stderr};
use rustix::fs::{OFlags, fcntl_getfl};

use crate::support::{MOMENT, Others, PATIENCE, first_byte, on_workers, wait_until, with_workers};

/// A directory of the test's own.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("goby-fs-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Dir(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn fifo(&self) -> PathBuf {
        let path = self.path("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_file_is_written_and_read() {
    with_workers(|| {
        let dir = Dir::new();
        let path = dir.path("a");
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all(b"hello ").unwrap();
        assert_eq!(file.write_vectored(&[IoSlice::new(b"wor"), IoSlice::new(b"ld")]).unwrap(), 5);
        file.seek(SeekFrom::End(-5)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), file.stream_position().unwrap()), ("world", 11));
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut bytes = [0; 6];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!((&bytes, file.stream_position().unwrap()), (b"hello ", 6));
        file.set_len(3).unwrap();
        assert_eq!(file.read(&mut bytes).unwrap(), 0, "past the end");
        assert_eq!(fs::read(&path).unwrap(), b"hel");
        assert!(File::create_new(&path).is_err());
    });
}

/// In pieces of all sizes, from memory and from the end.
#[test]
fn reads_give_what_std_reads() {
    with_workers(|| {
        let dir = Dir::new();
        let path = dir.path("a");
        let text: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&path, &text).unwrap();
        for size in [1000, 4096, 65_536, 1_000_000, 2_000_000] {
            let mut file = File::open(&path).unwrap();
            let (mut all, mut piece) = (Vec::new(), vec![0; size]);
            loop {
                match file.read(&mut piece).unwrap() {
                    0 => break,
                    n => all.extend_from_slice(&piece[..n]),
                }
            }
            assert!(all == text, "{size}");
        }
        assert!(fs::read(&path).unwrap() == text);
    });
}

#[test]
fn lines_are_those_of_std() {
    with_workers(|| {
        let dir = Dir::new();
        let path = dir.path("a");
        let long = "x".repeat(200_000);
        std::fs::write(&path, format!("one\r\n\ntwo\n{long}\nlast")).unwrap();
        let ours: Vec<String> = fs::lines(&path).unwrap().map(Result::unwrap).collect();
        let file = BufReader::new(std::fs::File::open(&path).unwrap());
        assert_eq!(ours, file.lines().map(Result::unwrap).collect::<Vec<_>>());
        std::fs::write(&path, b"ok\n\xff\n").unwrap();
        let kinds: Vec<_> = fs::lines(&path).unwrap().map(|line| line.map_err(|error| error.kind())).collect();
        assert_eq!(kinds, [Ok("ok".to_string()), Err(ErrorKind::InvalidData)]);
    });
}

/// They share one file, and each has its place in it.
#[test]
fn several_goroutines_read_and_write_at_their_places() {
    const N: u64 = 20;
    with_workers(|| {
        let dir = Dir::new();
        let file =
            Arc::new(File::options().read(true).write(true).create(true).truncate(true).open(dir.path("a")).unwrap());
        let all = WaitGroup::new();
        for i in 0..N {
            let file = file.clone();
            all.go(move || {
                file.write_all_at(&[i as u8; 1000], i * 1000).unwrap();
                let mut back = [0; 1000];
                file.read_exact_at(&mut back, i * 1000).unwrap();
                assert_eq!(back, [i as u8; 1000]);
            });
        }
        all.wait();
        assert_eq!(file.metadata().unwrap().len(), N * 1000);
        assert_eq!((&*file).stream_position().unwrap(), 0);
        assert_eq!(file.read_at(&mut [0; 10], N * 1000).unwrap(), 0);
    });
}

/// More than one batch.
#[test]
fn directories_are_listed() {
    with_workers(|| {
        let dir = Dir::new();
        for i in 0..300 {
            std::fs::write(dir.path(&format!("f{i}")), "").unwrap();
        }
        std::fs::create_dir(dir.path("d")).unwrap();
        let entries: Vec<_> = fs::read_dir(&dir.0).unwrap().map(Result::unwrap).collect();
        let names: BTreeSet<_> = entries.iter().map(|entry| entry.file_name()).collect();
        assert_eq!((entries.len(), names.len()), (301, 301));
        let dirs: Vec<_> = entries.iter().filter(|entry| entry.file_type().unwrap().is_dir()).collect();
        assert_eq!(dirs.len(), 1);
        assert_eq!(dirs[0].path(), dir.path("d"));
        assert!(dirs[0].metadata().unwrap().is_dir());
        fs::remove_dir_all(dir.path("d")).unwrap();
        assert!(fs::read_dir(dir.path("d")).is_err());
    });
}

/// The write that fails says so; nothing is left for the drop.
#[test]
fn an_error_of_writing_does_not_vanish() {
    with_workers(|| {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(full.write(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(full.write_all(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
        let mut buffered = BufWriter::new(full);
        buffered.write_all(b"x").unwrap();
        assert_eq!(buffered.flush().unwrap_err().kind(), ErrorKind::StorageFull);
    });
}

#[test]
fn errors_name_the_file() {
    let error = fs::read("/no/such").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "cannot read \"/no/such\": No such file or directory (os error 2)");
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.raw_os_error(), Some(libc::ENOENT));
    let both = "\"/no/such\" to \"/no/other\": No such file or directory (os error 2)";
    let error = fs::rename("/no/such", "/no/other").unwrap_err();
    assert_eq!(error.to_string(), format!("cannot rename {both}"));
    assert_eq!(format!("{error:?}"), format!("Custom {{ kind: NotFound, error: cannot rename {both} }}"));
    let error = fs::hard_link("/no/such", "/no/other").unwrap_err();
    assert_eq!(error.to_string(), format!("cannot link {both}"));
    let error = fs::copy("/etc/passwd", "/no/other").unwrap_err();
    assert!(error.to_string().starts_with("cannot copy \"/etc/passwd\" to \"/no/other\": "), "{error}");
}

/// The largest offset is not the position, though it stands for it in system calls.
#[test]
fn offsets_beyond_the_largest_are_refused() {
    with_workers(|| {
        let dir = Dir::new();
        std::fs::write(dir.path("a"), "hello").unwrap();
        let mut file = File::open(dir.path("a")).unwrap();
        for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
            assert_eq!(file.read_at(&mut [0; 2], offset).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!(file.read_exact_at(&mut [0; 2], offset).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(file.stream_position().unwrap(), 0);
    });
}

/// The system locks a file's position for as long as a call takes.
#[test]
fn a_long_write_blocks_no_worker_that_uses_the_position() {
    let uses: [fn(&File) -> io::Result<()>; 2] =
        [|mut file| file.stream_position().map(drop), |mut file| file.read(&mut [0]).map(drop)];
    on_workers(1, 0, || {
        for call in uses {
            // The write may be over too early.
            assert!((0..5).any(|_| others_run_during(call)));
        }
    });
}

/// Returns whether another goroutine ran on while `call` waited for a long write of the same file.
fn others_run_during(call: fn(&File) -> io::Result<()>) -> bool {
    let dir = Dir::new();
    let file = Arc::new(File::options().read(true).write(true).create_new(true).open(dir.path("a")).unwrap());
    // What comes after the long write is in memory.
    let end = 256 << 20;
    file.write_all_at(b"x", end as u64).unwrap();
    let written = file.clone();
    let writer = go(move || (&*written).write_all(&vec![1; end]).unwrap());
    let others = Others::start();
    let look = std::fs::File::open(dir.path("a")).unwrap();
    wait_until("the write to begin", || first_byte(&look) == 1);
    let have_run = others.run_during(|| call(&file).unwrap());
    writer.join().unwrap();
    have_run
}

/// A read of an empty FIFO parks its goroutine only, and no helper thread either.
#[test]
fn a_fifo_blocks_no_worker() {
    on_workers(1, 0, || {
        let dir = Dir::new();
        let path = dir.fifo();
        let opened = path.clone();
        let reader = go(move || {
            let mut text = String::new();
            File::open(opened).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        // Opening waits for the other end.
        wait_until("it to wait", || diag::dump().to_string().contains("[select"));
        let mut writer = File::options().write(true).open(&path).unwrap();
        wait_until("it to wait", || diag::dump().to_string().contains("[file read]"));
        writer.write_all(b"hello").unwrap();
        assert!(go(|| 1).join().is_ok());
        drop(writer);
        assert_eq!(reader.join().unwrap(), "hello");
    });
}

#[test]
fn a_context_ends_waits_for_a_fifo() {
    with_workers(|| {
        let dir = Dir::new();
        let path = dir.fifo();
        let (ctx, cancel) = Context::background().with_cancel();
        let opened = (ctx.clone(), path.clone());
        let opens = go(move || File::open_ctx(&opened.0, &opened.1).unwrap_err().kind());
        wait_until("it to wait", || diag::dump().to_string().contains("[select"));
        cancel.cancel();
        assert_eq!(opens.join().unwrap(), ErrorKind::ConnectionAborted);

        let both = File::options().read(true).write(true).open(&path).unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        both.set_context(Some(&ctx));
        let reads = go(move || (&both).read(&mut [0]).unwrap_err().kind());
        wait_until("it to wait", || diag::dump().to_string().contains("[file read]"));
        cancel.cancel();
        assert_eq!(reads.join().unwrap(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn a_context_is_looked_at_before_each_call() {
    with_workers(|| {
        let dir = Dir::new();
        let mut file = File::create(dir.path("a")).unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        file.set_context(Some(&ctx));
        file.write_all(b"one").unwrap();
        cancel.cancel();
        assert_eq!(file.write_all(b"two").unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert!(file.read_at(&mut [0], 0).is_err() && file.metadata().is_err() && file.sync_all().is_err());
        file.set_context(None);
        file.write_all(b"three").unwrap();
        assert_eq!(fs::read(dir.path("a")).unwrap(), b"onethree");
    });
}

/// Those that wait for the other end hold no helper threads: there are not so many.
#[test]
fn opening_fifos_leaves_helpers_to_others() {
    with_workers(|| {
        let dir = Dir::new();
        let path = dir.fifo();
        let (ctx, cancel) = Context::background().with_cancel();
        let opens: Vec<_> = (0..600)
            .map(|_| {
                let (ctx, path) = (ctx.clone(), path.clone());
                go(move || File::open_ctx(&ctx, path).unwrap_err().kind())
            })
            .collect();
        goby::yield_now();
        let (asked, asks) = goby::chan::bounded(1);
        go(move || asked.send(fs::metadata("/").unwrap().is_dir()));
        let answer = goby::select! {
            recv(asks) -> is_dir => is_dir.ok(),
            default(PATIENCE / 2) => None,
        };
        cancel.cancel();
        assert!(opens.into_iter().all(|open| open.join().unwrap() == ErrorKind::ConnectionAborted));
        assert_eq!(answer, Some(true));
    });
}

/// Nobody writes what nobody will read.
#[test]
fn an_abandoned_open_is_no_reader() {
    with_workers(|| {
        let dir = Dir::new();
        let path = dir.fifo();
        let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
        assert_eq!(File::open_ctx(&ctx, &path).unwrap_err().kind(), ErrorKind::TimedOut);
        let mut options = File::options();
        let writing = options.write(true).open_ctx(&Context::background().with_timeout(MOMENT).0, &path);
        assert_eq!(writing.unwrap_err().kind(), ErrorKind::TimedOut);
        let mut writer = std::fs::File::options();
        writer.write(true).custom_flags(libc::O_NONBLOCK);
        // A child that another test is just starting is a reader until it runs its program.
        let refused = || writer.open(&path).is_err_and(|error| error.raw_os_error() == Some(libc::ENXIO));
        wait_until("nobody to read", refused);
    });
}

/// A helper thread has opened the FIFO, which lets its writer go on, and the context ends before
/// the goroutine sees the file.
#[test]
fn an_open_that_its_context_ends_loses_no_line() {
    on_workers(1, 0, || {
        let dir = Dir::new();
        let path = dir.fifo();
        for round in 0..40 {
            let (ctx, cancel) = Context::background().with_cancel();
            let opened = path.clone();
            let writer = std::thread::spawn(move || {
                std::fs::File::options().write(true).open(opened).unwrap().write_all(b"line").unwrap();
                cancel.cancel();
            });
            // It holds the only worker until all of that has happened, if the helper has the call.
            let holds = go(move || {
                (0..round % 4).for_each(|_| goby::yield_now());
                let from = std::time::Instant::now();
                while !writer.is_finished() && from.elapsed() < MOMENT {}
                writer
            });
            let mut text = String::new();
            File::open_ctx(&ctx, &path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "line");
            holds.join().unwrap().join().unwrap();
        }
    });
}

#[test]
fn whole_fifos_are_read_and_written_to() {
    with_workers(|| {
        let dir = Dir::new();
        let path = dir.fifo();
        let text = "x".repeat(200_000);
        std::fs::write(dir.path("a"), &text).unwrap();
        let writes: [&(dyn Fn() + Sync); 3] = [
            &|| fs::write(&path, &text).unwrap(),
            &|| assert_eq!(fs::copy(dir.path("a"), &path).unwrap(), 200_000),
            &|| std::fs::write(&path, &text).unwrap(),
        ];
        for (i, write) in writes.into_iter().enumerate() {
            goby::scope(|s| {
                s.go(move || if i == 2 { goby::blocking(write) } else { write() });
                assert!(fs::read(&path).unwrap() == text.as_bytes());
                s.go(move || if i == 2 { goby::blocking(write) } else { write() });
                assert!(fs::read_to_string(&path).unwrap() == text);
            });
        }
        let error = fs::copy(&path, dir.path("b")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(!fs::try_exists(dir.path("b")).unwrap());
        assert_eq!(fs::copy(dir.path("a"), "/dev/null").unwrap(), 200_000);
        assert_eq!(fs::read("/dev/null").unwrap(), b"");
    });
}

/// Each end is opened first in turn, and as a file of std's.
#[test]
fn the_ends_of_a_fifo_wait_for_each_other() {
    with_workers(|| {
        let dir = Dir::new();
        let path = dir.fifo();
        for _ in 0..20 {
            let opened = path.clone();
            let writer = go(move || File::options().write(true).open(opened).unwrap());
            goby::yield_now();
            let reader = File::open(&path).unwrap();
            writer.join().unwrap().write_all(b"x").unwrap();
            assert_eq!((&reader).read(&mut [0; 2]).unwrap(), 1);
            assert_eq!((&reader).read(&mut [0; 2]).unwrap(), 0);
        }
        // The user's own flag is kept. (A child that another test is just starting is a reader.)
        let mut writer = File::options();
        writer.write(true).custom_flags(libc::O_NONBLOCK);
        let refused = || writer.open(&path).is_err_and(|error| error.to_string().contains("No such device or address"));
        wait_until("it to be refused", refused);
    });
}

/// Each has a mode of its own.
#[test]
fn a_fifo_that_goes_to_std_blocks_no_clone() {
    on_workers(1, 0, || {
        let dir = Dir::new();
        let file = File::options().read(true).write(true).open(dir.fifo()).unwrap();
        let clone = file.try_clone().unwrap();
        let mut std = file.into_std();
        assert!(!fcntl_getfl(&std).unwrap().contains(OFlags::NONBLOCK));
        let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
        clone.set_context(Some(&ctx));
        // It has this for input, if it blocks.
        let feeder = std::thread::spawn(move || {
            std::thread::park_timeout(PATIENCE / 4);
            std.write_all(b"x").unwrap();
        });
        let read = (&clone).read(&mut [0]).map_err(|error| error.kind());
        feeder.thread().unpark();
        feeder.join().unwrap();
        assert_eq!(read, Err(ErrorKind::TimedOut));
    });
}

#[test]
fn a_context_ends_waits_for_a_terminal() {
    on_workers(1, 0, || {
        let (mut master, mut slave) = (0, 0);
        let none = std::ptr::null_mut();
        // SAFETY: the two are places to write to, and nothing else is asked for.
        assert_eq!(unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) }, 0);
        // SAFETY: both are open, and ours.
        let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let name = std::fs::read_link(format!("/proc/self/fd/{}", slave.as_raw_fd())).unwrap();
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_NOCTTY);
        let terminal = options.open(name).unwrap();
        let clone = terminal.try_clone().unwrap();
        let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
        for mut file in [&terminal, &clone] {
            file.set_context(Some(&ctx));
            assert_eq!(file.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(file.write_all(&[b'x'; 1 << 20]).unwrap_err().kind(), ErrorKind::TimedOut);
            file.set_context(None);
        }
        rustix::io::write(&master, b"line\n").unwrap();
        let mut line = [0; 9];
        assert_eq!((&clone).read(&mut line).unwrap(), 5);
        assert!(!fcntl_getfl(terminal.into_std()).unwrap().contains(OFlags::NONBLOCK));
    });
}

/// The other end of a FIFO comes from another process, after the deadlock detector has looked.
#[test]
fn waiting_for_a_fifo_is_no_deadlock() {
    let output = in_child("fs::waiting_for_a_fifo_is_no_deadlock", || {
        let dir = Dir::new();
        let path = dir.fifo();
        let script = format!("sleep 0.5; exec >{}; sleep 0.5; echo x", path.display());
        let mut writer = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
        goby::run(move || assert_eq!(fs::lines(path).unwrap().next().unwrap().unwrap(), "x"));
        writer.wait().unwrap();
        drop(dir);
        eprintln!("done");
    });
    assert_eq!(stderr(&output), "done\n", "{}", output.status);
}
