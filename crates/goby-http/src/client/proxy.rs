//! Which proxy a request goes through: the environment's, or the caller's own.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use url::{Host, Url};

use super::outline::{basic_auth, percent_decode};
use super::pool::Place;
use crate::error::{Error, Phase, redacted};

/// A proxy, and the requests that go through it.
///
/// Requests for `http` URLs are sent to the proxy itself, which is then the one host that limits
/// for a host apply to. For `https`, it is asked for a tunnel (`CONNECT`), in which the client
/// speaks TLS with the server: the proxy sees the name of the host alone. Through a SOCKS 5 proxy,
/// both kinds are tunneled, and the proxy looks up the name.
///
/// The URL has the scheme `http`, `socks5` or `socks5h`, which is the same here; without one, it is
/// `http`. A user name and a password in it are sent to the proxy, and to nobody else.
///
/// ```
/// use goby::Context;
/// use goby_http::{Client, Proxy, Request, Server};
///
/// // It answers by itself, and says what a proxy is sent.
/// let proxy = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://me:secret@{}", proxy.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || {
///     proxy.serve_ctx(&serving, |request: Request| format!("{:?}", request.headers()["proxy-authorization"]))
/// });
///
/// let client = Client::builder().proxy(Proxy::all(url)?.no_proxy("localhost,10.0.0.0/8")).build()?;
/// let answer = client.get(&Context::background(), "http://www.example.org/")?;
/// assert_eq!(answer.text()?, "\"Basic bWU6c2VjcmV0\"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    upstream: Arc<Upstream>,
    http: bool,
    https: bool,
    bypass: Bypass,
}

impl Proxy {
    /// Makes a proxy for all requests.
    ///
    /// ```
    /// let proxy = goby_http::Proxy::all("http://proxy.example.org:3128")?;
    /// let error = goby_http::Proxy::all("gopher://proxy.example.org").unwrap_err();
    /// assert!(error.is_build());
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the URL is none, or its scheme is not one of a proxy that the client supports. One with
    /// the scheme `https` is not.
    pub fn all(url: impl AsRef<str>) -> Result<Proxy, Error> {
        let upstream = Upstream::parse(url.as_ref()).map_err(|why| Error::new(Phase::Build, why))?;
        Ok(Proxy { upstream: upstream.into(), http: true, https: true, bypass: Bypass::default() })
    }

    /// Makes a proxy for requests of `http` URLs.
    ///
    /// ```
    /// let proxy = goby_http::Proxy::http("proxy.example.org:3128")?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`all`](Proxy::all).
    pub fn http(url: impl AsRef<str>) -> Result<Proxy, Error> {
        Ok(Proxy { https: false, ..Proxy::all(url)? })
    }

    /// Makes a proxy for requests of `https` URLs.
    ///
    /// ```
    /// let proxy = goby_http::Proxy::https("socks5://proxy.example.org:1080")?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`all`](Proxy::all).
    pub fn https(url: impl AsRef<str>) -> Result<Proxy, Error> {
        Ok(Proxy { http: false, ..Proxy::all(url)? })
    }

    /// Sets the hosts that are asked without the proxy, as `NO_PROXY` names them: see
    /// [`ClientBuilder::proxy`](crate::ClientBuilder::proxy).
    ///
    /// ```
    /// let proxy = goby_http::Proxy::all("proxy.example.org:3128")?.no_proxy("example.org:8080, .internal, 10.0.0.0/8");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    #[must_use]
    pub fn no_proxy(mut self, hosts: impl AsRef<str>) -> Proxy {
        self.bypass = Bypass::parse(hosts.as_ref());
        self
    }

    fn is_for(&self, url: &Url) -> bool {
        let scheme = if url.scheme() == "https" { self.https } else { self.http };
        scheme && !self.bypass.covers(url)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut proxy = f.debug_struct("Proxy");
        proxy.field("url", &self.upstream.shown).field("http", &self.http).field("https", &self.https);
        proxy.finish_non_exhaustive()
    }
}

/// The proxies of a client.
#[derive(Clone, Debug)]
pub(super) enum Proxies {
    /// The first that is for a request is taken.
    Own(Vec<Proxy>),
    Environment(Environment),
}

/// What the environment says.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    http: Setting,
    https: Setting,
    bypass: Bypass,
}

/// No proxy, one, or why it cannot be used.
type Setting = Option<Result<Arc<Upstream>, String>>;

impl Proxies {
    /// Reads the environment's, with `direct` in place of its `NO_PROXY`.
    pub(super) fn of_environment(direct: Option<&str>) -> Proxies {
        let mut environment = Environment::read(|name| std::env::var_os(name)?.into_string().ok());
        if let Some(direct) = direct {
            environment.bypass = Bypass::parse(direct);
        }
        Proxies::Environment(environment)
    }

    /// Says where the connection for a request goes to.
    pub(super) fn place(&self, url: &Url) -> Result<Place, Error> {
        let https = url.scheme() == "https";
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or_default();
        let place = match self.choose(url)? {
            // The proxy's connections are the same for all hosts.
            Some(via) if !https && !via.socks => Place { https, host: String::new(), port: 0, via: Some(via) },
            via => Place { https, host, port, via },
        };
        Ok(place)
    }

    fn choose(&self, url: &Url) -> Result<Option<Arc<Upstream>>, Error> {
        match self {
            Proxies::Own(own) => Ok(own.iter().find(|proxy| proxy.is_for(url)).map(|proxy| proxy.upstream.clone())),
            Proxies::Environment(environment) => environment.choose(url),
        }
    }
}

impl Environment {
    /// Reads the variables that `var` knows. Those in capitals come first, as in Go.
    fn read(var: impl Fn(&str) -> Option<String>) -> Environment {
        let get =
            |names: [&str; 2]| names.into_iter().find_map(|name| var(name).filter(|text| !text.trim().is_empty()));
        let setting = |text: String| Upstream::parse(&text).map(Arc::new);
        let all = get(["ALL_PROXY", "all_proxy"]).map(setting);
        // A program that a web server starts (CGI) has the header `Proxy` of whoever asks there
        // (<https://httpoxy.org>).
        let http = if var("REQUEST_METHOD").is_some() { "http_proxy" } else { "HTTP_PROXY" };
        Environment {
            http: get([http, "http_proxy"]).map(setting).or_else(|| all.clone()),
            https: get(["HTTPS_PROXY", "https_proxy"]).map(setting).or(all),
            bypass: Bypass::parse(&get(["NO_PROXY", "no_proxy"]).unwrap_or_default()),
        }
    }

    fn choose(&self, url: &Url) -> Result<Option<Arc<Upstream>>, Error> {
        let setting = if url.scheme() == "https" { &self.https } else { &self.http };
        match setting {
            Some(setting) if !is_loopback(url) && !self.bypass.covers(url) => match setting {
                Ok(upstream) => Ok(Some(upstream.clone())),
                Err(why) => Err(Error::new(Phase::Proxy, why.clone())),
            },
            _ => Ok(None),
        }
    }
}

/// Whether the URL names this machine itself, which the environment's proxies are not for.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// A proxy server.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Upstream {
    /// It speaks SOCKS 5, not HTTP.
    pub(super) socks: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// User and password.
    pub(super) credentials: Option<(Vec<u8>, Vec<u8>)>,
    /// What it is sent as `proxy-authorization`.
    pub(super) authorization: Option<HeaderValue>,
    /// Its URL, without the password.
    shown: String,
}

impl Upstream {
    fn parse(text: &str) -> Result<Upstream, String> {
        let text = text.trim();
        let invalid = |why: &dyn fmt::Display| format!("the proxy {:?}: {why}", redacted(text));
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).map_err(|error| invalid(&error))?;
        let (socks, default_port) = match url.scheme() {
            "http" => (false, 80),
            "socks5" | "socks5h" => (true, 1080),
            scheme => return Err(invalid(&format_args!("{scheme} is not supported: http and socks5 are"))),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid(&"it names no host"))?;
        let port = url.port().unwrap_or(default_port);
        let named = !url.username().is_empty() || url.password().is_some();
        let credentials =
            named.then(|| (percent_decode(url.username()), percent_decode(url.password().unwrap_or_default())));
        if socks && credentials.iter().any(|(user, password)| user.is_empty() || user.len().max(password.len()) > 255) {
            return Err(invalid(&"a user name has 1 to 255 bytes, a password at most 255"));
        }
        let user = if named { format!("{}@", redacted_user(&url)) } else { String::new() };
        let shown = format!("{}://{user}{host}:{port}", url.scheme());
        let authorization = named.then(|| basic_auth(&url));
        Ok(Upstream { socks, host: host.to_owned(), port, credentials, authorization, shown })
    }
}

fn redacted_user(url: &Url) -> String {
    format!("{}{}", url.username(), if url.password().is_some() { ":***" } else { "" })
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}

/// The hosts that are asked directly. Source: Go's `httpproxy.Config.NoProxy`.
#[derive(Clone, Debug, Default)]
struct Bypass {
    all: bool,
    /// An address and how many of its bits count.
    networks: Vec<(IpAddr, u32)>,
    addresses: Vec<(IpAddr, Option<u16>)>,
    domains: Vec<Domain>,
}

#[derive(Clone, Debug)]
struct Domain {
    /// With a dot in front.
    suffix: String,
    port: Option<u16>,
    /// Not only what is below it.
    itself: bool,
}

impl Bypass {
    /// Parses a list, with commas or spaces between its entries. One that says nothing is ignored.
    fn parse(text: &str) -> Bypass {
        let mut bypass = Bypass::default();
        for entry in text.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()) {
            bypass.add(&entry.to_ascii_lowercase());
        }
        bypass
    }

    fn add(&mut self, entry: &str) {
        if entry == "*" {
            self.all = true;
            return;
        }
        if let Some((address, bits)) = entry.split_once('/') {
            if let (Ok(ip), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u32>()) {
                let most = if ip.is_ipv4() { 32 } else { 128 };
                self.networks.extend((bits <= most).then_some((ip, bits)));
            }
            return;
        }
        let (host, port) = match entry.rsplit_once(':') {
            // The colons of an IPv6 address without brackets are its own.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => return,
            },
            _ => (entry, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse() {
            self.addresses.push((ip, port));
            return;
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let name = host.strip_prefix('.').unwrap_or(host).trim_end_matches('.');
        let Ok(Host::Domain(ascii)) = Host::parse(name) else { return };
        self.domains.push(Domain { suffix: format!(".{ascii}"), port, itself: !host.starts_with('.') });
    }

    fn covers(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let port_fits = |wanted: &Option<u16>| wanted.is_none_or(|wanted| Some(wanted) == port);
        let ip = match url.host() {
            _ if self.all => return true,
            None => return false,
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                return self.domains.iter().any(|Domain { suffix, port, itself }| {
                    port_fits(port) && (name.ends_with(suffix.as_str()) || *itself && name == &suffix[1..])
                });
            }
        };
        self.networks.iter().any(|(network, bits)| is_within(ip, *network, *bits))
            || self.addresses.iter().any(|(address, port)| *address == ip && port_fits(port))
    }
}

/// Whether the first `bits` of both are the same.
fn is_within(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            u32::MAX.checked_shl(32 - bits).is_none_or(|mask| (u32::from(ip) ^ u32::from(network)) & mask == 0)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            u128::MAX.checked_shl(128 - bits).is_none_or(|mask| (u128::from(ip) ^ u128::from(network)) & mask == 0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn environment(vars: &[(&str, &str)]) -> Environment {
        Environment::read(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[track_caller]
    fn check(vars: &[(&str, &str)], target: &str, proxy: Option<&str>) {
        let chosen = environment(vars).choose(&url(target)).unwrap();
        assert_eq!(chosen.map(|upstream| upstream.to_string()).as_deref(), proxy, "{target} with {vars:?}");
    }

    #[test]
    fn the_scheme_chooses_the_variable() {
        let both = [("HTTP_PROXY", "a:1"), ("https_proxy", "http://b:2")];
        check(&both, "http://h/", Some("http://a:1"));
        check(&both, "https://h/", Some("http://b:2"));
        check(&both[..1], "https://h/", None);
        check(&[("all_proxy", "socks5://c")], "http://h/", Some("socks5://c:1080"));
        check(&[("ALL_PROXY", "c"), both[1]], "https://h/", Some("http://b:2"));
        check(&[("HTTP_PROXY", "a"), ("http_proxy", "b")], "http://h/", Some("http://a:80"));
        check(&[("HTTP_PROXY", ""), ("http_proxy", "b")], "http://h/", Some("http://b:80"));
        check(&[], "http://h/", None);
    }

    #[test]
    fn a_password_is_not_shown() {
        check(&[("HTTP_PROXY", "me:secret@a:1")], "http://h/", Some("http://me:***@a:1"));
        let error = environment(&[("HTTP_PROXY", "ftp://me:secret@a:1")]).choose(&url("http://h/")).unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(why, "the proxy \"ftp://me:***@a:1\": ftp is not supported: http and socks5 are");
    }

    #[test]
    fn a_header_of_a_cgi_request_is_no_proxy() {
        let header = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "evil")];
        check(&header, "http://h/", None);
        check(&[&header[..], &[("http_proxy", "good")]].concat(), "http://h/", Some("http://good:80"));
        check(&[("REQUEST_METHOD", "GET"), ("HTTPS_PROXY", "good")], "https://h/", Some("http://good:80"));
    }

    #[test]
    fn this_machine_is_asked_directly() {
        for target in ["http://localhost/", "http://127.1.2.3:8080/", "http://[::1]/"] {
            check(&[("HTTP_PROXY", "a")], target, None);
        }
    }

    #[test]
    fn the_list_names_hosts() {
        let check = |list: &str, target: &str, direct: bool| {
            check(&[("ALL_PROXY", "a"), ("NO_PROXY", list)], target, (!direct).then_some("http://a:80"));
        };
        check("*", "http://anything/", true);
        for (target, direct) in [
            ("http://foo.com/", true),
            ("http://bar.foo.com/", true),
            ("http://FOO.com./", true),
            ("http://barfoo.com/", false),
            ("http://foo.com.au/", false),
        ] {
            check("other.org, foo.com", target, direct);
            check("other.org Foo.COM.", target, direct);
        }
        for list in [".foo.com", "*.foo.com"] {
            check(list, "http://bar.foo.com/", true);
            check(list, "http://foo.com/", false);
        }
        check("foo.com:8080", "http://foo.com:8080/", true);
        check("foo.com:8080", "http://foo.com/", false);
        check("foo.com:443", "https://foo.com/", true);
        check("b\u{fc}cher.de", "http://b\u{fc}cher.de/", true);
        check(", ,:80,/8,foo.com:x", "http://foo.com/", false);
    }

    #[test]
    fn the_list_names_addresses_and_networks() {
        let check = |list: &str, target: &str, direct: bool| {
            check(&[("ALL_PROXY", "a"), ("NO_PROXY", list)], target, (!direct).then_some("http://a:80"));
        };
        check("10.0.0.0/8", "http://10.1.2.3/", true);
        check("10.0.0.0/8", "http://11.1.2.3/", false);
        check("10.1.2.3/0", "http://11.1.2.3/", true);
        check("10.1.2.3/32", "http://10.1.2.3/", true);
        check("10.1.2.3/33", "http://10.1.2.3/", false);
        check("10.0.0.0/8", "http://10.example.org/", false);
        check("2001:db8::/32", "http://[2001:db8:1::1]/", true);
        check("2001:db8::/32", "http://[2001:db9::1]/", false);
        check("10.1.2.3", "http://10.1.2.3:99/", true);
        check("10.1.2.3:80", "http://10.1.2.3:99/", false);
        check("[2001:db8::1]:80", "http://[2001:db8::1]/", true);
        check("2001:db8::1", "http://[2001:db8::1]:99/", true);
    }

    #[test]
    fn what_is_no_proxy_is_refused() {
        for text in ["", "http://", "https://a", "a b", "http://a:99999", "socks5://:x@h", "socks5://"] {
            assert!(Proxy::all(text).is_err(), "{text:?}");
        }
    }
}
