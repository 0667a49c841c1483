//! Redirects: which are followed, and with which method, headers and body.

use goby_http::redirect::Policy;
use goby_http::{Body, Client, Method, Request, Response, StatusCode};

use crate::support::{Script, Site, answer, background, with_workers, words};

/// Answers `/status/target` with that status and a redirect to `/target`, and every other path with
/// what was asked for.
fn site() -> Site {
    Site::start(|request: Request| {
        if let Some((status, target)) = request.path()[1..].split_once('/') {
            let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
            return Response::redirect(&format!("/{target}")).with_status(status);
        }
        let what = format!("{} {}", request.method(), request.path());
        let kind = request.headers().get("content-type").map_or("no type", |kind| kind.to_str().unwrap()).to_owned();
        Response::new(format!("{what} {kind} {:?}", request.text().unwrap()))
    })
}

fn fetch(client: &Client, method: &str, url: &str, body: impl Into<Body>) -> Response {
    let request = http::Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "text/plain")
        .body(body.into())
        .unwrap();
    client.request(&background(), request).unwrap()
}

#[test]
fn redirects_are_followed_to_the_end() {
    with_workers(|| {
        let site = site();
        let client = Client::new();
        let response = client.get(&background(), site.url("/301/302/303/307/308/end")).unwrap();
        assert_eq!(response.url(), site.url("/end"));
        assert_eq!(response.text().unwrap(), "GET /end no type \"\"");
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn the_status_decides_about_method_and_body() {
    with_workers(|| {
        let site = site();
        let client = Client::new();
        for status in [301, 302, 303] {
            let response = fetch(&client, "POST", &site.url(&format!("/{status}/end")), "body");
            assert_eq!(response.text().unwrap(), "GET /end no type \"\"");
        }
        for status in [307, 308] {
            let response = fetch(&client, "POST", &site.url(&format!("/{status}/end")), "body");
            assert_eq!(response.text().unwrap(), "POST /end text/plain \"body\"");
        }
        assert_eq!(fetch(&client, "HEAD", &site.url("/302/end"), ()).status(), 200);
    });
}

#[test]
fn a_streamed_body_cannot_be_sent_again() {
    with_workers(|| {
        let site = site();
        let client = Client::new();
        let body = || Body::from_reader(&b"body"[..]);
        assert_eq!(fetch(&client, "POST", &site.url("/307/end"), body()).status(), 307);
        // If the body need not be sent again, the redirect is followed.
        assert_eq!(fetch(&client, "POST", &site.url("/303/end"), body()).text().unwrap(), "GET /end no type \"\"");
    });
}

#[test]
fn ten_redirects_are_followed_and_no_more() {
    with_workers(|| {
        let site = site();
        let ten = "/302".repeat(10);
        let client = Client::new();
        assert_eq!(client.get(&background(), site.url(&format!("{ten}/end"))).unwrap().status(), 200);
        let error = client.get(&background(), site.url(&format!("/302{ten}/end"))).unwrap_err();
        assert!(error.is_redirect() && error.is_too_many_redirects());
        assert_eq!(words(&error), "stopped after 10 redirects");
    });
}

#[test]
fn redirects_can_be_turned_off() {
    with_workers(|| {
        let site = site();
        let client = Client::builder().redirects(0).build().unwrap();
        let response = client.get(&background(), site.url("/302/end")).unwrap();
        assert_eq!(response.status(), 302);
        assert_eq!(response.headers()["location"], "/end");
        assert_eq!(response.url(), site.url("/302/end"));
    });
}

#[test]
fn an_invalid_target_is_an_error() {
    with_workers(|| {
        let site = Site::start(|_: Request| Response::redirect("gopher://elsewhere.example/"));
        let error = Client::new().get(&background(), site.url("/")).unwrap_err();
        assert!(error.is_redirect() && !error.is_too_many_redirects());
        assert_eq!(words(&error), "invalid redirect target \"gopher://elsewhere.example/\"");
    });
}

#[test]
fn secrets_do_not_go_to_another_origin() {
    with_workers(|| {
        let seen = |request: Request| {
            let has = |name| request.headers().contains_key(name);
            format!(
                "authorization {}, x-color {}, host {:?}",
                has("authorization"),
                has("x-color"),
                request.headers()["host"]
            )
        };
        let other = Site::start(seen);
        let target = other.url("/");
        let site = Site::start(move |request: Request| match request.path() {
            "/other" => Response::redirect(&target),
            "/same" => Response::redirect("/end"),
            _ => Response::from(seen(request)),
        });
        let client = Client::new();
        let fetch = |path| {
            let request =
                http::Request::get(site.url(path)).header("authorization", "secret").header("x-color", "blue");
            client.request(&background(), request.body(Body::empty()).unwrap()).unwrap().text().unwrap()
        };
        let (here, there) = (site.addr().to_string(), other.addr().to_string());
        assert_eq!(fetch("/same"), format!("authorization true, x-color true, host {here:?}"));
        assert_eq!(fetch("/other"), format!("authorization false, x-color true, host {there:?}"));
    });
}

#[test]
fn default_secrets_do_not_go_to_another_origin() {
    with_workers(|| {
        let seen = |request: Request| {
            let names = ["authorization", "cookie", "cookie2", "proxy-authorization", "www-authenticate", "x-color"];
            let seen: Vec<_> = names.into_iter().filter(|name| request.headers().contains_key(*name)).collect();
            seen.join(" ")
        };
        let other = Site::start(seen);
        let target = other.url("/");
        let site = Site::start(move |request: Request| match request.path() {
            "/other" => Response::redirect(&target),
            "/same" => Response::redirect("/end"),
            _ => Response::from(seen(request)),
        });
        let mut headers = goby_http::HeaderMap::new();
        for name in ["authorization", "cookie", "cookie2", "proxy-authorization", "www-authenticate", "x-color"] {
            headers.insert(name, "value".try_into().unwrap());
        }
        let client = Client::builder().default_headers(headers).build().unwrap();
        let get = |path| client.get(&background(), site.url(path)).unwrap().text().unwrap();
        assert_eq!(get("/same"), "authorization cookie cookie2 proxy-authorization www-authenticate x-color");
        assert_eq!(get("/other"), "x-color");
    });
}

#[test]
fn a_host_that_was_chosen_stays_for_a_relative_location() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/relative" => Response::redirect("/end"),
            "/absolute" => Response::redirect(request.query().unwrap()),
            _ => Response::new(request.headers()["host"].to_str().unwrap().to_owned()),
        });
        let client = Client::new();
        let get = |path: &str| {
            let request = client.prepare(Method::GET, site.url(path)).header("host", "a.example");
            request.send(&background()).unwrap().text().unwrap()
        };
        assert_eq!(get("/relative"), "a.example");
        let here = site.addr();
        assert_eq!(get(&format!("/absolute?http://{here}/end")), here.to_string());
        // The host is not kept for another server, though its location has no scheme.
        let other = Site::start(|request: Request| request.headers()["host"].to_str().unwrap().to_owned());
        assert_eq!(get(&format!("/absolute?//{}/end", other.addr())), other.addr().to_string());
    });
}

#[test]
fn a_policy_sees_where_each_redirect_leads() {
    with_workers(|| {
        let site = site();
        let start = site.url("/302/307/303/end");
        let first = start.clone();
        let policy = Policy::custom(move |attempt| {
            assert_eq!(attempt.previous().next(), Some(&*first));
            let status = attempt.status().as_u16();
            match attempt.previous().len() {
                1 => assert_eq!(status, 302),
                2 => assert_eq!(status, 307),
                _ => assert_eq!(status, 303),
            }
            match attempt.url() {
                url if url.ends_with("/stop") => attempt.stop(),
                url if url.ends_with("/bad") => attempt.error("not there"),
                _ => attempt.follow(),
            }
        });
        assert_eq!(format!("{policy:?} {:?}", Policy::default()), "Policy::custom(..) Policy::limited(10)");
        let client = Client::builder().redirect(policy).build().unwrap();
        assert_eq!(client.get(&background(), &start).unwrap().url(), site.url("/end"));
    });
}

#[test]
fn a_policy_stops_or_refuses() {
    with_workers(|| {
        let site = site();
        let policy = Policy::custom(|attempt| match attempt.url() {
            url if url.ends_with("/302/stop") => attempt.follow(),
            url if url.ends_with("/stop") => attempt.stop(),
            url if url.ends_with("/bad") => attempt.error("not there"),
            _ => Policy::limited(1).redirect(attempt),
        });
        let client = Client::builder().redirect(policy).build().unwrap();
        let get = |path: &str| client.get(&background(), site.url(path));
        let response = get("/302/302/stop").unwrap();
        assert_eq!((response.status().as_u16(), response.url()), (302, &*site.url("/302/stop")));
        let error = get("/302/bad").unwrap_err();
        assert!(error.is_redirect() && !error.is_too_many_redirects());
        assert_eq!(words(&error), "redirect refused");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "not there");
        let error = get("/302/302/end").unwrap_err();
        assert!(error.is_too_many_redirects());
        assert_eq!(words(&error), "stopped after 1 redirects");
        let client = Client::builder().redirect(Policy::limited(0)).build().unwrap();
        assert!(client.get(&background(), site.url("/302/end")).unwrap_err().is_too_many_redirects());
    });
}

/// A redirect with a long body costs its connection, not the time to read the body.
#[test]
fn the_body_of_a_redirect_is_not_waited_for() {
    with_workers(|| {
        let script = Script::start(|n, stream| {
            use std::io::Write;
            if n == 0 {
                crate::support::read_head(&stream);
                { &stream }
                    .write_all(b"HTTP/1.1 302 Found\r\nLocation: /end\r\nContent-Length: 1000000\r\n\r\nsome")
                    .unwrap();
                crate::support::read_to_close(&stream);
            } else {
                answer(&stream, "end");
            }
        });
        assert_eq!(Client::new().get(&background(), script.url("/")).unwrap().text().unwrap(), "end");
    });
}

#[test]
fn an_error_names_the_url_and_no_password() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/to" => Response::redirect("/404"),
            "/ftp" => Response::redirect("ftp://me:secret@h/"),
            _ => Response::new("long body"),
        });
        let client = Client::builder().max_body(4).build().unwrap();
        let url = |path: &str| site.url(path).replace("http://", "http://me:secret@");
        let shown = |path: &str| site.url(path).replace("http://", "http://me:***@");
        let (ctx, cancel) = background().with_cancel();
        cancel.cancel();
        let get = |path: &str| client.get(&background(), url(path)).unwrap();
        for (error, text) in [
            (get("/to").bytes().unwrap_err(), format!("GET {}: body longer than 4 bytes", shown("/404"))),
            (
                client.get(&background(), url("/ftp")).unwrap_err(),
                format!("GET {}: invalid redirect target \"ftp://me:***@h/\"", shown("/ftp")),
            ),
            (
                client.post(&ctx, url("/"), "").unwrap_err(),
                format!("POST {}: canceled while awaiting a free connection to {}", shown("/"), site.addr()),
            ),
            (
                client.get(&background(), "gopher://me:secret@h/").unwrap_err(),
                "invalid URL \"gopher://me:***@h/\"".to_owned(),
            ),
        ] {
            assert!(!format!("{error:?} {error} {:?}", error.url()).contains("secret"), "{error:?}");
            assert!(error.to_string().starts_with(text.split(" while ").next().unwrap()), "{error}, not {text}");
            assert!(error.url().is_some_and(|url| url.contains("me:***@")));
        }
    });
}
