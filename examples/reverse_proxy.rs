//! A reverse proxy: requests go on to another server, and its responses come back. Bodies pass as
//! they come, in both directions, and so do WebSockets and whatever else leaves HTTP.
//!
//!     cargo run -p goby-examples --bin reverse_proxy 127.0.0.1:8080 http://127.0.0.1:8000
//!
//! In Go, where the package `httputil` has one:
//!
//! ```go
//! func main() {
//!     upstream, err := url.Parse(os.Args[2])
//!     if err != nil {
//!         log.Fatal(err)
//!     }
//!     proxy := &httputil.ReverseProxy{
//!         Rewrite: func(r *httputil.ProxyRequest) {
//!             r.SetURL(upstream)
//!             r.SetXForwarded()
//!         },
//!         FlushInterval: -1, // each piece at once
//!     }
//!     log.Fatal(http.ListenAndServe(os.Args[1], proxy))
//! }
//! ```

use std::io;

use goby::context::CancelGuard;
use goby::signal::{self, Signal};
use goby::{Context, scope};
use goby_http::header::{CONNECTION, HOST, UPGRADE};
use goby_http::{Client, Error, HeaderMap, HeaderValue, Request, Response, Server, StatusCode, Upgraded};

/// What is meant for the next hop alone, beside what `connection` names. Source: RFC 9110, section
/// 7.6.1, and Go's `httputil`.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What a client says of the way that its request has come could be invented.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

struct Proxy {
    client: Client,
    upstream: String,
}

impl Proxy {
    fn new(upstream: String) -> Result<Proxy, Error> {
        // Redirects, codings and names of browsers are not the proxy's business.
        let client = Client::builder().redirects(0).decompress(false).user_agent("").no_proxy().build()?;
        Ok(Proxy { client, upstream })
    }

    fn serve(&self, request: Request) -> Response {
        let ctx = request.context().clone();
        self.forward(request).unwrap_or_else(|error| {
            // Unless it is the client that has gone.
            if ctx.err().is_none() {
                eprintln!("{error}");
            }
            StatusCode::BAD_GATEWAY.into()
        })
    }

    fn forward(&self, request: Request) -> Result<Response, Error> {
        let ctx = request.context().clone();
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let outgoing = self.client.prepare(request.method().clone(), format!("{}{target}", self.upstream));
        let outgoing = outgoing.headers(forwarded(&request));

        let Some(protocol) = wanted_protocol(request.headers()) else {
            let mut response = outgoing.body(request.into_body()).send(&ctx)?;
            remove_hop_by_hop(response.headers_mut());
            return Ok(response);
        };
        let mut response = outgoing.header(CONNECTION, "upgrade").header(UPGRADE, &protocol).send(&ctx)?;
        // The client may offer several.
        let chosen = text(response.headers().get(UPGRADE)).unwrap_or(protocol);
        remove_hop_by_hop(response.headers_mut());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let headers = response.headers().clone();
        let server = response.upgrade()?;
        let mut switched = request.upgrade(&chosen, move |client| tunnel(&client, &server));
        switched.headers_mut().extend(headers);
        Ok(switched)
    }
}

/// What the client wants in the place of HTTP.
fn wanted_protocol(headers: &HeaderMap) -> Option<String> {
    let wants = elements(headers).any(|element| element.eq_ignore_ascii_case("upgrade"));
    text(headers.get(UPGRADE).filter(|_| wants))
}

fn text(value: Option<&HeaderValue>) -> Option<String> {
    value?.to_str().ok().map(str::to_owned)
}

/// The headers of a request as they go on.
fn forwarded(request: &Request) -> HeaderMap {
    let mut headers = request.headers().clone();
    remove_hop_by_hop(&mut headers);
    for name in FORWARDED {
        headers.remove(name);
    }
    let client = HeaderValue::try_from(request.remote_addr().ip().to_string()).expect("an address is text");
    headers.insert("x-forwarded-for", client);
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    // The upstream has a name of its own.
    headers.remove(HOST);
    if let Some(host) = request.headers().get(HOST) {
        headers.insert("x-forwarded-host", host.clone());
    }
    headers
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = elements(headers).map(str::to_owned).collect();
    for name in named.iter().map(String::as_str).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What the header `connection` lists.
fn elements(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Carries bytes both ways, until both sides have ended or the proxy stops.
fn tunnel(client: &Upgraded, server: &Upgraded) {
    let (ctx, cancel) = client.context().with_cancel();
    client.set_context(Some(&ctx));
    server.set_context(Some(&ctx));
    scope(|s| {
        s.go(|| carry(client, server, &cancel));
        carry(server, client, &cancel);
    });
}

fn carry(from: &Upgraded, to: &Upgraded, cancel: &CancelGuard) {
    match io::copy(&mut { from }, &mut { to }) {
        Ok(_) => drop(to.shutdown_write()),
        // Nothing more can come the other way that would arrive.
        Err(_) => cancel.cancel(),
    }
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(addr), Some(upstream)) = (args.next(), args.next()) else {
        eprintln!("usage: reverse_proxy ADDR UPSTREAM");
        std::process::exit(2);
    };
    let proxy = Proxy::new(upstream).map_err(io::Error::other)?;
    let server = Server::bind(&*addr)?;
    println!("listening on http://{}", server.local_addr());

    let (ctx, _stop) = signal::notify_context(&Context::background(), &[Signal::INTERRUPT, Signal::TERMINATED])?;
    server.serve_ctx(&ctx, move |request: Request| proxy.serve(request))?;
    println!("bye");
    Ok(())
}
