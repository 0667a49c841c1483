//! A server at a Unix socket, asked by curl.

use std::path::PathBuf;
use std::sync::Arc;

use goby::net::UnixListener;
use goby_http::{Client, Request, Server};

use crate::support::{background, curl, with_workers, words};

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

#[test]
fn a_client_asks_a_unix_socket_whatever_the_url_says() {
    with_workers(|| {
        let path = socket_path("client");
        let server = Arc::new(Server::from_unix(UnixListener::bind(&path).unwrap()).unwrap());
        let serving = server.clone();
        let serving = goby::go(move || {
            serving.serve(|request: Request| {
                let host = request.headers()["host"].to_str().unwrap().to_owned();
                format!("{host}{} {}", request.path().to_owned(), request.text().unwrap())
            })
        });
        // A proxy has no part in it.
        let proxy = goby_http::Proxy::all("127.0.0.1:9").unwrap();
        let client = Client::builder().proxy(proxy).unix_socket(&path).build().unwrap();
        for host in ["docker", "localhost:99", "docker"] {
            let answer = client.post(&background(), format!("http://{host}/info"), "body").unwrap();
            assert_eq!(answer.text().unwrap(), format!("{host}/info body"));
        }
        drop(client);
        server.shutdown(&background()).unwrap();
        serving.join().unwrap().unwrap();
        let error = Client::builder().unix_socket(&path).build().unwrap();
        let error = error.get(&background(), "http://docker/").unwrap_err();
        assert_eq!(words(&error), format!("connecting to {} failed", path.display()));
        assert!(error.is_connect());
    });
}
