//! Patterns of paths, and what stood for their parameters.
//!
//! Paths are compared in a canonical form ([`canonical`]): a character is percent-encoded exactly
//! if it cannot stand for itself (RFC 3986, section 6.2.2). A path is in that form already, as a
//! rule, and then nothing is copied: the parameters are ranges of it.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

/// The parameter that stands for the rest of a path in the pattern of a fallback. It cannot be
/// asked for.
pub(super) const REST: &str = "\0";

/// A pattern as it was written, and the names of its parameters.
pub(super) struct Pattern {
    pub(super) text: String,
    /// The canonical text without the names: the same for patterns that match the same paths.
    pub(super) shape: String,
    names: Vec<String>,
}

/// How a request came to its handler.
pub(crate) struct Route {
    pattern: Arc<Pattern>,
    /// In the order of the pattern's names.
    values: Box<[Value]>,
}

/// What stood for a parameter.
enum Value {
    /// A part of the request's path.
    InPath(Range<usize>),
    Decoded(Box<str>),
}

impl Pattern {
    pub(super) fn new(text: &str) -> Pattern {
        let name = |part| match part {
            Part::Plain(_) => None,
            Part::Parameter(text) => Some(text.trim_matches(['{', '}']).trim_start_matches('*').to_owned()),
        };
        let names = parts(text).into_iter().filter_map(name).collect();
        Pattern { text: text.to_owned(), shape: canonical_parts(text, without_name), names }
    }

    /// Gives the pattern with its text in canonical form.
    pub(super) fn canonical(&self) -> String {
        canonical_parts(&self.text, |parameter| parameter)
    }

    /// Says how the pattern is written, if that is not as another one.
    pub(super) fn unlike(&self, other: &Pattern) -> String {
        if self.text == other.text { String::new() } else { format!(", added as {}", self.text) }
    }
}

/// Puts the parts of a pattern together again, in canonical form, with each parameter as `write`
/// has it.
fn canonical_parts(pattern: &str, write: impl Fn(&str) -> &str) -> String {
    let mut all = String::new();
    for part in parts(pattern) {
        match part {
            Part::Plain(text) => all += &canonical(&text.replace("{{", "{").replace("}}", "}")),
            Part::Parameter(text) => all += write(text),
        }
    }
    all
}

/// Leaves the name out of a parameter. One that is wrong keeps it, so that `matchit` says why.
fn without_name(parameter: &str) -> &str {
    let Some(inner) = parameter.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return parameter };
    let (name, without) = match inner.strip_prefix('*') {
        Some(name) => (name, "\0*"),
        None => (inner, "\0"),
    };
    if name.is_empty() || name.contains(['*', '{', '}']) { parameter } else { without }
}

/// What `matchit` has found in a path.
pub(super) struct Path<'k, 'v> {
    /// The path, if the request has it in canonical form.
    pub(super) written: Option<&'v str>,
    pub(super) params: matchit::Params<'k, 'v>,
}

enum Part<'a> {
    /// With doubled braces.
    Plain(&'a str),
    /// With its braces; or what is wrong with the pattern, which `matchit` says.
    Parameter(&'a str),
}

fn parts(pattern: &str) -> Vec<Part<'_>> {
    let (mut parts, mut plain, mut at) = (Vec::new(), 0, 0);
    while let Some(found) = pattern[at..].find(['{', '}']).map(|offset| at + offset) {
        let rest = &pattern[found..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            at = found + 2;
            continue;
        }
        let end = rest.find('}').filter(|_| rest.starts_with('{')).map_or(rest.len(), |end| end + 1);
        parts.push(Part::Plain(&pattern[plain..found]));
        parts.push(Part::Parameter(&rest[..end]));
        at = found + end;
        plain = at;
    }
    parts.push(Part::Plain(&pattern[plain..]));
    parts
}

/// Puts a nested pattern behind its prefix.
pub(super) fn join(prefix: &str, path: &str) -> String {
    match (prefix.strip_suffix('/'), path) {
        (None, "/") => prefix.to_owned(),
        (None, path) => format!("{prefix}{path}"),
        (Some(prefix), path) => format!("{prefix}{path}"),
    }
}

/// Gives a path in canonical form.
pub(super) fn canonical(path: &str) -> Cow<'_, str> {
    if path.bytes().all(stands_for_itself) {
        return path.into();
    }
    let mut all = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        let decoded = if *byte == b'%' { decode(after) } else { None };
        match decoded {
            Some(byte) if is_unreserved(byte) => all.push(byte.into()),
            // A lone `%` stays.
            None if stands_for_itself(*byte) || *byte == b'%' => all.push((*byte).into()),
            _ => write!(all, "%{:02X}", decoded.unwrap_or(*byte)).expect("a string takes all"),
        }
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    all.into()
}

/// Decodes the two digits behind a `%`.
fn decode(digits: &[u8]) -> Option<u8> {
    let digit = |index: usize| char::from(*digits.get(index)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// Whether a path may have this byte as it is.
fn stands_for_itself(byte: u8) -> bool {
    is_unreserved(byte) || b"/!$&'()*+,;=:@".contains(&byte)
}

/// Whether a byte is the same encoded and as it is.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

impl Route {
    /// Notes what `matchit` has found. `None` if that is not UTF-8.
    pub(super) fn new(pattern: &Arc<Pattern>, found: Path<'_, '_>) -> Option<Route> {
        let value = |value: &str| match found.written {
            Some(path) => {
                let start = value.as_ptr().addr() - path.as_ptr().addr();
                Some(Value::InPath(start..start + value.len()))
            }
            None => percent_decode_str(value).decode_utf8().ok().map(|text| Value::Decoded(text.into())),
        };
        let values = found.params.iter().filter(|(name, _)| *name != REST).map(|(_, text)| value(text));
        Some(Route { pattern: pattern.clone(), values: values.collect::<Option<_>>()? })
    }

    pub(crate) fn pattern(&self) -> &str {
        &self.pattern.text
    }

    /// Gives what stood for a parameter in the path.
    pub(crate) fn param<'a>(&'a self, name: &str, path: &'a str) -> Option<&'a str> {
        let index = self.pattern.names.iter().position(|this| this == name)?;
        Some(match self.values.get(index)? {
            Value::InPath(range) => &path[range.clone()],
            Value::Decoded(text) => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, canonical};

    #[test]
    fn a_path_has_one_canonical_form() {
        for (path, form) in [
            ("/a/b-c_d.e~f/", "/a/b-c_d.e~f/"),
            ("/a:b@c;d=e,f+g!$&'()*", "/a:b@c;d=e,f+g!$&'()*"),
            ("/%61%7E%2D", "/a~-"),
            ("/%2f%3A%c3%a9", "/%2F%3A%C3%A9"),
            ("/é {}", "/%C3%A9%20%7B%7D"),
            ("/100%", "/100%"),
            ("/%4", "/%4"),
            ("/%zz%41", "/%zzA"),
        ] {
            assert_eq!(canonical(path), form);
        }
    }

    #[test]
    fn a_pattern_keeps_its_parameters() {
        for (pattern, form, names) in [
            ("/", "/", &[][..]),
            ("/é/{ü}/%61{*rest}", "/%C3%A9/{ü}/a{*rest}", &["ü", "rest"]),
            ("/{{a}}/{b}.png", "/%7Ba%7D/{b}.png", &["b"]),
            // Wrong ones are left for `matchit`.
            ("/é{a", "/%C3%A9{a", &["a"]),
        ] {
            let parsed = Pattern::new(pattern);
            assert_eq!(
                (parsed.canonical().as_str(), &parsed.names[..]),
                (form, &names.iter().map(|n| n.to_string()).collect::<Vec<_>>()[..])
            );
        }
    }
}
