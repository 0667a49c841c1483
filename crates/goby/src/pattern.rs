//! The three shapes that concurrent programs are put together from: a worker pool, fan-out and fan-in.
//!
//! Each takes the context first, receivers in, receivers out, and starts its goroutines before it returns. What they
//! promise is the same for all three:
//!
//! - The outputs close by themselves when all that was put in has come out.
//! - Every goroutine ends when the context is done, when the input closes, or when nobody can receive its output any
//!   more. None is left behind, and no one needs a `wait`.
//! - A panic in the function given is not lost: it stops what the goroutine belongs to, and the receiver of the output
//!   goes on with it where it would otherwise have seen the end.
//!
//! What was begun when the context got done is finished, but its result is dropped. Nothing new is begun then.

mod fan;
mod output;
mod pool;

pub use fan::{fan_in, fan_out};
pub use pool::worker_pool;
