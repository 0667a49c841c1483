//! A page that shows what the goroutines of a running program do, and the data behind it.
//!
//! ```no_run
//! use goby_http::debug;
//! use goby::net::TcpListener;
//!
//! // Beside what the program does, on a port that only this machine reaches.
//! let listener = TcpListener::bind("127.0.0.1:6060")?;
//! goby::go(move || debug::serve(listener));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Nothing is served unless a program asks for it. A program that has a server already adds
//! [`routes`] to its router. Then there are:
//!
//! | path below `/debug/goby/` | what |
//! |---|---|
//! | nothing | the page: goroutines by where they were started and what they wait for, workers, rates |
//! | `goroutines.json` | the goroutines, counted ([`census`](goby::diag::census)) |
//! | `goroutines.txt` | all goroutines as in Go's tracebacks ([`dump`](goby::diag::dump())) |
//! | `load.json` | runtimes, workers, memory, stalls ([`loads`](goby::diag::loads)) |
//! | `metrics` | figures for Prometheus ([`metrics`](goby::diag::metrics())) |
//! | `goroutine` | where goroutines are, for `go tool pprof` ([`Profile::goroutines`]) |
//! | `block`, `mutex` | where they wait for each other, or for locks, in the next `?seconds=5` ([`Profile::blocked`], [`Profile::locks`]) |
//!
//! `goroutines.json` counts some of them if asked: `started=` and `status=` are parts of what the
//! page shows, `label=` is a key and a value (`request=17`), `waited=` is a number of seconds, and
//! `stacks=` says how many stacks each worker takes of each group (64 by default). So does the page,
//! whose address keeps what was asked for.
//!
//! ```text
//! $ go tool pprof -top http://127.0.0.1:6060/debug/goby/goroutine
//! $ curl http://127.0.0.1:6060/debug/goby/metrics
//! ```
//!
//! The page shows where in its code a program is, and the labels of its goroutines: do not show it
//! to everybody. It is not protected; a middleware ([`Router::with`]) may protect it. A request
//! from another machine is answered, and the first one is reported on standard error. Source: Go's
//! `net/http/pprof`; tokio-console.

mod json;

use std::io;
use std::net::SocketAddr;
use std::sync::Once;
use std::time::Duration;

use goby::diag::{self, CensusFilter, Profile};
use goby::net::TcpListener;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};

use crate::handler::Handler;
use crate::rejection::Rejection;
use crate::response::Response;
use crate::router::Router;
use crate::server::{Request, serve as serve_handler};

const PAGE: &str = include_str!("debug/page.html");
/// What the page may do: it has its script and its style in itself, and asks where it comes from.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// How long a profile takes, unless it is said, and at most.
const SECONDS: f64 = 5.0;
const MOST_SECONDS: f64 = 300.0;

/// Returns the routes of the page, all below `/debug/goby/`. See the [module](self).
///
/// ```
/// use goby::Context;
/// use goby_http::{Request, Router, Server, debug, get};
///
/// let app = Router::new().get("/", |_: Request| "hello").merge(debug::routes());
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://{}/debug/goby", server.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || server.serve_ctx(&serving, app));
///
/// let metrics = get(&Context::background(), format!("{url}/metrics"))?.text()?;
/// assert!(metrics.contains("\ngo_sched_goroutines_goroutines "), "{metrics}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn routes() -> Router {
    Router::new()
        .get("/debug/goby", |_: Request| Response::redirect("/debug/goby/"))
        .get("/debug/goby/", page)
        .get("/debug/goby/goroutines.json", goroutines)
        .get("/debug/goby/goroutines.txt", dump)
        .get("/debug/goby/load.json", load)
        .get("/debug/goby/metrics", metrics)
        .get("/debug/goby/goroutine", |_: Request| encoded("goroutine", Profile::goroutines()))
        .get("/debug/goby/block", |request: Request| {
            let time = seconds(&request)?;
            Ok::<_, Rejection>(encoded("block", Profile::blocked(request.context(), time)))
        })
        .get("/debug/goby/mutex", |request: Request| {
            let time = seconds(&request)?;
            Ok::<_, Rejection>(encoded("mutex", Profile::locks(request.context(), time)))
        })
        .with(watched)
}

/// Serves the page alone on `listener`, until accepting fails. If other machines may reach it, this
/// says so on standard error.
///
/// ```no_run
/// let listener = goby::net::TcpListener::bind("127.0.0.1:6060")?;
/// goby::go(move || goby_http::debug::serve(listener));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine for as long as it serves.
///
/// # Errors
///
/// Those of [`serve`](crate::serve()).
pub fn serve(listener: TcpListener) -> io::Result<()> {
    let addr = listener.local_addr()?;
    if !addr.ip().is_loopback() {
        eprintln!("goby: /debug/goby/ is served on {addr}, where other machines may read it");
    }
    let router = routes().get("/", |_: Request| Response::redirect("/debug/goby/"));
    serve_handler(listener, router)
}

/// Reports the first request from another machine, and says that no answer is to be kept.
fn watched(request: Request, next: &dyn Handler) -> Response {
    static REPORTED: Once = Once::new();
    let peer = request.remote_addr();
    if is_elsewhere(peer) {
        REPORTED.call_once(|| {
            eprintln!("goby: {peer} has asked for {}, which shows the inside of this program", request.path());
        });
    }
    next.handle(request).with_header(CACHE_CONTROL, "no-store").with_header(X_CONTENT_TYPE_OPTIONS, "nosniff")
}

/// Returns whether an address is another machine's; a Unix socket's has port 0.
fn is_elsewhere(peer: SocketAddr) -> bool {
    peer.port() != 0 && !peer.ip().to_canonical().is_loopback()
}

fn page(_: Request) -> Response {
    Response::new(PAGE)
        .with_header(CONTENT_TYPE, "text/html; charset=utf-8")
        .with_header(CONTENT_SECURITY_POLICY, POLICY)
}

/// Returns which goroutines a request asks for.
fn filter(request: &Request) -> Result<CensusFilter, Rejection> {
    let fields: Vec<(String, String)> = request.query_as()?;
    let mut filter = CensusFilter::new();
    for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        filter = match &*key {
            "started" => filter.started_at(value),
            "status" => filter.status(value),
            "label" => match value.split_once('=') {
                Some((key, value)) => filter.label(key, value),
                None => return Err(refused("label: a key and a value, such as request=17")),
            },
            "waited" => filter.waited(number(&value).ok_or_else(|| refused("waited: a number of seconds"))?),
            "stacks" => filter.stacks(value.parse().map_err(|_| refused("stacks: a number"))?),
            _ => return Err(refused(&format!("{key}: no such field"))),
        };
    }
    Ok(filter)
}

fn refused(message: &str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, message.to_owned())
}

/// Returns so many seconds, if this is a number of them.
fn number(text: &str) -> Option<Duration> {
    text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

fn seconds(request: &Request) -> Result<Duration, Rejection> {
    let fields: Vec<(String, String)> = request.query_as()?;
    let Some((_, value)) = fields.into_iter().find(|(key, _)| key == "seconds") else {
        return Ok(Duration::from_secs_f64(SECONDS));
    };
    let time = number(&value).filter(|time| time.as_secs_f64() <= MOST_SECONDS);
    time.ok_or_else(|| refused(&format!("seconds: a number up to {MOST_SECONDS}")))
}

fn goroutines(request: Request) -> Result<Response, Rejection> {
    let filter = filter(&request)?;
    let start = std::time::Instant::now();
    let census = filter.count();
    let took = start.elapsed();
    // Names are looked up, which may take long where a program is large.
    Ok(Response::json(&goby::blocking(|| json::census(&census, took))))
}

fn load(_: Request) -> Response {
    Response::json(&goby::blocking(json::load))
}

fn dump(_: Request) -> Response {
    let dump = diag::dump();
    Response::new(goby::blocking(|| dump.to_string()))
}

fn metrics(_: Request) -> Response {
    Response::new(diag::metrics().to_string()).with_header(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
}

fn encoded(name: &str, profile: Profile) -> Response {
    Response::new(goby::blocking(|| profile.encode()))
        .with_header(CONTENT_TYPE, "application/octet-stream")
        .with_header(CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.pb\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_machines_are_elsewhere() {
        let elsewhere = ["192.0.2.1:80", "[2001:db8::1]:80", "[::ffff:192.0.2.1]:80"];
        let here = ["127.0.0.1:80", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:0"];
        assert!(elsewhere.iter().all(|addr| is_elsewhere(addr.parse().unwrap())));
        assert!(!here.iter().any(|addr| is_elsewhere(addr.parse().unwrap())));
    }
}
