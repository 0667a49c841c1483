//! Requests that are put together by a `RequestBuilder`, and what its response is turned into.

use goby_http::{Body, Client, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::support::{Site, background, with_workers, words};

/// Answers with the head and the body of the request.
fn echo() -> Site {
    Site::start(|request: Request| {
        let mut head = format!("{} {}\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            if name != "host" {
                head += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
            }
        }
        Response::new(head + "\n" + &request.text().unwrap())
    })
}

/// A client without the headers that each request has.
fn plain() -> Client {
    Client::builder().user_agent("").decompress(false).build().unwrap()
}

#[test]
fn headers_are_added_and_set() {
    with_workers(|| {
        let site = echo();
        let request = plain()
            .prepare(Method::PUT, site.url("/a?b"))
            .header("x-color", "blue")
            .header("x-color", "red")
            .header("x-shape", "round")
            .headers(HeaderMap::from_iter([(HeaderName::from_static("x-shape"), HeaderValue::from_static("square"))]))
            .bearer_auth("sesame")
            .basic_auth("me", None::<&str>)
            .body("text");
        assert!(format!("{request:?}").contains("Sensitive"), "{request:?}");
        let text = request.send(&background()).unwrap().text().unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines[1..6].sort_unstable();
        let expected = [
            "PUT /a?b",
            "authorization: Basic bWU6",
            "content-length: 4",
            "x-color: blue",
            "x-color: red",
            "x-shape: square",
            "",
            "text",
        ];
        assert_eq!(lines, expected);
    });
}

#[test]
fn the_first_mistake_is_told_when_it_is_sent() {
    with_workers(|| {
        let client = Client::new();
        let url = "http://me:secret@127.0.0.1:9/";
        let check = |request: goby_http::RequestBuilder, cause: &str| {
            assert!(!format!("{request:?}").contains("secret"), "{request:?}");
            let error = request.send(&background()).unwrap_err();
            assert!(error.is_build(), "{error:?}");
            assert_eq!(error.to_string(), "GET http://me:***@127.0.0.1:9/: preparing the request failed");
            let source = std::error::Error::source(&error).unwrap();
            assert!(source.to_string().contains(cause), "{source}");
        };
        let request = || client.prepare(Method::GET, url);
        check(request().header("no name", "").header("x", "\n"), "header name");
        check(request().header("x", "\n").header("no name", ""), "header value");
        check(request().bearer_auth("\n"), "header value");
        check(request().basic_auth("a:b", Some("c")), "a colon cannot be part of the name");
        let error = client.prepare(Method::GET, "gopher://h/").header("no name", "").send(&background()).unwrap_err();
        assert!(error.is_url() && !error.is_build(), "{error:?}");
    });
}

#[test]
fn default_headers_give_way_to_those_of_a_request() {
    with_workers(|| {
        let site = echo();
        let headers = [("x-color", "blue"), ("x-color", "red"), ("user-agent", "tester"), ("content-length", "2")];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut defaults = HeaderMap::new();
        for (name, value) in headers {
            defaults.append(name, value);
        }
        let client = Client::builder().default_headers(defaults).build().unwrap();
        let text = client.get(&background(), site.url("/")).unwrap().text().unwrap();
        assert_eq!(text.matches("x-color: ").count(), 2, "{text}");
        assert!(text.contains("user-agent: tester\n") && !text.contains("content-length"), "{text}");
        let request = client.prepare(Method::GET, site.url("/")).header("x-color", "green");
        let text = request.header("user-agent", "other").send(&background()).unwrap().text().unwrap();
        assert_eq!(text.matches("x-color: ").count(), 1, "{text}");
        assert!(text.contains("x-color: green\n") && text.contains("user-agent: other\n"), "{text}");
    });
}

#[test]
fn a_request_has_a_time_limit_of_its_own() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            if request.path() == "/never" {
                let _ = request.context().done().recv();
            }
            "there"
        });
        let long = std::time::Duration::from_secs(600);
        let short = std::time::Duration::from_millis(5);
        let client = Client::builder().timeout(long).build().unwrap();
        let error = client.prepare(Method::GET, site.url("/never")).timeout(short).send(&background()).unwrap_err();
        assert!(error.is_timeout());
        // On a busy machine it may not even have been connected.
        assert!(words(&error).starts_with("Client.Timeout exceeded while "), "{error}");
        let client = Client::builder().timeout(std::time::Duration::ZERO).build().unwrap();
        let response = client.prepare(Method::GET, site.url("/")).timeout(long).send(&background()).unwrap();
        assert_eq!(response.text().unwrap(), "there");
    });
}

#[test]
fn a_status_can_be_made_an_error() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            if request.path() == "/to" {
                return Response::redirect("/404");
            }
            let status = StatusCode::from_bytes(&request.path().as_bytes()[1..]).unwrap();
            Response::new(if status == 204 { "" } else { "why" }).with_status(status)
        });
        let client = plain();
        let post = |path: &str| client.post(&background(), site.url(path), "").unwrap();
        for path in ["/200", "/204", "/304", "/399", "/600"] {
            assert!(post(path).error_for_status().is_ok(), "{path}");
        }
        for (path, text) in [("/400", "400 Bad Request"), ("/599", "599 <unknown status code>")] {
            let response = post(path);
            let error = response.error_for_status_ref().unwrap_err();
            assert_eq!(error.to_string(), format!("POST {}: status {text}", site.url(path)));
            assert_eq!(error.status().unwrap(), response.status());
            assert_eq!(response.text().unwrap(), "why");
        }
        let error = post("/to").error_for_status().unwrap_err();
        assert_eq!(error.to_string(), format!("GET {}: status 404 Not Found", site.url("/404")));
        assert!(!error.is_timeout() && !error.is_body() && !error.is_request());
    });
}

#[cfg(feature = "json")]
#[test]
fn values_become_queries_forms_and_json() {
    with_workers(|| {
        let site = echo();
        let client = plain();
        let send = |request: goby_http::RequestBuilder| request.send(&background()).unwrap().text().unwrap();
        let prepare = |path: &str| client.prepare(Method::GET, site.url(path));

        assert_eq!(send(prepare("/").query(&[("a", "1 &"), ("a", "é")])), "GET /?a=1+%26&a=%C3%A9\n\n");
        assert_eq!(send(prepare("/?").query(&[("a", 1)]).query(&[("b", 2)])), "GET /?a=1&b=2\n\n");
        assert_eq!(send(prepare("/?%20#fragment").query(&[("a", 1)])), "GET /?%20&a=1\n\n");
        assert_eq!(send(prepare("/").query::<[(u8, u8)]>(&[])), "GET /\n\n");

        let text = send(prepare("/").form(&[("a", "1 &")]));
        assert!(text.contains("content-type: application/x-www-form-urlencoded\n"), "{text}");
        assert!(text.ends_with("\n\na=1+%26"), "{text}");

        let text = send(prepare("/").json(&["a", "é"]));
        assert!(text.contains("content-type: application/json\n"), "{text}");
        assert!(text.ends_with("\n\n[\"a\",\"é\"]"), "{text}");
        // A type that was chosen stays, whichever came first.
        let kind = "application/vnd.example+json";
        let text = send(prepare("/").header("content-type", kind).json(&1));
        assert_eq!((text.matches("content-type").count(), text.matches(kind).count()), (1, 1), "{text}");

        let unordered = std::collections::HashMap::from([((1, 2), 3)]);
        let error = prepare("/").json(&unordered).send(&background()).unwrap_err();
        assert!(error.is_build() && std::error::Error::source(&error).unwrap().to_string().contains("key"));
    });
}

#[cfg(feature = "json")]
#[test]
fn json_is_read_up_to_the_clients_limit() {
    with_workers(|| {
        let site = Site::start(|_: Request| Response::new("[1,2,3]"));
        let limited = |max| Client::builder().max_body(max).build().unwrap().get(&background(), site.url("/")).unwrap();
        assert_eq!(limited(7).json_as::<[u8; 3]>().unwrap(), [1, 2, 3]);
        let error = limited(6).json_as::<[u8; 3]>().unwrap_err();
        assert!(error.is_body() && words(&error) == "body longer than 6 bytes");
        let error = limited(7).json_as::<String>().unwrap_err();
        assert!(error.is_body() && error.to_string() == "body is not the expected JSON");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("expected a string"));
    });
}

/// A body that is at hand goes along with a redirect.
#[test]
fn a_body_is_sent_again_after_a_redirect() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/to" => Response::redirect("/").with_status(StatusCode::TEMPORARY_REDIRECT),
            _ => Response::new(request.into_body()),
        });
        let request = |body: Body| plain().prepare(Method::POST, site.url("/to")).body(body).send(&background());
        assert_eq!(request(Body::from("text")).unwrap().text().unwrap(), "text");
        assert_eq!(request(Body::from_reader(&b"text"[..])).unwrap().status(), 307);
    });
}
