//! A pipeline: the words of some files, counted, the most frequent first.
//!
//! ```text
//! paths ──▶ read, 4 at a time ──▶ count, 8 at a time ──▶ add up
//! ```
//!
//! Each arrow is a channel with room for a few values. So a slow stage slows down the stages before
//! it, and only a few texts are in memory. A file that cannot be read ends the pipeline: the
//! context of the stages is done when `main` leaves the loop. In Go:
//!
//! ```go
//! func stage[T, R any](ctx context.Context, in <-chan T, n int, f func(T) R) <-chan R {
//!     out := make(chan R)
//!     var wg sync.WaitGroup
//!     for range n {
//!         wg.Go(func() {
//!             for v := range in {
//!                 select {
//!                 case out <- f(v):
//!                 case <-ctx.Done():
//!                     return
//!                 }
//!             }
//!         })
//!     }
//!     go func() { wg.Wait(); close(out) }()
//!     return out
//! }
//!
//! func main() {
//!     ctx, cancel := context.WithCancel(context.Background())
//!     defer cancel()
//!     paths := source(ctx, os.Args[1:])
//!     texts := stage(ctx, paths, 4, read)
//!     counts := stage(ctx, texts, 8, count)
//!     total := map[string]int{}
//!     for part := range counts {
//!         for word, n := range part {
//!             total[word] += n
//!         }
//!     }
//!     // Print the first ten.
//! }
//! ```

use std::collections::HashMap;
use std::process::ExitCode;
use std::{env, fs, io};

use goby::pattern::Pipeline;
use goby::{Context, blocking};

type Counts = HashMap<String, usize>;

/// Reading a file blocks the OS thread, so it is done on a helper thread.
fn read(path: String) -> Result<String, String> {
    let text: io::Result<String> = blocking(|| fs::read_to_string(&path));
    text.map_err(|error| format!("{path}: {error}"))
}

fn count(text: Result<String, String>) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for word in text?.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    Ok(counts)
}

fn main() -> ExitCode {
    let paths: Vec<String> = env::args().skip(1).collect();
    let (ctx, _cancel) = Context::background().with_cancel();

    let mut total = Counts::new();
    for part in Pipeline::new(&ctx, paths).stage(4, read).stage(8, count) {
        match part {
            Ok(counts) => counts.into_iter().for_each(|(word, n)| *total.entry(word).or_default() += n),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }

    let mut words: Vec<_> = total.into_iter().collect();
    words.sort_by(|(a, n_a), (b, n_b)| n_b.cmp(n_a).then(a.cmp(b)));
    for (word, n) in words.iter().take(10) {
        println!("{n:7} {word}");
    }
    ExitCode::SUCCESS
}
