//! What a request asks besides its URL: method, headers, body, credentials.
//!
//! [`Requests`] has what the options say for all URLs; a line of JSON in the input has a [`Custom`]
//! of its own, which goes before them. Secrets are for the origin of the URL that was given. After
//! a redirect to another one they are left out, as curl does.

use std::path::PathBuf;
use std::{env, fs};

use bytes::Bytes;
use goby::Context;
use goby_http::{Client, Error, Response};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use super::args::RequestArgs;
use super::body;
use super::netrc::Netrc;
use super::task::Moved;
use crate::exit::Usage;
use crate::text;

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a line of the input says of its own request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Custom {
    /// The number of the line, which its result has, too.
    pub(crate) line: u64,
    pub(crate) method: Option<Method>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

impl Custom {
    /// Whether it says nothing of the request.
    pub(crate) fn is_plain(&self) -> bool {
        self.method.is_none() && self.headers.is_empty() && self.body.is_none()
    }
}

/// What the options say of all requests.
#[derive(Debug)]
pub(crate) struct Requests {
    method: Option<Method>,
    headers: HeaderMap,
    body: Option<Bytes>,
    user: Option<User>,
    netrc: Option<Netrc>,
}

/// The value of `-H`.
#[derive(Clone, Debug)]
pub(crate) enum Header {
    Send(HeaderName, HeaderValue),
    /// None of this name is sent.
    Omit(HeaderName),
    /// A file with a header on each line.
    File(PathBuf),
}

/// A name and its password: the value of `-u`, or an entry of a netrc file.
#[derive(Clone, Default)]
pub(crate) struct User {
    pub(super) name: String,
    pub(super) password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl User {
    /// Reads `NAME:PASSWORD`.
    ///
    /// # Errors
    /// In words, for clap to print behind the option's name.
    pub(crate) fn parse(text: &str) -> Result<User, String> {
        let parts = text.split_once(':');
        let (name, password) = parts.ok_or("expected NAME:PASSWORD; an empty password needs the colon, too")?;
        Ok(User { name: name.to_string(), password: password.to_string() })
    }
}

impl Header {
    /// Reads `NAME: VALUE`, `NAME:`, `NAME;` or `@FILE`.
    ///
    /// # Errors
    /// In words, for clap to print behind the option's name.
    pub(crate) fn parse(text: &str) -> Result<Header, String> {
        if let Some(path) = text.strip_prefix('@') {
            return Ok(Header::File(path.into()));
        }
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, value.trim()),
            None => (text.strip_suffix(';').ok_or("expected NAME: VALUE, such as \"accept: text/html\"")?, ";"),
        };
        let parsed = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "the name is no header's name")?;
        match value {
            "" => Ok(Header::Omit(parsed)),
            ";" if !text.contains(':') => Ok(Header::Send(parsed, HeaderValue::from_static(""))),
            _ => Ok(Header::Send(parsed, header_value(value)?)),
        }
    }
}

/// A header's value. It is never shown in a message.
pub(crate) fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| "the value has a control character in it".to_string())
}

impl Requests {
    /// Reads the files that the options name.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(crate) fn new(args: &RequestArgs) -> Result<Requests, Usage> {
        let pieces = || args.data.iter().chain(&args.data_raw).chain(&args.data_binary);
        if let Some(dir) = args.data.iter().find_map(body::Data::is_directory) {
            return Err(Usage::new(format!(
                "-d sends data, as curl's; to save bodies in {dir}, write --output-dir {dir} (to send the word, \
                 --data-raw {dir})"
            )));
        }
        let mut headers = HeaderMap::new();
        let body = if !args.json.is_empty() {
            headers.insert(CONTENT_TYPE, JSON);
            headers.insert(ACCEPT, JSON);
            Some(body::read(&args.json, b"")?)
        } else if pieces().next().is_some() {
            headers.insert(CONTENT_TYPE, FORM);
            Some(body::read(pieces(), b"&")?)
        } else {
            None
        };
        if let Some(referer) = &args.referer {
            headers.insert(
                REFERER,
                header_value(referer).map_err(|error| Usage::new(format!("cannot send -e: {error}")))?,
            );
        }
        set_headers(&mut headers, &args.headers)?;
        let cookies: Vec<&str> = args.cookie.iter().map(String::as_str).filter(|data| data.contains('=')).collect();
        if !cookies.is_empty() {
            let value = header_value(&cookies.join("; "));
            headers.insert(COOKIE, value.map_err(|error| Usage::new(format!("cannot send -b: {error}")))?);
        }
        let method = if args.head { Some(Method::HEAD) } else { args.method.clone() };
        Ok(Requests { method, headers, body, user: args.user.clone(), netrc: netrc(args)? })
    }

    /// Whether a request may be made again though the server may have had it: its method does the
    /// same twice as once, or it says so.
    pub(crate) fn is_repeatable(&self, custom: Option<&Custom>) -> bool {
        let is_idempotent = self.method(custom).is_idempotent();
        let has_key = |headers: &HeaderMap| headers.contains_key("idempotency-key");
        is_idempotent || has_key(&self.headers) || custom.is_some_and(|custom| has_key(&custom.headers))
    }

    /// Whether a request is a `GET`.
    pub(crate) fn is_get(&self, custom: Option<&Custom>) -> bool {
        self.method(custom) == Method::GET
    }

    fn method(&self, custom: Option<&Custom>) -> Method {
        let has_body = self.body.is_some() || custom.is_some_and(|custom| custom.body.is_some());
        let chosen = custom.and_then(|custom| custom.method.clone()).or_else(|| self.method.clone());
        chosen.unwrap_or(if has_body { Method::POST } else { Method::GET })
    }

    /// Makes a request to `at`, where redirects may have led.
    pub(crate) fn send(
        &self,
        client: &Client,
        ctx: &Context,
        at: &Url,
        custom: Option<&Custom>,
        moved: Option<&Moved>,
        more: HeaderMap,
    ) -> Result<Response, Error> {
        let mut headers = self.headers.clone();
        replace(&mut headers, custom.map(|custom| custom.headers.clone()).unwrap_or_default());
        replace(&mut headers, more);
        let is_foreign = moved.is_some_and(|moved| moved.is_foreign);
        if is_foreign {
            for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                headers.remove(name);
            }
        }
        let mut method = self.method(custom);
        let mut body = custom.and_then(|custom| custom.body.clone()).or_else(|| self.body.clone());
        if moved.is_some_and(|moved| moved.is_get) {
            method = if method == Method::HEAD { method } else { Method::GET };
            body = None;
            headers.remove(CONTENT_TYPE);
        }
        let has_own = headers.contains_key(AUTHORIZATION);
        let mut request = client.prepare(method, at.as_str()).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        if let Some((name, password)) = self.credentials(at, is_foreign).filter(|_| !has_own) {
            request = request.basic_auth(name, Some(password));
        }
        request.send(ctx)
    }

    /// Whether `send` would only make a `GET` without anything else.
    pub(crate) fn is_plain(&self) -> bool {
        self.method.is_none()
            && self.body.is_none()
            && self.headers.is_empty()
            && self.user.is_none()
            && self.netrc.is_none()
    }

    /// The name and password for a request: `-u` goes before those in the URL, which go before the
    /// netrc file's.
    fn credentials(&self, at: &Url, is_foreign: bool) -> Option<(&str, &str)> {
        if let Some(User { name, password }) = self.user.as_ref().filter(|_| !is_foreign) {
            return Some((name, password));
        }
        let has_own = !at.username().is_empty() || at.password().is_some();
        let host = at.host_str().filter(|_| !has_own)?;
        self.netrc.as_ref()?.of(host)
    }
}

/// Sets headers in place of those of their names.
fn replace(headers: &mut HeaderMap, others: HeaderMap) {
    for name in others.keys() {
        headers.remove(name);
    }
    let mut last = None;
    for (name, value) in others {
        last = name.or(last);
        headers.append(last.clone().expect("the first value has its name"), value);
    }
}

/// Sets the headers of `-H`: those of one name replace what other options have set.
fn set_headers(headers: &mut HeaderMap, given: &[Header]) -> Result<(), Usage> {
    let mut own = HeaderMap::new();
    for header in given {
        let Header::File(path) = header else {
            set_header(headers, &mut own, header);
            continue;
        };
        let name = path.display();
        let content = fs::read_to_string(path)
            .map_err(|error| Usage::new(format!("cannot read {name}: {}", text::reason(&error))))?;
        for (number, line) in (1..).zip(content.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            match Header::parse(line) {
                Ok(Header::File(_)) => return Err(Usage::new(format!("{name}, line {number}: a file names no other"))),
                Ok(header) => set_header(headers, &mut own, &header),
                Err(error) => return Err(Usage::new(format!("{name}, line {number}: {error}"))),
            }
        }
    }
    replace(headers, own);
    Ok(())
}

fn set_header(headers: &mut HeaderMap, own: &mut HeaderMap, header: &Header) {
    match header {
        Header::Send(name, value) => drop(own.append(name, value.clone())),
        Header::Omit(name) => drop(headers.remove(name)),
        Header::File(_) => {}
    }
}

fn netrc(args: &RequestArgs) -> Result<Option<Netrc>, Usage> {
    let of_home = || {
        let named = env::var_os("NETRC").map(PathBuf::from);
        named.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".netrc")))
    };
    let path = match &args.netrc_file {
        Some(path) => path.clone(),
        None if args.netrc => {
            of_home().ok_or_else(|| Usage::new("there is no $HOME; name a file with --netrc-file"))?
        }
        None => return Ok(None),
    };
    match fs::read_to_string(&path) {
        Ok(content) => Ok(Some(Netrc::parse(&content))),
        Err(error) => Err(Usage::new(format!("cannot read {}: {}", path.display(), text::reason(&error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        match Header::parse(text) {
            Ok(Header::Send(name, value)) => format!("{name}={}", value.to_str().unwrap()),
            Ok(Header::Omit(name)) => format!("no {name}"),
            Ok(Header::File(path)) => format!("file {}", path.display()),
            Err(error) => error,
        }
    }

    #[test]
    fn headers_are_read_as_curl_reads_them() {
        let read = ["Accept: text/html", "x-a:b:c", "X-A:", "X-A;", "@file"].map(parse);
        assert_eq!(read, ["accept=text/html", "x-a=b:c", "no x-a", "x-a=", "file file"]);
        assert_eq!(parse("nonsense"), "expected NAME: VALUE, such as \"accept: text/html\"");
        assert_eq!(parse("a b: c"), "the name is no header's name");
        assert_eq!(parse("a: b\nc"), "the value has a control character in it");
    }

    #[test]
    fn headers_replace_those_of_their_names() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, FORM);
        headers.insert(ACCEPT, JSON);
        let given =
            ["content-type: text/plain", "accept:", "x-a: 1", "x-a: 2"].map(|text| Header::parse(text).unwrap());
        set_headers(&mut headers, &given).unwrap();
        assert_eq!(headers.len(), 3);
        assert_eq!(headers[CONTENT_TYPE], "text/plain");
        assert_eq!(headers.get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn a_password_is_in_no_debug_output() {
        assert!(!format!("{:?}", User::parse("me:secret")).contains("secret"));
        assert!(User::parse("me").is_err());
    }
}
