//! Where to connect or to listen: addresses, and names that have yet to be looked up.
//!
//! The system's look-up blocks its thread and cannot be stopped. So it runs on a helper thread. If
//! the caller may have to leave early, another goroutine waits for that thread, and ends by itself.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use once_cell::sync::Lazy;

use super::error::{Action, of_addr};
use super::socket::{Socket, timed_out};
use crate::Context;
use crate::context::CancelGuard;
use crate::singleflight::{Group, Outcome};

/// One or more socket addresses, or the name of a host and a port.
///
/// Made by `From` from anything that names an address: `"example.org:80"`, `("::1", 80)`, a
/// [`SocketAddr`], several of them.
///
/// ```
/// use goby::net::{Address, look_up};
/// let addrs = look_up(("127.0.0.1", 80))?;
/// assert_eq!(addrs, look_up("127.0.0.1:80")?);
/// assert_eq!(Address::from("example.org:80").to_string(), "example.org:80");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Known(Addrs),
    /// A host and a port.
    Name(String, u16),
    /// Text that is not `host:port`; its use is the error.
    Invalid(String),
}

/// Addresses. A single one, as most calls have it, costs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addrs {
    One(SocketAddr),
    /// None, or more than one.
    Several(Vec<SocketAddr>),
}

impl Addrs {
    pub(super) fn as_slice(&self) -> &[SocketAddr] {
        match self {
            Addrs::One(addr) => std::slice::from_ref(addr),
            Addrs::Several(addrs) => addrs,
        }
    }

    /// Tries one address after the other, and returns what the first that succeeds gives, or the
    /// error of the last one.
    pub(super) fn try_each<R>(
        &self,
        action: Action,
        mut attempt: impl FnMut(SocketAddr) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut last = None;
        for &addr in self.as_slice() {
            match attempt(addr) {
                Ok(value) => return Ok(value),
                Err(error) => last = Some(of_addr(action, addr)(error)),
            }
        }
        Err(last.expect("an address to try"))
    }
}

impl From<Vec<SocketAddr>> for Addrs {
    fn from(addrs: Vec<SocketAddr>) -> Addrs {
        match *addrs {
            [addr] => Addrs::One(addr),
            _ => Addrs::Several(addrs),
        }
    }
}

impl From<Addrs> for Vec<SocketAddr> {
    fn from(addrs: Addrs) -> Vec<SocketAddr> {
        match addrs {
            Addrs::One(addr) => vec![addr],
            Addrs::Several(addrs) => addrs,
        }
    }
}

/// The limits that may end a wait early.
#[derive(Clone, Copy, Default)]
pub(super) struct Limit<'a> {
    pub(super) context: Option<&'a Context>,
    pub(super) deadline: Option<Instant>,
}

/// Looks up the addresses of a host, with the system's resolver.
///
/// An address that is written in numbers is returned as it is. Callers that look up one name at the
/// same time share one answer of the system; it is not kept for later callers.
///
/// ```
/// let addrs = goby::net::look_up("127.0.0.1:80")?;
/// assert_eq!(addrs, ["127.0.0.1:80".parse().unwrap()]);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine; a helper thread asks the system.
///
/// # Errors
///
/// The system's errors, with the name: of kind `NotFound` if the name does not exist or has no
/// address, and of another kind if the resolver has failed. `InvalidInput` when the text is not
/// `host:port`.
#[doc(alias("lookup_host", "net.LookupHost"))]
pub fn look_up(addr: impl Into<Address>) -> io::Result<Vec<SocketAddr>> {
    goby_runtime::checkpoint();
    addr.into().resolve(Limit::default()).map(Vec::from)
}

/// Looks up the addresses of a host as [`look_up`] does, until `ctx` is done.
///
/// ```
/// use goby::{Context, net::look_up_ctx};
/// let (ctx, cancel) = Context::background().with_cancel();
/// cancel.cancel();
/// assert!(look_up_ctx(&ctx, "example.invalid:80").is_err());
/// ```
///
/// # Blocking
///
/// As for [`look_up`].
///
/// # Errors
///
/// Those of [`look_up`], and those of the [module](super#errors) when the context is done.
///
/// # Cancellation
///
/// Returns at once when `ctx` is done. The system's resolver cannot be stopped: its answer is for
/// the other callers that wait for it, if there are any.
pub fn look_up_ctx(ctx: &Context, addr: impl Into<Address>) -> io::Result<Vec<SocketAddr>> {
    addr.into().resolve(Limit { context: Some(ctx), deadline: None }).map(Vec::from)
}

impl Address {
    /// Returns the addresses, at least one.
    pub(super) fn resolve(self, limit: Limit<'_>) -> io::Result<Addrs> {
        if let Some(error) = limit.context.and_then(Context::err) {
            return Err(error.into());
        }
        let addrs = match self.kind {
            Kind::Known(addrs) => addrs,
            Kind::Name(host, port) => look_up_within(host, port, limit)?.into(),
            Kind::Invalid(text) => return Err(invalid(&text)),
        };
        if addrs.as_slice().is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to use"));
        }
        Ok(addrs)
    }

    /// Returns the addresses for a call of `socket`, whose limits of writing end the look-up too.
    pub(super) fn resolve_for<T>(self, socket: &Socket<T>) -> io::Result<Addrs>
    where
        T: AsFd + Send + Sync + 'static,
    {
        if matches!(self.kind, Kind::Name(..)) {
            socket.call_within(|context| self.clone().resolve(Limit { context: Some(context), deadline: None }))
        } else {
            self.resolve(Limit::default())
        }
    }

    fn name(host: &str, port: u16) -> Address {
        match host.parse::<IpAddr>() {
            Ok(ip) => Address::from(SocketAddr::new(ip, port)),
            Err(_) => Address { kind: Kind::Name(host.to_owned(), port) },
        }
    }
}

/// Says of a text what it lacks.
#[cold]
fn invalid(text: &str) -> io::Error {
    let advice = match text.rsplit_once(':') {
        _ if text.contains("://") => "; write it without a scheme and a path".to_owned(),
        None if !text.is_empty() => "; the port is missing".to_owned(),
        _ if text.ends_with(']') => "; the port is missing".to_owned(),
        _ if text.parse::<Ipv6Addr>().is_ok() => "; an address of IPv6 is in brackets, as in [::1]:80".to_owned(),
        Some(("", port)) if port.parse::<u16>().is_ok() => {
            format!("; to listen at all addresses write 0.0.0.0:{port} or [::]:{port}")
        }
        Some((host, port)) if !host.is_empty() && !host.contains(':') && !port.is_empty() => {
            "; the port is a number up to 65535".to_owned()
        }
        Some((host, _)) if host.contains('%') => {
            "; the zone of an address is a number, as in [fe80::1%2]:80".to_owned()
        }
        _ => String::new(),
    };
    let message = format!("not an address of the form host:port: {text:?}{advice}");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// The look-ups that run. Callers that ask for one name at the same time share one answer.
static LOOK_UPS: Lazy<Group<String, Result<Vec<SocketAddr>, LookUpError>>> = Lazy::new(Group::new);

fn look_up_within(host: String, port: u16, limit: Limit<'_>) -> io::Result<Vec<SocketAddr>> {
    let (context, _cancel) = limit.to_context();
    let key = host.clone();
    match LOOK_UPS.run_blocking(&context, key, move || ask_system(host)) {
        Ok(Outcome { value: Ok(mut addrs), .. }) => {
            addrs.iter_mut().for_each(|addr| addr.set_port(port));
            Ok(addrs)
        }
        Ok(Outcome { value: Err(error), .. }) => Err(io::Error::new(error.kind(), error)),
        Err(_) => Err(limit.error()),
    }
}

/// Asks the system's resolver. The addresses have no port.
fn ask_system(host: String) -> Result<Vec<SocketAddr>, LookUpError> {
    match (host.as_str(), 0).to_socket_addrs() {
        Ok(addrs) => Ok(addrs.collect()),
        Err(reason) => Err(LookUpError { host, reason: Arc::new(reason) }),
    }
}

/// Why a name has no address. All callers that waited for the look-up get it.
#[derive(Clone, Debug)]
struct LookUpError {
    host: String,
    reason: Arc<io::Error>,
}

/// The resolver's words for a name that does not exist, or has no address, glibc's and musl's: std
/// passes on no code.
const UNKNOWN: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
];

impl LookUpError {
    fn kind(&self) -> io::ErrorKind {
        let reason = self.reason.to_string();
        if UNKNOWN.iter().any(|words| reason.ends_with(words)) { io::ErrorKind::NotFound } else { self.reason.kind() }
    }
}

impl fmt::Display for LookUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.to_string();
        // What std puts before the system's words says what is said here.
        let reason = reason.strip_prefix("failed to lookup address information: ").unwrap_or(&reason);
        write!(f, "looking up {:?}: {reason}", self.host)
    }
}

impl Error for LookUpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.reason)
    }
}

impl Limit<'_> {
    /// Returns a context with both limits, and the guard that ends it.
    pub(super) fn to_context(self) -> (Context, Option<CancelGuard>) {
        let context = self.context.cloned().unwrap_or_else(Context::background);
        match self.deadline {
            Some(deadline) => {
                let (context, cancel) = context.with_deadline(deadline);
                (context, Some(cancel))
            }
            None => (context, None),
        }
    }

    /// Returns the error of a wait that the limit has ended.
    pub(super) fn error(self) -> io::Error {
        self.context.and_then(Context::err).map_or_else(timed_out, io::Error::from)
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Address {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Address::from(addr);
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !host.contains(':') => match port.parse() {
                Ok(port) => Address::name(host, port),
                Err(_) => Address { kind: Kind::Invalid(text.to_owned()) },
            },
            _ => Address { kind: Kind::Invalid(text.to_owned()) },
        }
    }
}

impl From<&String> for Address {
    fn from(text: &String) -> Address {
        Address::from(text.as_str())
    }
}

impl From<String> for Address {
    fn from(text: String) -> Address {
        Address::from(text.as_str())
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Address {
        Address::name(host, port)
    }
}

impl From<(String, u16)> for Address {
    fn from((host, port): (String, u16)) -> Address {
        Address::name(&host, port)
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Address {
        Address { kind: Kind::Known(Addrs::One(addr)) }
    }
}

impl From<&SocketAddr> for Address {
    fn from(addr: &SocketAddr) -> Address {
        Address::from(*addr)
    }
}

impl From<SocketAddrV4> for Address {
    fn from(addr: SocketAddrV4) -> Address {
        Address::from(SocketAddr::V4(addr))
    }
}

impl From<SocketAddrV6> for Address {
    fn from(addr: SocketAddrV6) -> Address {
        Address::from(SocketAddr::V6(addr))
    }
}

impl From<(IpAddr, u16)> for Address {
    fn from(addr: (IpAddr, u16)) -> Address {
        Address::from(SocketAddr::from(addr))
    }
}

impl From<(Ipv4Addr, u16)> for Address {
    fn from(addr: (Ipv4Addr, u16)) -> Address {
        Address::from(SocketAddr::from(addr))
    }
}

impl From<(Ipv6Addr, u16)> for Address {
    fn from(addr: (Ipv6Addr, u16)) -> Address {
        Address::from(SocketAddr::from(addr))
    }
}

impl From<Vec<SocketAddr>> for Address {
    fn from(addrs: Vec<SocketAddr>) -> Address {
        Address { kind: Kind::Known(addrs.into()) }
    }
}

impl From<&[SocketAddr]> for Address {
    fn from(addrs: &[SocketAddr]) -> Address {
        Address::from(addrs.to_vec())
    }
}

impl From<&Vec<SocketAddr>> for Address {
    fn from(addrs: &Vec<SocketAddr>) -> Address {
        Address::from(addrs.clone())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Known(addrs) => {
                for (i, addr) in addrs.as_slice().iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{addr}")?;
                }
                Ok(())
            }
            Kind::Name(host, port) => write!(f, "{host}:{port}"),
            Kind::Invalid(text) => f.write_str(text),
        }
    }
}
