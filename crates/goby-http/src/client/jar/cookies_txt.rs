//! The file of cookies that curl, wget and browsers' tools exchange: Netscape's `cookies.txt`.
//!
//! Each line is a cookie of seven fields with tabs between them: the domain, whether it is for the
//! hosts below it, too, the path, whether it needs `https`, the time when it expires in seconds of
//! Unix (0 at the end of the session), name and value. In front of the domain of a cookie that
//! scripts must not see stands `#HttpOnly_`; other lines with `#` are comments.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use cookie_store::{CookieDomain, CookieExpiration};
use url::Url;

use super::{CookieJar, insert};

const HTTP_ONLY: &str = "#HttpOnly_";

impl CookieJar {
    /// Writes all cookies as a `cookies.txt`, which curl and wget read, too.
    ///
    /// ```
    /// use goby_http::CookieJar;
    /// let jar = CookieJar::new();
    /// jar.add("a=1; Path=/", "http://example.org/")?;
    ///
    /// let mut saved = Vec::new();
    /// jar.save_cookies_txt(&mut saved)?;
    /// assert!(String::from_utf8_lossy(&saved).ends_with("example.org\tFALSE\t/\tFALSE\t0\ta\t1\n"));
    /// assert_eq!(CookieJar::load_cookies_txt(&saved[..])?.cookies("http://example.org/")?, "a=1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As `writer` does.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn save_cookies_txt(&self, mut writer: impl Write) -> io::Result<()> {
        let mut text = String::from("# Netscape HTTP Cookie File\n\n");
        // The writer may park, which it must not under the lock.
        for cookie in self.store.lock().iter_unexpired() {
            let (domain, below) = match &cookie.domain {
                CookieDomain::HostOnly(host) => (host.as_str(), false),
                CookieDomain::Suffix(domain) => (domain.as_str(), true),
                CookieDomain::NotPresent | CookieDomain::Empty => continue,
            };
            let expires = match cookie.expires {
                CookieExpiration::AtUtc(time) => time.unix_timestamp(),
                CookieExpiration::SessionEnd => 0,
            };
            let flag = |is: bool| if is { "TRUE" } else { "FALSE" };
            let mark = if cookie.http_only() == Some(true) { HTTP_ONLY } else { "" };
            let dot = if below { "." } else { "" };
            let (below, secure) = (flag(below), flag(cookie.secure() == Some(true)));
            let (path, name, value) = (&*cookie.path, cookie.name(), cookie.value());
            let _ = writeln!(text, "{mark}{dot}{domain}\t{below}\t{path}\t{secure}\t{expires}\t{name}\t{value}");
        }
        writer.write_all(text.as_bytes())
    }

    /// Makes a jar of a `cookies.txt`, without those cookies that have expired.
    ///
    /// See [`save_cookies_txt`](CookieJar::save_cookies_txt) for an example.
    ///
    /// # Blocking
    ///
    /// As `reader` does.
    ///
    /// # Errors
    ///
    /// Those of the reader, and `InvalidData` when a line is no cookie.
    pub fn load_cookies_txt(reader: impl BufRead) -> io::Result<CookieJar> {
        let jar = CookieJar::new();
        for (number, line) in (1..).zip(reader.lines()) {
            let line = line?;
            let line = line.trim_end_matches(['\r', '\n']);
            let cookie = line.strip_prefix(HTTP_ONLY).unwrap_or(line);
            if cookie.trim().is_empty() || cookie.starts_with('#') {
                continue;
            }
            add_line(&jar, cookie).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {number} is no cookie of a cookies.txt"))
            })?;
        }
        Ok(jar)
    }
}

/// Adds the cookie of a line; `None` if it is none.
fn add_line(jar: &CookieJar, line: &str) -> Option<()> {
    let fields: Vec<&str> = line.splitn(7, '\t').collect();
    // Some programs leave out the last tab of a cookie without a value.
    let [domain, below, path, secure, expires, name]: [&str; 6] = fields.get(..6)?.try_into().ok()?;
    let value = fields.get(6);
    let domain = domain.trim_start_matches('.');
    let secure = secure.eq_ignore_ascii_case("true");
    let url = Url::parse(&format!("{}://{domain}/", if secure { "https" } else { "http" })).ok()?;
    let mut cookie = format!("{name}={}; Path={path}", value.unwrap_or(&""));
    let expires: u64 = expires.parse().ok()?;
    if expires > 0 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let _ = write!(cookie, "; Max-Age={}", expires.saturating_sub(now));
    }
    if below.eq_ignore_ascii_case("true") {
        let _ = write!(cookie, "; Domain={domain}");
    }
    if secure {
        cookie.push_str("; Secure");
    }
    // One that has expired is not kept, as one for a public suffix.
    insert(&mut jar.store.lock(), &cookie, &url);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curls_file_is_read_and_written() {
        let text = "# Netscape HTTP Cookie File\n\
                    \n\
                    example.org\tFALSE\t/\tFALSE\t0\tsession\t1\n\
                    .example.org\tTRUE\t/dir\tTRUE\t4102444800\tlong\ttwo words\n\
                    #HttpOnly_example.org\tFALSE\t/\tFALSE\t4102444800\thidden\t3\n\
                    example.org\tFALSE\t/\tFALSE\t1000000000\told\t4\n\
                    example.org\tFALSE\t/\tFALSE\t0\tempty\n";
        let jar = CookieJar::load_cookies_txt(text.as_bytes()).unwrap();
        assert_eq!(jar.cookies("http://example.org/").unwrap(), "empty=; hidden=3; session=1");
        assert_eq!(jar.cookies("https://www.example.org/dir/x").unwrap(), "long=two words");
        let mut saved = Vec::new();
        jar.save_cookies_txt(&mut saved).unwrap();
        let again = CookieJar::load_cookies_txt(&saved[..]).unwrap();
        for url in ["http://example.org/", "https://www.example.org/dir/x", "https://example.org/dir/"] {
            assert_eq!(again.cookies(url).unwrap(), jar.cookies(url).unwrap());
        }
    }

    #[test]
    fn other_lines_are_told_by_their_numbers() {
        let error = CookieJar::load_cookies_txt(&b"# fine\nSet-Cookie: a=1\n"[..]).unwrap_err();
        assert_eq!(error.to_string(), "line 2 is no cookie of a cookies.txt");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
