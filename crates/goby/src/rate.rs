//! Rate limits: a token bucket, Go's `golang.org/x/time/rate`.
//!
//! A [`Limiter`] holds up to `burst` tokens and gains `limit` tokens per second. An event takes one
//! or more tokens: [`allow`](Limiter::allow) refuses it if they are not there,
//! [`wait`](Limiter::wait) waits for them, and [`reserve`](Limiter::reserve) takes them in advance
//! and says how long to wait. [`Sometimes`] is for work that need not be done every time. [`Keyed`]
//! is a limiter for each host, user or address.
//!
//! | Go | goby |
//! |---|---|
//! | `rate.Limit`, `rate.Every`, `rate.Inf` | [`Limit`], [`Limit::every`], [`Limit::INF`] |
//! | `rate.NewLimiter(r, b)` | [`Limiter::new`], [`Limiter::per_second`] |
//! | `Allow`, `AllowN(t, n)` | [`allow`](Limiter::allow), [`allow_n`](Limiter::allow_n) |
//! | `Reserve`, `ReserveN(t, n)` | [`reserve`](Limiter::reserve), [`reserve_n`](Limiter::reserve_n) |
//! | `Wait(ctx)`, `WaitN(ctx, n)` | [`wait`](Limiter::wait), [`wait_n`](Limiter::wait_n) |
//! | `rate.Sometimes` | [`Sometimes`] |
//! | a `map[string]*rate.Limiter` and its lock | [`Keyed`] |
//!
//! Every call exists in a form that takes the instant at which it happens, so that a test need not
//! wait.
//!
//! ```
//! use goby::{Context, rate};
//!
//! # fn fetch(_: &Context, url: &str) -> usize { url.len() }
//! # let (rps, burst, urls) = (1000.0, 2, ["a", "bc", "def"]);
//! # let ctx = Context::background();
//! let mut results = vec![];
//! let limiter = rate::Limiter::per_second(rps, burst);
//! for url in urls {
//!     limiter.wait(&ctx)?;
//!     results.push(fetch(&ctx, url));
//! }
//! assert_eq!(results, [1, 2, 3]);
//! # Ok::<(), rate::WaitError>(())
//! ```

mod bucket;
mod keyed;
mod limiter;
mod sometimes;

pub use bucket::Limit;
pub use keyed::Keyed;
pub use limiter::{Limiter, Reservation, WaitError};
pub use sometimes::Sometimes;
