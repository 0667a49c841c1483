//! A log follower, as `tail -F`: several files into one channel, across rotation.
//!
//!     cargo run -p goby-examples --bin log_follower FILE FILE …
//!
//! In Go:
//!
//! ```go
//! func follow(ctx context.Context, path string, lines chan<- string) error {
//!     file, err := os.Open(path)
//!     reader := bufio.NewReader(file)
//!     for {
//!         line, err := reader.ReadString('\n')
//!         // … at io.EOF: wait; open the file again if os.SameFile says that it is another
//!         select {
//!         case lines <- line:
//!         case <-ctx.Done():
//!             return ctx.Err()
//!         }
//!     }
//! }
//! ```

use std::io::{self, BufRead, BufReader, ErrorKind, Seek};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use goby::chan::{self, Sender};
use goby::fs::{self, File};
use goby::signal::{self, Signal};
use goby::{Context, go, time};

/// How often a file is asked for more.
const INTERVAL: Duration = Duration::from_millis(50);

fn main() -> io::Result<()> {
    let (ctx, _stop) = signal::notify_context(&Context::background(), &[Signal::INTERRUPT, Signal::TERMINATED])?;
    let (lines, followed) = chan::bounded(100);
    for path in std::env::args().skip(1) {
        let (ctx, lines) = (ctx.clone(), lines.clone());
        go(move || {
            if let Err(error) = follow(&ctx, &path, &lines)
                && ctx.err().is_none()
            {
                eprintln!("{error}");
            }
        });
    }
    drop(lines);
    // Until all that follow have ended.
    for line in &followed {
        print!("{line}");
    }
    Ok(())
}

/// Sends the lines of a file, those to come too, until the context is done.
fn follow(ctx: &Context, path: &str, lines: &Sender<String>) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = String::new();
    loop {
        // Without a newline it is not whole yet: the next read appends to it.
        if reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
            let whole = format!("{path}: {}", std::mem::take(&mut line));
            lines.send_ctx(ctx, whole).map_err(|_| io::Error::other("nobody wants the lines"))?;
            continue;
        }
        let here = reader.get_ref().metadata()?;
        match fs::metadata(path) {
            Ok(there) if there.ino() != here.ino() || there.dev() != here.dev() => {
                // What came between the last read and the rotation.
                if reader.fill_buf()?.is_empty() {
                    reader = BufReader::new(File::open(path)?);
                }
                continue;
            }
            // It was cut.
            Ok(there) if there.len() < reader.stream_position()? => reader.rewind()?,
            Ok(_) => {}
            // It was moved away, and the next one is not there yet.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        time::sleep_ctx(ctx, INTERVAL)?;
    }
}
