//! Pipes and files as ends of [`copy`](super::copy()).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use goby_runtime::Direction;

use super::{CopyEnd, Descriptor, PipeReader, PipeWriter};
use crate::fs::File;

impl CopyEnd for PipeReader {}
impl CopyEnd for PipeWriter {}
impl CopyEnd for File {}

macro_rules! pipe_end {
    ($($end:ty),*) => {$(
        impl Descriptor for $end {
            fn halt(&self, halted: bool) {
                self.channel().socket().halt(halted);
            }

            fn carry_out<R: Send>(
                &self,
                direction: Direction,
                mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<R> + Send,
            ) -> io::Result<R> {
                self.channel().socket().perform(direction, |fd| operation(fd.as_fd()))
            }
        }
    )*};
}

pipe_end!(PipeReader, PipeWriter);

impl Descriptor for File {
    const IS_FILE: bool = true;

    fn carry_out<R: Send>(
        &self,
        direction: Direction,
        operation: impl FnMut(BorrowedFd<'_>) -> io::Result<R> + Send,
    ) -> io::Result<R> {
        self.perform(direction, operation)
    }
}
