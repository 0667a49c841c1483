//! The shapes from which concurrent programs are built.
//!
//! | | |
//! |---|---|
//! | [`source`] | an iterator's values, as a channel |
//! | [`worker_pool`], [`elastic_pool`] | jobs in, results out as they are done |
//! | [`par_map`], [`try_par_map`] | the same, results in the order of the input |
//! | [`fan_out`], [`fan_in`] | one input to many outputs, many inputs to one output |
//! | [`batch`](batch()) | values together, by number and by time |
//! | [`debounce`] | of a burst, the last |
//! | [`Pipeline`] | these, one behind the other |
//! | [`Stream`] | tasks at the same time, callbacks one after the other |
//! | [`first`](first()), [`first_ok`] | of several tasks the one that is done first |
//!
//! Each takes the context first. Those that take a receiver and return one start what they need and
//! return at once. They make the same promises:
//!
//! - The outputs close by themselves when everything that was put in has come out.
//! - Every goroutine ends when the context is done, when the input closes, or when nobody can
//!   receive its output any more. None is left behind, and the caller needs no `wait`.
//! - A panic in the given function is not lost: it stops what the goroutine belongs to, and the
//!   panic goes on in the receive that would otherwise have seen the end of the output.
//!
//! A job that was begun when the context got done is finished, but its result is dropped. Nothing
//! new is begun then.
//!
//! # A job that ends by goexit
//!
//! A job that ends its goroutine by [`goexit`](crate::goexit) has no result and is no failure. One
//! rule holds here, in [`group`](crate::group) and in [`singleflight`](crate::singleflight):
//!
//! - All other jobs go on, in as many goroutines as before. No other goroutine is unwound by it.
//! - Where results come one by one, that result does not come: [`worker_pool`], [`elastic_pool`],
//!   [`par_map`] (in order), [`fan_out`], the stages of a [`Pipeline`], the callbacks of a
//!   [`Stream`]. [`first`](first()) and [`first_ok`] go by the other tasks.
//! - Where one `Ok` stands for all jobs, it does not come: a [`Group`](crate::group::Group) gives
//!   [`Goexit`](crate::Goexit) as that goroutine's error, and the output of [`try_par_map`] ends
//!   with a panic that says so, unless it ends with an error.
//!
//! # A runtime that is dropped
//!
//! The unstarted goroutines of a pattern then never run. The output ends with a panic that says so,
//! as it does after the panic of a job, and so does [`Stream::wait`]. [`first`](first()) and
//! [`first_ok`] go by the other tasks.
//!
//! To keep a stage to a rate, call [`Limiter::wait`](crate::rate::Limiter::wait) in its function.

mod first;
mod source;

mod elastic;
mod pool;

mod fan;
mod map;
mod timed;

mod pipeline;
mod stream;

mod order;
mod output;

pub use elastic::elastic_pool;
pub use fan::{fan_in, fan_out};
pub use first::{FirstError, first, first_ok};
pub use map::{par_map, try_par_map};
pub use pipeline::Pipeline;
pub use pool::worker_pool;
pub use source::source;
pub use stream::Stream;
pub use timed::{batch, debounce};
