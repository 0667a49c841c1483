//! Streams as ends of [`io::copy`](crate::io::copy()).

use std::io;
use std::os::fd::BorrowedFd;

use goby_runtime::Direction;

use super::{Stream, StreamSocket};
use crate::io::{CopyEnd, Descriptor};

impl<T: StreamSocket> CopyEnd for Stream<T> {}

impl<T: StreamSocket> Descriptor for Stream<T> {
    const IS_SOCKET: bool = true;

    fn carry_out<R: Send>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<R> + Send,
    ) -> io::Result<R> {
        self.socket.perform(direction, |socket| operation(socket.as_fd()))
    }
}
