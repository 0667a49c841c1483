//! Errors that name the address.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as unix;
use std::path::Path;

use rustix::io::Errno;

/// What was tried with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Bind,
    Connect,
    Listen,
    Send,
}

/// An address as a user writes it.
#[derive(Debug)]
pub(super) struct Place {
    text: String,
    is_unix: bool,
}

impl From<SocketAddr> for Place {
    fn from(addr: SocketAddr) -> Place {
        Place { text: addr.to_string(), is_unix: false }
    }
}

impl Place {
    /// What a socket that is not connected sends to.
    fn nobody() -> Place {
        Place { text: "nobody".to_owned(), is_unix: false }
    }

    /// The address to connect to, and the one to connect from.
    pub(super) fn between(to: SocketAddr, from: Option<SocketAddr>) -> Place {
        match from {
            Some(from) => Place { text: format!("{to} from {from}"), is_unix: false },
            None => Place::from(to),
        }
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Place {
        Place { text: format!("{path:?}"), is_unix: true }
    }
}

impl From<&unix::SocketAddr> for Place {
    /// A path, or `@` and a name, as `ss` shows it.
    fn from(addr: &unix::SocketAddr) -> Place {
        match (addr.as_pathname(), addr.as_abstract_name()) {
            (Some(path), _) => Place::from(path),
            (_, Some(name)) => Place { text: format!("@{}", name.escape_ascii()), is_unix: true },
            _ => Place { text: "an address without a name".to_owned(), is_unix: true },
        }
    }
}

/// Says what was tried with which address. The source is the error that it met.
struct AddressError {
    action: Action,
    place: Place,
    source: io::Error,
}

/// Names the action and the address in a system's error. A limit's error says enough.
pub(super) fn of_addr(action: Action, place: impl Into<Place>) -> impl FnOnce(io::Error) -> io::Error {
    move |source| if source.raw_os_error().is_none() { source } else { named(action, place, source) }
}

/// Names the address in what the system says to a send, unless the datagram is too long: programs
/// that look for the longest one ask for that error's code.
pub(super) fn of_send(to: impl Into<Place>) -> impl FnOnce(io::Error) -> io::Error {
    move |source| match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MSGSIZE) => source,
        _ => of_addr(Action::Send, to)(source),
    }
}

/// Says what to do if the socket is not connected. The other errors of a send to the address that
/// it is connected to are the system's own.
pub(super) fn of_connected_send(source: io::Error) -> io::Error {
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::DESTADDRREQ | Errno::NOTCONN) => named(Action::Send, Place::nobody(), source),
        _ => source,
    }
}

/// Names the action and the address in any error.
#[cold]
pub(super) fn named(action: Action, place: impl Into<Place>, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), AddressError { action, place: place.into(), source })
}

/// As it is displayed: `main` prints an error that it returns by this.
impl fmt::Debug for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AddressError {
    fn advice(&self) -> Option<&'static str> {
        let is_unix = self.place.is_unix;
        let Some(code) = self.source.raw_os_error() else {
            return is_unix.then_some("a path has at most 107 bytes, none of them 0");
        };
        match Errno::from_raw_os_error(code) {
            Errno::MFILE | Errno::NFILE => Some("see ulimit -n, or keep fewer connections open"),
            Errno::ADDRINUSE if is_unix => Some("see who has it with ss -xap; if nobody has, remove the file"),
            Errno::ADDRINUSE => Some("see who has it with ss -anp"),
            Errno::ADDRNOTAVAIL => Some("see the addresses of this host with ip address"),
            Errno::ACCESS if is_unix => Some("see the modes of the path and of its directory"),
            Errno::ACCESS if self.action == Action::Send => Some("to broadcast, see set_broadcast"),
            Errno::ACCESS if self.action != Action::Connect => Some("a port below 1024 may need CAP_NET_BIND_SERVICE"),
            // A path, not a name without a file.
            Errno::CONNREFUSED if self.place.text.starts_with('"') => {
                Some("nobody listens there: the file was left behind, or is no socket")
            }
            Errno::NOENT if matches!(self.action, Action::Bind | Action::Listen) => Some("make its directory first"),
            Errno::DESTADDRREQ | Errno::NOTCONN => Some("use send_to, or connect first"),
            Errno::AFNOSUPPORT if self.action == Action::Send => Some("the socket is bound to the other family of IP"),
            _ => None,
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Bind => "bind to",
            Action::Connect => "connect to",
            Action::Listen => "listen at",
            Action::Send => "send to",
        };
        write!(f, "cannot {action} {}: {}", self.place.text, self.source)?;
        match self.advice() {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl Error for AddressError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
