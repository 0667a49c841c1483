//! Child processes: waiting, pipes, the end by a context (`contexts`), and what is left behind.

mod contexts;

use std::fs;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use goby::process::{Child, Command, Stdio};
use goby::signal::Signal;
use goby::sync::{Semaphore, WaitGroup};
use goby::{Context, diag, go};
use goby_test_support::{in_child, stderr};

use crate::support::{MOMENT, on_workers, pause, rerun_alone, size, wait_until, with_workers};

/// A shell that runs `script`.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Whether there is such a process, a zombie or not.
fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether there is such a process, and it is no zombie.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}

/// Reads the next line of a child's output: the number of a process.
fn read_pid(reader: &mut impl BufRead) -> u32 {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim().parse().unwrap_or_else(|_| panic!("a number: {line:?}"))
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").kill_on_drop(true).spawn().unwrap()
}

/// The only worker runs another goroutine while this one waits for a child.
#[test]
fn waiting_for_a_child_blocks_no_worker() {
    on_workers(1, 0, || {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let reader = go(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let waiter = go(move || child.wait().unwrap());
        wait_until("both to wait", || {
            let dump = diag::dump().to_string();
            dump.contains("[process wait]") && dump.contains("[pipe read]")
        });
        stdin.write_all(b"hello").unwrap();
        drop(stdin);
        assert!(waiter.join().unwrap().success());
        assert_eq!(reader.join().unwrap(), "hello");
    });
}

#[test]
fn several_wait_for_one_child_and_signal_it() {
    with_workers(|| {
        let mut child = sleeper();
        let process = child.process();
        let waiter = go(move || (child.wait().unwrap(), child.wait().unwrap(), child.try_wait().unwrap()));
        process.signal(Signal::TERMINATED).unwrap();
        let (first, second, third) = waiter.join().unwrap();
        assert_eq!(first.signal(), Some(15));
        assert_eq!((Some(first), Some(second)), (third, third));
        process.kill().unwrap();
        assert!(!is_there(process.id()));
    });
}

#[test]
fn plain_threads_wait_for_children() {
    assert_eq!(shell("exit 3").status().unwrap().code(), Some(3));
    let output = shell("echo out; echo err >&2").output().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
}

#[test]
fn a_command_of_std_is_converted() {
    with_workers(|| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "read line; echo $line $A"]).env("A", "b");
        let input = goby::io::pipe().unwrap();
        (&input.1).write_all(b"a\n").unwrap();
        command.stdin(input.0);
        assert_eq!(Command::from(command).output().unwrap().stdout, b"a b\n");
    });
}

/// A second run does as the first: `output` leaves nothing set.
#[test]
fn a_command_runs_again() {
    let mut command = shell("echo x");
    assert_eq!(command.output().unwrap().stdout, b"x\n");
    assert!(command.stdout(Stdio::null()).spawn().unwrap().stdout.is_none());
    assert_eq!(command.stdout(Stdio::piped()).output().unwrap().stdout, b"x\n");
}

#[test]
fn output_is_bigger_than_the_pipes() {
    with_workers(|| {
        let script = "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2; head -c 1000000 /dev/zero";
        let output = shell(script).output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (4_000_000, 2_000_000));
    });
}

/// More than fits into the pipes goes through `cat` and comes back.
#[test]
fn a_child_is_fed_while_it_is_read() {
    with_workers(|| {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
        let sent = input.clone();
        let writer = go(move || stdin.write_all(&sent));
        assert!(child.wait_with_output().unwrap().stdout == input);
        writer.join().unwrap().unwrap();
    });
}

/// As in a shell: `yes` is ended by SIGPIPE, which children have at its default.
#[test]
fn broken_pipes_end_writers() {
    with_workers(|| {
        let mut yes = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
        let head = Command::new("head").arg("-n2").stdin(yes.stdout.take().unwrap()).output().unwrap();
        assert_eq!(head.stdout, b"y\ny\n");
        assert_eq!(yes.wait().unwrap().signal(), Some(13));

        let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(stdin.write_all(&[0; 1 << 20]).unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

/// A pipe of goby's is in blocking mode for the child that gets it.
#[test]
fn children_get_pipes_in_blocking_mode() {
    with_workers(|| {
        let (reader, writer) = goby::io::pipe().unwrap();
        let mut dd = Command::new("dd");
        let mut child = dd.args(["bs=1", "count=1"]).stdin(reader).stderr(Stdio::null()).spawn().unwrap();
        pause(MOMENT);
        assert!(child.try_wait().unwrap().is_none(), "it waits for its byte");
        (&writer).write_all(b"x").unwrap();
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn errors_of_starting_say_what_to_do() {
    let dir = std::env::temp_dir().join(format!("goby-process-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let script = dir.join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let text = |command: &mut Command| {
        let error = command.spawn().map(drop).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
        assert_eq!((source.kind(), source.raw_os_error().is_some()), (error.kind(), true));
        error.to_string()
    };
    let check = |command: &mut Command, part: &str| {
        let text = text(command);
        assert!(text.starts_with("cannot start \"") && text.ends_with(part), "{text}");
    };
    check(&mut Command::new("goby-no-such"), "it is in no directory of PATH: install it, or give its path");
    check(&mut Command::new("/no/such"), "there is no such file");
    check(&mut Command::new("/tmp"), "it is a directory");
    check(&mut Command::new(&script), "it may not be executed: see its mode (chmod +x), and those of its directories");
    assert!(std::process::Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
    check(&mut Command::new(&script), "the interpreter that its first line names, or its dynamic linker");
    check(Command::new("true").current_dir("/no/such"), "its working directory /no/such is no directory");
    check(Command::new("true").arg("x".repeat(1 << 22)), "pass them by a file or standard input");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn dropped_children_leave_no_zombies() {
    with_workers(|| {
        let exited = Command::new("true").spawn().unwrap();
        let killed = sleeper();
        let (reader, writer) = goby::io::pipe().unwrap();
        let goes_on = Command::new("cat").stdin(reader).stdout(Stdio::null()).spawn().unwrap();
        let ids = [exited.id(), killed.id(), goes_on.id()];
        drop((exited, killed, goes_on));
        wait_until("two to be gone", || !is_there(ids[0]) && !is_there(ids[1]));
        assert!(is_running(ids[2]));
        drop(writer);
        wait_until("the third to be gone", || !is_there(ids[2]));
    });
}

/// For want of descriptors there is neither a pidfd nor anything new to wake the thread that reaps.
#[test]
fn a_child_dropped_without_descriptors_leaves_no_zombie() {
    if !rerun_alone("process::a_child_dropped_without_descriptors_leaves_no_zombie") {
        return;
    }
    let limit = |current| {
        let old = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let new = rustix::process::Rlimit { current: Some(current), ..old };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, new).unwrap();
        old.current.unwrap()
    };
    with_workers(|| {
        let (long, short) = (sleeper(), shell("true").spawn().unwrap());
        let (process, id) = (long.process(), short.id());
        drop((long, short));
        wait_until("the thread to reap", || !is_there(id));
        let (reader, writer) = goby::io::pipe().unwrap();
        let child = Command::new("cat").stdin(reader).stdout(Stdio::null()).spawn().unwrap();
        let id = child.id();
        let old = limit(3);
        drop(child);
        limit(old);
        drop(writer);
        wait_until("it to be reaped", || !is_there(id));
        process.kill().unwrap();
        wait_until("the first to be reaped", || !is_there(process.id()));
    });
}

/// This process's children, by the system's own list.
fn children() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists.map(|list| list.split_whitespace().count()).sum()
}

/// How many pipes and pidfds are open. Workers that are added have other descriptors.
fn descriptors() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links
        .filter(|link| ["pipe:", "anon_inode:[pidfd]"].iter().any(|kind| link.to_string_lossy().starts_with(kind)))
        .count()
}

/// Ten thousand at full size.
#[test]
fn many_processes_are_run_and_reaped() {
    if !rerun_alone("process::many_processes_are_run_and_reaped") {
        return;
    }
    on_workers(2, 0, || {
        shell("true").status().unwrap();
        let (before, zombies) = (descriptors(), children());
        let (all, at_once) = (WaitGroup::new(), std::sync::Arc::new(Semaphore::new(20)));
        for i in 0..size(200, 10_000) {
            let permit = at_once.clone();
            all.go(move || {
                let _permit = permit.acquire(&Context::background(), 1).unwrap();
                match i % 3 {
                    0 => assert!(Command::new("true").status().unwrap().success()),
                    1 => assert_eq!(
                        Command::new("echo").arg(i.to_string()).output().unwrap().stdout.last(),
                        Some(&b'\n')
                    ),
                    _ => drop(Command::new("true").spawn().unwrap()),
                }
            });
        }
        all.wait();
        wait_until("the dropped ones to be reaped", || children() == zombies);
        wait_until("descriptors to be closed", || descriptors() <= before);
    });
}

/// A goroutine that waits for a child, or its pipe, is not stuck.
#[test]
fn waiting_for_a_child_is_no_deadlock() {
    let output = in_child("process::waiting_for_a_child_is_no_deadlock", || {
        goby::run(|| {
            assert!(Command::new("sleep").arg("0.5").status().unwrap().success());
            assert!(shell("sleep 0.5; echo x").output().unwrap().stdout == b"x\n");
        });
        eprintln!("done");
    });
    assert_eq!(stderr(&output), "done\n", "{}", output.status);
}

/// Where pidfds are refused the context's rule is the same, and no helper thread is held.
#[test]
fn children_are_waited_for_without_pidfds() {
    if !rerun_alone("process::children_are_waited_for_without_pidfds") {
        return;
    }
    refuse(libc::SYS_pidfd_open);
    assert!(rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).is_err());
    with_workers(|| {
        assert_eq!(shell("exit 3").status().unwrap().code(), Some(3));
        assert_eq!(shell("echo x").output().unwrap().stdout, b"x\n");
        let (ctx, cancel) = Context::background().with_cancel();
        let mut command = Command::new("sleep");
        command.arg("1000").cancel(|process| process.signal(Signal::TERMINATED)).wait_delay(Duration::from_secs(60));
        let mut child = command.spawn_ctx(&ctx).unwrap();
        let (short, _short) = Context::background().with_timeout(MOMENT);
        for _ in 0..600 {
            assert_eq!(child.wait_ctx(&short).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        cancel.cancel();
        assert!(child.wait().is_err());
        let dropped = sleeper();
        let id = dropped.id();
        drop(dropped);
        wait_until("the dropped one to be reaped", || !is_there(id));
    });
}

/// Linux 5.3 has pidfds, and no call that asks about a child by one.
#[test]
fn children_are_waited_for_where_pidfds_only_tell_the_exit() {
    if !rerun_alone("process::children_are_waited_for_where_pidfds_only_tell_the_exit") {
        return;
    }
    const P_PIDFD: u32 = 3;
    filter(libc::SYS_waitid, Some(P_PIDFD), libc::EINVAL);
    with_workers(|| {
        let (reader, writer) = goby::io::pipe().unwrap();
        let mut child = Command::new("cat").stdin(reader).stdout(Stdio::null()).spawn().unwrap();
        let (short, _short) = Context::background().with_timeout(MOMENT);
        assert_eq!(child.wait_ctx(&short).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(writer);
        assert!(child.wait().unwrap().success());
    });
}

/// Makes a system call fail with ENOSYS, for this thread and those that it starts.
fn refuse(call: libc::c_long) {
    filter(call, None, libc::ENOSYS);
}

/// Makes a system call fail with `error`, if it has that first argument.
fn filter(call: libc::c_long, first: Option<u32>, error: libc::c_int) {
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // BPF_JMP | BPF_JEQ | BPF_K: otherwise it skips as many.
    let unless = |k, jf| libc::sock_filter { code: 0x15, jt: 0, jf, k };
    // BPF_LD | BPF_W | BPF_ABS: the number of the call, its first argument.
    let mut filter = vec![statement(0x20, 0)];
    filter.push(unless(u32::try_from(call).unwrap(), if first.is_some() { 3 } else { 1 }));
    if let Some(first) = first {
        filter.extend([statement(0x20, 16), unless(first, 1)]);
    }
    // BPF_RET | BPF_K.
    filter.push(statement(0x06, libc::SECCOMP_RET_ERRNO | error as u32));
    filter.push(statement(0x06, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` is as many valid statements, and the call reads it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}
