//! The result of one URL, and its form in the output: one JSON object on one line.

use std::fmt::Write as _;
use std::time::Duration;

use goby_http::redacted;

/// The result of one URL.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The URL as it was given, so that results can be joined with the input. It is shown without a
    /// password.
    pub(crate) url: String,
    /// The line of the input that says more of the request than the URL.
    pub(crate) line: Option<u64>,
    /// What was fetched, or why it was not.
    pub(crate) result: Result<Fetched, Failure>,
    /// How many requests were made; 0 for text that is not a URL.
    pub(crate) attempts: u32,
}

/// A response with status 2xx or 3xx that has arrived completely.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    /// The status code.
    pub(crate) status: u16,
    /// Length of the body.
    pub(crate) bytes: u64,
    /// From connecting to the last byte, in the last attempt.
    pub(crate) elapsed: Duration,
    /// Where the body was saved, relative to the directory of `--output-dir`.
    pub(crate) file: Option<String>,
    pub(crate) details: Box<Details>,
}

/// What a result says beyond that, if it is there, or wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Details {
    /// Where redirects have led.
    pub(crate) final_url: Option<String>,
    pub(crate) content_type: Option<String>,
    /// The chosen headers, several of one name with commas between them.
    pub(crate) headers: Vec<(String, String)>,
    /// In hexadecimal digits.
    pub(crate) sha256: Option<String>,
    /// From connecting to the head of the last response.
    pub(crate) first_byte: Option<Duration>,
}

/// Why a URL was not fetched.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The kind, by which failures are counted.
    pub(crate) kind: Kind,
    /// The status code, if a response came.
    pub(crate) status: Option<u16>,
    /// The same in words, with the details of this case.
    pub(crate) message: String,
}

/// Kinds of failures. The order is that of the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// No complete response within `--max-time`.
    Timeout,
    /// The host's name was not resolved.
    Dns,
    /// No connection, or it broke before the response.
    Connect,
    /// The server's certificate or its TLS is not acceptable.
    Tls,
    /// What came is not valid HTTP.
    Protocol,
    /// A response that is neither 2xx nor 3xx.
    HttpStatus,
    /// The response broke off in its body.
    Body,
    /// More redirects than the client follows.
    TooManyRedirects,
    /// Not an http or https URL.
    InvalidUrl,
    /// The host has failed too often: it was not asked.
    HostDown,
    /// The site's robots.txt does not allow it.
    Robots,
    /// The body is longer than `--max-filesize`.
    TooLarge,
    /// The body could not be saved.
    Save,
    /// In flight when the run was stopped.
    Canceled,
}

impl Kind {
    /// The word for it in the output and the summary.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Kind::Timeout => "timeout",
            Kind::Dns => "dns",
            Kind::Connect => "connect",
            Kind::Tls => "tls",
            Kind::Protocol => "protocol",
            Kind::HttpStatus => "http_status",
            Kind::Body => "body",
            Kind::TooManyRedirects => "too_many_redirects",
            Kind::InvalidUrl => "invalid_url",
            Kind::HostDown => "host_down",
            Kind::Robots => "robots",
            Kind::TooLarge => "too_large",
            Kind::Save => "save",
            Kind::Canceled => "canceled",
        }
    }
}

impl Failure {
    /// A failure without a response.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, status: None, message: message.into() }
    }

    /// A response with a status that counts as a failure.
    pub(crate) fn status(status: u16, reason: Option<&str>) -> Failure {
        let message = match reason {
            Some(reason) => format!("{status} {reason}"),
            None => status.to_string(),
        };
        Failure { kind: Kind::HttpStatus, status: Some(status), message }
    }
}

impl Record {
    /// Whether it counts as a failure. A URL that was in flight when the run was stopped does not.
    pub(crate) fn has_failed(&self) -> bool {
        self.result.as_ref().is_err_and(|failure| failure.kind != Kind::Canceled)
    }

    /// Appends the record to `lines` as one line of JSON, with its line feed.
    pub(crate) fn write_line(&self, lines: &mut String) {
        lines.push_str("{\"url\":");
        push_json_string(lines, &redacted(&self.url));
        if let Some(line) = self.line {
            let _ = write!(lines, ",\"line\":{line}");
        }
        match &self.result {
            Ok(fetched) => {
                let (status, bytes, ms) = (fetched.status, fetched.bytes, millis(fetched.elapsed));
                let _ = write!(lines, ",\"status\":{status},\"bytes\":{bytes},\"ms\":{ms}");
                fetched.write_details(lines);
            }
            Err(failure) => {
                let _ = write!(lines, ",\"error\":\"{}\"", failure.kind.as_str());
                if let Some(status) = failure.status {
                    let _ = write!(lines, ",\"status\":{status}");
                }
                lines.push_str(",\"message\":");
                push_json_string(lines, &failure.message);
            }
        }
        let _ = writeln!(lines, ",\"attempts\":{}}}", self.attempts);
    }
}

/// To the microsecond; a number with fewer digits is printed shorter.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

impl Fetched {
    fn write_details(&self, lines: &mut String) {
        let Details { final_url, content_type, headers, sha256, first_byte } = &*self.details;
        let final_url = final_url.as_ref().map(|url| redacted(url));
        for (name, value) in [
            ("final_url", final_url.as_deref()),
            ("content_type", content_type.as_deref()),
            ("file", self.file.as_deref()),
            ("sha256", sha256.as_deref()),
        ] {
            if let Some(value) = value {
                let _ = write!(lines, ",\"{name}\":");
                push_json_string(lines, value);
            }
        }
        if !headers.is_empty() {
            lines.push_str(",\"headers\":{");
            for (index, (name, value)) in headers.iter().enumerate() {
                lines.push_str(if index == 0 { "" } else { "," });
                push_json_string(lines, name);
                lines.push(':');
                push_json_string(lines, value);
            }
            lines.push('}');
        }
        if let Some(first_byte) = first_byte {
            let _ = write!(lines, ",\"first_byte_ms\":{}", millis(*first_byte));
        }
    }
}

fn push_json_string(lines: &mut String, text: &str) {
    let json = serde_json::to_string(text).expect("a string is always JSON");
    lines.push_str(&json);
}

/// A whole line of an output file, read back: the URL, and whether it is done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Earlier {
    /// The URL as it was given.
    pub(crate) url: String,
    /// The line of the input that it is about, if the URL does not say all.
    pub(crate) line: Option<u64>,
    /// The line reports a response, and no error.
    pub(crate) fetched: bool,
    /// The file in which the body was saved, if the line names one.
    pub(crate) file: Option<String>,
}

impl Earlier {
    /// Reads one line of an output file; `None` if it is not one that `write_line` wrote.
    pub(crate) fn read(line: &[u8]) -> Option<Earlier> {
        let value: serde_json::Value = serde_json::from_slice(line).ok()?;
        let url = value.get("url")?.as_str()?.to_string();
        let failed = value.get("error").is_some();
        let status = value.get("status").and_then(serde_json::Value::as_u64);
        if !failed && status.is_none() {
            return None;
        }
        let file = value.get("file").and_then(serde_json::Value::as_str).map(str::to_string);
        let line = value.get("line").and_then(serde_json::Value::as_u64);
        Some(Earlier { url, line, fetched: !failed, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(result: Result<Fetched, Failure>, attempts: u32) -> String {
        let mut lines = String::new();
        Record { url: "http://h/\"a\"".to_string(), line: None, result, attempts }.write_line(&mut lines);
        lines
    }

    fn fetched(micros: u64, file: Option<&str>) -> Fetched {
        let elapsed = Duration::from_micros(micros);
        Fetched { status: 200, bytes: 1234, elapsed, file: file.map(str::to_string), details: Box::default() }
    }

    /// Compares what follows the URL, which has quotes in it.
    #[track_caller]
    fn check_fields(line: &str, fields: &str) {
        assert_eq!(line, format!("{}{fields}}}\n", r#"{"url":"http://h/\"a\"","#));
    }

    #[test]
    fn a_fetched_url_is_one_line() {
        check_fields(&line(Ok(fetched(12_300, None)), 1), r#""status":200,"bytes":1234,"ms":12.3,"attempts":1"#);
    }

    #[test]
    fn a_saved_body_is_named() {
        let fields = r#""status":200,"bytes":1234,"ms":0.007,"file":"http/h/a","attempts":2"#;
        check_fields(&line(Ok(fetched(7, Some("http/h/a"))), 2), fields);
    }

    #[test]
    fn a_failure_is_one_line_with_its_status_if_there_was_one() {
        let timeout = Failure::new(Kind::Timeout, "no response\nwithin 10 s");
        let fields = r#""error":"timeout","message":"no response\nwithin 10 s","attempts":3"#;
        check_fields(&line(Err(timeout), 3), fields);
        let missing = Failure::status(404, Some("Not Found"));
        let fields = r#""error":"http_status","status":404,"message":"404 Not Found","attempts":1"#;
        check_fields(&line(Err(missing), 1), fields);
    }

    #[test]
    fn written_lines_are_read_back() {
        let read = |result| Earlier::read(line(result, 1).as_bytes()).unwrap();
        let url = "http://h/\"a\"".to_string();
        assert_eq!(read(Ok(fetched(1, None))), Earlier { url: url.clone(), line: None, fetched: true, file: None });
        assert_eq!(
            read(Ok(fetched(1, Some("f")))),
            Earlier { url: url.clone(), line: None, fetched: true, file: Some("f".to_string()) }
        );
        assert_eq!(read(Err(Failure::status(500, None))), Earlier { url, line: None, fetched: false, file: None });
    }

    #[test]
    fn other_lines_are_not_taken_for_results() {
        for line in
            ["", "http://h/", "{}", "[1]", "{\"url\":7,\"status\":200}", "{\"url\":\"u\"}", "{\"url\":\"u\",\"sta"]
        {
            assert_eq!(Earlier::read(line.as_bytes()), None, "{line:?}");
        }
    }
}
