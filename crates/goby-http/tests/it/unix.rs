//! A server at a Unix socket, asked by curl.

use std::path::PathBuf;
use std::sync::Arc;

use goby::net::UnixListener;
use goby_http::{Request, Server};

use crate::support::{background, curl, with_workers};

/// A path for the socket of `test`, which no other test has.
pub(crate) fn socket_path(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("goby-http-{test}-{}.sock", std::process::id()))
}

#[test]
fn a_unix_socket_serves_curl() {
    with_workers(|| {
        let path = socket_path("serves");
        let server = Arc::new(Server::from_unix(UnixListener::bind(&path).unwrap()).unwrap());
        assert_eq!(server.local_addr().to_string(), "0.0.0.0:0");
        let serving = server.clone();
        let serving = goby::go(move || {
            serving.serve(|request: Request| {
                let (path, from) = (request.path().to_owned(), request.remote_addr());
                format!("{path} {from} {} ", request.text().unwrap())
            })
        });
        let socket = path.to_str().unwrap();
        // Two requests over one connection, the second one with a body.
        let answers = curl(&[
            "--unix-socket",
            socket,
            "http://any/first",
            "--next",
            "--unix-socket",
            socket,
            "--data",
            "body",
            "http://any/second",
        ]);
        assert_eq!(answers, "/first 0.0.0.0:0  /second 0.0.0.0:0 body ");
        server.shutdown(&background()).unwrap();
        serving.join().unwrap().unwrap();
        assert!(!path.exists(), "the listener removes its file");
    });
}
