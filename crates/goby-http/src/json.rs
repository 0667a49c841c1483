//! Values of serde in queries, forms and JSON.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::Body;
use crate::error::{Error, Phase};
use crate::rejection::Rejection;
use crate::response::Response;
use crate::server::Request;

impl Request {
    /// Reads the query as a value: each field by its name. Repeated names make a list.
    ///
    /// ```
    /// use goby_http::{Rejection, Request, Router};
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Page {
    ///     number: u32,
    ///     size: Option<u32>,
    /// }
    ///
    /// let router = Router::new().get("/articles", |request: Request| {
    ///     let page: Page = request.query_as()?;
    ///     Ok::<_, Rejection>(format!("page {} by {}", page.number, page.size.unwrap_or(10)))
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// 400 when it does not fit.
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        serde_html_form::from_str(self.query().unwrap_or_default())
            .map_err(|error| Rejection::new(StatusCode::BAD_REQUEST, format!("invalid query: {error}")))
    }

    /// Reads the body as JSON, of limited [size](Request::with_body_limit).
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::{Body, Client, Rejection, Request, Response, Router, Server};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize, Serialize)]
    /// struct Point {
    ///     x: i32,
    ///     y: i32,
    /// }
    ///
    /// fn mirrored(request: Request) -> Result<Response, Rejection> {
    ///     let Point { x, y } = request.json()?;
    ///     Ok(Response::json(&Point { x: y, y: x }))
    /// }
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let url = format!("http://{}/", server.local_addr());
    /// let (serving, _stop) = Context::background().with_cancel();
    /// goby::go(move || server.serve_ctx(&serving, Router::new().post("/", mirrored)));
    ///
    /// let request = http::Request::post(url).header("content-type", "application/json");
    /// let request = request.body(Body::from(r#"{"x": 1, "y": 2}"#))?;
    /// let response = Client::new().request(&Context::background(), request)?;
    /// assert_eq!(response.headers()["content-type"], "application/json");
    /// assert_eq!(response.text()?, r#"{"x":2,"y":1}"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// 415 when its content type is not JSON, 413 when it is too long, 400 when it is not JSON or
    /// cannot be read, and 422 when it is JSON that does not fit.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Rejection> {
        if !is_json(self.headers()) {
            return Err(unsupported("application/json"));
        }
        serde_json::from_slice(&self.buffered()?).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                Rejection::new(StatusCode::UNPROCESSABLE_ENTITY, format!("unexpected JSON: {error}"))
            }
            _ => Rejection::new(StatusCode::BAD_REQUEST, format!("invalid JSON: {error}")),
        })
    }

    /// Reads a form as a value: each field by its name. Repeated names make a list. The form is the
    /// query of a `GET` or `HEAD`, and otherwise the body, of limited
    /// [size](Request::with_body_limit).
    ///
    /// ```
    /// use goby_http::{Rejection, Request, Router};
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Login {
    ///     user: String,
    ///     password: String,
    /// }
    ///
    /// let router = Router::new().post("/login", |request: Request| {
    ///     let login: Login = request.form()?;
    ///     Ok::<_, Rejection>(format!("hello, {}", login.user))
    /// });
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// 415 when its content type is not `application/x-www-form-urlencoded`, 413 when it is too
    /// long, 400 when it cannot be read, and 422 when it does not fit (400 for a query).
    pub fn form<T: DeserializeOwned>(self) -> Result<T, Rejection> {
        const FORM: &str = "application/x-www-form-urlencoded";
        if matches!(*self.method(), Method::GET | Method::HEAD) {
            return self.query_as();
        }
        if !essence(self.headers()).eq_ignore_ascii_case(FORM) {
            return Err(unsupported(FORM));
        }
        serde_html_form::from_bytes(&self.buffered()?)
            .map_err(|error| Rejection::new(StatusCode::UNPROCESSABLE_ENTITY, format!("invalid form: {error}")))
    }
}

impl Response {
    /// Makes a response with status 200 and this value as JSON. A value that has no form in JSON
    /// makes an [error](Response::error), with status 500.
    ///
    /// ```
    /// use goby_http::Response;
    /// let response = Response::json(&[1, 2, 3]);
    /// assert_eq!(response.headers()["content-type"], "application/json");
    /// assert_eq!(response.text()?, "[1,2,3]");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Response {
        let mut response = Response::from(serde_json::to_vec(value).map(Body::from));
        if response.error().is_none() {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        response
    }
}

impl Response {
    /// Reads the body to its end, as JSON, whatever its content type is.
    ///
    /// A body of any length is read, unless the client has [a
    /// limit](crate::ClientBuilder::max_body).
    ///
    /// ```
    /// use goby_http::Response;
    /// use std::collections::HashMap;
    /// let point: HashMap<String, i32> = Response::new(r#"{"x": 1, "y": 2}"#).json_as()?;
    /// assert_eq!(point["y"], 2);
    ///
    /// let error = Response::new("{}").json_as::<Vec<i32>>().unwrap_err();
    /// assert_eq!(error.to_string(), "body is not the expected JSON");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Response::bytes), and when the body is not JSON, or does not fit.
    ///
    /// # Cancellation
    ///
    /// By the context of the request.
    pub fn json_as<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.bytes()?).map_err(|error| Error::new(Phase::NotJson, error))
    }
}

/// Gives the content type without its parameters.
fn essence(headers: &HeaderMap) -> &str {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

/// Whether the content type is `application/json`, or one that is written in JSON (RFC 6839).
fn is_json(headers: &HeaderMap) -> bool {
    let essence = essence(headers).to_ascii_lowercase();
    essence.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

fn unsupported(wanted: &str) -> Rejection {
    Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the content type of the body is not {wanted}"))
}
