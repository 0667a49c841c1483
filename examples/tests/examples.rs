//! Runs every example as its user would, and checks what it prints or answers.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use goby_test_support::{PATIENCE, Server, finish, has};
use tungstenite::{Message, WebSocket};

/// Runs a program to its end, and returns its standard output.
fn output(program: &str) -> String {
    let done = Command::new(program).output().expect("cargo has built it");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program}: {}\n{stderr}", done.status);
    assert_eq!(stderr, "", "{program} has nothing to complain about");
    String::from_utf8(done.stdout).expect("it prints UTF-8")
}

#[test]
fn worker_pool() {
    assert_eq!(output(env!("CARGO_BIN_EXE_worker_pool")), "sum of squares: 285\n");
}

#[test]
fn worker_pool_by_hand() {
    assert_eq!(output(env!("CARGO_BIN_EXE_worker_pool_by_hand")), "sum of squares: 285\n");
}

#[test]
fn fan_out_fan_in() {
    assert_eq!(output(env!("CARGO_BIN_EXE_fan_out_fan_in")), "below 10000, 6171 takes the most steps: 261\n");
}

#[test]
fn pipeline() {
    let dir = std::env::temp_dir().join(format!("goby-pipeline-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("there is room");
    let texts = ["So long, and thanks for all the fish.", "The fish, the gopher: and the crab!"];
    let paths: Vec<_> = (0..100).map(|i| dir.join(format!("{i}.txt"))).collect();
    paths.iter().zip(texts.iter().cycle()).for_each(|(path, text)| fs::write(path, text).expect("there is room"));

    let pipeline = |paths: &[PathBuf]| {
        Command::new(env!("CARGO_BIN_EXE_pipeline")).args(paths).output().expect("cargo has built it")
    };
    let counted = pipeline(&paths);
    let missing = pipeline(&[&paths[..], &[dir.join("missing")]].concat());
    fs::remove_dir_all(&dir).expect("it is ours");

    let expected = [(200, "the"), (100, "and"), (100, "fish"), (50, "all"), (50, "crab"), (50, "for"), (50, "gopher")];
    let expected = expected.into_iter().chain([(50, "long"), (50, "so"), (50, "thanks")]);
    let expected: String = expected.map(|(n, word)| format!("{n:7} {word}\n")).collect();
    assert!(counted.status.success());
    assert_eq!(String::from_utf8_lossy(&counted.stdout), expected);
    assert!(!missing.status.success() && missing.stdout.is_empty());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("missing: No such file"));
}

#[test]
fn timeout() {
    assert_eq!(output(env!("CARGO_BIN_EXE_timeout")), "/quick: Hello, World!\n/slow: nothing within 100ms\n");
}

#[test]
fn rate_limit() {
    let printed = output(env!("CARGO_BIN_EXE_rate_limit"));
    let mut lines = printed.lines();
    assert!(lines.by_ref().take(10).enumerate().all(|(i, line)| line == format!("page {i}: 200 OK")), "{printed}");
    let last = lines.next().unwrap_or_default();
    let ms: u64 = last
        .strip_prefix("10 pages in ")
        .and_then(|rest| rest.strip_suffix(" ms"))
        .and_then(|ms| ms.parse().ok())
        .expect(&printed);
    // Five at once, then one every 20 ms.
    assert!(ms >= 99, "{printed}");
}

#[test]
fn prime_sieve() {
    let primes = "2 3 5 7 11 13 17 19 23 29 31 37 41 43 47 53 59 61 67 71 73 79 83 89 97";
    assert_eq!(output(env!("CARGO_BIN_EXE_prime_sieve")).lines().collect::<Vec<_>>().join(" "), primes);
}

#[test]
fn pingpong() {
    let hits = "ping 1\npong 2\nping 3\npong 4\nping 5\npong 6\nping 7\npong 8\nping 9\npong 10\n";
    assert_eq!(output(env!("CARGO_BIN_EXE_pingpong")), hits);
}

#[test]
fn http_server() {
    if !has("curl") {
        return;
    }
    let code = ["--write-out", "%{http_code}"];
    let server = Server::start(env!("CARGO_BIN_EXE_http_server"), &[]);
    // Asked first, answered last: a slow page delays no other.
    let slow = server.begin("/sleep/300", &[]);
    assert_eq!(server.ask("/hello/gopher", &code), "Hello, gopher!\n200");
    assert!(server.ask("/nothing", &code).ends_with("404"));
    assert_eq!(finish(slow), "slept 300 ms\n");
}

/// What its page is asked by scripts; the page itself is tested in goby-http.
#[test]
fn leaky_server() {
    let server = Server::start(env!("CARGO_BIN_EXE_leaky_server"), &["1000"]);
    (0..3).for_each(|_| assert_eq!(server.ask("/events", &[]), "subscribed\n"));
    let leaks = |query: &str| server.ask(&format!("/debug/goby/goroutines.json?status=chan{query}"), &[]);
    let has = |text: &str, part: &str| assert!(text.contains(part), "no {part}: {text}");
    // Three of them may be on their way to their wait.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !leaks("").contains("\"n\":1003,") {
        assert!(Instant::now() < deadline, "{}", leaks(""));
    }
    has(&leaks(""), "leaky_server::log_events");
    has(&leaks("&label=client%3D127.0.0.1"), "\"n\":3,");
    has(&server.ask("/debug/goby/metrics", &[]), "\ngo_sched_goroutines_goroutines ");
    has(&server.ask("/debug/goby/goroutines.txt", &[]), "labels: client=127.0.0.1");
    has(&server.ask("/debug/goby/", &[]), "<title>goby</title>");
}

#[test]
fn json_api() {
    let mut server = Server::start(env!("CARGO_BIN_EXE_json_api"), &[]);
    let common = ["-w", " %{http_code}", "-H", "content-type: application/json"];
    let ask = |options: &[&str], path: &str| server.ask(path, &[&common, options].concat());
    let (milk, bread) = (r#"{"id":1,"title":"buy milk","done":false}"#, r#"{"id":2,"title":"bake bread","done":true}"#);
    assert_eq!(ask(&[], "/todos"), "[] 200");
    let created = ask(&["-i", "-d", r#"{"title": "buy milk"}"#], "/todos");
    assert!(created.contains("\r\nlocation: /todos/1\r\n"), "{created}");
    assert!(created.ends_with(&format!("\r\n\r\n{milk} 201")), "{created}");
    assert_eq!(ask(&["-d", r#"{"title": "bake bread"}"#], "/todos"), bread.replace("true", "false") + " 201");
    assert_eq!(
        ask(&["-X", "PUT", "-d", r#"{"title": "bake bread", "done": true}"#], "/todos/2"),
        format!("{bread} 200")
    );
    assert_eq!(ask(&[], "/todos"), format!("[{milk},{bread}] 200"));
    assert_eq!(ask(&[], "/todos?done=false"), format!("[{milk}] 200"));
    assert_eq!(ask(&[], "/todos/2"), format!("{bread} 200"));
    assert_eq!(ask(&["-X", "DELETE"], "/todos/1"), " 204");
    assert_eq!(ask(&[], "/todos/1"), r#"{"error":"there is no todo 1"} 404"#);
    assert_eq!(ask(&[], "/todos/one"), r#"{"error":"invalid id in the path: invalid digit found in string"} 400"#);
    assert_eq!(
        ask(&["-d", "{"], "/todos"),
        r#"{"error":"invalid JSON: EOF while parsing an object at line 1 column 1"} 400"#
    );
    assert!(ask(&["-d", "{}"], "/todos").ends_with(" 422"));
    assert_eq!(ask(&["-X", "PATCH"], "/todos"), "Method Not Allowed 405");
    assert_eq!(ask(&[], "/nothing"), "Not Found 404");
    let lines: Vec<_> = server.stdout.by_ref().lines().take(14).map(|line| line.expect("it is text")).collect();
    assert_eq!(lines[..2], ["GET /todos 200", "POST /todos 201"]);
    assert_eq!(lines.last().map(String::as_str), Some("GET /nothing 404"));
}

#[test]
fn event_stream() {
    let server = Server::start(env!("CARGO_BIN_EXE_event_stream"), &[]);
    assert!(server.ask("/", &[]).contains("new EventSource"));
    let listen = || {
        let mut curl = server.begin("/events", &["-N"]);
        let lines = BufReader::new(curl.stdout.take().expect("it is piped")).lines();
        (curl, lines.map(|line| line.expect("it is text")))
    };
    let listeners: Vec<_> = (0..2)
        .map(|_| {
            let (curl, mut lines) = listen();
            let welcome: Vec<_> = lines.by_ref().take(3).collect();
            assert_eq!(welcome, ["event: welcome", "data: you hear what others say", ""]);
            (curl, lines)
        })
        .collect();
    assert_eq!(server.ask("/say", &["-w", "%{http_code}", "-d", "hello"]), "204");
    assert_eq!(server.ask("/say", &["-w", "%{http_code}", "-d", "two\nlines"]), "204");
    for (mut curl, lines) in listeners {
        let heard: Vec<_> = lines.take(7).collect();
        assert_eq!(heard, ["id: 1", "data: hello", "", "id: 2", "data: two", "data: lines", ""]);
        curl.kill().and_then(|()| curl.wait()).expect("it is ours");
    }
}

#[test]
fn static_files() {
    let dir = std::env::temp_dir().join(format!("goby-static-{}", std::process::id()));
    fs::create_dir_all(dir.join("site/docs")).expect("there is room");
    fs::write(dir.join("secret"), "secret").expect("there is room");
    fs::write(dir.join("site/index.html"), "<h1>home</h1>").expect("there is room");
    fs::write(dir.join("site/docs/text.txt"), "0123456789".repeat(100)).expect("there is room");
    let site = dir.join("site");
    let mut server = Server::start(env!("CARGO_BIN_EXE_static_files"), &[site.to_str().expect("it is text")]);
    let code = ["-w", " %{http_code}", "--path-as-is"];
    assert_eq!(server.ask("/", &code), "<h1>home</h1> 200");
    assert_eq!(server.ask("/docs/text.txt", &[&code[..], &["-r", "5-7"]].concat()), "567 206");
    assert_eq!(server.ask("/docs/text.txt", &["--compressed"]), "0123456789".repeat(100));
    let tag = server.ask("/docs/text.txt", &["-o", "/dev/null", "-w", "%header{etag}"]);
    assert_eq!(server.ask("/docs/text.txt", &[&code[..], &["-H", &format!("If-None-Match: {tag}")]].concat()), " 304");
    assert_eq!(server.ask("/docs", &["-o", "/dev/null", "-w", "%{http_code} %header{location}"]), "301 /docs/");
    assert_eq!(server.ask("/../secret", &code), "Not Found 404");
    fs::remove_dir_all(&dir).expect("it is ours");

    let lines: Vec<_> = server.stdout.by_ref().lines().take(7).map(|line| line.expect("it is text")).collect();
    assert!(lines[0].contains(r#"method="GET" path="/" status=200 bytes=13"#), "{lines:?}");
    assert!(lines[1].contains(r#"path="/docs/text.txt" status=206 bytes=3"#), "{lines:?}");
}

#[test]
fn chat_server() {
    let server = Server::start(env!("CARGO_BIN_EXE_chat_server"), &[]);
    let mut ann = BufReader::new(server.connect());
    let mut bob = BufReader::new(server.connect());
    let hears = |client: &mut BufReader<TcpStream>, expected: &str| {
        let mut line = String::new();
        client.read_line(&mut line).expect("the hub sends it");
        assert_eq!(line, format!("{expected}\n"));
    };
    writeln!(ann.get_ref(), "ann").unwrap();
    hears(&mut ann, "ann is here");
    writeln!(bob.get_ref(), "bob").unwrap();
    hears(&mut ann, "bob is here");
    hears(&mut bob, "bob is here");
    writeln!(bob.get_ref(), "hello").unwrap();
    hears(&mut ann, "bob: hello");
    hears(&mut bob, "bob: hello");
    drop(bob);
    hears(&mut ann, "bob has left");
}

#[test]
fn websocket_chat() {
    let server = Server::start(env!("CARGO_BIN_EXE_websocket_chat"), &[]);
    let url = format!("ws://{}/chat", server.addr());
    let join = || tungstenite::connect(&url).expect("it takes WebSockets").0;
    let mut ann = join();
    let hears = |client: &mut WebSocket<_>, expected: &str| {
        assert_eq!(client.read().expect("the room says it"), Message::text(expected));
    };
    hears(&mut ann, "1 is here");
    let mut bob = join();
    hears(&mut ann, "2 is here");
    hears(&mut bob, "2 is here");
    bob.send(Message::text("hello")).expect("it is open");
    hears(&mut ann, "2: hello");
    hears(&mut bob, "2: hello");
    drop(bob);
    hears(&mut ann, "2 has left");
    if has("curl") {
        assert!(server.ask("/", &[]).contains("new WebSocket"));
    }
    server.interrupt();
    assert!(matches!(ann.read(), Ok(Message::Close(Some(frame))) if u16::from(frame.code) == 1001));
    while ann.read().is_ok() {}
    assert_eq!(server.wait(), "bye\n");
}

/// Servers go on when they could not accept, once a descriptor is free.
#[test]
fn servers_outlive_a_lack_of_descriptors() {
    let start = |program, upstream| {
        let script = r#"ulimit -n 64; exec "$0" 127.0.0.1:0 $1 2>&1"#;
        let mut server = Running::start("sh", &["-c", script, program, upstream]);
        let line = server.line();
        (server, line.rsplit(' ').next().expect("an address").to_owned())
    };
    let (mut chat, chat_addr) = start(env!("CARGO_BIN_EXE_chat_server"), "");
    let (mut proxy, proxy_addr) = start(env!("CARGO_BIN_EXE_tcp_proxy"), &chat_addr);
    let connect = |addr: &str| {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
        stream
    };
    for (server, addr) in [(&mut proxy, &proxy_addr), (&mut chat, &chat_addr)] {
        let clients: Vec<_> = (0..64).map(|_| connect(addr)).collect();
        while !server.line().starts_with("accept: ") {}
        drop(clients);
        let mut line = String::new();
        // One that comes while the others still go may be turned away.
        while line.is_empty() {
            let mut ann = connect(addr);
            ann.write_all(b"ann\n").expect("there is room");
            let _ = BufReader::new(ann).read_line(&mut line);
        }
        assert_eq!(line, "ann is here\n");
        server.process.kill().and_then(|()| server.process.wait()).expect("it is ours");
    }
}

#[test]
fn tcp_proxy() {
    let chat = Server::start(env!("CARGO_BIN_EXE_chat_server"), &[]);
    let mut proxy = Server::start(env!("CARGO_BIN_EXE_tcp_proxy"), &[&chat.place]);
    let mut ann = BufReader::new(proxy.connect());
    let mut line = String::new();
    writeln!(ann.get_ref(), "ann").unwrap();
    ann.read_line(&mut line).expect("the hub sends it");
    assert_eq!(line, "ann is here\n");
    // The half-close is passed on, and the chat ends its half then.
    ann.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(ann.read_line(&mut line).expect("an end"), 0);
    line.clear();
    proxy.stdout.read_line(&mut line).expect("it says what it has carried");
    assert_eq!(line, "4 bytes there, 12 bytes back\n");
}

/// What the upstream of a proxy gets: the head of a request.
fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).expect("a head comes"), 0, "{head}");
    }
    head.to_lowercase()
}

/// Starts the proxy for an upstream that is this test.
fn proxied() -> (Server, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let url = format!("http://{}", upstream.local_addr().expect("it is bound"));
    (Server::start(env!("CARGO_BIN_EXE_reverse_proxy"), &[&url]), upstream)
}

fn accept(upstream: &TcpListener) -> BufReader<TcpStream> {
    let stream = upstream.accept().expect("the proxy connects").0;
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    BufReader::new(stream)
}

#[test]
fn reverse_proxy_changes_headers() {
    if !has("curl") {
        return;
    }
    let (proxy, upstream) = proxied();
    let named = ["-H", "Connection: X-Hop, Host", "-H", "X-Hop: 1", "-H", "TE: trailers", "-H", "Keep-Alive: 1"];
    let own = ["-i", "-H", "X-Own: kept", "-H", "X-Forwarded-For: 6.6.6.6", "-H", "Forwarded: for=6.6.6.6"];
    let asking = proxy.begin("/some/path?a=b%20c", &[&named[..], &own].concat());
    let mut stream = accept(&upstream);
    let head = head(&mut stream);
    let lines: Vec<_> = head.lines().collect();
    assert_eq!(lines[0], "get /some/path?a=b%20c http/1.1");
    for line in ["x-own: kept", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http"] {
        assert!(lines.contains(&line), "{line} in {head}");
    }
    let address = upstream.local_addr().expect("it is bound");
    assert!(lines.contains(&&*format!("host: {address}")), "{head}");
    assert!(lines.contains(&&*format!("x-forwarded-host: {}", proxy.addr())), "{head}");
    for name in ["x-hop", "te", "keep-alive", "connection", "forwarded", "accept-encoding"] {
        assert!(!lines.iter().any(|line| line.starts_with(&format!("{name}:"))), "{name} in {head}");
    }
    assert!(!head.contains("6.6.6.6"), "{head}");
    let answer = "HTTP/1.1 302 Found\r\nLocation: /there\r\nX-Own: kept\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 4\r\n\r\nbody";
    stream.get_mut().write_all(answer.as_bytes()).expect("it is open");
    let answer = finish(asking).to_lowercase();
    assert!(answer.starts_with("http/1.1 302 found\r\n") && answer.ends_with("\r\n\r\nbody"), "{answer}");
    assert!(answer.contains("\r\nlocation: /there\r\n") && answer.contains("\r\nx-own: kept\r\n"), "{answer}");
    assert!(!answer.contains("x-hop") && !answer.contains("keep-alive"), "{answer}");
}

/// Each piece arrives before the next one is sent.
#[test]
fn reverse_proxy_streams_both_ways() {
    let (proxy, upstream) = proxied();
    let mut client = BufReader::new(proxy.connect());
    let begin = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let pieces = ["6\r\nfirst \r\n", "4\r\nlast\r\n"];
    client.get_mut().write_all(begin.as_bytes()).expect("it is open");
    let mut server = None;
    for piece in pieces {
        client.get_mut().write_all(piece.as_bytes()).expect("it is open");
        let server = server.get_or_insert_with(|| {
            let mut server = accept(&upstream);
            assert!(head(&mut server).contains("transfer-encoding: chunked"));
            server
        });
        let mut got = vec![0; piece.len()];
        server.read_exact(&mut got).expect("it goes on at once");
        assert_eq!(String::from_utf8_lossy(&got), piece);
    }
    let mut server = server.expect("it was asked");
    client.get_mut().write_all(b"0\r\n\r\n").expect("it is open");
    server.read_exact(&mut [0; 5]).expect("the end goes on");
    server.get_mut().write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("it is open");
    for (n, piece) in pieces.iter().enumerate() {
        server.get_mut().write_all(piece.as_bytes()).expect("it is open");
        if n == 0 {
            assert!(head(&mut client).starts_with("http/1.1 200 ok\r\n"));
        }
        let mut got = vec![0; piece.len()];
        client.read_exact(&mut got).expect("it comes back at once");
        assert_eq!(String::from_utf8_lossy(&got), *piece);
    }
    // It breaks off, and so does the answer.
    drop(server);
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn reverse_proxy_lets_websockets_pass() {
    let chat = Server::start(env!("CARGO_BIN_EXE_websocket_chat"), &[]);
    let proxy = Server::start(env!("CARGO_BIN_EXE_reverse_proxy"), &[&chat.place]);
    let join = || tungstenite::connect(format!("ws://{}/chat", proxy.addr())).expect("it takes WebSockets").0;
    let hears = |client: &mut WebSocket<_>, expected: &str| {
        assert_eq!(client.read().expect("the room says it"), Message::text(expected));
    };
    let mut ann = join();
    hears(&mut ann, "1 is here");
    let bob = join();
    hears(&mut ann, "2 is here");
    drop(bob);
    hears(&mut ann, "2 has left");
    ann.send(Message::text("hello")).expect("it is open");
    hears(&mut ann, "1: hello");
    // A proxy that stops ends it.
    proxy.interrupt();
    while ann.read().is_ok() {}
    assert_eq!(proxy.wait(), "bye\n");
    chat.interrupt();
    assert_eq!(chat.wait(), "bye\n");
}

#[test]
fn reverse_proxy_says_502_when_the_upstream_does_not_answer() {
    if !has("curl") {
        return;
    }
    let (proxy, upstream) = proxied();
    let code = ["-w", "%{http_code}", "-o", "/dev/null"];
    let asking = proxy.begin("/", &code);
    drop(accept(&upstream));
    assert_eq!(finish(asking), "502");
    drop(upstream);
    assert_eq!(proxy.ask("/", &code), "502");
    let upgrade = ["-H", "Connection: upgrade", "-H", "Upgrade: websocket"];
    assert_eq!(proxy.ask("/", &[&code[..], &upgrade].concat()), "502");
}

#[test]
fn graceful_shutdown() {
    if !has("curl") {
        return;
    }
    let mut server = Server::start(env!("CARGO_BIN_EXE_graceful_shutdown"), &[]);
    let slow = server.begin("/", &[]);
    let mut line = String::new();
    server.stdout.read_line(&mut line).expect("it says what it does");
    assert_eq!(line, "request 1 begins\n");
    server.interrupt();
    // The request that had begun gets its full answer.
    assert_eq!(finish(slow), "request 1 took its time\n");
    assert_eq!(server.wait(), "interrupted: no new connections\nrequest 1 ends\nbye\n");
}

/// Clients ask again and again, each on one connection. No request that the handler has begun goes
/// without its whole answer, and no answer breaks off.
#[test]
fn graceful_shutdown_under_load() {
    const CLIENTS: usize = 30;
    let mut server = Server::start(env!("CARGO_BIN_EXE_graceful_shutdown"), &[]);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut stream = server.connect();
            std::thread::spawn(move || {
                let mut answers = 0;
                while let Some(answer) = ask_once(&mut stream) {
                    assert!(answer.starts_with("request ") && answer.ends_with(" took its time\n"), "{answer}");
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let mut begun = 0;
    let mut line = String::new();
    // In the midst of the second round.
    while begun < CLIENTS + CLIENTS / 2 {
        line.clear();
        server.stdout.read_line(&mut line).expect("it says what it does");
        begun += usize::from(line.ends_with(" begins\n"));
    }
    server.interrupt();
    let answers: usize = clients.into_iter().map(|client| client.join().expect("it gets whole answers")).sum();
    let rest = server.wait();
    let (before, after) = rest.split_once("interrupted: no new connections\n").expect("it was interrupted");
    begun += rest.matches(" begins\n").count();
    assert!(answers == begun && answers >= CLIENTS + CLIENTS / 2, "{answers} of {begun}: {before}");
    assert!(after.ends_with(" ends\nbye\n"), "{after}");
}

/// Asks for a page, and returns it; nothing if the connection is closed instead.
fn ask_once(stream: &mut TcpStream) -> Option<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    let mut answer = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match answer.read_line(&mut head) {
            Ok(0) | Err(_) if head.is_empty() => return None,
            n => assert!(n.expect("the head is whole") > 0, "{head}"),
        }
    }
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("it has a length")];
    answer.read_exact(&mut body).expect("the body is whole");
    Some(String::from_utf8(body).expect("it is text"))
}

/// Commands in a shell of their own, which run until they are stopped.
struct Running {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(program: &str, args: &[&str]) -> Running {
        let mut process = Command::new(program).args(args).stdout(Stdio::piped()).spawn().expect("cargo has built it");
        let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        Running { process, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it prints UTF-8");
        assert!(line.ends_with('\n'), "a whole line: {line:?}");
        line.pop();
        line
    }

    /// Interrupts it, and returns what else it prints.
    fn stop(mut self) -> String {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("there is a kill").success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it ends");
        assert!(self.process.wait().expect("it is ours").success());
        rest
    }
}

#[test]
fn process_supervisor() {
    // The second one ignores the signal, and so does the child that it has started.
    let deaf = "trap '' TERM; sleep 1000 & echo $!; wait";
    let mut running =
        Running::start(env!("CARGO_BIN_EXE_process_supervisor"), &["exit 3", "sleep 1000 & echo $!; wait", deaf]);
    let (mut starts, mut sleeps) = (0, Vec::new());
    while starts < 3 || sleeps.len() < 2 {
        let line = running.line();
        starts += usize::from(line == "[0] started");
        let pid = line.strip_prefix("[1] ").or_else(|| line.strip_prefix("[2] "));
        sleeps.extend(pid.and_then(|pid| pid.parse::<u32>().ok()));
    }
    let rest = running.stop();
    assert!(rest.ends_with("all have stopped\n"), "{rest}");
    // They were killed, and are gone once the system's first process has taken their status.
    for pid in sleeps {
        let started = Instant::now();
        loop {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ") {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{stat}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn log_follower() {
    let dir = std::env::temp_dir().join(format!("goby-log-follower-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("it can be made");
    let (a, b) = (dir.join("a"), dir.join("b"));
    fs::write(&a, "one\n").expect("there is room");
    fs::write(&b, "").expect("there is room");
    let [path_a, path_b] = [&a, &b].map(|path| path.to_str().expect("UTF-8").to_owned());
    let mut running = Running::start(env!("CARGO_BIN_EXE_log_follower"), &[&path_a, &path_b]);
    assert_eq!(running.line(), format!("{path_a}: one"));

    let mut log = fs::OpenOptions::new().append(true).open(&b).expect("it exists");
    log.write_all(b"tw").expect("there is room");
    log.write_all(b"o\nthree\n").expect("there is room");
    assert_eq!(running.line(), format!("{path_b}: two"));
    assert_eq!(running.line(), format!("{path_b}: three"));
    // Rotation: lines that come late are read, too.
    fs::rename(&b, dir.join("b.1")).expect("it exists");
    log.write_all(b"four\n").expect("there is room");
    assert_eq!(running.line(), format!("{path_b}: four"));
    fs::write(&b, "five\n").expect("there is room");
    assert_eq!(running.line(), format!("{path_b}: five"));
    // Cut, and begun anew.
    fs::write(&b, "6\n").expect("there is room");
    assert_eq!(running.line(), format!("{path_b}: 6"));
    assert_eq!(running.stop(), "");
    fs::remove_dir_all(&dir).expect("it is there");
}
