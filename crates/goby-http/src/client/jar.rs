//! Cookies that a client keeps, by the crate `cookie_store`; the public suffix list is that of the
//! crate `psl`, compiled in.

mod cookies_txt;

use std::cmp::Reverse;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use cookie_store::{CookieStore, RawCookie};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use url::Url;

use super::outline::parse_url;
use crate::error::Error;

/// The cookies that servers have set, by the rules of RFC 6265. Source: Go's `cookiejar.Jar`,
/// reqwest's `cookie::Jar`.
///
/// It is a handle: clones share the cookies, so that a program can look at those of a client, and
/// several clients can have the same.
///
/// A server sets cookies for its own host, or for a domain of it that is no public suffix: none for
/// `co.uk`, `github.io` or `com`. The list of these is compiled in. Cookies do not distinguish
/// ports. One with the attribute `Secure` goes to `https` URLs, and to this machine's own
/// addresses.
///
/// ```
/// use goby::Context;
/// use goby_http::cookie::Cookie;
/// use goby_http::{Client, CookieJar, Request, Response, Router, Server};
///
/// let router = Router::new()
///     .get("/login", |_: Request| Response::redirect("/").with_cookie(Cookie::new("user", "me")))
///     .get("/", |request: Request| request.cookie("user").map_or("nobody".to_owned(), |user| user.value().to_owned()));
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://{}", server.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || server.serve_ctx(&serving, router));
///
/// let jar = CookieJar::new();
/// let client = Client::builder().cookie_jar(jar.clone()).build()?;
/// let ctx = Context::background();
/// assert_eq!(client.get(&ctx, format!("{url}/"))?.text()?, "nobody");
/// assert_eq!(client.get(&ctx, format!("{url}/login"))?.text()?, "me");
/// assert_eq!(jar.cookies(&url)?, "user=me");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct CookieJar {
    /// A short lock.
    store: Arc<Mutex<CookieStore>>,
}

impl CookieJar {
    /// Makes a jar without cookies.
    ///
    /// ```
    /// assert_eq!(goby_http::CookieJar::new().cookies("http://example.org/")?, "");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn new() -> CookieJar {
        CookieJar::default()
    }

    /// Adds a cookie as if a response from `url` had the header `set-cookie` with this text.
    /// Returns whether it is kept: it may be invalid, or for a domain that `url` cannot set cookies
    /// for.
    ///
    /// ```
    /// let jar = goby_http::CookieJar::new();
    /// let url = "https://www.example.co.uk/";
    /// assert!(jar.add("color=blue; Domain=example.co.uk; Max-Age=3600", url)?);
    /// assert!(!jar.add("color=red; Domain=co.uk", url)?);
    /// assert_eq!(jar.cookies("https://shop.example.co.uk/")?, "color=blue");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When `url` is no `http` or `https` URL.
    pub fn add(&self, cookie: &str, url: impl AsRef<str>) -> Result<bool, Error> {
        let url = parse_url(url.as_ref())?;
        Ok(insert(&mut self.store.lock(), cookie, &url))
    }

    /// Gives the cookies for a request to `url`, as the header `cookie` has them: the longest path
    /// first. The empty string if there are none.
    ///
    /// ```
    /// let jar = goby_http::CookieJar::new();
    /// jar.add("a=1; Path=/", "http://example.org/")?;
    /// jar.add("b=2; Path=/dir", "http://example.org/")?;
    /// assert_eq!(jar.cookies("http://example.org/dir/page")?, "b=2; a=1");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When `url` is no `http` or `https` URL.
    pub fn cookies(&self, url: impl AsRef<str>) -> Result<String, Error> {
        Ok(self.of(&parse_url(url.as_ref())?))
    }

    /// Forgets all cookies.
    ///
    /// ```
    /// let jar = goby_http::CookieJar::new();
    /// jar.add("a=1", "http://example.org/")?;
    /// jar.clear();
    /// assert_eq!(jar.cookies("http://example.org/")?, "");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn clear(&self) {
        self.store.lock().clear();
    }

    /// Writes the cookies that have a time of expiry, as JSON. The others are of this session, as
    /// in a browser.
    ///
    /// ```
    /// use goby_http::CookieJar;
    /// let jar = CookieJar::new();
    /// jar.add("a=1; Max-Age=3600", "http://example.org/")?;
    /// jar.add("session=2", "http://example.org/")?;
    ///
    /// let mut saved = Vec::new();
    /// jar.save(&mut saved)?;
    /// assert_eq!(CookieJar::load(&saved[..])?.cookies("http://example.org/")?, "a=1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As `writer` does.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn save(&self, mut writer: impl Write) -> io::Result<()> {
        // The writer may park, which it must not under the lock.
        let mut json = Vec::new();
        cookie_store::serde::json::save(&self.store.lock(), &mut json).map_err(io::Error::other)?;
        writer.write_all(&json)
    }

    /// Makes a jar of what [`save`](CookieJar::save) wrote, without those cookies that have expired
    /// since.
    ///
    /// See there for an example.
    ///
    /// # Blocking
    ///
    /// As `reader` does.
    ///
    /// # Errors
    ///
    /// Those of the reader, and `InvalidData` when it is not such a file.
    pub fn load(reader: impl BufRead) -> io::Result<CookieJar> {
        let json = io::read_to_string(reader)?;
        let store = cookie_store::serde::json::load(json.as_bytes());
        let store = store.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(CookieJar { store: Arc::new(Mutex::new(store)) })
    }

    /// Keeps the cookies of a response.
    pub(super) fn keep(&self, headers: &HeaderMap, url: &Url) {
        if !headers.contains_key(SET_COOKIE) {
            return;
        }
        let mut store = self.store.lock();
        for cookie in headers.get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok()) {
            insert(&mut store, cookie, url);
        }
    }

    /// Adds the cookies for a request to the header, and returns that of the caller.
    pub(super) fn add_to(&self, headers: &mut HeaderMap, url: &Url) -> Option<HeaderValue> {
        let callers: Vec<&str> = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok()).collect();
        let callers = callers.join("; ");
        let cookies = self.of(url);
        let gap = if callers.is_empty() || cookies.is_empty() { "" } else { "; " };
        if let Ok(all) = HeaderValue::try_from(format!("{callers}{gap}{cookies}"))
            && !all.is_empty()
        {
            headers.insert(COOKIE, all);
        }
        HeaderValue::try_from(callers).ok().filter(|callers| !callers.is_empty())
    }

    fn of(&self, url: &Url) -> String {
        let store = self.store.lock();
        let mut cookies = store.matches(url);
        // RFC 6265, section 5.4; those of one path by name, so that the order is always the same.
        cookies.sort_by_key(|cookie| (Reverse(cookie.path.len()), cookie.name().to_owned()));
        let pairs: Vec<String> = cookies.iter().map(|cookie| format!("{}={}", cookie.name(), cookie.value())).collect();
        pairs.join("; ")
    }
}

/// Keeps a cookie, unless it is invalid or for a domain that `url` cannot set cookies for.
fn insert(store: &mut CookieStore, cookie: &str, url: &Url) -> bool {
    let Ok(mut cookie) = RawCookie::parse(cookie) else { return false };
    let domain = cookie.domain().map(str::to_ascii_lowercase);
    if let Some(domain) = domain.filter(|domain| is_public_suffix(domain)) {
        if url.host_str() != Some(&domain) {
            return false;
        }
        // It is for this host alone.
        cookie.unset_domain();
    }
    store.insert_raw(&cookie, url).is_ok()
}

/// Whether cookies for this domain would go to hosts of several owners. A domain of one label is
/// such a suffix, whatever the list says.
fn is_public_suffix(domain: &str) -> bool {
    psl::suffix(domain.as_bytes()).is_some_and(|suffix| suffix.as_bytes() == domain.as_bytes())
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar").field("cookies", &self.store.lock().iter_unexpired().count()).finish()
    }
}
