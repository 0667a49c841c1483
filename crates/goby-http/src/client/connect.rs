//! Making a connection: looking up the name, connecting, TLS.

use std::collections::HashMap;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use goby::net::{TcpStream, UnixStream, look_up_ctx};
use goby::{__http, Context, block_on, chan, go, select};

use super::exchange::Conn;
use super::pool::{Permit, Place};
use super::tunnel;
use crate::error::{Error, Phase, is_out_of_descriptors};
use crate::socket::Socket;
use crate::stream::{Link, Stream};
use crate::tls::{self, Tls};

pub(super) type Resolver = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// How connections are made.
pub(super) struct Connector {
    pub(super) tls: tls::Config,
    pub(super) resolver: Option<Arc<Resolver>>,
    /// The addresses of hosts, with or without a port, that are not looked up. A port of 0 is the
    /// URL's.
    pub(super) addresses: HashMap<String, Vec<SocketAddr>>,
    /// What to connect to in place of any host.
    pub(super) unix_socket: Option<PathBuf>,
    /// The limit for the name, the connection and TLS together.
    pub(super) timeout: Option<Duration>,
    /// The limit for TLS alone.
    pub(super) tls_timeout: Option<Duration>,
}

impl Connector {
    /// Makes a connection, which takes the permit. After an error the permit is still in `permit`,
    /// for another attempt.
    pub(super) fn connect(
        &self,
        place: Arc<Place>,
        permit: &mut Option<Permit>,
        ctx: &Context,
    ) -> Result<Box<Conn>, Error> {
        let limited = self.timeout.map(|timeout| ctx.with_timeout(timeout));
        let limit = limited.as_ref().map_or(ctx, |(limit, _)| limit);
        let effort = Effort { ctx, limit };
        if place.https {
            tls::check_is_built_in().map_err(|error| Error::new(Phase::Tls(place.host.clone()), error))?;
        }
        let link = self.dial(&place, &effort)?;
        if let Some(proxy) = place.via.as_ref().filter(|_| !place.is_forwarded()) {
            link.socket.set_context(Some(limit));
            let phase = || Phase::Tunnel { proxy: proxy.to_string(), target: format!("{}:{}", place.host, place.port) };
            tunnel::open(proxy, &link, &place.host, place.port).map_err(|error| effort.explain(phase(), error))?;
            link.socket.set_context(None);
        }
        let tls = if place.https { Some(Arc::new(self.negotiate(&place.host, &link, &effort)?)) } else { None };
        let stream = Stream::new(link.clone(), tls);
        Conn::new(link, stream, place, permit.take()).map_err(|error| Error::during(Phase::Headers, ctx, error))
    }

    /// Connects to the server, or to the proxy.
    fn dial(&self, place: &Place, effort: &Effort<'_>) -> Result<Arc<Link>, Error> {
        if let Some(path) = &self.unix_socket {
            let phase = || Phase::Connect(path.display().to_string());
            let unix = UnixStream::connect_ctx(effort.limit, path).map_err(|error| effort.explain(phase(), error))?;
            return Ok(Link::of_client(Socket::Unix(unix)));
        }
        let (host, port) = place.via.as_ref().map_or((&place.host, place.port), |proxy| (&proxy.host, proxy.port));
        let whom = || place.via.as_ref().map(|proxy| format!("the proxy {proxy}"));
        let addrs = self.resolve(host, port, effort.limit).map_err(|error| {
            effort.explain(Phase::Resolve(whom().unwrap_or_else(|| host.clone())), why_not_resolved(error))
        })?;
        let tcp = TcpStream::connect_ctx(effort.limit, addrs)
            .map_err(|error| effort.explain(Phase::Connect(whom().unwrap_or_else(|| place.to_string())), error))?;
        Ok(Link::of_client(Socket::Tcp(tcp)))
    }

    /// Makes the client's end of TLS.
    fn negotiate(&self, host: &str, link: &Arc<Link>, effort: &Effort<'_>) -> Result<Tls, Error> {
        let explain = |error| effort.explain(Phase::Tls(host.to_owned()), error);
        link.socket.set_context(Some(effort.limit));
        let deadline = self.tls_timeout.and_then(|timeout| goby::now().checked_add(timeout));
        link.socket.set_read_deadline(deadline);
        link.socket.set_write_deadline(deadline);
        let session = Tls::new(&self.tls, host, link.clone()).map_err(explain)?;
        block_on(poll_fn(|cx| session.poll_handshake(cx))).map_err(explain)?;
        link.socket.set_read_deadline(None);
        link.socket.set_write_deadline(None);
        link.socket.set_context(None);
        Ok(session)
    }

    fn resolve(&self, host: &str, port: u16, ctx: &Context) -> io::Result<Vec<SocketAddr>> {
        if let Some(addrs) = self.given(host, port) {
            let with_port =
                |addr: &SocketAddr| SocketAddr::new(addr.ip(), if addr.port() == 0 { port } else { addr.port() });
            return Ok(addrs.iter().map(with_port).collect());
        }
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let Some(resolver) = self.resolver.clone() else {
            return look_up_ctx(ctx, (host, port));
        };
        // The resolver cannot be stopped. It is left to end by itself.
        let (answer, answers) = chan::bounded(1);
        let name = host.to_owned();
        go(move || {
            let _ = answer.send(__http::look_up(|| resolver(&name)));
        });
        let ips = select! {
            recv(answers) -> answer => answer.unwrap_or_else(|_| Err(io::Error::other("the resolver gave no answer")))?,
            recv(ctx.done()) -> _ => return Err(io::Error::other("given up")),
        };
        if ips.is_empty() {
            return Err(io::Error::other("the resolver gave no address"));
        }
        Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    /// Gives the addresses that stand for a host.
    fn given(&self, host: &str, port: u16) -> Option<&Vec<SocketAddr>> {
        if self.addresses.is_empty() {
            return None;
        }
        self.addresses.get(&format!("{host}:{port}")).or_else(|| self.addresses.get(host.trim_matches(['[', ']'])))
    }
}

/// What a connection may take: until the context is done, or the time for connecting is over.
struct Effort<'a> {
    ctx: &'a Context,
    limit: &'a Context,
}

impl Effort<'_> {
    /// The error says what ended it: the caller's context, or the time-out for connecting.
    fn explain(&self, phase: Phase, error: io::Error) -> Error {
        match Error::of_context(&phase, self.ctx) {
            Some(error) => error,
            None if self.limit.err().is_some() => Error::timeout(phase, error),
            None => Error::of_io(phase, error),
        }
    }
}

/// The reason why a name was not resolved. A resolver that cannot open its files and sockets says
/// that the name is not known, so this tries whether the process has a descriptor left.
#[cold]
fn why_not_resolved(error: io::Error) -> io::Error {
    match File::open("/dev/null") {
        Err(reason) if is_out_of_descriptors(&reason) => reason,
        // The phase names the host already.
        _ => match error.get_ref().and_then(|error| error.source()?.downcast_ref::<io::Error>()) {
            Some(reason) => io::Error::new(error.kind(), reason.to_string()),
            None => error,
        },
    }
}
