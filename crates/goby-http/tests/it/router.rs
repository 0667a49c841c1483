//! The router: which handler answers, and what the router answers by itself. The cases follow
//! axum's tests of its router and those of Go's `ServeMux`, where goby does the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use goby_http::{Body, Client, Handler, Method, Rejection, Request, Response, Router, StatusCode};

use crate::support::{Site, background, curl, with_workers};

/// A handler that tells its name, and what stood for the parameters `a`, `b` and `rest`.
fn named(name: &'static str) -> impl Handler {
    move |request: Request| {
        let params =
            ["a", "b", "rest"].map(|name| request.param(name).map_or(String::new(), |value| format!(" {value}")));
        format!("{name}{}", params.concat())
    }
}

fn ask(site: &Site, method: &str, path: &str) -> Response {
    let request = http::Request::builder().method(method).uri(site.url(path)).body(Body::empty()).unwrap();
    Client::new().request(&background(), request).unwrap()
}

/// What a path is answered with: the body, or the status if that is not 200.
fn get(site: &Site, path: &str) -> String {
    let response = ask(site, "GET", path);
    if response.status() == 200 { response.text().unwrap() } else { response.status().as_u16().to_string() }
}

fn routed(patterns: &[&'static str]) -> Site {
    Site::start(patterns.iter().fold(Router::new(), |router, pattern| router.get(pattern, named(pattern))))
}

#[test]
fn the_most_specific_pattern_answers() {
    with_workers(|| {
        let site = routed(&[
            "/",
            "/users",
            "/users/{a}",
            "/users/me",
            "/users/{a}/posts",
            "/users/{a}/posts/{b}",
            "/users/me/settings",
            "/files/{*rest}",
            "/files/readme",
            "/dir/",
            "/img/{a}.png",
            "/{a}/about",
        ]);
        for (path, answer) in [
            ("/", "/"),
            ("/users", "/users"),
            ("/users/7", "/users/{a} 7"),
            ("/users/me", "/users/me"),
            ("/users/mee", "/users/{a} mee"),
            ("/users/7/posts", "/users/{a}/posts 7"),
            // Back from the plain text `me`, which leads nowhere.
            ("/users/me/posts", "/users/{a}/posts me"),
            ("/users/7/posts/8", "/users/{a}/posts/{b} 7 8"),
            ("/users/me/settings", "/users/me/settings"),
            ("/users/7/settings", "404"),
            ("/users/", "404"),
            ("/users//posts", "404"),
            ("/users/7/", "404"),
            ("/files/readme", "/files/readme"),
            ("/files/a", "/files/{*rest} a"),
            ("/files/a/b/", "/files/{*rest} a/b/"),
            ("/files/", "404"),
            ("/files", "404"),
            ("/dir/", "/dir/"),
            ("/dir", "404"),
            ("/img/cat.png", "/img/{a}.png cat"),
            ("/img/cat.jpg", "404"),
            ("/users/about", "/users/{a} about"),
            ("/more/about", "/{a}/about more"),
            ("/more", "404"),
            ("/?query", "/"),
            ("/users/7?x=/me", "/users/{a} 7"),
        ] {
            assert_eq!(get(&site, path), answer, "{path}");
        }
    });
}

#[test]
fn paths_are_compared_and_parameters_given_decoded() {
    with_workers(|| {
        let site = routed(&["/café", "/a/{a}", "/{{x}}", "/all/{*rest}", "/a~b"]);
        for (path, answer) in [
            ("/caf%C3%A9", "/café"),
            ("/caf%c3%a9", "/café"),
            ("/%63af%C3%A9", "/café"),
            ("/a%7Eb", "/a~b"),
            ("/a/x%20y", "/a/{a} x y"),
            // An encoded slash is part of its segment.
            ("/a/x%2Fy", "/a/{a} x/y"),
            ("/a%2Fx", "404"),
            ("/a/%E2%82%AC", "/a/{a} €"),
            ("/a/%FF", "400"),
            ("/a/100%", "/a/{a} 100%"),
            ("/%7Bx%7D", "/{{x}}"),
            ("/all/x%2F/y%3F", "/all/{*rest} x//y?"),
            ("/a/+", "/a/{a} +"),
        ] {
            assert_eq!(get(&site, path), answer, "{path}");
        }
        assert_eq!(ask(&site, "GET", "/a/%FF").text().unwrap(), "a part of the path is not UTF-8 text");
    });
}

#[test]
fn methods_have_handlers_of_their_own() {
    with_workers(|| {
        let purge = || Method::from_bytes(b"PURGE").unwrap();
        let router = Router::new()
            .get("/", named("get"))
            .post("/", named("post"))
            .put("/put", named("put"))
            .patch("/put", named("patch"))
            .delete("/put", named("delete"))
            .route(purge(), "/put", named("purge"))
            .any("/any", named("any"))
            .get("/any", named("get"))
            .get("/head", named("get"))
            .route(Method::HEAD, "/head", |_: Request| StatusCode::ACCEPTED)
            .route(Method::OPTIONS, "/options", named("options"));
        let site = Site::start(router);
        for (method, path, status, body, allow) in [
            ("GET", "/", 200, "get", None),
            ("POST", "/", 200, "post", None),
            ("DELETE", "/", 405, "Method Not Allowed", Some("GET, POST, HEAD, OPTIONS")),
            ("PUT", "/put", 200, "put", None),
            ("PATCH", "/put", 200, "patch", None),
            ("DELETE", "/put", 200, "delete", None),
            ("PURGE", "/put", 200, "purge", None),
            ("GET", "/put", 405, "Method Not Allowed", Some("PUT, PATCH, DELETE, PURGE, OPTIONS")),
            ("HEAD", "/put", 405, "", Some("PUT, PATCH, DELETE, PURGE, OPTIONS")),
            ("GET", "/any", 200, "get", None),
            ("POST", "/any", 200, "any", None),
            ("OPTIONS", "/any", 200, "any", None),
            ("HEAD", "/", 200, "", None),
            ("HEAD", "/any", 200, "", None),
            ("HEAD", "/head", 202, "", None),
            ("OPTIONS", "/", 204, "", Some("GET, POST, HEAD, OPTIONS")),
            ("OPTIONS", "/options", 200, "options", None),
            ("GET", "/options", 405, "Method Not Allowed", Some("OPTIONS")),
            ("OPTIONS", "/nothing", 404, "Not Found", None),
        ] {
            let response = ask(&site, method, path);
            assert_eq!(response.status(), status, "{method} {path}");
            let allowed = response.headers().get("allow").map(|allow| allow.to_str().unwrap());
            assert_eq!(allowed, allow, "{method} {path}");
            assert_eq!(response.text().unwrap(), body, "{method} {path}");
        }
    });
}

#[test]
fn curl_agrees() {
    with_workers(|| {
        let site = Site::start(Router::new().get("/hello/{a}", named("hello")));
        let (hello, wide) = (site.url("/hello/you%20all"), site.url("/"));
        assert_eq!(curl(&[&hello]), "hello you all");
        let head = curl(&["-I", &hello]);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\ncontent-length: 13\r\n"), "{head}");
        let options = curl(&["-i", "-X", "OPTIONS", &hello]);
        assert!(options.starts_with("HTTP/1.1 204 No Content\r\n"), "{options}");
        assert!(options.contains("\r\nallow: GET, HEAD, OPTIONS\r\n"), "{options}");
        let all = curl(&["-i", "-X", "OPTIONS", "--request-target", "*", &wide]);
        assert!(all.starts_with("HTTP/1.1 204 No Content\r\n"), "{all}");
        let refused = curl(&["-i", "-d", "data", &hello]);
        assert!(refused.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{refused}");
        assert_eq!(curl(&["-w", "%{http_code}", "-o", "/dev/null", "--path-as-is", &site.url("/hello/../x")]), "404");
    });
}

#[test]
fn routers_are_nested_and_merged() {
    with_workers(|| {
        let posts = || Router::new().get("/", named("posts")).get("/{b}", named("post")).get("/new/", named("new"));
        let router = Router::new()
            .nest("/users/{a}/posts", posts())
            .nest("/slash/", posts())
            .nest("/deep", Router::new().nest("/er", posts()))
            .nest("/", Router::new().get("/root", named("root")))
            .get("/split", named("get"))
            .merge(Router::new().post("/split", named("post")).get("/merged", named("merged")));
        let site = Site::start(router);
        for (path, answer) in [
            ("/users/7/posts", "posts 7"),
            ("/users/7/posts/", "404"),
            ("/users/7/posts/8", "post 7 8"),
            ("/users/7/posts/new/", "new 7"),
            ("/slash/", "posts"),
            ("/slash/8", "post 8"),
            ("/slash", "404"),
            ("/deep/er", "posts"),
            ("/deep/er/8", "post 8"),
            ("/deep", "404"),
            ("/root", "root"),
            ("/split", "get"),
            ("/merged", "merged"),
        ] {
            assert_eq!(get(&site, path), answer, "{path}");
        }
        assert_eq!(ask(&site, "POST", "/split").text().unwrap(), "post");
        assert_eq!(ask(&site, "PUT", "/split").headers()["allow"], "GET, POST, HEAD, OPTIONS");
    });
}

#[test]
fn the_innermost_fallback_answers() {
    with_workers(|| {
        let fallback = |name: &'static str| {
            move |request: Request| (StatusCode::NOT_FOUND, format!("{name} {}", request.param("a").unwrap_or("-")))
        };
        let api = || Router::new().get("/x", named("x"));
        let router = Router::new()
            .nest("/api/{a}", api().nest("/v1", api().fallback(fallback("v1"))).fallback(fallback("api")))
            .nest("/plain", api())
            .merge(Router::new().fallback(fallback("merged")))
            .get("/y", named("y"));
        let site = Site::start(router);
        for (path, answer) in [
            ("/api/7/x", "x 7"),
            ("/api/7/v1/x", "x 7"),
            ("/api/7/v1/z", "v1 7"),
            ("/api/7/v1", "v1 7"),
            ("/api/7/v1/", "v1 7"),
            ("/api/7/v2", "api 7"),
            ("/api/7", "api 7"),
            ("/api/7/", "api 7"),
            ("/api/x%20y/z", "api x y"),
            ("/api", "merged -"),
            ("/plain/z", "merged -"),
            ("/y", "y"),
        ] {
            assert_eq!(ask(&site, "GET", path).text().unwrap(), answer, "{path}");
        }
        // A path that is there, with another method, is no case for a fallback.
        assert_eq!(ask(&site, "POST", "/api/7/v1/x").status(), 405);
    });
}

#[test]
fn middleware_wraps_what_is_there_by_then() {
    /// Adds its name to what the handler behind it answers.
    fn layer(name: &'static str) -> impl Fn(Request, &dyn Handler) -> Response + Send + Sync + 'static {
        move |request, next| {
            let pattern = request.pattern().unwrap_or("none").to_owned();
            let response = next.handle(request);
            let trace =
                response.headers().get("trace").map_or(String::new(), |value| value.to_str().unwrap().to_owned());
            response.with_header("trace", format!("{name}({pattern}){trace}"))
        }
    }
    with_workers(|| {
        let inner = Router::new().get("/x", named("x")).with(layer("inner"));
        let router = Router::new()
            .get("/a", named("a"))
            .with(layer("first"))
            .nest("/in", inner)
            .get("/b", named("b"))
            .with(layer("second"))
            .post("/b", named("late"))
            .get("/c", named("c"));
        let site = Site::start(router);
        for (method, path, trace) in [
            ("GET", "/a", Some("second(/a)first(/a)")),
            ("HEAD", "/a", Some("second(/a)first(/a)")),
            ("POST", "/a", Some("second(/a)first(/a)")),
            ("GET", "/in/x", Some("second(/in/x)inner(/in/x)")),
            ("OPTIONS", "/in/x", Some("second(/in/x)inner(/in/x)")),
            ("GET", "/b", Some("second(/b)")),
            ("POST", "/b", None),
            ("GET", "/c", None),
            ("GET", "/nothing", Some("second(none)first(none)")),
            ("GET", "/in/nothing", Some("second(none)first(none)")),
        ] {
            let response = ask(&site, method, path);
            let seen = response.headers().get("trace").map(|value| value.to_str().unwrap());
            assert_eq!(seen, trace, "{method} {path}");
        }
        let whole = curl(&["-i", "-X", "OPTIONS", "--request-target", "*", &site.url("/")]);
        assert!(whole.starts_with("HTTP/1.1 204 ") && whole.contains("trace: second(none)first(none)"), "{whole}");
    });
}

#[test]
fn middleware_may_answer_refuse_and_pass_things_on() {
    #[derive(Clone)]
    struct User(String);

    fn guard(mut request: Request, next: &dyn Handler) -> Result<Response, Rejection> {
        let Some(user) = request.headers().get("user").and_then(|user| user.to_str().ok()) else {
            return Err(Rejection::new(StatusCode::UNAUTHORIZED, "who are you?"));
        };
        let user = User(user.to_owned());
        request.extensions_mut().insert(user);
        Ok(next.handle(request))
    }

    /// Shows errors as the API's clients want them.
    fn plain_errors(request: Request, next: &dyn Handler) -> Response {
        let response = next.handle(request);
        match response.error() {
            Some(error) => Response::new(format!("error: {error}")).with_status(response.status()),
            None => response,
        }
    }

    with_workers(|| {
        let me = |request: Request| format!("you are {}", request.extensions().get::<User>().unwrap().0);
        let broken = |_: Request| "x".parse::<u32>().map(|n| n.to_string());
        let site = Site::start(Router::new().get("/me", me).get("/broken", broken).with(guard).with(plain_errors));
        assert_eq!(curl(&["-H", "user: ann", &site.url("/me")]), "you are ann");
        assert_eq!(curl(&["-w", " %{http_code}", &site.url("/me")]), "error: who are you? 401");
        let broken = curl(&["-w", " %{http_code}", "-H", "user: ann", &site.url("/broken")]);
        assert_eq!(broken, "error: invalid digit found in string 500");
    });
}

#[test]
fn a_router_is_a_handler_in_a_router() {
    with_workers(|| {
        let inner = Router::new().get("/in/{b}/x", named("inner")).fallback(named("fallback"));
        let site = Site::start(Router::new().any("/in/{*rest}", inner));
        assert_eq!(get(&site, "/in/7/x"), "inner 7");
        assert_eq!(get(&site, "/in/7/y"), "fallback 7/y");
    });
}

/// As with Go's `ServeMux`, each method has its own names.
#[test]
fn methods_of_one_path_may_name_its_parameters_differently() {
    with_workers(|| {
        let (inner, late) =
            (Router::new().delete("/{a}", named("delete")), Router::new().patch("/x/{a}", named("patch")));
        let router = Router::new()
            .get("/x/{a}", named("get"))
            .post("/x/{b}", named("post"))
            .any("/x/{c}", named("any"))
            .get("/x/{b}/deep", named("deep"))
            .get("/x/{a}/deep/{b}", named("deeper"))
            .get("/x/{b}/{*rest}", named("all"))
            .nest("/{b}", Router::new().get("/{a}", named("nested")))
            .nest("/x", inner)
            .merge(late);
        let site = Site::start(router);
        for (method, path, answer) in [
            ("GET", "/x/7", "get 7"),
            ("POST", "/x/7", "post 7"),
            ("PUT", "/x/7", "any"),
            ("DELETE", "/x/7", "delete 7"),
            ("PATCH", "/x/7", "patch 7"),
            ("GET", "/x/7/deep", "deep 7"),
            ("GET", "/x/7/deep/8", "deeper 7 8"),
            ("GET", "/x/7/other", "all 7 other"),
            ("GET", "/y/7", "nested 7 y"),
        ] {
            assert_eq!(ask(&site, method, path).text().unwrap(), answer, "{method} {path}");
        }
    });
}

#[test]
fn mistakes_in_patterns_are_told_at_once() {
    let told = |make: fn() -> Router| {
        let payload = catch_unwind(AssertUnwindSafe(make)).expect_err("a mistake");
        payload
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| (*payload.downcast_ref::<&str>().unwrap()).to_owned())
    };
    for (message, make) in [
        ("GET /a has a handler already", (|| Router::new().get("/a", one).get("/a", one)) as fn() -> Router),
        ("/a has a handler for any method already", || Router::new().any("/a", one).any("/a", one)),
        ("the path \"a\" does not begin with a slash", || Router::new().get("a", one)),
        ("the path \"\" does not begin with a slash", || Router::new().get("", one)),
        ("GET /{b} has a handler already, added as /{a}", || Router::new().get("/{a}", one).get("/{b}", one)),
        ("/{*b} has a handler for any method already, added as /{*a}", || {
            Router::new().any("/{*a}", one).any("/{*b}", one)
        }),
        ("GET /caf%C3%A9 has a handler already, added as /café", || {
            Router::new().get("/café", one).get("/caf%C3%A9", one)
        }),
        ("the path \"/{b\" cannot be added", || Router::new().get("/{a}", one).get("/{b", one)),
        ("the path \"/{*}\" cannot be added", || Router::new().get("/{*a}", one).get("/{*}", one)),
        ("the path \"/{*a}/b\" cannot be added", || Router::new().get("/{*a}/b", one)),
        ("the path \"/{}\" cannot be added", || Router::new().get("/{}", one)),
        ("the path \"/{a\" cannot be added", || Router::new().get("/{a", one)),
        ("the path \"/{a}-{b}\" cannot be added", || Router::new().get("/{a}-{b}", one)),
        ("the prefix \"a\" does not begin with a slash", || Router::new().nest("a", Router::new())),
        ("the prefix \"/{*a}\" has a parameter for the rest of the path", || {
            Router::new().nest("/{*a}", Router::new())
        }),
        ("GET /a/b has a handler already", || Router::new().get("/a/b", one).nest("/a", Router::new().get("/b", one))),
        ("GET /a has a handler already", || Router::new().get("/a", one).merge(Router::new().get("/a", one))),
    ] {
        let told = told(make);
        assert!(told.starts_with(message), "{told:?} is not {message:?}");
    }
}

fn one(_: Request) -> &'static str {
    "one"
}

#[test]
fn a_router_shows_its_routes() {
    let router = Router::new().get("/a", one).post("/a", one).any("/{b}", one);
    assert_eq!(format!("{router:?}"), r#"Router {"/a": [GET, POST], "/{b}": [any]}"#);
    assert_eq!(format!("{:?}", Router::default()), "Router {}");
}
