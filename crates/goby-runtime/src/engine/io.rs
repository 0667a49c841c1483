//! What a goroutine waits for outside: time, sockets, blocking calls, futures.

pub(crate) mod timer;
pub(crate) mod poller;
pub(crate) mod source;
pub(crate) mod blocking;
pub(crate) mod reactor;
pub(crate) mod future;
