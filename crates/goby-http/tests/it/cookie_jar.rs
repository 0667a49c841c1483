//! Cookies that a client keeps.

use goby_http::cookie::Cookie;
use goby_http::{Client, CookieJar, Method, Request, Response};

use crate::support::{Site, background, with_workers};

/// `/set/…?cookie` sets that cookie and redirects to the rest of the path, `/forget` removes one, and
/// every other path answers with the cookies that came.
fn site() -> Site {
    Site::start(|request: Request| {
        if let Some(to) = request.path().strip_prefix("/set") {
            return Response::redirect(to).with_header("set-cookie", request.query().unwrap());
        }
        if request.path() == "/forget" {
            return Response::new("").with_cookie(Cookie::build("a").path("/").removal());
        }
        Response::new(request.headers().get("cookie").map_or(String::new(), |cookies| format!("{cookies:?}")))
    })
}

#[test]
fn cookies_are_kept_and_sent_across_redirects() {
    with_workers(|| {
        let site = site();
        let client = Client::builder().cookie_store(true).build().unwrap();
        let get = |path: &str| client.get(&background(), site.url(path)).unwrap().text().unwrap();
        assert_eq!(get("/show/"), "");
        assert_eq!(get("/set/show/?a=1;Path=/"), "\"a=1\"");
        assert_eq!(get("/set/show/?b=2;Path=/show/deep"), "\"a=1\"");
        assert_eq!(get("/show/deep/down"), "\"b=2; a=1\"");
        // A default path is that of the URL up to its last slash.
        assert_eq!(get("/set/show/?c=3"), "\"a=1\"");
        // A connection to this machine counts as secure.
        assert_eq!(get("/set/show/?d=4;Path=/show/safe;Secure"), "\"a=1\"");
        assert_eq!(get("/show/safe/"), "\"d=4; a=1\"");
        let request = client.prepare(Method::GET, site.url("/show/")).header("cookie", "mine=0");
        assert_eq!(request.send(&background()).unwrap().text().unwrap(), "\"mine=0; a=1\"");
        get("/forget");
        assert_eq!(get("/show/"), "");
    });
}

#[test]
fn cookies_stay_with_their_host() {
    with_workers(|| {
        let (site, other) = (site(), site());
        let port = |site: &Site| site.addr().port();
        let jar = CookieJar::new();
        let client = Client::builder()
            .cookie_jar(jar.clone())
            .resolver(|_| Ok(vec![std::net::Ipv4Addr::LOCALHOST.into()]))
            .build()
            .unwrap();
        let get = |host: &str, path: &str| {
            let url = format!("http://{host}:{}{path}", port(&site));
            client.get(&background(), url).unwrap().text().unwrap()
        };
        assert_eq!(get("a.example.org", "/set/show/?a=1;Path=/;Domain=example.org"), "\"a=1\"");
        assert_eq!(get("b.example.org", "/show/"), "\"a=1\"");
        assert_eq!(get("notexample.org", "/show/"), "");
        assert_eq!(get("b.example.org", "/set/show/?b=2;Path=/"), "\"a=1; b=2\"");
        assert_eq!(get("a.example.org", "/show/"), "\"a=1\"");
        // Other connections than that to this machine are not secure without TLS.
        assert_eq!(get("b.example.org", "/set/show/?c=3;Path=/;Secure"), "\"a=1; b=2\"");
        for domain in ["org", "a.example.org", "other.example", "github.io", "xample.org"] {
            get("b.example.org", &format!("/set/show/?c={domain};Path=/;Domain={domain}"));
        }
        assert_eq!(get("b.example.org", "/show/"), "\"a=1; b=2\"");
        // Another port is the same host.
        let url = format!("http://b.example.org:{}/show/", port(&other));
        assert_eq!(client.get(&background(), url).unwrap().text().unwrap(), "\"a=1; b=2\"");
        jar.clear();
        assert_eq!(get("b.example.org", "/show/"), "");
    });
}

#[test]
fn no_cookie_is_for_a_public_suffix() {
    let check = |url: &str, domain: &str, kept: bool| {
        let jar = CookieJar::new();
        let cookie = format!("a=1; Domain={domain}");
        assert_eq!(jar.add(&cookie, url).unwrap(), kept, "{url} {domain}");
        assert_eq!(jar.cookies(url).unwrap(), if kept { "a=1" } else { "" }, "{url} {domain}");
    };
    check("http://www.example.co.uk/", "example.co.uk", true);
    check("http://www.example.co.uk/", ".EXAMPLE.co.uk", true);
    check("http://www.example.co.uk/", "co.uk", false);
    check("http://me.github.io/", "github.io", false);
    check("http://me.github.io/", "me.github.io", true);
    check("http://a.localhost/", "localhost", false);
    check("http://localhost/", "localhost", true);
    check("http://127.0.0.1/", "127.0.0.1", true);
    check("http://127.0.0.1/", "0.0.1", false);
    check("http://127.0.0.1/", "1", false);
    check("http://[::1]/", "[::1]", true);
    // A host that is a public suffix itself keeps its cookies to itself.
    let jar = CookieJar::new();
    assert!(jar.add("a=1; Domain=github.io", "http://github.io/").unwrap());
    assert_eq!(jar.cookies("http://github.io/").unwrap(), "a=1");
    assert_eq!(jar.cookies("http://me.github.io/").unwrap(), "");
    assert!(jar.add("a=1", "gopher://h/").unwrap_err().is_url());
}

#[test]
fn a_jar_is_saved_and_loaded() {
    let jar = CookieJar::new();
    let url = "https://www.example.org/dir/";
    for cookie in ["host=1; Max-Age=1000", "domain=2; Domain=example.org; Path=/; Max-Age=1000; Secure", "session=3"] {
        assert!(jar.add(cookie, url).unwrap(), "{cookie}");
    }
    assert!(!jar.add("no cookie", url).unwrap());
    assert!(!jar.add("gone=4; Max-Age=0", url).unwrap());
    let mut saved = Vec::new();
    jar.save(&mut saved).unwrap();
    let loaded = CookieJar::load(&saved[..]).unwrap();
    assert_eq!(loaded.cookies(url).unwrap(), "host=1; domain=2");
    assert_eq!(loaded.cookies("https://example.org/").unwrap(), "domain=2");
    assert_eq!(loaded.cookies("http://example.org/").unwrap(), "");
    assert_eq!(jar.cookies(url).unwrap(), "host=1; session=3; domain=2");
    assert_eq!(format!("{jar:?}"), "CookieJar { cookies: 3 }");
    let error = CookieJar::load(&b"{"[..]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}
