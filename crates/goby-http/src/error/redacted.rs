//! URLs for other people's eyes.

use std::borrow::Cow;

/// Replaces the password of a URL, or of text that was meant to be one, by `***`: other people read
/// results, messages and logs. Source: Go's `URL.Redacted`.
///
/// A parser repairs slashes that are missing or turned, so this function accepts such slashes, too.
/// Text that may be a password is taken for one.
///
/// ```
/// assert_eq!(goby_http::redacted("https://me:secret@example.org/a"), "https://me:***@example.org/a");
/// assert_eq!(goby_http::redacted("https://example.org/a"), "https://example.org/a");
/// ```
pub fn redacted(url: &str) -> Cow<'_, str> {
    let slashes = |text: &str| text.len() - text.trim_start_matches(['/', '\\']).len();
    let scheme = url.find(':').map_or(0, |colon| colon + 1);
    let is_scheme = slashes(&url[scheme..]) > 0 || matches!(&*url[..scheme].to_ascii_lowercase(), "http:" | "https:");
    let scheme = if is_scheme { scheme } else { 0 };
    let start = scheme + slashes(&url[scheme..]);
    let authority = &url[start..];
    let authority = &authority[..authority.find(['/', '?', '#', '\\']).unwrap_or(authority.len())];
    let Some(user) = authority.rfind('@').map(|end| &authority[..end]) else { return url.into() };
    let Some(colon) = user.find(':') else { return url.into() };
    format!("{}:***{}", &url[..start + colon], &url[start + user.len()..]).into()
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("http://me:secret@h/a", "http://me:***@h/a"),
            ("http://me:secret@", "http://me:***@"),
            ("http:\\\\me:se@cret@h\\a", "http:\\\\me:***@h\\a"),
            ("HTTP:me:secret@h", "HTTP:me:***@h"),
            ("//me:secret@h/", "//me:***@h/"),
            ("me:secret@h", "me:***@h"),
            ("http://:secret@h:81/?a@b", "http://:***@h:81/?a@b"),
            ("https://me:a@b:c@h", "https://me:***@h"),
            ("http:/me:secret@h/", "http:/me:***@h/"),
            ("http:///me:secret@h/", "http:///me:***@h/"),
            ("no URL: a@b", "no URL:***@b"),
            ("http://me@h/", "http://me@h/"),
            ("http://h/me:no-secret@all", "http://h/me:no-secret@all"),
            ("http://h?a:b@c", "http://h?a:b@c"),
            ("", ""),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
