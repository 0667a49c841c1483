//! Forms with files, as a client sends them (RFC 7578).
//!
//! A form is a sequence of bodies: the head of a part, its content, the head of the next one. Its
//! length is known if that of each content is, and it is at hand if they all are.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use goby::fs::File;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::body::{Body, Source};
use crate::client::RequestBuilder;
use crate::error::Error;

/// A form with files, `multipart/form-data`, to send by
/// [`RequestBuilder::multipart`](crate::RequestBuilder::multipart). Source: Go's
/// `multipart.Writer`, reqwest's `multipart::Form`.
///
/// Its boundary is random. Its length is announced if that of all parts is known.
///
/// ```
/// # use goby::Context;
/// # use goby_http::{Client, Method, Rejection, Request, Server};
/// # let server = Server::bind("127.0.0.1:0")?;
/// # let url = format!("http://{}/", server.local_addr());
/// # let (serving, _stop) = Context::background().with_cancel();
/// # goby::go(move || server.serve_ctx(&serving, |request: Request| {
/// #     let (mut form, mut all) = (request.multipart()?, String::new());
/// #     while let Some(field) = form.next_field()? {
/// #         all += &format!("{} {} ", field.name().unwrap(), field.file_name().unwrap_or("-"));
/// #         all += &format!("{}, ", field.bytes()?.len());
/// #     }
/// #     Ok::<_, Rejection>(all)
/// # }));
/// use goby_http::{Form, Part};
///
/// let form = Form::new()
///     .text("title", "a file")
///     .part("file", Part::file("/etc/passwd")?)
///     .part("stream", Part::new(goby_http::Body::from_reader(&b"bytes"[..])).with_file_name("bytes.bin"));
/// let response = Client::new().prepare(Method::POST, url).multipart(form).send(&Context::background())?;
/// let length = std::fs::metadata("/etc/passwd")?.len();
/// assert_eq!(response.text()?, format!("title - 6, file passwd {length}, stream bytes.bin 5, "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Form {
    boundary: String,
    /// Heads and contents in turn; the head before each content.
    pieces: VecDeque<Body>,
}

/// A part of a [`Form`]: its content, and what its head says.
pub struct Part {
    content: Body,
    file_name: Option<String>,
    headers: HeaderMap,
}

impl Form {
    /// Makes a form without parts.
    ///
    /// ```
    /// let form = goby_http::Form::new().text("name", "value");
    /// ```
    pub fn new() -> Form {
        Form { boundary: boundary(), pieces: VecDeque::new() }
    }

    /// Tells the boundary between the parts: 32 hexadecimal digits.
    ///
    /// ```
    /// use goby_http::Form;
    /// assert_eq!(Form::new().boundary().len(), 32);
    /// assert_ne!(Form::new().boundary(), Form::new().boundary());
    /// ```
    pub fn boundary(&self) -> &str {
        &self.boundary
    }

    /// Adds a field of text.
    ///
    /// ```
    /// let form = goby_http::Form::new().text("name", "value");
    /// ```
    #[must_use]
    pub fn text(self, name: impl AsRef<str>, value: impl Into<String>) -> Form {
        self.part(name, Part::text(value))
    }

    /// Adds a field.
    ///
    /// ```
    /// use goby_http::{Form, Part};
    /// let json = Part::text("{}").with_header("content-type", "application/json");
    /// let form = Form::new().part("settings", json);
    /// ```
    #[must_use]
    pub fn part(mut self, name: impl AsRef<str>, part: Part) -> Form {
        let Part { content, file_name, headers } = part;
        let mut head = BytesMut::new();
        if !self.pieces.is_empty() {
            head.extend_from_slice(b"\r\n");
        }
        let (boundary, name) = (&self.boundary, quoted(name.as_ref()));
        head.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; name={name}").as_bytes());
        if let Some(file_name) = file_name {
            head.extend_from_slice(format!("; filename={}", quoted(&file_name)).as_bytes());
        }
        for (name, value) in &headers {
            head.extend_from_slice(format!("\r\n{name}: ").as_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        head.extend_from_slice(b"\r\n\r\n");
        self.pieces.extend([Body::from(head.freeze()), content]);
        self
    }

    fn content_type(&self) -> HeaderValue {
        let text = format!("multipart/form-data; boundary={}", self.boundary);
        text.try_into().expect("a boundary is valid in a header")
    }

    fn into_body(mut self) -> Body {
        let line = if self.pieces.is_empty() { "" } else { "\r\n" };
        self.pieces.push_back(Body::from(format!("{line}--{}--\r\n", self.boundary)));
        let whole: Option<Vec<&[u8]>> = self.pieces.iter().map(|piece| piece.whole().map(|bytes| &bytes[..])).collect();
        match whole {
            // So it can be sent again.
            Some(whole) => Body::from(whole.concat()),
            None => {
                let sized = self.pieces.iter().all(|piece| piece.len().is_some());
                Body::from_source(Pieces { pieces: self.pieces, sized })
            }
        }
    }
}

impl Part {
    /// Makes a part of any body. It has no type and no name of a file.
    ///
    /// ```
    /// let part = goby_http::Part::new(vec![0; 100]).with_file_name("zeros.bin");
    /// ```
    pub fn new(content: impl Into<Body>) -> Part {
        Part { content: content.into(), file_name: None, headers: HeaderMap::new() }
    }

    /// Makes a part of text.
    ///
    /// ```
    /// let part = goby_http::Part::text("some text");
    /// ```
    pub fn text(text: impl Into<String>) -> Part {
        Part::new(text.into())
    }

    /// Makes a part of a file, which is read as it is sent. The part has the file's name and the
    /// type `application/octet-stream`.
    ///
    /// The length of a regular file is announced: it must not become shorter before it is sent, and
    /// what is appended meanwhile is left out.
    ///
    /// ```
    /// let part = goby_http::Part::file("/etc/passwd")?;
    /// assert!(goby_http::Part::file("/no/such/file").is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the file is open.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn file(path: impl AsRef<Path>) -> io::Result<Part> {
        let path = path.as_ref();
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let content = match metadata.is_file() {
            true => Body::from_sized_reader(file, metadata.len()),
            false => Body::from_reader(file),
        };
        let part = Part::new(content).with_header(CONTENT_TYPE, "application/octet-stream");
        Ok(match path.file_name() {
            Some(name) => part.with_file_name(name.to_string_lossy()),
            None => part,
        })
    }

    /// Sets the name of the file, which makes the part one.
    ///
    /// ```
    /// let part = goby_http::Part::text("a,b\n").with_file_name("table.csv");
    /// ```
    #[must_use]
    pub fn with_file_name(mut self, name: impl Into<String>) -> Part {
        self.file_name = Some(name.into());
        self
    }

    /// Sets a header of the part, in place of all headers of that name.
    ///
    /// ```
    /// let part = goby_http::Part::text("a,b\n").with_header("content-type", "text/csv");
    /// ```
    ///
    /// # Panics
    ///
    /// When name or value have characters that no header may have.
    #[must_use]
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Part
    where
        N: TryInto<HeaderName, Error: fmt::Debug>,
        V: TryInto<HeaderValue, Error: fmt::Debug>,
    {
        self.headers.insert(name.try_into().expect("a header name"), value.try_into().expect("a header value"));
        self
    }
}

impl RequestBuilder {
    /// Sets the body to a form with files, and the header `content-type` to its type and boundary.
    ///
    /// A form of texts and bytes can be sent again after a redirect, one with files or readers
    /// cannot. See [`Form`] for an example.
    pub fn multipart(self, form: Form) -> RequestBuilder {
        let kind = form.content_type();
        self.headers(HeaderMap::from_iter([(CONTENT_TYPE, kind)])).body(form.into_body())
    }
}

/// 128 random bits: no content has them, not even one that somebody else chose.
fn boundary() -> String {
    let mut random = [0; 16];
    // The system gives up to 256 bytes at once, and is not interrupted while it does.
    getrandom(&mut random, GetRandomFlags::empty()).expect("the system has random bytes");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name in quotation marks. What would end it is encoded as browsers do (the HTML standard,
/// "multipart form data").
fn quoted(name: &str) -> String {
    let mut quoted = Cow::Borrowed(name);
    for (character, code) in [('"', "%22"), ('\r', "%0D"), ('\n', "%0A")] {
        if quoted.contains(character) {
            quoted = quoted.replace(character, code).into();
        }
    }
    format!("\"{quoted}\"")
}

/// The rest of a form.
struct Pieces {
    pieces: VecDeque<Body>,
    /// Whether the length of the form is known. Otherwise it stays unknown to the end, though the
    /// length of the last pieces is known: the receiver is told by the end alone.
    sized: bool,
}

impl Source for Pieces {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(piece) = self.pieces.front_mut() {
            match piece.chunk()? {
                Some(chunk) => return Ok(Some(chunk)),
                // A file is closed once it is sent.
                None => drop(self.pieces.pop_front()),
            }
        }
        Ok(None)
    }

    fn remaining(&self) -> Option<u64> {
        if self.sized { self.pieces.iter().map(Body::len).sum() } else { None }
    }
}

impl Default for Form {
    fn default() -> Form {
        Form::new()
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").field("boundary", &self.boundary).field("parts", &(self.pieces.len() / 2)).finish()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut part = f.debug_struct("Part");
        part.field("file_name", &self.file_name)
            .field("headers", &self.headers)
            .field("content", &self.content)
            .finish()
    }
}
