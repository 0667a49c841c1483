//! Where to connect or to listen: addresses, and names that have yet to be looked up.
//!
//! The system's lookup blocks its thread and cannot be stopped. So it runs in [`blocking`]. If the
//! caller may have to leave early, it runs in a goroutine of its own, which then ends by itself
//! with nobody listening.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::time::Instant;

use super::socket::timed_out;
use crate::chan::{self, RecvError};
use crate::{Context, blocking, go, select};

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
    Known(Vec<SocketAddr>),
    /// A host and a port.
    Name(String, u16),
    /// Text that is not `host:port`; its use is the error.
    Invalid(String),
}

/// The limits that may end a wait early.
#[derive(Clone, Copy, Default)]
pub(super) struct Limit<'a> {
    pub(super) context: Option<&'a Context>,
    pub(super) deadline: Option<Instant>,
}

/// Looks up the addresses of a host, with the system's resolver.
///
/// An address that is written in numbers is returned as it is.
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
/// The system's errors, and `InvalidInput` when the text is not `host:port`.
#[doc(alias("lookup_host", "net.LookupHost"))]
pub fn look_up(addr: impl Into<Address>) -> io::Result<Vec<SocketAddr>> {
    goby_runtime::checkpoint();
    addr.into().resolve(Limit::default())
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
/// Returns at once when `ctx` is done. The system's resolver cannot be stopped; its answer is
/// dropped when it comes.
pub fn look_up_ctx(ctx: &Context, addr: impl Into<Address>) -> io::Result<Vec<SocketAddr>> {
    addr.into().resolve(Limit { context: Some(ctx), deadline: None })
}

impl Address {
    /// Returns the addresses, at least one.
    pub(super) fn resolve(self, limit: Limit<'_>) -> io::Result<Vec<SocketAddr>> {
        if let Some(error) = limit.context.and_then(Context::err) {
            return Err(error.into());
        }
        let addrs = match self.kind {
            Kind::Known(addrs) => addrs,
            Kind::Name(host, port) => look_up_within(host, port, limit)?,
            Kind::Invalid(text) => {
                let message = format!("not an address of the form host:port: {text:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        };
        if addrs.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to use"));
        }
        Ok(addrs)
    }

    fn name(host: &str, port: u16) -> Address {
        match host.parse::<IpAddr>() {
            Ok(ip) => Address::from(SocketAddr::new(ip, port)),
            Err(_) => Address { kind: Kind::Name(host.to_owned(), port) },
        }
    }
}

fn look_up_within(host: String, port: u16, limit: Limit<'_>) -> io::Result<Vec<SocketAddr>> {
    if limit.context.is_none() && limit.deadline.is_none() {
        return blocking(|| ask_system(&host, port));
    }
    let (answer, answers) = chan::bounded(1);
    go(move || {
        // An error means that the caller has left.
        let _ = answer.send(blocking(|| ask_system(&host, port)));
    });
    let background;
    let context = match limit.context {
        Some(context) => context,
        None => {
            background = Context::background();
            &background
        }
    };
    let lost = |_: RecvError| io::Error::other("the lookup ended without an answer");
    match limit.deadline {
        None => select! {
            recv(answers) -> answer => answer.map_err(lost)?,
            recv(context.done()) -> _ => Err(context_error(context)),
        },
        Some(deadline) => {
            let left = deadline.saturating_duration_since(goby_runtime::now());
            select! {
                recv(answers) -> answer => answer.map_err(lost)?,
                recv(context.done()) -> _ => Err(context_error(context)),
                default(left) => Err(timed_out()),
            }
        }
    }
}

fn context_error(context: &Context) -> io::Error {
    match context.err() {
        Some(error) => error.into(),
        None => io::Error::other("the context's channel closed before the context was done"),
    }
}

fn ask_system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
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
        Address { kind: Kind::Known(vec![addr]) }
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
        Address { kind: Kind::Known(addrs) }
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
                for (i, addr) in addrs.iter().enumerate() {
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
