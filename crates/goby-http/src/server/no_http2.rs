//! Stands in for `http2.rs` where the crate is built without its feature `http2`: the same
//! functions, and never a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use goby::Context;

use super::Stopping;
use super::limits::Settings;
use crate::handler::Handler;
use crate::stream::{Link, Stream};

/// The protocols that a server offers if its acceptor names none.
#[cfg_attr(not(feature = "tls"), expect(dead_code))]
pub(super) const OFFERED: [&str; 1] = ["http/1.1"];

pub(super) const PREFACE: &[u8] = b"";

/// The settings, of which there are none.
#[derive(Clone, Default)]
pub(super) struct Options {}

/// What a request would share with its stream.
pub(super) enum Exchange {}

impl Options {
    pub(super) fn takes_h2c(&self) -> bool {
        false
    }
}

impl Exchange {
    pub(super) fn context(self: &Arc<Exchange>) -> Context {
        match **self {}
    }
}

/// Closes the connection: the acceptor offers a protocol that the server does not speak.
pub(super) fn serve(
    _: Stream,
    _: &Arc<Link>,
    _: SocketAddr,
    _: Arc<dyn Handler>,
    _: Context,
    _: &Settings,
    _: &Stopping,
) {
}
