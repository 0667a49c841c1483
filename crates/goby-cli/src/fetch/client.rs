//! The client that all workers share, as the options say.

use std::error::Error;
use std::io;
use std::path::Path;

use goby::net::look_up;
use goby::tls::Identity;
use goby_http::{Client, ClientBuilder, CookieJar, Proxy};
use http::header::USER_AGENT;

use super::args::{FetchArgs, RequestArgs, RouteArgs, TimeArgs};
use super::request::Header;
use super::speed::Speed;
use crate::exit::Usage;
use crate::text;

/// Makes the client, which keeps up to `max_idle` connections. It follows no redirects: the fetcher
/// does.
///
/// # Errors
/// If a proxy, a certificate or a key cannot be used.
pub(crate) fn new(args: &FetchArgs, jar: Option<CookieJar>, max_idle: usize) -> Result<Client, Usage> {
    let builder = with_identity(&args.route, with_proxy(&args.route, Client::builder())?)?;
    let builder = match jar {
        Some(jar) => builder.cookie_jar(jar),
        None => builder,
    };
    let speed = speed(&args.time);
    with_addresses(&args.route, builder)
        .redirects(0)
        .user_agent(user_agent(&args.request))
        .decompress(args.request.compressed)
        .connect_timeout(args.time.connect_timeout)
        .header_timeout(speed.stall())
        .stall_timeout(speed.stall())
        // Each worker's connection can be kept, even if all of them ask one host.
        .max_idle_per_host(args.workers as usize)
        .max_idle(max_idle)
        .build()
        .map_err(|error| Usage::new(format!("cannot set up the HTTP client: {}", cause(&error))))
}

/// How fast bodies have to come.
pub(crate) fn speed(args: &TimeArgs) -> Speed {
    Speed { limit: args.speed_limit, time: args.speed_time }
}

/// What the client calls itself; the empty string is nothing at all.
pub(crate) fn user_agent(args: &RequestArgs) -> &str {
    if args.headers.iter().any(|header| matches!(header, Header::Omit(name) if *name == USER_AGENT)) {
        return "";
    }
    args.user_agent.as_deref().unwrap_or(concat!("goby/", env!("CARGO_PKG_VERSION")))
}

fn with_proxy(args: &RouteArgs, builder: ClientBuilder) -> Result<ClientBuilder, Usage> {
    let direct = || args.noproxy.clone();
    match args.proxy.as_deref() {
        Some("") => Ok(builder.no_proxy()),
        Some(url) => {
            let unusable = |error| Usage::new(format!("cannot use {}; name one with -x URL", cause(&error)));
            let of_environment = || ["NO_PROXY", "no_proxy"].into_iter().find_map(|name| std::env::var(name).ok());
            let direct = direct().or_else(of_environment).unwrap_or_default();
            Ok(builder.proxy(Proxy::all(url).map_err(unusable)?.no_proxy(direct)))
        }
        None => Ok(match direct() {
            Some(direct) => builder.no_proxy_for(direct),
            None => builder,
        }),
    }
}

/// Sets what the client trusts, and what it shows of itself.
fn with_identity(args: &RouteArgs, mut builder: ClientBuilder) -> Result<ClientBuilder, Usage> {
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| Usage::new(format!("cannot read {path}: {}", text::reason(&error)))
    };
    if let Some(path) = &args.cacert {
        let roots = read(path).map_err(unreadable(path))?;
        builder = builder.add_root_certificate(roots).system_roots(false);
    }
    if let Some(path) = &args.cert {
        let key = args.key.as_ref().unwrap_or(path);
        let chain = read(path).map_err(unreadable(path))?;
        let key_bytes = read(key).map_err(unreadable(key))?;
        let unusable = |error| Usage::new(format!("cannot use {} with {}: {error}", path.display(), key.display()));
        builder = builder.identity(Identity::new(chain, key_bytes).map_err(unusable)?);
    }
    Ok(builder.danger_accept_invalid_certs(args.insecure))
}

/// Sets what names stand for.
fn with_addresses(args: &RouteArgs, mut builder: ClientBuilder) -> ClientBuilder {
    for resolve in &args.resolve {
        for addr in resolve.addrs() {
            builder = builder.resolve(resolve.host(), addr);
        }
    }
    if let Some(path) = &args.unix_socket {
        builder = builder.unix_socket(path);
    }
    match (args.ipv4, args.ipv6) {
        (true, _) => builder.resolver(|host| look_up_family(host, true)),
        (_, true) => builder.resolver(|host| look_up_family(host, false)),
        _ => builder,
    }
}

/// Looks up the addresses of one family.
fn look_up_family(host: &str, v4: bool) -> io::Result<Vec<std::net::IpAddr>> {
    let addrs: Vec<_> = look_up((host, 0))?.iter().map(|addr| addr.ip()).filter(|ip| ip.is_ipv4() == v4).collect();
    match addrs.is_empty() {
        true => Err(io::Error::other(if v4 { "it has no IPv4 address" } else { "it has no IPv6 address" })),
        false => Ok(addrs),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    goby::blocking(|| std::fs::read(path))
}

/// Why a setting of the client cannot be used.
fn cause(error: &goby_http::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
