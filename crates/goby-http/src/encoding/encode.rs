//! Bodies that are compressed as they are sent.

use std::io::{self, Write};
use std::mem;

use bytes::Bytes;

use super::Coding;
use crate::body::{Body, Source};
use crate::error::{Error, Phase};

/// How much of a body at hand is compressed between two checkpoints: some milliseconds' worth.
const PIECE: usize = 64 << 10;

/// How hard brotli tries, and its window as a power of two. More takes many times as long.
#[cfg(feature = "brotli")]
const BROTLI: (u32, u32) = (4, 19);

/// How hard zstd tries: its default.
#[cfg(feature = "zstd")]
const ZSTD: i32 = 3;

/// A body that is compressed piece by piece.
pub(super) struct Encoder {
    body: Body,
    writer: Writer,
    /// Nobody knows how long the body will be: somebody writes it now, and each piece is to arrive
    /// before the next one is there.
    is_live: bool,
}

/// Compresses what is written to it.
enum Writer {
    #[cfg(feature = "gzip")]
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    #[cfg(feature = "brotli")]
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Finished,
}

impl Encoder {
    pub(super) fn new(coding: Coding, body: Body) -> io::Result<Encoder> {
        Ok(Encoder { is_live: body.len().is_none(), body, writer: Writer::new(coding)? })
    }

    /// Gives the next bytes, or none at the end.
    fn next(&mut self) -> Result<Vec<u8>, Error> {
        let failed = |error| Error::new(Phase::Produce, error);
        while !matches!(self.writer, Writer::Finished) {
            let Some(piece) = self.body.chunk()? else {
                return mem::replace(&mut self.writer, Writer::Finished).finish().map_err(failed);
            };
            self.writer.write(&piece).map_err(failed)?;
            if self.is_live {
                self.writer.flush().map_err(failed)?;
            }
            let ready = self.writer.take();
            if !ready.is_empty() {
                return Ok(ready);
            }
        }
        Ok(Vec::new())
    }
}

impl Source for Encoder {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = self.next()?;
        Ok(if chunk.is_empty() { None } else { Some(chunk.into()) })
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

impl Writer {
    fn new(coding: Coding) -> io::Result<Writer> {
        Ok(match coding {
            #[cfg(feature = "gzip")]
            Coding::Gzip => {
                Writer::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default())))
            }
            #[cfg(feature = "brotli")]
            Coding::Brotli => {
                let (quality, window) = BROTLI;
                Writer::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), 4096, quality, window)))
            }
            #[cfg(feature = "zstd")]
            Coding::Zstd => Writer::Zstd(Box::new(zstd::stream::write::Encoder::new(Vec::new(), ZSTD)?)),
        })
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(PIECE));
            match self {
                #[cfg(feature = "gzip")]
                Writer::Gzip(writer) => writer.write_all(piece)?,
                #[cfg(feature = "brotli")]
                Writer::Brotli(writer) => writer.write_all(piece)?,
                #[cfg(feature = "zstd")]
                Writer::Zstd(writer) => writer.write_all(piece)?,
                Writer::Finished => {}
            }
            bytes = rest;
            goby::checkpoint();
        }
        Ok(())
    }

    /// Brings all that was written into the output.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            #[cfg(feature = "gzip")]
            Writer::Gzip(writer) => writer.flush(),
            #[cfg(feature = "brotli")]
            Writer::Brotli(writer) => writer.flush(),
            #[cfg(feature = "zstd")]
            Writer::Zstd(writer) => writer.flush(),
            Writer::Finished => Ok(()),
        }
    }

    /// Takes the output so far.
    fn take(&mut self) -> Vec<u8> {
        match self {
            #[cfg(feature = "gzip")]
            Writer::Gzip(writer) => mem::take(writer.get_mut()),
            #[cfg(feature = "brotli")]
            Writer::Brotli(writer) => mem::take(writer.get_mut()),
            #[cfg(feature = "zstd")]
            Writer::Zstd(writer) => mem::take(writer.get_mut()),
            Writer::Finished => Vec::new(),
        }
    }

    /// Ends the data, and gives the rest of the output.
    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            #[cfg(feature = "gzip")]
            Writer::Gzip(writer) => writer.finish(),
            #[cfg(feature = "brotli")]
            Writer::Brotli(writer) => Ok(writer.into_inner()),
            #[cfg(feature = "zstd")]
            Writer::Zstd(writer) => writer.finish(),
            Writer::Finished => Ok(Vec::new()),
        }
    }
}

/// Compresses bytes.
pub(super) fn encode(coding: Coding, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(coding)?;
    writer.write(bytes)?;
    writer.finish()
}
