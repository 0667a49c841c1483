//! Thousands of sockets opened and closed in waves, while others read on theirs. Their peers are in
//! a child process, which has a limit of descriptors of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use goby::net::{Stream, StreamSocket, TcpListener, TcpStream, UnixListener, UnixStream};
use goby::{blocking, go, now, num_goroutines, scope};
use goby_test_support::this_program;

use super::close::n_descriptors;
use super::unix::TestPath;
use crate::support::{PATIENCE, debug_or_release, on_workers, rerun_alone, size, wait_until};

const SERVER: &str = "GOBY_TEST_ECHO_SERVER";

/// Sends every byte back, to whoever comes, until its standard input ends.
struct EchoServer {
    child: Child,
    port: u16,
}

impl EchoServer {
    /// Runs the test named `test` again, which calls [`serve`].
    fn start(test: &str, path: &TestPath) -> EchoServer {
        let mut command: Command = this_program();
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        command.env(SERVER, &path.0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("port ")?.parse().ok());
        EchoServer { child, port: port.expect("the server says its port") }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn serve(path: &str) {
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let unix = UnixListener::bind(path).unwrap();
    println!("\nport {}", tcp.local_addr().unwrap().port());
    fn echo<T: StreamSocket>(stream: Stream<T>) {
        // The client may reset it.
        go(move || drop(std::io::copy(&mut &stream, &mut &stream)));
    }
    go(move || tcp.incoming().for_each(|stream| echo(stream.unwrap())));
    go(move || unix.incoming().for_each(|stream| echo(stream.unwrap())));
    blocking(|| std::io::stdin().read_to_end(&mut Vec::new()).unwrap());
    std::process::exit(0);
}

/// Sends `round` and reads it back.
fn round_trip<T: StreamSocket>(mut stream: &Stream<T>, round: u64) {
    let message = round.to_ne_bytes();
    stream.write_all(&message).unwrap();
    let mut echo = [0; 8];
    stream.set_read_deadline(Some(now() + PATIENCE));
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(echo, message);
}

/// One socket of a wave: it is used, and then dropped, or closed under a reader.
fn live<T: StreamSocket>(stream: Stream<T>, i: usize) {
    round_trip(&stream, i as u64);
    if i.is_multiple_of(3) {
        let stream = Arc::new(stream);
        let shared = stream.clone();
        let reader = go(move || { &*shared }.read(&mut [0]));
        goby::yield_now();
        stream.close();
        assert_eq!(reader.join().unwrap().unwrap_err().to_string(), "use of closed network connection");
    }
}

#[test]
fn sockets_come_and_go_in_waves_while_others_read() {
    const NAME: &str = "net::waves::sockets_come_and_go_in_waves_while_others_read";
    if let Ok(path) = std::env::var(SERVER) {
        return goby::run(move || serve(&path));
    }
    if !rerun_alone(NAME) {
        return;
    }
    let path = TestPath::new();
    let server = EchoServer::start(NAME, &path);
    let total = size(debug_or_release(1000, 10_000), 10_000);
    for workers in [1, 2] {
        on_workers(workers, 0, || waves(&server, &path, total));
    }
}

fn waves(server: &EchoServer, path: &TestPath, total: usize) {
    const WAVES: usize = 10;
    let addr = |host| SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), server.port));
    drop(TcpStream::connect(addr(0)).unwrap());
    let (descriptors, goroutines) = (n_descriptors(), num_goroutines());
    let (done, trips) = (AtomicBool::new(false), AtomicUsize::new(0));
    scope(|s| {
        for i in 0..20 {
            let (done, trips) = (&done, &trips);
            s.go(move || {
                let (tcp, unix) = (TcpStream::connect(addr(0)).unwrap(), UnixStream::connect(&path.0).unwrap());
                for round in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    if i % 2 == 0 {
                        round_trip(&tcp, round)
                    } else {
                        round_trip(&unix, round)
                    }
                    trips.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for wave in 0..WAVES {
            // Each wave has an address of its own, as many connections to one use up its ports.
            let addr = addr(1 + wave as u8);
            scope(|s| {
                for i in 0..total / WAVES {
                    let path = &path.0;
                    s.go(move || match i % 2 {
                        0 => live(TcpStream::connect(addr).unwrap(), i),
                        _ => live(UnixStream::connect(path).unwrap(), i),
                    });
                }
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(trips.into_inner() > 20, "the others have read meanwhile");
    wait_until("the descriptors to be closed", || n_descriptors() <= descriptors);
    wait_until("the goroutines to end", || num_goroutines() <= goroutines);
}
