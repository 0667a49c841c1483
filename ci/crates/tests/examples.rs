//! Runs every example as its user would, and asks it by curl.

use std::io::{BufRead, Read, Write};

use goby_test_support::{Server, finish};

#[test]
fn axum() {
    let mut server = Server::start(env!("CARGO_BIN_EXE_axum"), &[]);
    let version = ["--write-out", "%{http_version}"];
    assert_eq!(server.ask("/hello/gopher", &version), "Hello, gopher!\n1.1");
    assert_eq!(
        server.ask("/hello/gopher", &[&version[..], &["--http2-prior-knowledge"]].concat()),
        "Hello, gopher!\n2"
    );
    assert_eq!(server.ask("/sum", &["--json", "[1, 2.5, -0.5]"]), "3.0");
    assert_eq!(server.ask("/nothing", &["--write-out", "%{http_code}"]), "404");
    // A panic of a handler ends its connection, and neither the server nor its end.
    let mut stream = server.connect();
    stream.write_all(b"GET /bug HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it listens");
    assert_eq!(stream.read_to_end(&mut Vec::new()).expect("it is closed"), 0);
    let slow = server.begin("/slow", &[]);
    let mut line = String::new();
    server.stdout.read_line(&mut line).expect("it says what it does");
    assert_eq!(line, "slow begins\n");
    // The request that has begun gets its answer.
    server.interrupt();
    assert_eq!(server.wait(), "bye\n");
    assert_eq!(finish(slow), "done\n");
}

#[test]
fn store() {
    let folder = std::env::temp_dir().join(format!("goby-store-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is room");
    let file = folder.join("notes.db");
    let file = file.to_str().expect("it is UTF-8");
    let status = ["--write-out", "%{http_code}"];

    let server = Server::start(env!("CARGO_BIN_EXE_store"), &[file]);
    let add = |note: &str| server.ask("/notes", &["--json", note]);
    assert_eq!(add(r#"{"text": "so long, and thanks"}"#), "{\"id\":1}\n");
    assert_eq!(add(r#"{"text": 7}"#), "{\"error\":\"a note has a text\"}\n");
    assert_eq!(server.ask("/notes/2", &status), "{\"error\":\"no such note\"}\n404");
    // No more than twenty at once: these three, and some of the next.
    let codes: Vec<_> = (0..40).map(|_| server.ask("/", &["--output", "/dev/null", status[0], status[1]])).collect();
    assert!(codes[..17].iter().all(|code| code == "404"), "{codes:?}");
    assert!(codes.iter().any(|code| code == "429"), "{codes:?}");
    server.interrupt();
    assert_eq!(server.wait(), "bye\n");

    // The job of the note was finished before the end.
    let server = Server::start(env!("CARGO_BIN_EXE_store"), &[file]);
    assert_eq!(server.ask("/notes/1", &[]), "{\"id\":1,\"text\":\"so long, and thanks\",\"words\":4}\n");
    server.interrupt();
    assert_eq!(server.wait(), "bye\n");
    std::fs::remove_dir_all(&folder).expect("it is ours");
}
