//! `--output-name`: names of files by a template.
//!
//! Whatever a URL has in it, no name leads out of the directory: parts of the URL are made of
//! `[A-Za-z0-9._~-]`, the directories of a path are joined by slashes, and a part of the whole name
//! that begins with a dot gets an underscore in front of it.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use url::Url;

/// The longest part of a name: file systems allow 255 bytes.
const LONGEST_PART: usize = 200;

/// A template, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Scheme,
    Host,
    Port,
    Path,
    Name,
    Stem,
    Ext,
    Query,
    Hash,
}

const FIELDS: [(&str, Field); 9] = [
    ("scheme", Field::Scheme),
    ("host", Field::Host),
    ("port", Field::Port),
    ("path", Field::Path),
    ("name", Field::Name),
    ("stem", Field::Stem),
    ("ext", Field::Ext),
    ("query", Field::Query),
    ("hash", Field::Hash),
];

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// In words, for clap to print behind the option's name.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a { without its }")?;
            let field = FIELDS.iter().find(|(own, _)| *own == name).map(|(_, field)| *field);
            let field = field.ok_or_else(|| {
                let names: Vec<String> = FIELDS.iter().map(|(name, _)| format!("{{{name}}}")).collect();
                format!("there is no {{{name}}}, only {}", names.join(", "))
            })?;
            pieces.push(Piece::Text(before.to_string()));
            pieces.push(Piece::Field(field));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_string()));
        if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
            return Err("all files would have one name: it needs a field such as {path} or {hash}".to_string());
        }
        Ok(Template(pieces))
    }

    /// Gives the name for `url`, relative to the directory.
    pub(crate) fn name(&self, url: &Url) -> String {
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Field(field) => field.write(url, &mut name),
            }
        }
        let parts = name.split('/').filter(|part| !part.is_empty()).map(|part| {
            let part: String = part.chars().take(LONGEST_PART).collect();
            if part.starts_with('.') { format!("_{part}") } else { part }
        });
        let name = parts.collect::<Vec<_>>().join("/");
        if name.is_empty() { "_".to_string() } else { name }
    }
}

impl Field {
    fn write(self, url: &Url, name: &mut String) {
        let path = url.path();
        let last = path.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or("index");
        let (stem, ext) = match last.rsplit_once('.') {
            Some((stem, ext)) if !stem.is_empty() => (stem, ext),
            _ => (last, ""),
        };
        match self {
            Field::Scheme => name.push_str(url.scheme()),
            Field::Host => clean(url.host_str().unwrap_or_default(), name),
            Field::Port => _ = write!(name, "{}", url.port_or_known_default().unwrap_or_default()),
            Field::Path => {
                let all = path.trim_start_matches('/').split('/');
                for (index, part) in all.enumerate() {
                    name.push_str(if index == 0 { "" } else { "/" });
                    clean(part, name);
                }
                if path.ends_with('/') {
                    name.push_str("index");
                }
            }
            Field::Name => clean(last, name),
            Field::Stem => clean(stem, name),
            Field::Ext => clean(ext, name),
            Field::Query => clean(url.query().unwrap_or_default(), name),
            Field::Hash => {
                for byte in &Sha256::digest(url.as_str())[..16] {
                    let _ = write!(name, "{byte:02x}");
                }
            }
        }
    }
}

/// Appends a part of a URL with everything odd replaced.
fn clean(part: &str, name: &mut String) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
    name.extend(part.chars().map(|c| if plain(c) { c } else { '_' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(template: &str, url: &str) -> String {
        Template::parse(template).unwrap().name(&Url::parse(url).unwrap())
    }

    #[test]
    fn fields_stand_for_parts_of_the_url() {
        let url = "http://h.example:81/a/b.tar.gz?q=1&r=/x";
        assert_eq!(name("{scheme}/{host}-{port}/{path}", url), "http/h.example-81/a/b.tar.gz");
        assert_eq!(name("{stem}|{ext}|{name}", url), "b.tar|gz|b.tar.gz");
        assert_eq!(name("x-{query}", url), "x-q_1_r__x");
        assert_eq!(name("{hash}.html", url).len(), 32 + 5);
        assert_eq!(name("{host}/{path}", "http://h/dir/"), "h/dir/index");
        assert_eq!(name("{name}", "http://h/"), "index");
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        assert_eq!(name("../{host}/{path}", "http://h/a/%2e%2e%2f/b"), "_../h/a/_2e_2e_2f/b");
        assert_eq!(name("/{host}//{query}", "http://h/?../../x"), "h/_.._.._x");
        assert_eq!(name("{query}/{ext}", "http://h/a"), "_");
        assert_eq!(name("{query}", "http://h/?.goby-partial"), "_.goby-partial");
        assert!(name("{path}", &format!("http://h/{}", "x".repeat(300))).len() <= 255);
    }

    #[test]
    fn what_is_no_template() {
        assert_eq!(Template::parse("{path").unwrap_err(), "a { without its }");
        assert!(Template::parse("{host}/{file}").unwrap_err().starts_with("there is no {file}, only {scheme}, "));
        assert!(Template::parse("page.html").unwrap_err().starts_with("all files would have one name"));
    }
}
