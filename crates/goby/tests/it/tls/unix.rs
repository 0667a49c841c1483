//! TLS over a Unix socket: as over TCP, with the same limits.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use goby::net::UnixStream;
use goby::tls::TlsStream;
use goby::{Context, diag, go, now, scope};
use goby_test_support::wait_until;

use super::support::Authority;
use crate::support::with_workers;

#[test]
fn tls_runs_over_unix_sockets() {
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = UnixStream::pair().unwrap();
        let server: TlsStream<UnixStream> = authority.acceptor(&["localhost"]).accept(server).unwrap();
        let client = authority.connector().connect("localhost", client).unwrap();
        let echoing = go(move || {
            let copied = io::copy(&mut &server, &mut &server).unwrap();
            server.shutdown().unwrap();
            copied
        });
        // Nothing comes back of nothing: a deadline and a context end the wait.
        client.handshake().unwrap();
        client.get_ref().set_read_deadline(Some(now() + Duration::from_millis(5)));
        assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        client.get_ref().set_read_deadline(None);
        let (ctx, cancel) = Context::background().with_cancel();
        client.get_ref().set_context(Some(&ctx));
        cancel.cancel();
        assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        client.get_ref().set_context(None);
        // A goroutine that waits is shown as one that waits for a socket.
        scope(|s| {
            let (ctx, cancel) = Context::background().with_cancel();
            client.get_ref().set_context(Some(&ctx));
            let reading = s.go(|| (&client).read(&mut [0]).unwrap_err().kind());
            wait_until("both sides to wait", || diag::dump().to_string().matches("[IO wait]").count() == 2);
            cancel.cancel();
            assert_eq!(reading.join().unwrap(), ErrorKind::ConnectionAborted);
        });
        client.get_ref().set_context(None);
        let (mut reader, mut writer) = client.into_split();
        let writing = go(move || {
            writer.write_all(&[3; 500_000]).unwrap();
            writer.shutdown().unwrap();
        });
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        assert!(back == [3; 500_000], "{} bytes", back.len());
        writing.join().unwrap();
        assert_eq!(echoing.join().unwrap(), 500_000);
    });
}
