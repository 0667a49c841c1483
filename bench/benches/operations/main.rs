//! What one operation costs, for the operations that neither the table of `compare.py` nor the
//! instruction counts of `ci/instructions.sh` cover:
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml                 # all
//! cargo bench --manifest-path bench/Cargo.toml -- context      # those with "context" in their name
//! ```
//!
//! Criterion compares each run with the one before. All of it runs as the first goroutine of the
//! default runtime, so it measures what a goroutine sees.

mod channels;
mod contexts;
mod goroutines;
mod limits;
mod locks;
mod patterns;
mod selects;

use criterion::Criterion;

fn main() {
    // Criterion itself needs as much stack as a thread has.
    let runtime = goby::Builder::default().stack_size(2 << 20).build().expect("a runtime");
    runtime.run(|| {
        let mut criterion = Criterion::default().configure_from_args();
        locks::all(&mut criterion);
        contexts::all(&mut criterion);
        channels::all(&mut criterion);
        selects::all(&mut criterion);
        goroutines::all(&mut criterion);
        patterns::all(&mut criterion);
        limits::all(&mut criterion);
        criterion.final_summary();
    });
}
