//! What handlers take out of requests, with curl as the client: parameters, queries, JSON, forms
//! and cookies; and the statuses of requests that do not fit.

use goby_http::cookie::{Cookie, SameSite};
use goby_http::{Handler, Rejection, Request, Response, Router};
use serde::{Deserialize, Serialize};

use crate::support::{Site, curl, with_workers};

/// Asks with curl for the body and the status.
fn ask(site: &Site, path: &str, args: &[&str]) -> String {
    let url = site.url(path);
    let mut all = vec!["-w", " %{http_code}"];
    all.extend(args);
    all.push(&url);
    curl(&all)
}

#[test]
fn parameters_are_parsed() {
    with_workers(|| {
        let router = Router::new()
            .get("/{n}", |request: Request| request.param_as::<i8>("n").map(|n| format!("{}", i32::from(n) * 2)))
            .get("/x/{n}", |request: Request| request.param_as::<i8>("m").map(|m| m.to_string()))
            .fallback(|request: Request| format!("{:?} {:?}", request.param("n"), request.pattern()));
        let site = Site::start(router);
        assert_eq!(ask(&site, "/21", &[]), "42 200");
        assert_eq!(ask(&site, "/-%31", &[]), "-2 200");
        assert_eq!(ask(&site, "/a", &[]), "invalid n in the path: invalid digit found in string 400");
        assert_eq!(ask(&site, "/200", &[]), "invalid n in the path: number too large to fit in target type 400");
        assert_eq!(ask(&site, "/x/1", &[]), "the path has no parameter \"m\" 500");
        assert_eq!(ask(&site, "/1/2/3", &[]), "None None 200");
    });
}

#[derive(Debug, Deserialize, Serialize)]
struct Page {
    number: u32,
    #[serde(default)]
    tag: Vec<String>,
    title: Option<String>,
}

fn page(page: Result<Page, Rejection>) -> Result<Response, Rejection> {
    Ok(Response::json(&page?))
}

#[test]
fn queries_are_read() {
    with_workers(|| {
        let site = Site::start(|request: Request| page(request.query_as()));
        let full = r#"{"number":1,"tag":["a","b c"],"title":"é&="} 200"#;
        assert_eq!(ask(&site, "/?number=1&tag=a&tag=b+c&title=%C3%A9%26%3D&other", &[]), full);
        assert_eq!(ask(&site, "/?number=1", &[]), r#"{"number":1,"tag":[],"title":null} 200"#);
        assert_eq!(ask(&site, "/", &[]), "invalid query: missing field `number` 400");
        assert_eq!(ask(&site, "/?number=x", &[]), "invalid query: invalid digit found in string 400");
    });
}

#[test]
fn json_is_read_and_written() {
    with_workers(|| {
        let site = Site::start(|request: Request| page(request.json()));
        let json = |kind: &str, body: &str| ask(&site, "/", &["-H", &format!("content-type: {kind}"), "-d", body]);
        let (body, same) = (r#"{"number":1,"tag":["a"],"title":null}"#, r#"{"number":1,"tag":["a"],"title":null} 200"#);
        for kind in [
            "application/json",
            "application/json; charset=utf-8",
            "APPLICATION/JSON ;x",
            "application/problem+json",
            "application/vnd.api+json",
        ] {
            assert_eq!(json(kind, body), same, "{kind}");
        }
        for kind in ["text/plain", "text/json", "application/jsonp", "application/x-www-form-urlencoded", "json", ";"] {
            assert_eq!(json(kind, body), "the content type of the body is not application/json 415", "{kind}");
        }
        // Without any.
        assert!(ask(&site, "/", &["-H", "content-type:", "-d", body]).ends_with(" 415"));
        for (body, answer) in [
            ("", "invalid JSON: EOF while parsing a value at line 1 column 0 400"),
            (r#"{"number":1"#, "invalid JSON: EOF while parsing an object at line 1 column 11 400"),
            (r#"{"number":1} x"#, "invalid JSON: trailing characters at line 1 column 14 400"),
            ("{number:1}", "invalid JSON: key must be a string at line 1 column 2 400"),
            ("{}", "unexpected JSON: missing field `number` at line 1 column 2 422"),
            (r#"{"number":"1"}"#, "unexpected JSON: invalid type: string \"1\", expected u32 at line 1 column 13 422"),
        ] {
            assert_eq!(json("application/json", body), answer, "{body}");
        }
        let answer = curl(&["-i", "-H", "content-type: application/json", "-d", body, &site.url("/")]);
        assert!(answer.contains("\r\ncontent-type: application/json\r\n"), "{answer}");
        // Chunked.
        let headers = ["-H", "content-type: application/json", "-H", "transfer-encoding: chunked", "-d", body];
        assert_eq!(ask(&site, "/", &headers), same);
    });
}

#[test]
fn a_value_without_a_form_in_json_is_an_error() {
    let response = Response::json(&std::collections::HashMap::from([((1, 2), 3)]));
    assert_eq!(response.status(), 500);
    assert_eq!(response.error().unwrap().to_string(), "key must be a string");
}

#[test]
fn forms_are_read() {
    with_workers(|| {
        let site = Site::start(|request: Request| page(request.form()));
        let full = r#"{"number":1,"tag":["a","b c"],"title":"é"} 200"#;
        let fields = ["-d", "number=1", "-d", "tag=a", "--data-urlencode", "tag=b c", "--data-urlencode", "title=é"];
        assert_eq!(ask(&site, "/", &fields), full);
        // A GET has it in its query.
        assert_eq!(ask(&site, "/", &[&["-G"], &fields[..]].concat()), full);
        assert_eq!(ask(&site, "/", &["-G", "-d", "tag=a"]), "invalid query: missing field `number` 400");
        assert_eq!(ask(&site, "/", &["-d", "tag=a"]), "invalid form: missing field `number` 422");
        let wanted = "the content type of the body is not application/x-www-form-urlencoded 415";
        assert_eq!(ask(&site, "/", &["-H", "content-type: text/plain", "-d", "number=1"]), wanted);
    });
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    with_workers(|| {
        let length = |request: Request| request.json::<String>().map(|text| text.len().to_string());
        let narrow = |request: Request, next: &dyn Handler| next.handle(request.with_body_limit(10));
        let wide = |request: Request, next: &dyn Handler| next.handle(request.with_body_limit(4 << 20));
        let router = Router::new()
            .post("/narrow", length)
            .with(narrow)
            .merge(Router::new().post("/wide", length).with(wide))
            .post("/", length);
        let site = Site::start(router);
        let dir = std::env::temp_dir().join(format!("goby-http-extract-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        // `len` bytes of JSON. curl asks before it sends that much (`Expect: 100-continue`).
        let post = |path, len: usize, chunked: bool| {
            let file = dir.join("body");
            std::fs::write(&file, format!("\"{}\"", "x".repeat(len - 2))).unwrap();
            let data = format!("@{}", file.to_str().unwrap());
            let mut args = vec!["-H", "content-type: application/json", "--data-binary", &*data];
            if chunked {
                args.extend(["-H", "transfer-encoding: chunked"]);
            }
            ask(&site, path, &args)
        };
        for chunked in [false, true] {
            assert_eq!(post("/narrow", 10, chunked), "8 200");
            assert_eq!(post("/narrow", 11, chunked), "the body is longer than 10 bytes 413");
            assert_eq!(post("/", 2 << 20, chunked), format!("{} 200", (2 << 20) - 2));
            assert_eq!(post("/", (2 << 20) + 1, chunked), "the body is longer than 2097152 bytes 413");
            assert_eq!(post("/wide", (2 << 20) + 1, chunked), format!("{} 200", (2 << 20) - 1));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    });
}

#[test]
fn cookies_come_and_go() {
    with_workers(|| {
        let list = |request: Request| {
            let all: Vec<_> =
                request.cookies().map(|cookie| format!("{}={:?}", cookie.name(), cookie.value())).collect();
            all.join(" ")
        };
        let router = Router::new()
            .get("/list", list)
            .get("/one", |request: Request| request.cookie("a").map_or("none".to_owned(), |a| a.value().to_owned()))
            .get("/set", |_: Request| {
                let session = Cookie::build(("session", "a b;c=é%\"")).http_only(true).same_site(SameSite::Strict);
                Response::new("").with_cookie(session.path("/")).with_cookie(("plain", "1"))
            })
            .get("/unset", |_: Request| Response::new("").with_cookie(Cookie::build("plain").path("/").removal()));
        let site = Site::start(router);
        let list = |header: &str| ask(&site, "/list", &["-H", header]);
        assert_eq!(list("cookie: a=1; b=2;c=3"), r#"a="1" b="2" c="3" 200"#);
        assert_eq!(list("cookie: a=1%202; b; =x; c=%FF; d="), r#"a="1 2" c="%FF" d="" 200"#);
        // A name is not decoded: it could pass for a guarded one.
        assert_eq!(list("cookie: %5F_Host-a=1"), r#"%5F_Host-a="1" 200"#);
        assert_eq!(list("x: y"), " 200");
        assert_eq!(ask(&site, "/one", &["-H", "cookie: b=2; a=1; a=3"]), "1 200");
        assert_eq!(ask(&site, "/one", &[]), "none 200");

        let set = curl(&["-i", &site.url("/set")]);
        let cookies: Vec<_> = set.lines().filter_map(|line| line.strip_prefix("set-cookie: ")).collect();
        let session = "session=a%20b%3Bc=%C3%A9%25%22; HttpOnly; SameSite=Strict; Path=/";
        assert_eq!(cookies, [session, "plain=1"]);
        let jar = std::env::temp_dir().join(format!("goby-http-cookies-{}", std::process::id()));
        let jar = jar.to_str().unwrap();
        // What curl keeps comes back as it was.
        curl(&["-c", jar, &site.url("/set")]);
        let mut back: Vec<_> = curl(&["-b", jar, &site.url("/list")]).split(' ').map(str::to_owned).collect();
        back.sort();
        assert_eq!(back.join(" "), r#"b;c=é%\"" plain="1" session="a"#);
        std::fs::remove_file(jar).unwrap();
        assert!(curl(&["-i", &site.url("/unset")]).contains("plain=; Path=/; Max-Age=0; Expires="));
    });
}

#[test]
fn a_cookie_has_no_room_for_another_header() {
    for cookie in [
        Cookie::new("a b", "1"),
        Cookie::new("a;b", "1"),
        Cookie::new("", "1"),
        Cookie::build(("a", "1")).path("/; domain=b").build(),
        Cookie::build(("a", "1")).path("/\r\nset-cookie: b").build(),
        Cookie::build(("a", "1")).domain("a; path=/").build(),
    ] {
        let text = cookie.to_string();
        assert!(std::panic::catch_unwind(|| Response::new("").with_cookie(cookie)).is_err(), "{text}");
    }
    let response = Response::new("").with_cookie(("a", "1\r\nset-cookie: b=2; path=/"));
    assert_eq!(response.headers()["set-cookie"], "a=1%0D%0Aset-cookie:%20b=2%3B%20path=/");
}
