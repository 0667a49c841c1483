//! Errors that name the address.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;

use rustix::io::Errno;

/// Says what was tried with which address. The source is the system's error.
#[derive(Debug)]
struct AddressError {
    action: &'static str,
    addr: String,
    source: io::Error,
}

/// Names the action and the address in a system's error. A limit's error says enough.
pub(super) fn of_addr(action: &'static str, addr: impl Display) -> impl FnOnce(io::Error) -> io::Error {
    move |source| {
        if source.raw_os_error().is_none() {
            return source;
        }
        let kind = source.kind();
        io::Error::new(kind, AddressError { action, addr: addr.to_string(), source })
    }
}

impl Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.action, self.addr, self.source)?;
        let advice = match self.source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE) => "see ulimit -n, or keep fewer connections open",
            Some(Errno::ADDRINUSE) => "see who has it with ss -anp",
            Some(Errno::ADDRNOTAVAIL) => "see the addresses of this host with ip address",
            Some(Errno::ACCESS) => "a port may need a privilege, and a path the right mode",
            _ => return Ok(()),
        };
        write!(f, "; {advice}")
    }
}

impl Error for AddressError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
