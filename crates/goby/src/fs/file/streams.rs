//! Files as what is read, written and sought in, by std's traits.

use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

use goby_runtime::{WaitReason, checkpoint};

use super::File;
use crate::fs::position::cached_read;

impl Read for &File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(channel) = &self.channel {
            return channel.read(buf);
        }
        checkpoint();
        self.look()?;
        if let Some(Some(n)) = self.position.try_use(|| cached_read(self.std.as_fd(), buf, None)) {
            return Ok(n);
        }
        self.call_at_position(WaitReason::FileRead, |mut file| file.read(buf))
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        if let Some(mut channel) = self.channel.as_ref() {
            return channel.read_to_end(buf);
        }
        self.call_at_position(WaitReason::FileRead, |mut file| file.read_to_end(buf))
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        if let Some(mut channel) = self.channel.as_ref() {
            return channel.read_to_string(buf);
        }
        self.call_at_position(WaitReason::FileRead, |mut file| file.read_to_string(buf))
    }
}

impl Write for &File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &self.channel {
            Some(channel) => channel.write(buf),
            None => self.call_at_position(WaitReason::FileWrite, |mut file| file.write(buf)),
        }
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.channel {
            Some(channel) => channel.write_vectored(bufs),
            None => self.call_at_position(WaitReason::FileWrite, |mut file| file.write_vectored(bufs)),
        }
    }

    fn write_all(&mut self, mut buf: &[u8]) -> io::Result<()> {
        if self.channel.is_none() {
            return self.call_at_position(WaitReason::FileWrite, |mut file| file.write_all(buf));
        }
        while !buf.is_empty() {
            let n = self.write(buf)?;
            buf = &buf[n..];
        }
        Ok(())
    }

    /// Does nothing: a file keeps nothing back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.look()?;
        // Where the end is, a server may have to be asked.
        let is_short = !matches!(to, SeekFrom::End(_));
        let sought = if is_short { self.position.try_use(|| (&self.std).seek(to)) } else { None };
        sought.unwrap_or_else(|| self.call_at_position(WaitReason::FileSystem, |mut file| file.seek(to)))
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
    }
}

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        (&*self).write_all(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}
