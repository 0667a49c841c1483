//! The file name of a URL: one to one, readable, and never outside the directory.
//!
//! ```text
//! http://host/a/b.html        http/host/a/b.html             plain: everything is kept as it is
//! http://host:8080/b.html     http/host:8080/b.html
//! http://host/a/b             http/host/a/b~HASH             no dot in the last part
//! http://host/a/b.html?q=1    http/host/a/b~HASH.html        a query
//! http://host/v1.2/b.html     http/host/v1_2/b~HASH.html     a dot in a directory
//! http://host/                http/host/index~HASH
//! ```
//!
//! Why no two URLs share a name, and no name is both a file and a directory: below the host, a
//! directory never has a dot or a tilde in it, a plain file always has a dot and never a tilde, and
//! a hashed file always has a tilde. Plain names keep the whole URL, so they differ when their URLs
//! do. Hashed names have 128 bits of SHA-256 over the whole URL. Why no name leads out of the
//! directory: every part is made of `[A-Za-z0-9._~:-]` and brackets, and none begins with a dot.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use url::Url;

/// The longest part of a plain name: file systems allow 255 bytes.
const LONGEST_PART: usize = 200;
/// The most directories of a plain name below the host, so that paths stay far below the system's
/// 4,096 bytes.
const MOST_DIRECTORIES: usize = 12;
/// How much of a cleaned-up part is kept.
const CLEANED_PART: usize = 60;
/// How many cleaned-up directories are kept.
const CLEANED_DIRECTORIES: usize = 4;
/// The longest file ending, in letters.
const LONGEST_ENDING: usize = 8;

/// The name under which the body of `url` is saved, relative to the directory. `url` has no
/// fragment.
pub(crate) fn file_name(url: &Url) -> String {
    plain_name(url).unwrap_or_else(|| hashed_name(url))
}

fn plain_name(url: &Url) -> Option<String> {
    let bare = url.query().is_none() && url.username().is_empty() && url.password().is_none();
    let host = url.host_str().filter(|host| bare && is_plain_host(host))?;
    let (directories, last) = parts(url);
    let plain = directories.len() <= MOST_DIRECTORIES
        && directories.iter().all(|part| is_plain_directory(part))
        && is_plain_file(last);
    if !plain {
        return None;
    }
    let mut name = format!("{}/{}", url.scheme(), host_directory(host, url));
    for part in directories.into_iter().chain([last]) {
        name.push('/');
        name.push_str(part);
    }
    Some(name)
}

fn hashed_name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let host = if is_plain_host(host) { host.to_string() } else { cleaned(host, "host") };
    let mut name = format!("{}/{}", url.scheme(), host_directory(&host, url));
    let (directories, last) = parts(url);
    for part in directories.into_iter().filter(|part| !part.is_empty()).take(CLEANED_DIRECTORIES) {
        name.push('/');
        name.push_str(&cleaned(part, "_"));
    }
    let (stem, ending) = match last.rsplit_once('.') {
        Some((stem, ending)) if is_ending(ending) => (stem, Some(ending)),
        _ => (last, None),
    };
    let _ = write!(name, "/{}~", cleaned(stem, "index"));
    for byte in &Sha256::digest(url.as_str())[..16] {
        let _ = write!(name, "{byte:02x}");
    }
    if let Some(ending) = ending {
        let _ = write!(name, ".{ending}");
    }
    name
}

/// The directories of the path, and its last part, which is empty if the path ends with a slash.
fn parts(url: &Url) -> (Vec<&str>, &str) {
    let mut parts: Vec<&str> = url.path().strip_prefix('/').unwrap_or(url.path()).split('/').collect();
    let last = parts.pop().unwrap_or_default();
    (parts, last)
}

/// The host, with its port unless that is the scheme's default.
fn host_directory(host: &str, url: &Url) -> String {
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    }
}

fn is_plain_host(host: &str) -> bool {
    let address = host.starts_with('[') && host.ends_with(']');
    let inner = if address { &host[1..host.len() - 1] } else { host };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte) || (address && byte == b':');
    (1..=LONGEST_PART).contains(&inner.len()) && !inner.starts_with('.') && inner.bytes().all(allowed)
}

fn is_plain_directory(part: &str) -> bool {
    (1..=LONGEST_PART).contains(&part.len()) && part.bytes().all(is_word)
}

fn is_plain_file(part: &str) -> bool {
    (1..=LONGEST_PART).contains(&part.len())
        && !part.starts_with('.')
        && part.contains('.')
        && part.bytes().all(|byte| is_word(byte) || byte == b'.')
}

fn is_ending(ending: &str) -> bool {
    (1..=LONGEST_ENDING).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// `part` with everything but words replaced, and cut short; `empty` if nothing is left.
fn cleaned(part: &str, empty: &str) -> String {
    if part.is_empty() {
        return empty.to_string();
    }
    part.bytes().take(CLEANED_PART).map(|byte| if is_word(byte) { byte as char } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn name(url: &str) -> String {
        file_name(&Url::parse(url).unwrap())
    }

    /// The name with its hash, which must be there, replaced by the word.
    fn hashed(url: &str) -> String {
        let name = name(url);
        let (before, after) = name.split_once('~').expect("a tilde");
        assert!(after.len() >= 32 && after[..32].bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        format!("{before}~HASH{}", &after[32..])
    }

    #[test]
    fn plain_urls_keep_their_names() {
        assert_eq!(name("http://host/a/b.html"), "http/host/a/b.html");
        assert_eq!(name("https://host/b-1_2.tar.gz"), "https/host/b-1_2.tar.gz");
        assert_eq!(name("http://host:8080/b.html"), "http/host:8080/b.html");
        assert_eq!(name("http://host:80/b.html"), "http/host/b.html");
        assert_eq!(name("http://127.0.0.1:1/b.c"), "http/127.0.0.1:1/b.c");
        assert_eq!(name("http://[::1]:1/b.c"), "http/[::1]:1/b.c");
        assert_eq!(name("http://HOST/x/../B.c"), "http/host/B.c");
    }

    #[test]
    fn other_urls_are_cleaned_up_and_hashed() {
        assert_eq!(hashed("http://host/"), "http/host/index~HASH");
        assert_eq!(hashed("http://host/a/b"), "http/host/a/b~HASH");
        assert_eq!(hashed("http://host/a/b/"), "http/host/a/b/index~HASH");
        assert_eq!(hashed("http://host/a/b.html?q=1"), "http/host/a/b~HASH.html");
        assert_eq!(hashed("http://host/a.html?"), "http/host/a~HASH.html");
        assert_eq!(hashed("http://host/v1.2/b.html"), "http/host/v1_2/b~HASH.html");
        assert_eq!(hashed("http://me:secret@host/b.html"), "http/host/b~HASH.html");
        assert_eq!(hashed("http://host/.htaccess"), "http/host/index~HASH.htaccess");
        assert_eq!(hashed("http://host/~me/b.html"), "http/host/_me/b~HASH.html");
        assert_eq!(hashed("http://host/%2e%2e%2fpasswd.txt"), "http/host/_2e_2e_2fpasswd~HASH.txt");
        assert_eq!(hashed("http://host/a//b.html"), "http/host/a/b~HASH.html");
        assert_eq!(hashed("http://../b.html"), "http/__/b~HASH.html");
        assert_eq!(hashed("http://host/x.a+b"), "http/host/x_a_b~HASH");
    }

    #[test]
    fn the_hash_is_the_beginning_of_the_sha_256_of_the_url() {
        // printf %s 'http://host/' | sha256sum
        assert_eq!(name("http://host/"), "http/host/index~e0a05c858d79a24dc6313db32932ebf2");
    }

    #[test]
    fn long_urls_get_short_names() {
        let long = "x".repeat(5000);
        for url in [
            format!("http://host/{long}.html"),
            format!("http://host/{long}/a.html"),
            format!("http://host/{}a.html", "d/".repeat(2000)),
            format!("http://host/a.html?{long}"),
            format!("http://host/a.{long}"),
        ] {
            let name = name(&url);
            assert!(name.len() < 500 && name.split('/').all(|part| part.len() < 120), "{name}");
            assert!(name.contains('~'), "{name}");
        }
    }

    /// URLs that differ in small and in malicious ways.
    fn urls() -> HashSet<String> {
        let mut urls = HashSet::new();
        let starts =
            ["http://h", "https://h", "http://h:8080", "http://h_8080", "http://u@h", "http://..", "http://[::1]"];
        let parts =
            ["a", "a.b", ".", "..", "", "a~b", "%2e%2e", "%2F", "a_b", "a%20b", "A", "index", ".a", "a.", "~", "\\"];
        let ends = ["", "/", "?", "?a", "?a=/../../x", "#f"];
        for start in starts {
            for first in parts {
                for second in parts {
                    for end in ends {
                        let url = Url::parse(&format!("{start}/{first}/{second}{end}"));
                        if let Ok(mut url) = url {
                            url.set_fragment(None);
                            urls.insert(url.to_string());
                        }
                    }
                }
            }
        }
        urls
    }

    #[test]
    fn no_two_urls_share_a_name_and_no_file_is_a_directory() {
        let mut names = HashMap::new();
        let mut directories = HashSet::new();
        for url in urls() {
            let name = name(&url);
            for (at, _) in name.match_indices('/') {
                directories.insert(name[..at].to_string());
            }
            if let Some(other) = names.insert(name.clone(), url.clone()) {
                panic!("{url} and {other} are both {name}");
            }
        }
        assert!(names.len() > 1000, "{}", names.len());
        for name in names.keys() {
            assert!(!directories.contains(name), "{name} is a file and a directory");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        for url in urls() {
            for part in name(&url).split('/') {
                assert!(!part.is_empty() && !part.starts_with('.'), "{url}: {part:?}");
                let allowed = |c: char| c.is_ascii_alphanumeric() || "._~:-[]".contains(c);
                assert!(part.chars().all(allowed), "{url}: {part:?}");
            }
        }
    }
}
