//! `--output-dir`: each body becomes a file under one directory.
//!
//! A body is collected in memory, and spilled to a file `DIR/.goby-partial/RUN/N` when it grows.
//! The file is renamed to its name when it is complete, so no name ever shows half a body.
//! Everything here blocks the thread on the file system; the caller puts it behind
//! `goby::blocking`.
//!
//! A run locks its directory of partial files. The lock lasts as long as its process, however that
//! ends. A directory that is not locked belongs to a dead run, and the next run removes it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use url::Url;

use super::file_name::file_name;
use super::kept::Kept;
use super::template::Template;
use crate::exit::Usage;
use crate::text;

/// Where bodies are until they are complete. No URL's name begins with a dot.
const PARTIAL: &str = ".goby-partial";
/// Where below that they are between two attempts (see `kept.rs`).
const KEPT: &str = "kept";
/// A body is spilled to its file in pieces of about this size.
const SPILL: usize = 256 * 1024;

/// The directory of `--output-dir`.
#[derive(Debug)]
pub(crate) struct Saver {
    dir: PathBuf,
    /// This run's own directory of partial files.
    partial: PathBuf,
    /// That directory, open and locked.
    _lock: File,
    /// Makes the names of partial files different. A plain counter: it publishes nothing else.
    next: AtomicU64,
    /// `--output-name`.
    template: Option<Template>,
    /// Which URL has taken which name, by their hashes, if names are by a template. A short lock.
    taken: Option<Mutex<HashMap<u64, u64>>>,
}

impl Saver {
    /// Makes the directory if it is not there, and checks whether files can be made in it.
    ///
    /// # Errors
    /// If not, in words that say what to do.
    pub(crate) fn open(dir: &Path, template: Option<Template>) -> Result<Saver, Usage> {
        Saver::try_open(dir, template).map_err(|error| {
            let (dir, reason) = (dir.display(), text::reason(&error));
            Usage::new(format!("cannot save files under {dir}: {reason}; name another directory with --output-dir DIR"))
        })
    }

    fn try_open(dir: &Path, template: Option<Template>) -> io::Result<Saver> {
        let all = dir.join(PARTIAL);
        fs::create_dir_all(&all)?;
        sweep(&all)?;
        let (partial, lock) = make_partial(&all)?;
        let taken = template.as_ref().map(|_| Mutex::default());
        let dir = dir.to_path_buf();
        let saver = Saver { dir, partial, _lock: lock, next: AtomicU64::new(0), template, taken };
        // Check now whether a file can be made, not at the end of the first body.
        drop(saver.partial_file()?);
        Ok(saver)
    }

    /// Begins the body of `url`.
    pub(crate) fn body(&self, url: &Url) -> Body<'_> {
        Body { saver: self, url: url.clone(), name: self.name(url), buffer: Vec::new(), spilled: None }
    }

    /// The name of the body of `url`, relative to the directory.
    fn name(&self, url: &Url) -> String {
        self.template.as_ref().map_or_else(|| file_name(url), |template| template.name(url))
    }

    /// Takes a name for a URL.
    fn take(&self, name: &str, url: &Url) -> io::Result<()> {
        let Some(taken) = &self.taken else { return Ok(()) };
        let hash = |text: &str| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        };
        let (name_hash, url_hash) = (hash(name), hash(url.as_str()));
        let owner = *taken.lock().unwrap_or_else(PoisonError::into_inner).entry(name_hash).or_insert(url_hash);
        match owner == url_hash {
            true => Ok(()),
            false => Err(io::Error::other(format!("another URL has the name {name}: --output-name needs more fields"))),
        }
    }

    /// Where what has come of `url` is kept for another attempt.
    pub(crate) fn kept_path(&self, url: &Url) -> PathBuf {
        let hash = Sha256::digest(self.name(url));
        let name: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(PARTIAL).join(KEPT).join(name)
    }

    /// Ends the run: removes its directory of partial files, and the one above it if no other run
    /// uses it.
    pub(crate) fn close(&self) {
        let _ = fs::remove_dir(&self.partial);
        let _ = fs::remove_dir(self.dir.join(PARTIAL).join(KEPT));
        let _ = self.partial.parent().map(fs::remove_dir);
    }
}

/// Removes what dead runs have left.
fn sweep(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        // Other runs may sweep at the same time. What cannot be removed is left.
        if path.ends_with(KEPT) {
            // It is for any run.
        } else if !path.is_dir() {
            let _ = fs::remove_file(&path);
        } else if let Ok((_dir, Lock::Taken)) = lock(&path) {
            let _ = fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

/// Makes a directory for this run, and locks it.
fn make_partial(all: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let path = all.join(format!("{}-{:x}", std::process::id(), goby::random()));
        fs::create_dir(&path)?;
        match lock(&path) {
            // Before it was locked, another run may have taken it for a dead run's. Then it is
            // gone, or about to be.
            Ok((_, Lock::AnothersOwn)) => {}
            Ok((dir, _)) if path.is_dir() => return Ok((path, dir)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// What came of locking a directory.
enum Lock {
    Taken,
    AnothersOwn,
    /// The file system, or a sandbox, has no locks. Then nobody knows which runs are dead.
    NotThere,
}

/// Locks a directory for as long as it is open.
fn lock(path: &Path) -> io::Result<(File, Lock)> {
    let dir = File::open(path)?;
    let lock = match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock::Taken,
        Err(Errno::WOULDBLOCK) => Lock::AnothersOwn,
        Err(_) => Lock::NotThere,
    };
    Ok((dir, lock))
}

/// A body on its way to a file. If it is dropped before [`Body::finish`], it leaves no file.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    saver: &'a Saver,
    url: Url,
    name: String,
    buffer: Vec<u8>,
    spilled: Option<Spilled>,
}

/// A partial file, which is removed when this is dropped. After the rename, the path is empty.
#[derive(Debug)]
struct Spilled {
    file: File,
    path: PathBuf,
}

impl Body<'_> {
    /// Takes the next bytes of the body, in memory.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether it is time for [`Body::spill`].
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= SPILL
    }

    /// Writes what was pushed to the partial file. Blocks the thread.
    pub(crate) fn spill(&mut self) -> io::Result<()> {
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(self.saver.partial_file()?),
        };
        spilled.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Begins with what an earlier attempt has left. Blocks the thread.
    pub(crate) fn go_on(&mut self, kept: &Kept) -> io::Result<()> {
        let path = self.saver.partial_path();
        fs::rename(&kept.path, &path)?;
        kept.discard();
        let file = OpenOptions::new().append(true).open(&path)?;
        self.spilled = Some(Spilled { file, path });
        Ok(())
    }

    /// Leaves what has come for another attempt. Blocks the thread.
    pub(crate) fn keep(mut self, validator: &HeaderValue) -> io::Result<()> {
        self.spill()?;
        let mut spilled = self.spilled.take().expect("spill makes the file");
        Kept::store(self.saver, &self.url, &spilled.path, validator)?;
        spilled.path.clear();
        Ok(())
    }

    /// Gives the complete body its name, and returns the name, relative to the directory. Blocks
    /// the thread.
    pub(crate) fn finish(mut self) -> io::Result<String> {
        self.saver.take(&self.name, &self.url)?;
        self.spill()?;
        let mut spilled = self.spilled.take().expect("spill makes the file");
        let path = self.saver.dir.join(&self.name);
        if let Err(error) = fs::rename(&spilled.path, &path) {
            // The first file of a directory makes it.
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            fs::create_dir_all(path.parent().expect("a name is below the directory"))?;
            fs::rename(&spilled.path, &path)?;
        }
        spilled.path.clear();
        Ok(self.name)
    }
}

impl Saver {
    /// A name that no other body has.
    fn partial_path(&self) -> PathBuf {
        self.partial.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn partial_file(&self) -> io::Result<Spilled> {
        let path = self.partial_path();
        Ok(Spilled { file: File::create(&path)?, path })
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::scratch::Scratch;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn bodies_of_any_size_become_files() {
        let scratch = Scratch::new();
        let saver = Saver::open(&scratch.path("new/dir"), None).unwrap();
        for size in [0, 1, SPILL - 1, SPILL, 3 * SPILL + 5] {
            let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let mut body = saver.body(&url(&format!("http://h/{size}.bin")));
            for piece in bytes.chunks(1000) {
                body.push(piece);
                if body.is_full() {
                    body.spill().unwrap();
                }
                assert!(body.buffer.len() <= SPILL);
            }
            let name = body.finish().unwrap();
            assert_eq!(name, format!("http/h/{size}.bin"));
            assert_eq!(fs::read(scratch.path("new/dir").join(name)).unwrap(), bytes);
        }
        saver.close();
        assert!(!scratch.path("new/dir").join(PARTIAL).exists());
    }

    #[test]
    fn what_dead_runs_have_left_is_swept_and_what_living_ones_have_is_not() {
        let scratch = Scratch::new();
        let dir = scratch.path("dir");
        let (dead, loose) = (dir.join(PARTIAL).join("1-dead"), dir.join(PARTIAL).join("12-7"));
        fs::create_dir_all(&dead).unwrap();
        fs::write(dead.join("0"), "half").unwrap();
        fs::write(&loose, "half").unwrap();
        let living = Saver::open(&dir, None).unwrap();
        assert!(!dead.exists() && !loose.exists());
        let mut body = living.body(&url("http://h/a.txt"));
        body.push(b"half");
        body.spill().unwrap();
        Saver::open(&dir, None).unwrap().close();
        assert_eq!(body.finish().unwrap(), "http/h/a.txt");
        living.close();
        assert!(!dir.join(PARTIAL).exists());
    }

    #[test]
    fn a_body_that_is_given_up_leaves_nothing() {
        let scratch = Scratch::new();
        let saver = Saver::open(&scratch.path("dir"), None).unwrap();
        let mut body = saver.body(&url("http://h/a.txt"));
        body.push(b"half");
        body.spill().unwrap();
        assert_eq!(fs::read_dir(&saver.partial).unwrap().count(), 1);
        drop(body);
        assert_eq!(fs::read_dir(&saver.partial).unwrap().count(), 0);
        assert!(!scratch.path("dir/http").exists());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let scratch = Scratch::new();
        let saver = Saver::open(&scratch.path("dir"), None).unwrap();
        for text in ["first and longer", "second"] {
            let mut body = saver.body(&url("http://h/a.txt"));
            body.push(text.as_bytes());
            body.finish().unwrap();
            assert_eq!(fs::read_to_string(scratch.path("dir/http/h/a.txt")).unwrap(), text);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_at_once() {
        let scratch = Scratch::new();
        fs::write(scratch.path("file"), "").unwrap();
        let dir = scratch.path("file/dir");
        let expected = format!(
            "cannot save files under {}: Not a directory; name another directory with --output-dir DIR",
            dir.display()
        );
        assert_eq!(Saver::open(&dir, None).unwrap_err().to_string(), expected);
    }
}
