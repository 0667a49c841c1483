//! `-b` and `-c`: cookies that are read from a file, kept during the run, and written at its end.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use goby_http::CookieJar;

use super::args::RequestArgs;
use crate::exit::Usage;
use crate::text;

/// Reads the cookies to begin with; `None` if cookies are not kept.
///
/// # Errors
/// If a file cannot be read, or is no file of cookies.
pub(crate) fn open(args: &RequestArgs) -> Result<Option<CookieJar>, Usage> {
    let mut files = args.cookie.iter().filter(|data| !data.contains('='));
    let Some(path) = files.next() else { return Ok(args.cookie_jar.as_ref().map(|_| CookieJar::new())) };
    if files.next().is_some() {
        return Err(Usage::new("more than one file of cookies; name one with -b FILE"));
    }
    // The empty name is no file: curl keeps cookies then, too.
    if path.is_empty() {
        return Ok(Some(CookieJar::new()));
    }
    let jar = File::open(path).and_then(|file| CookieJar::load_cookies_txt(BufReader::new(file)));
    jar.map(Some).map_err(|error| Usage::new(format!("cannot read cookies from {path}: {}", text::reason(&error))))
}

/// Writes the cookies of a run, as a whole: the old file stays until the new one is complete.
///
/// # Errors
/// Those of the file system.
pub(crate) fn save(jar: &CookieJar, path: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    jar.save_cookies_txt(&mut bytes)?;
    if path.as_os_str() == "-" {
        return io::Write::write_all(&mut io::stdout(), &bytes);
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, &bytes)?;
    fs::rename(&part, path)
}
