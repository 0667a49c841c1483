//! Stands in for `tls.rs` where the crate is built without its feature `tls`: the same functions,
//! and never a session.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::stream::Link;

/// One side of a TLS session, of which there is none.
pub(crate) enum Tls {}

/// What a client would trust and show.
#[derive(Clone, Default)]
pub(crate) struct Options {}

/// The configuration of a client, which has nothing to say.
pub(crate) struct Config;

/// What a server would show of itself.
#[derive(Clone)]
pub(crate) enum Acceptor {}

pub(crate) fn client_config(_: Options) -> Result<Config, Infallible> {
    Ok(Config)
}

/// Refuses, before anything is sent.
pub(crate) fn check_is_built_in() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "goby-http was built without its feature `tls`"))
}

pub(crate) fn is_failure(_: &(dyn StdError + Send + Sync + 'static)) -> bool {
    false
}

pub(crate) fn is_plain_http(_: &io::Error) -> bool {
    false
}

impl Tls {
    pub(crate) fn accept(acceptor: &Acceptor, _: Arc<Link>) -> io::Result<Tls> {
        match *acceptor {}
    }

    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        match *self {}
    }

    pub(crate) fn new(_: &Config, _: &str, _: Arc<Link>) -> io::Result<Tls> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn poll_handshake(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    pub(crate) fn poll_read(&self, _: &mut Context<'_>, _: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<()>> {
        match *self {}
    }

    pub(crate) fn poll_write(&self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    pub(crate) fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    pub(crate) fn poll_close(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
