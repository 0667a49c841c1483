//! `--format csv`: results as lines of values, after a first line with their names (RFC 4180).

use std::fmt::{Display, Write};

use goby_http::redacted;

use super::attempt::Wants;
use super::record::{Details, Record};

/// The columns that every result has.
const COLUMNS: &str = "url,line,status,bytes,ms,error,message,attempts,final_url,content_type,file";

/// Appends the first line.
pub(crate) fn write_head(lines: &mut String, wants: &Wants) {
    lines.push_str(COLUMNS);
    for name in wants.columns() {
        lines.push(',');
        push(lines, name);
    }
    lines.push('\n');
}

/// Appends the line of a result.
pub(crate) fn write_line(record: &Record, lines: &mut String, wants: &Wants) {
    let none = Details::default();
    push(lines, &redacted(&record.url));
    push_next(lines, record.line);
    let (details, file) = match &record.result {
        Ok(fetched) => {
            push_next(lines, Some(fetched.status));
            push_next(lines, Some(fetched.bytes));
            push_next(lines, Some(super::record::millis(fetched.elapsed)));
            lines.push_str(",,");
            (&*fetched.details, fetched.file.as_deref())
        }
        Err(failure) => {
            push_next(lines, failure.status);
            lines.push_str(",,");
            push_next(lines, Some(failure.kind.as_str()));
            push_next(lines, Some(&failure.message));
            (&none, None)
        }
    };
    push_next(lines, Some(record.attempts));
    push_next(lines, details.final_url.as_ref().map(|url| redacted(url)));
    push_next(lines, details.content_type.as_ref());
    push_next(lines, file);
    if wants.sha256 {
        push_next(lines, details.sha256.as_ref());
    }
    if wants.timings {
        push_next(lines, details.first_byte.map(super::record::millis));
    }
    for name in &wants.headers {
        let value = details.headers.iter().find(|(own, _)| own == name.as_str());
        push_next(lines, value.map(|(_, value)| value));
    }
    lines.push('\n');
}

fn push_next(lines: &mut String, value: Option<impl Display>) {
    lines.push(',');
    if let Some(value) = value {
        push(lines, &value.to_string());
    }
}

/// Appends a value, in quotes where it needs them.
fn push(lines: &mut String, value: &str) {
    if value.contains(['"', ',', '\n', '\r']) {
        let _ = write!(lines, "\"{}\"", value.replace('"', "\"\""));
    } else {
        lines.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::record::{Failure, Kind};

    #[test]
    fn values_have_quotes_where_they_need_them() {
        let wants = Wants { headers: vec!["etag".parse().unwrap()], sha256: true, timings: false };
        let mut lines = String::new();
        write_head(&mut lines, &wants);
        let failure = Failure::new(Kind::Connect, "it said \"no\", and\nclosed");
        let record = Record { url: "http://h/".to_string(), line: None, result: Err(failure), attempts: 3 };
        write_line(&record, &mut lines, &wants);
        let expected = "url,line,status,bytes,ms,error,message,attempts,final_url,content_type,file,sha256,etag\n\
                        http://h/,,,,,connect,\"it said \"\"no\"\", and\nclosed\",3,,,,,\n";
        assert_eq!(lines, expected);
    }
}
