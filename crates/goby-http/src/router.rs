//! A router: which handler answers a request, by its path and its method.
//!
//! `matchit` finds the path among the patterns; what stands there is a [`Place`] with a handler for
//! each method. All that a request may come to is a handler behind an `Arc`, also the answers that
//! the router gives by itself ([`automatic`]). So a middleware is wrapped around each of them once,
//! when it is added ([`Layered`]), and a request costs one look-up and one call for each layer.
//!
//! ```text
//!   request ─> Router::find ─> Place ─┬─ Entry of the method, or of GET for HEAD, or of any
//!                 │                   └─ other: 405 or the answer to OPTIONS, says a `Verdict`
//!                 └─ no place ─> fallback of the innermost nested router that has one, or the own
//! ```
//!
//! Patterns that differ only in the names of their parameters have one place; each entry knows its
//! own names.

mod pattern;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};

use crate::handler::Handler;
use crate::rejection::Rejection;
use crate::response::Response;
use crate::server::Request;

pub(crate) use pattern::Route;
use pattern::{Path, Pattern, REST};

/// Chooses a handler by the path and the method of a request.
///
/// A pattern is a path. `{name}` in it stands for one segment, or a part of one, that is not empty;
/// `{*name}` at its end stands for the rest of the path, if that is not empty; `{{` and `}}` are
/// braces. [`Request::param`] gives what stood there, decoded. The most specific pattern wins:
/// plain text before `{name}` before `{*name}`, segment by segment from the left. Where two
/// patterns would tie, adding the second panics. Patterns that differ only in the names of
/// parameters are one path: its methods may use different names. A path with a slash at its end is
/// another than one without. Percent-encoded characters that need no encoding are as good as plain
/// ones.
///
/// The router answers by itself:
///
/// - `HEAD` like `GET`, without the body;
/// - `OPTIONS` with 204, and the methods that are there in `Allow`; `OPTIONS *`, which asks for
///   no path, with 204 alone;
/// - a method that is not there with 405, and the same `Allow`;
/// - a path that is not there with 404 ([`fallback`](Router::fallback) changes that);
/// - a parameter that is not UTF-8 with 400.
///
/// Source: axum's `Router`, and the methods and wildcards of Go's `http.ServeMux`.
///
/// ```
/// use goby::Context;
/// use goby_http::{Client, Handler, Rejection, Request, Response, Router, Server, get};
///
/// fn user(request: Request) -> Result<String, Rejection> {
///     let id: u32 = request.param_as("id")?;
///     Ok(format!("user {id}"))
/// }
///
/// fn tagged(request: Request, next: &dyn Handler) -> Response {
///     next.handle(request).with_header("x-served-by", "goby")
/// }
///
/// let users = Router::new().get("/{id}", user).post("/", |request: Request| request.bytes());
/// let router = Router::new().get("/", |_: Request| "hello").nest("/users", users).with(tagged);
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://{}", server.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || server.serve_ctx(&serving, router));
///
/// let ctx = Context::background();
/// let response = get(&ctx, format!("{url}/users/7"))?;
/// assert_eq!(response.headers()["x-served-by"], "goby");
/// assert_eq!(response.text()?, "user 7");
/// assert_eq!(Client::new().post(&ctx, format!("{url}/users"), "ann")?.text()?, "ann");
/// assert_eq!(get(&ctx, format!("{url}/users/ann"))?.status(), 400);
/// assert_eq!(get(&ctx, format!("{url}/nothing"))?.status(), 404);
/// assert_eq!(Client::new().post(&ctx, &url, "")?.status(), 405);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Router {
    /// Indices of `places`.
    table: matchit::Router<usize>,
    places: Vec<Place>,
    /// Answers where no place is found.
    fallback: Fallback,
    /// Answers `OPTIONS *`.
    asterisk: Arc<dyn Handler>,
    /// Indices of `nested`, by the prefix and all below it. Apart, since a place goes before all of
    /// them.
    below: matchit::Router<usize>,
    nested: Vec<(Arc<Pattern>, Arc<dyn Handler>)>,
}

/// What stands at one pattern.
#[derive(Clone)]
struct Place {
    /// The one that was added first.
    pattern: Arc<Pattern>,
    methods: Vec<(Method, Entry)>,
    /// Answers all other methods.
    any: Option<Entry>,
    /// [`automatic`], in its layers.
    other: Arc<dyn Handler>,
}

/// A handler, and the pattern by which it was added.
#[derive(Clone)]
struct Entry {
    pattern: Arc<Pattern>,
    handler: Arc<dyn Handler>,
}

#[derive(Clone)]
struct Fallback {
    handler: Arc<dyn Handler>,
    /// It is a user's.
    is_own: bool,
}

/// What [`automatic`] is to answer, as an extension of the request.
#[derive(Clone)]
enum Verdict {
    /// The path has other methods.
    Methods(HeaderValue),
    /// A parameter is not UTF-8.
    NotText,
}

impl Default for Router {
    fn default() -> Router {
        Router::new()
    }
}

impl Router {
    /// Makes a router that answers 404 to everything.
    ///
    /// ```
    /// let router = goby_http::Router::new().get("/", |_: goby_http::Request| "hello");
    /// assert_eq!(format!("{router:?}"), r#"Router {"/": [GET]}"#);
    /// ```
    pub fn new() -> Router {
        let fallback = Fallback { handler: Arc::new(|_: Request| StatusCode::NOT_FOUND), is_own: false };
        let (table, below) = (matchit::Router::new(), matchit::Router::new());
        // It asks for what the server can do at all.
        let asterisk = Arc::new(|_: Request| StatusCode::NO_CONTENT);
        Router { table, places: Vec::new(), fallback, asterisk, below, nested: Vec::new() }
    }

    /// Answers `GET` and `HEAD` of a path with `handler`.
    ///
    /// ```
    /// use goby_http::{Request, Router};
    /// let router = Router::new().get("/hello/{name}", |request: Request| {
    ///     format!("hello, {}", request.param("name").unwrap())
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Those of [`route`](Router::route).
    #[must_use]
    #[track_caller]
    pub fn get(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::GET, path, handler)
    }

    /// Answers `POST` of a path with `handler`.
    ///
    /// ```
    /// use goby_http::{Request, Router};
    /// let router = Router::new().post("/echo", |request: Request| request.into_body());
    /// ```
    ///
    /// # Panics
    ///
    /// Those of [`route`](Router::route).
    #[must_use]
    #[track_caller]
    pub fn post(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::POST, path, handler)
    }

    /// Answers `PUT` of a path with `handler`.
    ///
    /// ```
    /// use goby_http::{Request, Router, StatusCode};
    /// let router = Router::new().put("/users/{id}", |_: Request| StatusCode::CREATED);
    /// ```
    ///
    /// # Panics
    ///
    /// Those of [`route`](Router::route).
    #[must_use]
    #[track_caller]
    pub fn put(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PUT, path, handler)
    }

    /// Answers `PATCH` of a path with `handler`.
    ///
    /// ```
    /// use goby_http::{Request, Router, StatusCode};
    /// let router = Router::new().patch("/users/{id}", |_: Request| StatusCode::NO_CONTENT);
    /// ```
    ///
    /// # Panics
    ///
    /// Those of [`route`](Router::route).
    #[must_use]
    #[track_caller]
    pub fn patch(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PATCH, path, handler)
    }

    /// Answers `DELETE` of a path with `handler`.
    ///
    /// ```
    /// use goby_http::{Request, Router, StatusCode};
    /// let router = Router::new().delete("/users/{id}", |_: Request| StatusCode::NO_CONTENT);
    /// ```
    ///
    /// # Panics
    ///
    /// Those of [`route`](Router::route).
    #[must_use]
    #[track_caller]
    pub fn delete(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::DELETE, path, handler)
    }

    /// Answers a method of a path with `handler`.
    ///
    /// ```
    /// use goby_http::{Method, Request, Router};
    /// let purge = Method::from_bytes(b"PURGE")?;
    /// let router = Router::new().route(purge, "/cache/{*key}", |_: Request| "gone");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When `path` is no pattern, or ties with another one, and when the method has a handler there
    /// already.
    #[must_use]
    #[track_caller]
    pub fn route(mut self, method: Method, path: &str, handler: impl Handler) -> Router {
        let pattern = Arc::new(Pattern::new(path));
        self.place(&pattern).add(method, Entry { pattern, handler: Arc::new(handler) });
        self
    }

    /// Answers all methods of a path with `handler`, but for those that have a handler of their
    /// own.
    ///
    /// ```
    /// use goby_http::{Request, Router};
    /// let router = Router::new().any("/mirror", |request: Request| request.method().to_string());
    /// ```
    ///
    /// # Panics
    ///
    /// When `path` is no pattern, or ties with another one, and when it has such a handler already.
    #[must_use]
    #[track_caller]
    pub fn any(mut self, path: &str, handler: impl Handler) -> Router {
        let pattern = Arc::new(Pattern::new(path));
        self.place(&pattern).add_any(Entry { pattern, handler: Arc::new(handler) });
        self
    }

    /// Answers with `handler` where there is no other.
    ///
    /// ```
    /// use goby_http::{Request, Router, StatusCode};
    /// let router = Router::new().fallback(|request: Request| {
    ///     (StatusCode::NOT_FOUND, format!("there is no {}", request.path()))
    /// });
    /// ```
    #[must_use]
    pub fn fallback(mut self, handler: impl Handler) -> Router {
        self.fallback = Fallback { handler: Arc::new(handler), is_own: true };
        self
    }

    /// Adds the routes of another router below `prefix`, which may have parameters.
    ///
    /// Its pattern `/` becomes the prefix itself. Its fallback, if it was given one, answers for
    /// all other paths below the prefix. Its handlers see the whole path.
    ///
    /// ```
    /// use goby_http::{Request, Router};
    /// let posts = Router::new().get("/", |_: Request| "all posts").get("/{id}", |_: Request| "one post");
    /// let router = Router::new().nest("/users/{user}/posts", posts);
    /// assert_eq!(
    ///     format!("{router:?}"),
    ///     r#"Router {"/users/{user}/posts": [GET], "/users/{user}/posts/{id}": [GET]}"#
    /// );
    /// ```
    ///
    /// # Panics
    ///
    /// When `prefix` does not begin with a slash or has a `{*name}`, and when a pattern ties with
    /// another one or is there already with the same method.
    #[must_use]
    #[track_caller]
    pub fn nest(mut self, prefix: &str, router: Router) -> Router {
        assert!(prefix.starts_with('/'), "the prefix {prefix:?} does not begin with a slash");
        assert!(!prefix.contains("{*"), "the prefix {prefix:?} has a parameter for the rest of the path");
        for place in router.places {
            self.add(place.below(prefix));
        }
        for (below, handler) in router.nested {
            self.add_below(&pattern::join(prefix, &below.text), handler);
        }
        if router.fallback.is_own {
            self.add_below(prefix, router.fallback.handler);
        }
        self
    }

    /// Adds the routes of another router. The fallback stays that of this one, unless only the
    /// other was given one.
    ///
    /// ```
    /// use goby_http::{Request, Router};
    /// let pages = Router::new().get("/", |_: Request| "welcome");
    /// let health = Router::new().get("/healthz", |_: Request| "fine");
    /// let router = pages.merge(health);
    /// ```
    ///
    /// # Panics
    ///
    /// When a pattern ties with another one or is there already with the same method.
    #[must_use]
    #[track_caller]
    pub fn merge(mut self, router: Router) -> Router {
        for place in router.places {
            self.add(place);
        }
        for (below, handler) in router.nested {
            self.add_below(&below.text, handler);
        }
        if router.fallback.is_own && !self.fallback.is_own {
            self.fallback = router.fallback;
        }
        self
    }

    /// Wraps a middleware around all that the router has by now: routes, nested ones, the answers
    /// that it gives by itself, and the fallback.
    ///
    /// A middleware is a function that gets the request and the handler behind it. It may answer
    /// itself, change the request or the response, or do something before and after. Routes that
    /// are added later are not wrapped; the middleware that is added last runs first. The route is
    /// known by then: [`Request::param`] and [`Request::pattern`] answer.
    ///
    /// ```
    /// use goby_http::{Handler, Request, Response, Router, StatusCode};
    ///
    /// fn only_with_token(request: Request, next: &dyn Handler) -> Response {
    ///     match request.headers().get("authorization") {
    ///         Some(token) if token == "Bearer sesame" => next.handle(request),
    ///         _ => StatusCode::UNAUTHORIZED.into(),
    ///     }
    /// }
    /// let router = Router::new()
    ///     .get("/secret", |_: Request| "42")
    ///     .with(only_with_token)
    ///     .get("/", |_: Request| "for all");
    /// ```
    #[must_use]
    pub fn with<M, R>(mut self, middleware: M) -> Router
    where
        M: Fn(Request, &dyn Handler) -> R + Send + Sync + 'static,
        R: Into<Response>,
    {
        let middleware = Arc::new(middleware);
        let wrap = |handler: &mut Arc<dyn Handler>| {
            *handler = Arc::new(Layered { middleware: middleware.clone(), next: handler.clone() });
        };
        for place in &mut self.places {
            place.entries_mut().map(|entry| &mut entry.handler).for_each(wrap);
            wrap(&mut place.other);
        }
        self.nested.iter_mut().map(|(_, handler)| handler).for_each(wrap);
        wrap(&mut self.fallback.handler);
        wrap(&mut self.asterisk);
        self
    }

    /// Finds the place of a pattern, or makes it.
    #[track_caller]
    fn place(&mut self, pattern: &Arc<Pattern>) -> &mut Place {
        let path = &pattern.text;
        assert!(path.starts_with('/'), "the path {path:?} does not begin with a slash");
        let index = self.index(pattern).unwrap_or_else(|| {
            let index = self.places.len();
            if let Err(error) = self.table.insert(pattern.canonical(), index) {
                panic!("the path {path:?} cannot be added: {error}");
            }
            let (methods, other) = (Vec::new(), Arc::new(automatic));
            self.places.push(Place { pattern: pattern.clone(), methods, any: None, other });
            index
        });
        &mut self.places[index]
    }

    fn index(&self, pattern: &Pattern) -> Option<usize> {
        self.places.iter().position(|place| place.pattern.shape == pattern.shape)
    }

    /// Adds what another router has at a place, in the layers that it has there.
    #[track_caller]
    fn add(&mut self, from: Place) {
        let is_new = self.index(&from.pattern).is_none();
        let place = self.place(&from.pattern);
        if is_new {
            place.other = from.other;
        }
        for (method, entry) in from.methods {
            place.add(method, entry);
        }
        if let Some(entry) = from.any {
            place.add_any(entry);
        }
    }

    /// Adds a fallback for a prefix and all paths below it.
    #[track_caller]
    fn add_below(&mut self, prefix: &str, handler: Arc<dyn Handler>) {
        let pattern = Arc::new(Pattern::new(prefix));
        let (bare, index) = (pattern.canonical().trim_end_matches('/').to_owned(), self.nested.len());
        for path in [bare.clone(), format!("{bare}/"), format!("{bare}/{{*{REST}}}")] {
            // The path of the root alone, which no request has.
            if path.is_empty() {
                continue;
            }
            if let Err(error) = self.below.insert(path, index) {
                panic!("the fallback of {prefix:?} cannot be added: {error}");
            }
        }
        self.nested.push((pattern, handler));
    }

    /// Finds the handler of a request, and notes the route in the request.
    fn find(&self, request: &mut Request) -> &dyn Handler {
        let path = pattern::canonical(request.path());
        let written = if let Cow::Borrowed(path) = path { Some(path) } else { None };
        let Ok(found) = self.table.at(&path) else {
            return self.find_fallback(request);
        };
        let place = &self.places[*found.value];
        let entry = place.entry(request.method());
        let pattern = entry.map_or(&place.pattern, |entry| &entry.pattern);
        let route = Route::new(pattern, Path { written, params: found.params });
        let Some(route) = route else {
            request.extensions_mut().insert(Verdict::NotText);
            return &*place.other;
        };
        request.set_route(route);
        if let Some(entry) = entry {
            return &*entry.handler;
        }
        request.extensions_mut().insert(Verdict::Methods(place.allow()));
        &*place.other
    }

    #[cold]
    fn find_fallback(&self, request: &mut Request) -> &dyn Handler {
        let path = pattern::canonical(request.path());
        let written = if let Cow::Borrowed(path) = path { Some(path) } else { None };
        let Ok(found) = self.below.at(&path) else { return &*self.fallback.handler };
        let (pattern, handler) = &self.nested[*found.value];
        if let Some(route) = Route::new(pattern, Path { written, params: found.params }) {
            request.set_route(route);
        }
        &**handler
    }
}

impl Place {
    #[track_caller]
    fn add(&mut self, method: Method, entry: Entry) {
        if let Some((_, taken)) = self.methods.iter().find(|(taken, _)| *taken == method) {
            panic!("{method} {} has a handler already{}", entry.pattern.text, taken.pattern.unlike(&entry.pattern));
        }
        self.methods.push((method, entry));
    }

    #[track_caller]
    fn add_any(&mut self, entry: Entry) {
        if let Some(taken) = &self.any {
            let (path, taken) = (&entry.pattern.text, taken.pattern.unlike(&entry.pattern));
            panic!("{path} has a handler for any method already{taken}");
        }
        self.any = Some(entry);
    }

    fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.methods.iter_mut().map(|(_, entry)| entry).chain(&mut self.any)
    }

    /// Gives the place as it is below a prefix.
    fn below(mut self, prefix: &str) -> Place {
        let below =
            |pattern: &mut Arc<Pattern>| *pattern = Arc::new(Pattern::new(&pattern::join(prefix, &pattern.text)));
        below(&mut self.pattern);
        self.entries_mut().map(|entry| &mut entry.pattern).for_each(below);
        self
    }

    fn entry(&self, method: &Method) -> Option<&Entry> {
        let of = |method: &Method| self.methods.iter().find(|(this, _)| this == method).map(|(_, entry)| entry);
        let own = of(method).or_else(|| if *method == Method::HEAD { of(&Method::GET) } else { None });
        own.or(self.any.as_ref())
    }

    /// Lists the methods that are answered.
    fn allow(&self) -> HeaderValue {
        let mut names: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        for (name, is_there) in [("HEAD", names.contains(&"GET")), ("OPTIONS", true)] {
            if is_there && !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ").try_into().expect("methods are tokens")
    }
}

impl Handler for Router {
    fn handle(&self, mut request: Request) -> Response {
        if request.path() == "*" {
            return self.asterisk.handle(request);
        }
        let handler = self.find(&mut request);
        handler.handle(request)
    }
}

/// Answers in the place of a handler that is not there.
fn automatic(mut request: Request) -> Response {
    match request.extensions_mut().remove::<Verdict>() {
        Some(Verdict::Methods(allow)) => {
            let is_question = *request.method() == Method::OPTIONS;
            let status = if is_question { StatusCode::NO_CONTENT } else { StatusCode::METHOD_NOT_ALLOWED };
            Response::from(status).with_header(ALLOW, allow)
        }
        Some(Verdict::NotText) => {
            Rejection::new(StatusCode::BAD_REQUEST, "a part of the path is not UTF-8 text").into()
        }
        // A middleware has made a request of its own.
        None => StatusCode::NOT_FOUND.into(),
    }
}

/// A handler in a middleware.
struct Layered<M> {
    middleware: Arc<M>,
    next: Arc<dyn Handler>,
}

impl<M, R> Handler for Layered<M>
where
    M: Fn(Request, &dyn Handler) -> R + Send + Sync + 'static,
    R: Into<Response>,
{
    fn handle(&self, request: Request) -> Response {
        (self.middleware)(request, &*self.next).into()
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Methods<'a>(&'a Place);

        impl fmt::Debug for Methods<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut list = f.debug_list();
                list.entries(self.0.methods.iter().map(|(method, _)| method));
                list.entries(self.0.any.iter().map(|_| format_args!("any"))).finish()
            }
        }

        f.write_str("Router ")?;
        f.debug_map().entries(self.places.iter().map(|place| (&place.pattern.text, Methods(place)))).finish()
    }
}
