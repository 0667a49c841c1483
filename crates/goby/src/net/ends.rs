//! Streams as ends of [`io::copy`](crate::io::copy()).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use goby_runtime::Direction;

use super::TcpStream;
use crate::io::{CopyEnd, Descriptor};

impl CopyEnd for TcpStream {}

impl Descriptor for TcpStream {
    fn carry_out<R: Send>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<R> + Send,
    ) -> io::Result<R> {
        self.socket.perform(direction, |socket| operation(socket.as_fd()))
    }
}
