//! Static files: ranges, conditions, types, and paths that try to get out; with nginx beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use goby::net::{TcpStream, UnixStream};
use goby_http::files::{Files, serve_file};
use goby_http::{Request, Router};
use rustix::fs::{CWD, Mode};

use crate::support::{Site, curl, wait_until, with_workers};

const TEXT: &str = "0123456789abcdef";

/// A folder with something of each kind in it, removed at the end.
struct Tree {
    dir: PathBuf,
}

impl Tree {
    fn new() -> Tree {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("goby-http-files-{}-{number}", std::process::id()));
        let root = dir.join("root");
        fs::create_dir_all(root.join("sub/empty")).unwrap();
        fs::create_dir_all(root.join(".well-known")).unwrap();
        fs::write(dir.join("secret"), "secret").unwrap();
        fs::write(root.join("text.txt"), TEXT).unwrap();
        fs::write(root.join("nothing.css"), "").unwrap();
        fs::write(root.join("index.html"), "<h1>home</h1>").unwrap();
        fs::write(root.join("sub/index.html"), "<h1>sub</h1>").unwrap();
        fs::write(root.join("sub/a b.json"), "{}").unwrap();
        fs::write(root.join("large.bin"), large()).unwrap();
        fs::write(root.join(".hidden"), "hidden").unwrap();
        fs::write(root.join(".well-known/x"), "known").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("text.txt", root.join("in")).unwrap();
        symlink(dir.join("secret"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        rustix::fs::mkfifoat(CWD, root.join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        drop(UnixListener::bind(root.join("socket")).unwrap());
        symlink("/dev/zero", root.join("device")).unwrap();
        Tree { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.join("root")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What is left of it is a temporary folder.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// More than is read at a time.
fn large() -> Vec<u8> {
    (0..300_000u32).map(|i| (i % 251) as u8).collect()
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Sends a request, and reads the answer to the end of the connection.
fn ask(mut stream: impl Read + Write, method: &str, target: &str, headers: &str) -> Answer {
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: answer[end + 4..].to_vec() }
}

fn get(site: &Site, target: &str, headers: &str) -> Answer {
    ask(TcpStream::connect(site.addr()).unwrap(), "GET", target, headers)
}

#[test]
fn files_are_served() {
    with_workers(|| {
        let tree = Tree::new();
        let site = Site::start(Files::new(tree.root()));
        for (target, status, kind, body) in [
            ("/text.txt", 200, "text/plain; charset=utf-8", TEXT),
            ("/text.txt?x=y", 200, "text/plain; charset=utf-8", TEXT),
            ("/in", 200, "application/octet-stream", TEXT),
            ("/", 200, "text/html; charset=utf-8", "<h1>home</h1>"),
            ("/sub/", 200, "text/html; charset=utf-8", "<h1>sub</h1>"),
            ("/sub/a%20b.json", 200, "application/json", "{}"),
            ("/nothing.css", 200, "text/css; charset=utf-8", ""),
            ("/.well-known/x", 200, "application/octet-stream", "known"),
        ] {
            let answer = get(&site, target, "");
            assert_eq!(answer.status, status, "{target}");
            assert_eq!(answer.header("content-type"), kind, "{target}");
            assert_eq!(answer.header("content-length"), body.len().to_string(), "{target}");
            assert_eq!(String::from_utf8(answer.body).unwrap(), body, "{target}");
        }
        let answer = get(&site, "/large.bin", "");
        assert!(answer.body == large());
        let answer = get(&site, "/sub?x=y", "");
        assert_eq!((answer.status, answer.header("location")), (301, "/sub/?x=y"));
        let head = ask(TcpStream::connect(site.addr()).unwrap(), "HEAD", "/text.txt", "");
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "16", 0));
        let post = ask(TcpStream::connect(site.addr()).unwrap(), "POST", "/text.txt", "Content-Length: 0\r\n");
        assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"));
    });
}

#[test]
fn nothing_else_is_found() {
    with_workers(|| {
        let tree = Tree::new();
        let site = Site::start(Files::new(tree.root()));
        for target in [
            "/missing",
            "/text.txt/",
            "/text.txt/x",
            "/sub/empty/",
            "/fifo",
            "/socket",
            "/device",
            "/out",
            "/absolute",
            "/up/secret",
            "/loop",
            "/.hidden",
            "/%2ehidden",
            "/../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/sub/../../secret",
            "//etc/passwd",
            "/sub//a%20b.json",
            "/text.txt%00",
            "/text.txt%00.html",
            "/%2fetc%2fpasswd",
        ] {
            let answer = get(&site, target, "");
            assert_eq!((answer.status, &*answer.body), (404, &b"Not Found"[..]), "{target}");
        }
        let long = format!("/{}", "x".repeat(5000));
        assert_eq!(get(&site, &long, "").status, 404);
    });
}

#[test]
fn a_folder_under_a_prefix() {
    with_workers(|| {
        let tree = Tree::new();
        let files = Files::new(tree.root()).strip_prefix("/static").dot_files(true);
        let router = Router::new().get("/static/", files.clone()).get("/static/{*path}", files);
        let site = Site::start(router);
        assert_eq!(get(&site, "/static/text.txt", "").body, TEXT.as_bytes());
        assert_eq!(get(&site, "/static/", "").body, b"<h1>home</h1>");
        assert_eq!(get(&site, "/static/sub", "").header("location"), "/static/sub/");
        assert_eq!(get(&site, "/static/.hidden", "").body, b"hidden");
        assert_eq!(get(&site, "/static/..%2fsecret", "").status, 404);
        assert_eq!(get(&site, "/text.txt", "").status, 404);
    });
}

/// The folder may be replaced while it is served.
#[test]
fn a_folder_is_looked_up_each_time() {
    with_workers(|| {
        let tree = Tree::new();
        let current = tree.dir.join("current");
        let site = Site::start(Files::new(&current));
        assert_eq!(get(&site, "/text.txt", "").status, 404);
        symlink(tree.root(), &current).unwrap();
        assert_eq!(get(&site, "/text.txt", "").body, TEXT.as_bytes());
        let other = tree.dir.join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("text.txt"), "new").unwrap();
        symlink(&other, tree.dir.join("next")).unwrap();
        fs::rename(tree.dir.join("next"), &current).unwrap();
        assert_eq!(get(&site, "/text.txt", "").body, b"new");
    });
}

#[test]
fn one_file_is_served() {
    with_workers(|| {
        let tree = Tree::new();
        let root = tree.root();
        let site = Site::start(move |request: Request| match request.path() {
            "/out" => serve_file(&request, root.join("out")),
            "/fifo" => serve_file(&request, root.join("fifo")),
            "/folder" => serve_file(&request, &root),
            "/missing" => serve_file(&request, root.join("missing")),
            _ => serve_file(&request, root.join("text.txt")),
        });
        assert_eq!(get(&site, "/any", "").body, TEXT.as_bytes());
        // The program's choice may be a link.
        assert_eq!(get(&site, "/out", "").body, b"secret");
        for target in ["/fifo", "/folder", "/missing"] {
            assert_eq!(get(&site, target, "").status, 404, "{target}");
        }
    });
}

#[test]
fn several_ranges_are_parts() {
    with_workers(|| {
        let tree = Tree::new();
        let site = Site::start(Files::new(tree.root()));
        let answer = get(&site, "/text.txt", "Range: bytes=0-1, 4-5, -1\r\n");
        assert_eq!(answer.status, 206);
        let boundary = answer.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap();
        let part = |range: &str, text: &str| {
            format!(
                "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: {range}\r\n\r\n{text}\r\n"
            )
        };
        let parts = [part("bytes 0-1/16", "01"), part("bytes 4-5/16", "45"), part("bytes 15-15/16", "f")];
        assert_eq!(String::from_utf8(answer.body.clone()).unwrap(), parts.concat() + &format!("--{boundary}--\r\n"));
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        // Across the pieces in which a file is read.
        let answer = get(&site, "/large.bin", "Range: bytes=1000-250999, 251000-251000\r\n");
        let at = answer.body.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert!(answer.body[at..at + 250_000] == large()[1000..251_000]);
    });
}

#[test]
fn conditions_are_judged_in_order() {
    with_workers(|| {
        let tree = Tree::new();
        let site = Site::start(Files::new(tree.root()));
        let first = get(&site, "/text.txt", "");
        let (tag, date) = (first.header("etag"), first.header("last-modified"));
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (headers, status) in [
            (format!("If-None-Match: {tag}\r\n"), 304),
            (format!("If-None-Match: W/{tag}\r\n"), 304),
            (format!("If-None-Match: \"x\", {tag}\r\n"), 304),
            (format!("If-None-Match: \"x\"\r\nIf-None-Match: {tag}\r\n"), 304),
            ("If-None-Match: *\r\n".into(), 304),
            ("If-None-Match: \"x\"\r\n".into(), 200),
            (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"), 200),
            (format!("If-Modified-Since: {date}\r\n"), 304),
            (format!("If-Modified-Since: {past}\r\n"), 200),
            ("If-Modified-Since: yesterday\r\n".into(), 200),
            (format!("If-Match: {tag}\r\n"), 200),
            ("If-Match: *\r\n".into(), 200),
            ("If-Match: \"x\"\r\n".into(), 412),
            (format!("If-Match: W/{tag}\r\n"), 412),
            (format!("If-Unmodified-Since: {past}\r\n"), 412),
            (format!("If-Unmodified-Since: {date}\r\n"), 200),
            (format!("If-Match: {tag}\r\nIf-Unmodified-Since: {past}\r\n"), 200),
            (format!("If-Match: {tag}\r\nIf-None-Match: {tag}\r\n"), 304),
            ("Range: bytes=0-1\r\nIf-Match: \"x\"\r\n".into(), 412),
            (format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\n"), 206),
            (format!("Range: bytes=0-1\r\nIf-Range: {date}\r\n"), 206),
            (format!("Range: bytes=0-1\r\nIf-Range: W/{tag}\r\n"), 200),
            (format!("Range: bytes=0-1\r\nIf-Range: {past}\r\n"), 200),
            ("Range: bytes=0-1\r\nIf-Range: \"x\"\r\n".into(), 200),
            (format!("Range: bytes=99-\r\nIf-None-Match: {tag}\r\n"), 304),
        ] {
            let answer = get(&site, "/text.txt", &headers);
            assert_eq!(answer.status, status, "{headers}");
            if status == 304 {
                assert_eq!((answer.header("etag"), answer.body.len()), (tag, 0), "{headers}");
            }
        }
        fs::write(tree.root().join("text.txt"), "something else").unwrap();
        assert_eq!(get(&site, "/text.txt", &format!("If-None-Match: {tag}\r\n")).status, 200);
    });
}

/// A client that goes on with a download gets the rest.
#[test]
fn curl_resumes_a_download() {
    with_workers(|| {
        let tree = Tree::new();
        let site = Site::start(Files::new(tree.root()));
        let part = tree.dir.join("part");
        fs::write(&part, &large()[..100_000]).unwrap();
        curl(&["--fail", "--continue-at", "-", "--output", part.to_str().unwrap(), &site.url("/large.bin")]);
        assert!(fs::read(&part).unwrap() == large());
    });
}

/// nginx on a Unix socket, ended when dropped.
struct Nginx {
    process: Child,
    socket: PathBuf,
}

impl Nginx {
    fn start(tree: &Tree) -> Nginx {
        let socket = tree.dir.join("nginx.sock");
        let configuration = tree.dir.join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{}}\n\
             http {{\n\
             types {{ text/plain txt; text/html html; text/css css; }}\n\
             default_type application/octet-stream; charset utf-8; charset_types text/css text/plain; access_log off;\n\
             client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;\n\
             uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
             server {{ listen unix:{socket}; root {root}; absolute_redirect off; }}\n\
             }}\n",
            dir = tree.dir.display(),
            socket = socket.display(),
            root = tree.root().display(),
        );
        fs::write(&configuration, text).unwrap();
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let process = Command::new(program)
            .args([Path::new("-p"), &tree.dir, Path::new("-c"), &configuration])
            .stderr(Stdio::null())
            .spawn()
            .expect("ci/setup.sh has installed it");
        let nginx = Nginx { process, socket };
        wait_until("nginx to listen", || UnixStream::connect(&nginx.socket).is_ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What both servers are to agree on.
#[test]
fn nginx_answers_alike() {
    with_workers(|| {
        let tree = Tree::new();
        let site = Site::start(Files::new(tree.root()));
        let nginx = Nginx::start(&tree);
        let ours = |method: &str, target: &str, headers: &str| {
            ask(TcpStream::connect(site.addr()).unwrap(), method, target, headers)
        };
        let theirs = |method: &str, target: &str, headers: &str| {
            ask(UnixStream::connect(&nginx.socket).unwrap(), method, target, headers)
        };
        let date = theirs("GET", "/text.txt", "").header("last-modified").to_owned();
        let since = format!("If-Modified-Since: {date}\r\n");
        let unless = format!("If-Unmodified-Since: {date}\r\n");
        let range = format!("Range: bytes=2-3\r\nIf-Range: {date}\r\n");
        for (method, target, headers) in [
            ("GET", "/text.txt", ""),
            ("HEAD", "/text.txt", ""),
            ("GET", "/", ""),
            ("GET", "/sub/", ""),
            ("GET", "/sub", ""),
            ("GET", "/sub?a=b", ""),
            ("GET", "/nothing.css", ""),
            ("GET", "/in", ""),
            ("GET", "/large.bin", ""),
            ("GET", "/missing", ""),
            ("GET", "/text.txt/x", ""),
            ("GET", "/text.txt%2fx", ""),
            ("GET", "/text.txt", "Range: bytes=0-0\r\n"),
            ("GET", "/text.txt", "Range: bytes=3-\r\n"),
            ("GET", "/text.txt", "Range: bytes=-3\r\n"),
            ("GET", "/text.txt", "Range: bytes=-99\r\n"),
            ("GET", "/text.txt", "Range: bytes=3-99\r\n"),
            ("GET", "/text.txt", "Range: bytes=16-\r\n"),
            ("GET", "/text.txt", "Range: bytes=0-9,5-15\r\n"),
            ("GET", "/text.txt", "Range: bytes=0-1,99-\r\n"),
            ("GET", "/text.txt", "Range: lines=0-1\r\n"),
            ("GET", "/large.bin", "Range: bytes=100-200100\r\n"),
            ("GET", "/text.txt", &since),
            ("HEAD", "/text.txt", &since),
            ("GET", "/text.txt", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            ("GET", "/text.txt", &unless),
            ("GET", "/text.txt", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            ("GET", "/text.txt", "If-None-Match: *\r\n"),
            ("GET", "/text.txt", "If-None-Match: \"x\"\r\n"),
            ("GET", "/text.txt", "If-Match: \"x\"\r\n"),
            ("GET", "/text.txt", &range),
            ("GET", "/text.txt", "Range: bytes=2-3\r\nIf-Range: \"x\"\r\n"),
            ("POST", "/text.txt", "Content-Length: 0\r\n"),
        ] {
            let (ours, theirs) = (ours(method, target, headers), theirs(method, target, headers));
            let request = format!("{method} {target} {headers}");
            assert_eq!(ours.status, theirs.status, "{request}");
            let mut names = vec!["content-range", "last-modified", "location"];
            // The pages for errors are each server's own, and their type.
            if matches!(ours.status, 200 | 206) {
                names.extend(["content-length", "content-type"]);
                assert!(ours.body == theirs.body, "{request}");
            }
            for name in names {
                assert_eq!(ours.header(name), theirs.header(name), "{request} {name}");
            }
            assert_eq!(ours.headers.contains_key("etag"), theirs.headers.contains_key("etag"), "{request}");
        }
    });
}
