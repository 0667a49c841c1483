//! Static files: a folder, or one file.
//!
//! [`Files`] is a handler that serves what is below a folder. [`serve_file`] answers one request
//! with one file. Both know ranges, conditions and types:
//!
//! - `range`, of one or several parts (206, `multipart/byteranges`, 416), and `if-range`;
//! - `if-match`, `if-none-match`, `if-modified-since`, `if-unmodified-since` (304, 412), by an
//!   `etag` of the time of the last change and the length, and by `last-modified`;
//! - `content-type` by the name's extension (crate `mime_guess`); text is UTF-8.
//!
//! Methods besides `GET` and `HEAD` are refused (405). What the system has in memory is opened and
//! read at once; for what it has to fetch from a disk, a helper thread waits, as in [`goby::fs`].
//!
//! ```
//! use goby::{Context, fs};
//! use goby_http::files::Files;
//! use goby_http::{Client, Router, Server};
//! # let dir = std::env::temp_dir().join(format!("goby-files-{}", std::process::id()));
//!
//! fs::create_dir_all(&dir)?;
//! fs::write(dir.join("hello.txt"), "hello, world")?;
//!
//! let files = Files::new(&dir).strip_prefix("/static");
//! let router = Router::new().get("/static/{*path}", files);
//! let server = Server::bind("127.0.0.1:0")?;
//! let url = format!("http://{}/static/hello.txt", server.local_addr());
//! let (serving, _stop) = Context::background().with_cancel();
//! goby::go(move || server.serve_ctx(&serving, router));
//!
//! let request = http::Request::get(&*url).header("range", "bytes=7-").body(().into())?;
//! let response = Client::new().request(&Context::background(), request)?;
//! assert_eq!(response.status(), 206);
//! assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
//! assert_eq!(response.headers()["content-range"], "bytes 7-11/12");
//! assert_eq!(response.text()?, "world");
//! # fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: Go's `http.FileServer` and `http.ServeFile`; RFC 9110, sections 13 and 14.

mod answer;
mod open;
mod range;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::{ALLOW, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;

use crate::handler::Handler;
use crate::response::Response;
use crate::server::Request;
use open::{Found, open_at, open_below};

/// A handler that serves what is below a folder.
///
/// The path of the request is the path within the folder. A folder is answered with its
/// `index.html`, after a redirect to the path with a slash at the end; there are no listings.
///
/// Nothing outside of the folder is served. The system resolves each path below the folder
/// (`openat2` with `RESOLVE_BENEATH`), whatever changes there meanwhile: a symbolic link that leads
/// out of it, or that is absolute, is not found. A system without that call follows no links at
/// all. Not found are, too, a path with a segment `.`, `..`, an empty one, or one with an encoded
/// slash or NUL, and whatever is neither file nor folder: FIFOs, devices, sockets.
///
/// A name that begins with a dot is not found, but for `.well-known`:
/// [`dot_files`](Files::dot_files) allows all. Go serves them.
///
/// ```
/// use goby_http::Router;
/// use goby_http::files::Files;
///
/// // A whole site; what no other route takes is a file.
/// let router = Router::new().fallback(Files::new("public"));
/// ```
#[derive(Clone, Debug)]
pub struct Files {
    root: Arc<Path>,
    prefix: Arc<str>,
    dot_files: bool,
}

impl Files {
    /// Makes a handler for the folder `dir`, which is looked up for each request: it may be
    /// replaced.
    ///
    /// ```
    /// let files = goby_http::files::Files::new("public");
    /// ```
    pub fn new(dir: impl Into<PathBuf>) -> Files {
        Files { root: dir.into().into(), prefix: "".into(), dot_files: false }
    }

    /// Takes `prefix` off the path of a request. A path without it is not found. Default: none.
    /// Source: Go's `http.StripPrefix`.
    ///
    /// ```
    /// use goby_http::Router;
    /// use goby_http::files::Files;
    /// let files = Files::new("public").strip_prefix("/static");
    /// let router = Router::new().get("/static/", files.clone()).get("/static/{*path}", files);
    /// ```
    #[must_use]
    pub fn strip_prefix(mut self, prefix: &str) -> Files {
        self.prefix = prefix.trim_end_matches('/').into();
        self
    }

    /// Sets whether files and folders are served whose names begin with a dot. Default: only
    /// `.well-known`.
    ///
    /// ```
    /// let files = goby_http::files::Files::new("public").dot_files(true);
    /// ```
    #[must_use]
    pub fn dot_files(mut self, served: bool) -> Files {
        self.dot_files = served;
        self
    }

    /// Gives the path within the folder, without slashes at its ends, and whether it had one at its
    /// end.
    fn path_of(&self, target: &str) -> Option<(Vec<u8>, bool)> {
        let rest = target.strip_prefix(&*self.prefix)?.strip_prefix('/')?;
        let (rest, is_dir) = match rest.strip_suffix('/') {
            Some(rest) => (rest, true),
            None => (rest, rest.is_empty()),
        };
        let mut path = Vec::with_capacity(rest.len());
        if rest.is_empty() {
            // `//` is not the folder.
            return (target.len() == self.prefix.len() + 1).then_some((path, true));
        }
        for segment in rest.split('/') {
            let segment: Vec<u8> = percent_decode_str(segment).collect();
            let is_hidden = segment.starts_with(b".") && !self.dot_files && segment != b".well-known";
            if is_hidden
                || matches!(&segment[..], b"" | b"." | b"..")
                || segment.iter().any(|byte| matches!(byte, b'/' | b'\0'))
            {
                return None;
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(segment);
        }
        Some((path, is_dir))
    }
}

impl Handler for Files {
    fn handle(&self, request: Request) -> Response {
        if let Some(refusal) = refuse_method(&request) {
            return refusal;
        }
        let Some((mut path, is_dir)) = self.path_of(request.path()) else { return StatusCode::NOT_FOUND.into() };
        if is_dir {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(b"index.html");
        }
        match open_below(&self.root, &path) {
            Ok(Found::File(file, metadata)) => answer::file(&request, Path::new(as_path(&path)), file, &metadata),
            Ok(Found::Dir) if !is_dir => to_slash(&request),
            Ok(_) => StatusCode::NOT_FOUND.into(),
            Err(error) => refuse(error),
        }
    }
}

/// Answers a request with the file at `path`, which may be anywhere, and a symbolic link.
///
/// It is the program's choice: never make it of what the request says, for which there is
/// [`Files`]. What is no file is not found (404), and what the process may not read is forbidden
/// (403).
///
/// ```
/// use goby_http::{Request, Router};
/// use goby_http::files::serve_file;
/// let router = Router::new().get("/motd", |request: Request| serve_file(&request, "/etc/motd"));
/// ```
///
/// # Blocking
///
/// Parks the goroutine while the system looks for the file.
pub fn serve_file(request: &Request, path: impl AsRef<Path>) -> Response {
    if let Some(refusal) = refuse_method(request) {
        return refusal;
    }
    let path = path.as_ref();
    match open_at(path) {
        Ok(Found::File(file, metadata)) => answer::file(request, path, file, &metadata),
        Ok(_) => StatusCode::NOT_FOUND.into(),
        Err(error) => refuse(error),
    }
}

fn as_path(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

fn refuse_method(request: &Request) -> Option<Response> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    Some(Response::from(StatusCode::METHOD_NOT_ALLOWED).with_header(ALLOW, "GET, HEAD"))
}

/// Answers why a file could not be opened. What is not the client's doing is reported.
fn refuse(error: io::Error) -> Response {
    use rustix::io::Errno;
    match Errno::from_io_error(&error) {
        // Leads out of the folder: EXDEV. Too many links, or a link where none is followed: ELOOP.
        // A socket: ENXIO.
        Some(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::XDEV
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::NXIO
            | Errno::NODEV,
        ) => StatusCode::NOT_FOUND.into(),
        Some(Errno::ACCESS | Errno::PERM) => StatusCode::FORBIDDEN.into(),
        _ => Response::from(Err::<(), _>(error)),
    }
}

/// Sends the client to the same path with a slash at its end, so that the links of a folder's page
/// are relative to the folder.
fn to_slash(request: &Request) -> Response {
    // Browsers take `/\` for `//`, which begins a host. The path has no empty segment.
    let mut location = request.path().replace('\\', "%5C") + "/";
    if let Some(query) = request.query() {
        location += "?";
        location += query;
    }
    let Ok(location) = HeaderValue::try_from(location) else { return StatusCode::NOT_FOUND.into() };
    Response::from(StatusCode::MOVED_PERMANENTLY).with_header(LOCATION, location)
}

#[cfg(test)]
mod tests {
    use super::Files;

    #[test]
    fn paths_stay_below_the_folder() {
        let files = Files::new("unused").strip_prefix("/static/");
        let check = |target: &str, expected: Option<(&str, bool)>| {
            let expected = expected.map(|(path, is_dir)| (path.as_bytes().to_vec(), is_dir));
            assert_eq!(files.path_of(target), expected, "{target}");
        };
        check("/static/a.txt", Some(("a.txt", false)));
        check("/static/a/b", Some(("a/b", false)));
        check("/static/a/", Some(("a", true)));
        check("/static/", Some(("", true)));
        check("/static/a%20b%c3%bc", Some(("a bü", false)));
        check("/static/a..b/...", None);
        check("/static/a..b", Some(("a..b", false)));
        check("/static/.well-known/x", Some((".well-known/x", false)));
        for target in [
            "/static",
            "/stati",
            "/other/a",
            "/staticx/a",
            "/static//",
            "/static//a",
            "/static/a//",
            "/static/a//b",
            "/static/..",
            "/static/../a",
            "/static/a/..",
            "/static/%2e%2e/a",
            "/static/.%2E/a",
            "/static/./a",
            "/static/a%2fb",
            "/static/..%2fb",
            "/static/a%00",
            "/static/.git/config",
            "/static/%2egit",
            "/static/a/.env",
        ] {
            check(target, None);
        }
        let open = files.clone().dot_files(true);
        assert!(open.path_of("/static/.git/config").is_some());
        assert!(open.path_of("/static/..").is_none());
    }
}
