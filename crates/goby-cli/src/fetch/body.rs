//! Bodies of requests: `-d` and its kin.

use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;

use crate::exit::Usage;
use crate::text;

/// One piece of a body.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// These bytes.
    Text(String),
    /// The content of a file.
    File {
        path: PathBuf,
        /// Without its line breaks.
        joined: bool,
    },
}

impl Data {
    /// Reads the value of `-d`.
    #[allow(clippy::unnecessary_wraps, reason = "clap wants it")]
    pub(crate) fn form(text: &str) -> Result<Data, String> {
        Ok(Data::of(text, true))
    }

    /// Reads the value of `--data-binary`.
    #[allow(clippy::unnecessary_wraps, reason = "clap wants it")]
    pub(crate) fn binary(text: &str) -> Result<Data, String> {
        Ok(Data::of(text, false))
    }

    /// Reads the value of `--data-raw`.
    #[allow(clippy::unnecessary_wraps, reason = "clap wants it")]
    pub(crate) fn raw(text: &str) -> Result<Data, String> {
        Ok(Data::Text(text.to_string()))
    }

    fn of(text: &str, joined: bool) -> Data {
        match text.strip_prefix('@') {
            Some(path) => Data::File { path: path.into(), joined },
            None => Data::Text(text.to_string()),
        }
    }

    /// Whether it is the name of a directory: then `-d` was meant as it is in no other program.
    pub(crate) fn is_directory(&self) -> Option<&str> {
        match self {
            Data::Text(text) if Path::new(text).is_dir() => Some(text),
            _ => None,
        }
    }

    fn read(&self) -> Result<Vec<u8>, Usage> {
        let (path, joined) = match self {
            Data::Text(text) => return Ok(text.clone().into_bytes()),
            Data::File { path, joined } => (path, *joined),
        };
        let read = if path.as_os_str() == "-" { read_standard_input() } else { fs::read(path) };
        let mut bytes =
            read.map_err(|error| Usage::new(format!("cannot read {}: {}", path.display(), text::reason(&error))))?;
        if joined {
            bytes.retain(|byte| !matches!(byte, b'\r' | b'\n' | b'\0'));
        }
        Ok(bytes)
    }
}

fn read_standard_input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::stdin(), &mut bytes).map(|_| bytes)
}

/// Reads the pieces of a body, and puts `between` between them.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn read<'a>(pieces: impl IntoIterator<Item = &'a Data>, between: &[u8]) -> Result<Bytes, Usage> {
    let pieces: Vec<Vec<u8>> = pieces.into_iter().map(Data::read).collect::<Result<_, _>>()?;
    Ok(pieces.join(between).into())
}
