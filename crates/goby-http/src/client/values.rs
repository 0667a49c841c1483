//! Bodies and queries that are values of serde.

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::RequestBuilder;
use crate::body::Body;
use crate::error::Source;

impl RequestBuilder {
    /// Adds the fields of a value to the query of the URL: each by its name, and a list as
    /// repeated names.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Method, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| request.query().unwrap().to_owned()));
    /// let request = Client::new().prepare(Method::GET, url + "?page=1").query(&[("name", "Zoë & Co")]);
    /// assert_eq!(request.send(&Context::background())?.text()?, "page=1&name=Zo%C3%AB+%26+Co");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn query<T: Serialize + ?Sized>(self, query: &T) -> RequestBuilder {
        self.step(|draft| {
            let added = serde_html_form::to_string(query)?;
            if added.is_empty() {
                return Ok(());
            }
            let url = &mut draft.outline.url;
            let all = match url.query() {
                Some(query) if !query.is_empty() => format!("{query}&{added}"),
                _ => added,
            };
            url.set_query(Some(&all));
            Ok(())
        })
    }

    /// Sets the body to a value as JSON. The header `content-type` says so, unless there is one.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Method, Rejection, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| {
    /// #     Ok::<_, Rejection>(format!("{}", request.json::<Vec<i32>>()?.iter().sum::<i32>()))
    /// # }));
    /// let request = Client::new().prepare(Method::POST, url).json(&[1, 2, 3]);
    /// let sum: i32 = request.send(&Context::background())?.json_as()?;
    /// assert_eq!(sum, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> RequestBuilder {
        self.content("application/json", || Ok(serde_json::to_vec(value)?))
    }

    /// Sets the body to a value as a form: each field by its name, and a list as repeated names.
    /// The header `content-type` says so, unless there is one.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Method, Rejection, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| {
    /// #     Ok::<_, Rejection>(request.form::<Vec<(String, String)>>()?.len().to_string())
    /// # }));
    /// let request = Client::new().prepare(Method::POST, url).form(&[("user", "me"), ("password", "a b")]);
    /// assert_eq!(request.send(&Context::background())?.text()?, "2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn form<T: Serialize + ?Sized>(self, value: &T) -> RequestBuilder {
        self.content("application/x-www-form-urlencoded", || Ok(serde_html_form::to_string(value)?.into_bytes()))
    }

    fn content(self, kind: &'static str, body: impl FnOnce() -> Result<Vec<u8>, Source>) -> RequestBuilder {
        self.step(|draft| {
            draft.body = Body::from(body()?);
            draft.outline.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
            Ok(())
        })
    }
}
