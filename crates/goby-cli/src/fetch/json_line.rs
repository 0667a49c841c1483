//! A line of the input that is a request of its own: a JSON object.
//!
//! `{"url": …, "method": …, "headers": {…}, "body": …}`. Only the URL is needed. A header has one
//! value or a list of them. A body that is no text is sent as JSON.

use goby_http::redacted;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Method};
use serde_json::{Map, Value};

use super::request::{Custom, JSON, header_value};

/// Reads line `line`.
///
/// # Errors
/// The URL as far as it is known, and what is wrong. Neither has anything else of the line: there
/// may be secrets in it.
pub(crate) fn read(line: u64, text: &str) -> Result<(String, Custom), (String, String)> {
    let unknown = |error: String| (String::from("{…}"), error);
    let value: Value = serde_json::from_str(text)
        .map_err(|error| unknown(format!("no JSON object, from its column {} on", error.column())))?;
    let Value::Object(fields) = value else { return Err(unknown("no JSON object".to_string())) };
    let Some(url) = fields.get("url").and_then(Value::as_str) else {
        return Err(unknown("no \"url\" in the object".to_string()));
    };
    let url = url.trim().to_string();
    match read_fields(&fields) {
        Ok(custom) => Ok((url, Custom { line, ..custom })),
        Err(error) => Err((redacted(&url).into(), error)),
    }
}

fn read_fields(fields: &Map<String, Value>) -> Result<Custom, String> {
    let mut custom = Custom::default();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("url", _) | ("method" | "headers" | "body", Value::Null) => {}
            ("method", Value::String(method)) => {
                let method = Method::from_bytes(method.as_bytes()).map_err(|_| "\"method\" is no method")?;
                custom.method = Some(method);
            }
            ("headers", Value::Object(headers)) => read_headers(headers, &mut custom.headers)?,
            ("body", Value::String(body)) => custom.body = Some(body.clone().into()),
            ("body", body) => {
                custom.body = Some(body.to_string().into());
                custom.headers.entry(CONTENT_TYPE).or_insert(JSON);
            }
            ("method", _) => return Err("\"method\" is no text".to_string()),
            ("headers", _) => return Err("\"headers\" is no object".to_string()),
            _ => return Err(format!("a field {name:?}; those of a request are url, method, headers and body")),
        }
    }
    Ok(custom)
}

fn read_headers(fields: &Map<String, Value>, headers: &mut HeaderMap) -> Result<(), String> {
    for (name, value) in fields {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header's name"))?;
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        headers.remove(&parsed);
        for value in values {
            let text =
                value.as_str().ok_or_else(|| format!("the value of {name:?} is neither text nor a list of texts"))?;
            let value = header_value(text).map_err(|error| format!("{name:?}: {error}"))?;
            headers.append(parsed.clone(), value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_what_its_fields_say() {
        let line = r#"{"url":" http://h/ ","method":"PUT","headers":{"X-A":"1","x-b":["2","3"]},"body":{"a":[1]}}"#;
        let (url, custom) = read(7, line).unwrap();
        assert_eq!((url.as_str(), custom.line, custom.method), ("http://h/", 7, Some(Method::PUT)));
        assert_eq!(custom.body.as_deref(), Some(&br#"{"a":[1]}"#[..]));
        assert_eq!(custom.headers["x-a"], "1");
        assert_eq!(custom.headers.get_all("x-b").iter().count(), 2);
        assert_eq!(custom.headers[CONTENT_TYPE], "application/json");
        let (_, custom) = read(1, r#"{"url":"http://h/","body":"plain","method":null}"#).unwrap();
        assert_eq!((custom.body.as_deref(), custom.headers.len()), (Some(&b"plain"[..]), 0));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_rest_of_the_line() {
        for (line, url, error) in [
            (r#"{"url":"http://h/""#, "{…}", "no JSON object, from its column 18 on"),
            (r#"{"uri":"http://h/"}"#, "{…}", "no \"url\" in the object"),
            (
                r#"{"url":"http://me:secret@h/","body ":"secret"}"#,
                "http://me:***@h/",
                "a field \"body \"; those of a request are url, method, headers and body",
            ),
            (r#"{"url":"http://h/","headers":{"a b":"secret"}}"#, "http://h/", "\"a b\" is no header's name"),
            (
                r#"{"url":"http://h/","headers":{"a":7}}"#,
                "http://h/",
                "the value of \"a\" is neither text nor a list of texts",
            ),
            (r#"{"url":"http://h/","headers":["secret"]}"#, "http://h/", "\"headers\" is no object"),
            (r#"{"url":"http://h/","method":"A B"}"#, "http://h/", "\"method\" is no method"),
        ] {
            assert_eq!(read(1, line).unwrap_err(), (url.to_string(), error.to_string()), "{line}");
        }
    }
}
