//! Clients that stall, with a limit that is short. Other tests are in `tests/it/http2.rs`.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use goby::net::TcpStream;
use goby::{Context, JoinHandle, Runtime, chan, num_goroutines};
use goby_test_support::wait_until;

use crate::{Request, Response, Server};

const RST_STREAM: u8 = 3;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

struct Site {
    server: Arc<Server>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Site {
    fn start<R: Into<Response>>(handler: impl Fn(Request) -> R + Send + Sync + 'static) -> Site {
        let server = Server::bind("127.0.0.1:0").unwrap().h2c(true).idle_timeout(Duration::from_millis(50));
        let server = Arc::new(server.stall_timeout(Duration::from_millis(50)));
        let serving = server.clone();
        Site { server, serving: goby::go(move || serving.serve(handler)) }
    }

    /// Connects as a client whose windows have this size, and asks for `/` on stream 1.
    fn ask(&self, window: u32, ends: bool) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.local_addr()).unwrap();
        stream.set_deadline(Some(Instant::now() + Duration::from_secs(100)));
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // The setting of the streams' window, then the window of the connection.
        bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4]);
        bytes.extend(window.to_be_bytes());
        bytes.extend([0, 0, 4, 8, 0, 0, 0, 0, 0]);
        bytes.extend(0x7000_0000_u32.to_be_bytes());
        // A head that is complete: GET, http, `/`, and the authority `a`.
        bytes.extend([0, 0, 6, 1, 4 | u8::from(ends), 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x01, 1, b'a']);
        stream.write_all(&bytes).unwrap();
        stream
    }

    fn stop(self) {
        self.server.shutdown(&Context::background()).unwrap();
        self.serving.join().unwrap().unwrap();
    }
}

/// Reads frames up to one of this kind, and returns its payload; none if the connection ends.
fn receive(stream: &mut TcpStream, kind: u8) -> Option<Vec<u8>> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).ok()?;
        if head[3] == kind {
            return Some(payload);
        }
    }
}

fn with_runtimes(test: impl Fn() + Send + Sync) {
    for workers in [1, 2, 4] {
        let runtime = Runtime::builder().workers(workers).build().expect("a runtime");
        runtime.run(|| {
            let start = num_goroutines();
            test();
            wait_until("the goroutines of the test to end", || num_goroutines() <= start);
        });
    }
}

#[test]
fn a_client_that_opens_no_window_loses_its_stream() {
    with_runtimes(|| {
        let site = Site::start(|_: Request| vec![7; 100_000]);
        let mut client = site.ask(0, true);
        assert_eq!(receive(&mut client, RST_STREAM), Some(CANCEL.to_vec()));
        site.stop();
    });
}

#[test]
fn a_client_that_does_not_read_loses_its_connection() {
    with_runtimes(|| {
        let site = Site::start(|_: Request| vec![7; 64 << 20]);
        let before = num_goroutines();
        // The windows are open, and the socket fills up.
        let client = site.ask(0x7fff_ffff, true);
        wait_until("the request to be served", || num_goroutines() > before);
        wait_until("the connection to end", || num_goroutines() <= before);
        drop(client);
        site.stop();
    });
}

#[test]
fn a_body_that_does_not_come_fails_to_be_read() {
    with_runtimes(|| {
        let (error, errors) = chan::bounded(1);
        let site = Site::start(move |request: Request| error.send(request.bytes().unwrap_err()).unwrap());
        let client = site.ask(0, false);
        let error = errors.recv().unwrap();
        assert!(error.is_timeout() && error.is_body(), "{error:?}");
        drop(client);
        site.stop();
    });
}
