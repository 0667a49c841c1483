//! Names of application protocols (ALPN, RFC 7301).

use std::fmt;
use std::io;

/// The longest list of names, with a byte of length for each. The client's hello has 65535 bytes
/// for this list and for all that it says otherwise, such as a session to be resumed.
const LONGEST: usize = 32 * 1024;

/// Checks what the formats cannot hold; rustls panics at it. A name has 1 to 255 bytes.
pub(super) fn check(names: &[Vec<u8>]) -> io::Result<()> {
    let invalid = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
    if let Some(name) = names.iter().find(|name| !(1..=255).contains(&name.len())) {
        let text = String::from_utf8_lossy(name);
        let text = format!("the application protocol (ALPN) {text:?} has {} bytes: a name has 1 to 255", name.len());
        return Err(invalid(text));
    }
    let all: usize = names.iter().map(|name| 1 + name.len()).sum();
    if all > LONGEST {
        return Err(invalid(format!("the application protocols (ALPN) take {all} bytes, of at most {LONGEST}")));
    }
    Ok(())
}

/// Protocols, as text.
pub(super) struct Names<'a>(pub(super) &'a [Vec<u8>]);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|name| String::from_utf8_lossy(name))).finish()
    }
}
