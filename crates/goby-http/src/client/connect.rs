//! Making a connection: looking up the name, connecting, TLS.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use goby::net::{TcpStream, look_up_ctx};
use goby::{__http, Context, block_on, chan, go, select};

use super::exchange::Conn;
use super::pool::{Permit, Place};
use crate::error::{Error, Phase, is_out_of_descriptors};
use crate::socket::Socket;
use crate::stream::{Link, Stream};
use crate::tls::{self, Tls};

pub(super) type Resolver = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// How connections are made.
pub(super) struct Connector {
    pub(super) tls: tls::Config,
    pub(super) resolver: Option<Arc<Resolver>>,
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
        // The error says what ended it: the caller's context, or the time-out for connecting.
        let explain = |phase: Phase, error: io::Error| match Error::of_context(&phase, ctx) {
            Some(error) => error,
            None if limit.err().is_some() => Error::timeout(phase, error),
            None => Error::of_io(phase, error),
        };
        if place.https {
            tls::check_is_built_in().map_err(|error| Error::new(Phase::Tls(place.host.clone()), error))?;
        }
        let addrs = self
            .resolve(&place, limit)
            .map_err(|error| explain(Phase::Resolve(place.host.clone()), why_not_resolved(error)))?;
        let tcp =
            TcpStream::connect_ctx(limit, addrs).map_err(|error| explain(Phase::Connect(place.to_string()), error))?;
        let link = Link::of_client(Socket::Tcp(tcp));
        let mut tls = None;
        if place.https {
            let phase = || Phase::Tls(place.host.clone());
            link.socket.set_context(Some(limit));
            let deadline = self.tls_timeout.and_then(|timeout| goby::now().checked_add(timeout));
            link.socket.set_read_deadline(deadline);
            link.socket.set_write_deadline(deadline);
            let session = Tls::new(&self.tls, &place.host, link.clone()).map_err(|error| explain(phase(), error))?;
            block_on(poll_fn(|cx| session.poll_handshake(cx))).map_err(|error| explain(phase(), error))?;
            tls = Some(Arc::new(session));
            link.socket.set_read_deadline(None);
            link.socket.set_write_deadline(None);
            link.socket.set_context(None);
        }
        let stream = Stream::new(link.clone(), tls);
        Conn::new(link, stream, place, permit.take()).map_err(|error| Error::during(Phase::Headers, ctx, error))
    }

    fn resolve(&self, place: &Place, ctx: &Context) -> io::Result<Vec<SocketAddr>> {
        let host = place.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&place.host);
        let port = place.port;
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
