//! `-C`: what has come of a body before its request failed, kept for another attempt.
//!
//! It lies under `DIR/.goby-partial/kept`, named by a hash of its file's name, beside a second file
//! with the URL and what the server said of the version (ETag or Last-Modified). The next attempt
//! asks for the rest by a Range, under the condition that the version is the same (If-Range). One
//! attempt takes it, by a rename: if two have the same name, the second one begins anew.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use http::HeaderMap;
use http::header::{ETAG, HeaderValue, LAST_MODIFIED};
use sha2::{Digest, Sha256};
use url::Url;

use super::save::Saver;

/// How much is read at a time.
const PIECE: usize = 64 * 1024;

/// What there is of a body.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Its file.
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    /// What the server said of the version.
    pub(crate) validator: HeaderValue,
}

/// What tells versions of a body apart: a strong ETag, or a time. (A weak ETag may stay the same
/// when bytes change.)
pub(crate) fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers.get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\""));
    strong.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

impl Kept {
    /// Finds what there is of the body of `url`. Blocks the thread.
    pub(crate) fn find(saver: &Saver, url: &Url) -> Option<Kept> {
        let path = saver.kept_path(url);
        let said = fs::read(path.with_extension("version")).ok()?;
        let mut lines = said.split(|&byte| byte == b'\n');
        let validator = lines.next().filter(|_| lines.next() == Some(url.as_str().as_bytes()))?;
        let validator = HeaderValue::from_bytes(validator).ok()?;
        let len = fs::metadata(&path).ok()?.len();
        Some(Kept { path, len, validator })
    }

    /// Keeps the file `from`. Blocks the thread.
    pub(crate) fn store(saver: &Saver, url: &Url, from: &PathBuf, validator: &HeaderValue) -> io::Result<()> {
        let path = saver.kept_path(url);
        fs::create_dir_all(path.parent().expect("it is in a directory"))?;
        let said = [validator.as_bytes(), b"\n", url.as_str().as_bytes(), b"\n"].concat();
        // In this order: at no time does the file stand beside what was said of another one, unless
        // two attempts for one name end together. Then the server refuses the condition.
        let _ = fs::remove_file(&path);
        fs::write(path.with_extension("version"), said)?;
        fs::rename(from, path)
    }

    /// Removes it: it is of another version. Blocks the thread.
    pub(crate) fn discard(&self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.path.with_extension("version"));
    }

    /// Puts its bytes into the hash. Blocks the thread.
    pub(crate) fn read_into(&self, hash: &mut Sha256) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(()),
                n => hash.update(&piece[..n]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strong_etag_goes_before_a_time() {
        let of = |pairs: &[(http::HeaderName, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            validator(&headers.collect()).map(|value| value.to_str().unwrap().to_string())
        };
        let time = (LAST_MODIFIED, "Mon, 30 Nov 2026 12:00:00 GMT");
        assert_eq!(of(&[(ETAG, "\"a\""), time.clone()]).as_deref(), Some("\"a\""));
        assert_eq!(of(&[(ETAG, "W/\"a\""), time.clone()]).as_deref(), Some(time.1));
        assert_eq!(of(&[(ETAG, "W/\"a\"")]), None);
    }
}
