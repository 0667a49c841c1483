//! Proxies and certificates: the options and variables of curl, beside curl itself.

use std::io::{BufRead, Write};
use std::process::Command;

use crate::server::{Reply, Server};
use crate::support::{Running, Scratch, check, fetch, goby, lines};

/// A server that answers as a proxy would, with the name of who asked for what.
fn proxy() -> Server {
    Server::start(|request| Reply::ok(request.path))
}

/// The variables that name proxies.
const VARIABLES: [&str; 8] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];

fn set_up<'a>(command: &'a mut Command, variables: &[(&str, &str)]) -> &'a mut Command {
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied())
}

/// Whether `goby fetch` asked the proxy, and whether curl did.
fn who_asked(variables: &[(&str, &str)], args: &[&str], url: &str, proxy: &Server) -> (bool, bool) {
    let before = proxy.all_hits();
    let mut command = goby();
    let command = set_up(command.arg("fetch"), variables);
    let ended = Running::start(command.args(["--retries", "0", "-t", "5s", "-o", "-"]).args(args).arg(url)).end();
    assert_eq!(lines(&ended.stdout).len(), 1, "{}", ended.stderr);
    let by_goby = proxy.all_hits() > before;
    let before = proxy.all_hits();
    let mut command = Command::new("curl");
    set_up(&mut command, variables).args(["-s", "--max-time", "5"]).args(args).arg(url).output().expect("curl");
    (by_goby, proxy.all_hits() > before)
}

#[test]
fn the_environment_names_proxies_as_for_curl() {
    let proxy = proxy();
    let host = proxy.host();
    let url = "http://www.goby.invalid/page";
    for (variables, is_asked) in [
        (&[("http_proxy", &*host)][..], true),
        (&[("all_proxy", &host)], true),
        (&[("ALL_PROXY", &host)], true),
        (&[("https_proxy", &host)], false),
        (&[("http_proxy", &host), ("no_proxy", "goby.invalid")], false),
        (&[("http_proxy", &host), ("no_proxy", ".invalid")], false),
        (&[("http_proxy", &host), ("no_proxy", "by.invalid")], true),
        (&[("http_proxy", &host), ("no_proxy", "*")], false),
        (&[], false),
    ] {
        check(who_asked(variables, &[], url, &proxy), (is_asked, is_asked));
    }
    check(proxy.hits(url), proxy.all_hits());
}

#[test]
fn options_go_before_the_environment_as_for_curl() {
    let proxy = proxy();
    let host = proxy.host();
    let url = "http://www.goby.invalid/page";
    for (variables, args, is_asked) in [
        (&[][..], &["--proxy", &*host][..], true),
        (&[("http_proxy", "127.0.0.1:1")], &["-x", &host], true),
        (&[("http_proxy", &host)], &["-x", ""], false),
        (&[("http_proxy", &host)], &["--noproxy", "goby.invalid"], false),
        (&[("http_proxy", &host), ("no_proxy", "*")], &["--noproxy", "other.invalid"], true),
        (&[], &["-x", &host, "--noproxy", "www.goby.invalid"], false),
        (&[("no_proxy", "goby.invalid")], &["-x", &host], false),
    ] {
        check(who_asked(variables, args, url, &proxy), (is_asked, is_asked));
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_told_before_any_request() {
    let ended = fetch(["-x", "https://me:secret@proxy.invalid", "http://www.goby.invalid/"]);
    let message = "goby: cannot use the proxy \"https://me:***@proxy.invalid\": https is not supported: http and \
                   socks5 are; name one with -x URL\n";
    check(ended.stderr, message.to_string());
    check(ended.code, Some(2));
}

#[test]
fn a_proxy_that_is_down_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = format!("http://me:secret@127.0.0.1:{port}");
    let ended = fetch(["-x", &proxy, "--retries", "0", "-o", "-", "http://www.goby.invalid/"]);
    let line = &lines(&ended.stdout)[0];
    check(line.text("error"), "connect");
    let message = line.text("message");
    assert!(
        message.starts_with(&format!("connecting to the proxy http://me:***@127.0.0.1:{port} failed")),
        "{message}"
    );
}

#[test]
fn certificates_and_keys_are_files() {
    let scratch = Scratch::new();
    let (cert, key) = (scratch.path("cert.pem"), scratch.path("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", &key, "-out", &cert])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // It wants a certificate of its clients, and trusts its own.
    let mut server = Running::start(
        Command::new("openssl")
            .args(["s_server", "-www", "-accept", "127.0.0.1:0", "-cert", &cert, "-key", &key])
            .args(["-Verify", "1", "-CAfile", &cert, "-verify_return_error"])
            .stdin(std::process::Stdio::null()),
    );
    let port =
        server.stdout().lines().find_map(|line| Some(line.unwrap().strip_prefix("ACCEPT 127.0.0.1:")?.to_string()));
    let port = port.expect("it says where it listens");
    let url = format!("https://localhost:{port}/");
    let ask = |args: &[&str]| {
        let ended = fetch(["--retries", "0", "-o", "-"].iter().chain(args).chain([&&*url]));
        (lines(&ended.stdout)[0].number("status"), ended.stderr)
    };
    let ((status, _), (insecure, said)) =
        (ask(&["--cacert", &cert, "--cert", &cert, "--key", &key]), { ask(&["-k", "--cert", &cert, "--key", &key]) });
    check((status, insecure), (200, 200));
    check(said.matches("accepts every certificate").count(), 1);
    let refused = fetch(["--retries", "0", "-o", "-", "--cert", &cert, "--key", &key, &url]);
    check(lines(&refused.stdout)[0].text("error"), "tls");

    let missing = scratch.path("missing.pem");
    let ended = fetch(["--cacert", &missing, &url]);
    check(ended.stderr, format!("goby: cannot read {missing}: No such file or directory\n"));
    check(ended.code, Some(2));
    let ended = fetch(["--cert", &cert, &url]);
    assert!(ended.stderr.starts_with(&format!("goby: cannot use {cert} with {cert}: ")), "{}", ended.stderr);
}

#[test]
fn a_host_stands_for_other_addresses() {
    let server = Server::start(|request| Reply::ok(request.path));
    let url = format!("http://www.goby.invalid:{}/page", server.port());
    let resolve = format!("www.goby.invalid:{}:127.0.0.1", server.port());
    let ended = fetch(["--resolve", &resolve, &url]);
    check(lines(&ended.stdout)[0].number("status"), 200);
    let host = format!("host: www.goby.invalid:{}", server.port());
    assert!(server.last_head().iter().any(|line| line.eq_ignore_ascii_case(&host)), "{:?}", server.last_head());
    // For another port the name is looked up.
    let ended = fetch(["--retry", "0", "--resolve", "www.goby.invalid:1:127.0.0.1", &url]);
    check(lines(&ended.stdout)[0].text("error"), "dns");
    let curl = Command::new("curl").args(["-s", "--resolve", &resolve, &url]).output().expect("curl");
    check(String::from_utf8(curl.stdout).unwrap(), "/page".to_string());
}

#[test]
fn one_family_of_addresses_is_asked() {
    let server = Server::start(|_| Reply::ok("fine"));
    let url = format!("http://localhost:{}/", server.port());
    let ended = fetch(["-4", &url]);
    check(lines(&ended.stdout)[0].number("status"), 200);
    let ended = fetch(["-6", "--retry", "0", &url]);
    let line = &lines(&ended.stdout)[0];
    // Whether the name has an address of that family depends on the machine.
    assert!(["dns", "connect"].contains(&line.text("error")), "{line:?}");
}

#[test]
fn a_unix_socket_stands_for_every_host() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = std::io::BufReader::new(&stream).lines().map(|line| line.unwrap());
        let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        head
    });
    let ended = fetch(["--unix-socket", &path, "http://docker.invalid/info"]);
    check(lines(&ended.stdout)[0].number("bytes"), 2);
    let head = server.join().unwrap();
    check(head[0].as_str(), "GET /info HTTP/1.1");
    assert!(head.iter().any(|line| line.eq_ignore_ascii_case("host: docker.invalid")), "{head:?}");
}
