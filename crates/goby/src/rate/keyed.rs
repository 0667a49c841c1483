//! A limiter for each key, and how limiters that carry no information are forgotten.
//!
//! A bucket that is full again is the same as a new one. So it is *idle* and may be removed, unless
//! somebody holds its limiter. Every access looks at four buckets, in turn, and removes those that
//! are idle. This is a constant cost, never a walk over all.
//!
//! That bounds their number. In the worst case each access brings a new key. Let there be `n`
//! buckets, `used` of them not idle. In the long run an access removes as many as it adds, which is
//! one, and goes past three. So a bucket's turn comes every `n / 3` accesses, and it stays for at
//! most `used + n / 3`. That is `n` itself: `n` is at most 1.5 times `used`.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexMap;

use super::{Limit, Limiter, WaitError};
use crate::context::Context;
use crate::sync::Mutex;

/// How many buckets an access looks at. With 3 there would be 2 times as many as are used; with 2
/// there would be no bound.
const LOOKED_AT: usize = 4;
/// When there are as many buckets as there may be, the fullest of this many is forgotten.
const CANDIDATES: usize = 8;
/// The memory of up to this many buckets is kept.
const FEW: usize = 64;

/// Limits how often something happens for each key: a [`Limiter`] per host, user or address.
///
/// A bucket is made when its key is first seen, and forgotten some time after it is full again.
/// Nobody can see that it was forgotten. Forgetting costs each call the same small amount.
///
/// ```
/// use goby::rate::Keyed;
///
/// let logins = Keyed::per_second(0.1, 3);
/// assert!((0..3).all(|_| logins.allow("ann")));
/// assert!(!logins.allow("ann"));
/// assert!(logins.allow("bob"));
/// ```
///
/// In Go, where nothing is forgotten:
///
/// ```go
/// func (l *Keyed) Allow(key string) bool {
///     l.mu.Lock()
///     defer l.mu.Unlock()
///     limiter, ok := l.limiters[key]
///     if !ok {
///         limiter = rate.NewLimiter(l.limit, l.burst)
///         l.limiters[key] = limiter
///     }
///     return limiter.Allow()
/// }
/// ```
pub struct Keyed<K> {
    limit: Limit,
    burst: usize,
    max_keys: usize,
    /// Not a short lock: it runs the key's `Eq` and `Hash`.
    buckets: Mutex<Buckets<K>>,
}

struct Buckets<K> {
    map: IndexMap<K, Arc<Limiter>>,
    /// The next bucket to look at.
    hand: usize,
}

impl<K> Keyed<K> {
    /// Makes a limiter that allows each key `limit` events per second and `burst` of them at once.
    ///
    /// ```
    /// use goby::rate::{Keyed, Limit};
    /// use std::net::Ipv4Addr;
    /// use std::time::Duration;
    ///
    /// let by_address = Keyed::new(Limit::every(Duration::from_secs(1)), 5);
    /// assert!(by_address.allow(&Ipv4Addr::LOCALHOST));
    /// ```
    pub fn new(limit: Limit, burst: usize) -> Keyed<K> {
        let buckets = Buckets { map: IndexMap::new(), hand: 0 };
        Keyed { limit, burst, max_keys: 65_536, buckets: Mutex::new(buckets) }
    }

    /// Makes a limiter that allows each key `rate` events per second and `burst` of them at once.
    ///
    /// # Panics
    ///
    /// If `rate` is negative or not a number.
    ///
    /// ```
    /// assert!(goby::rate::Keyed::per_second(5.0, 1).allow("key"));
    /// ```
    pub fn per_second(rate: f64, burst: usize) -> Keyed<K> {
        Keyed::new(Limit::per_second(rate), burst)
    }

    /// Sets how many buckets are kept at most. Default: 65,536, which take about 10 MB with short
    /// keys.
    ///
    /// When that many are in use at a time a new key displaces another: of a few keys the one with
    /// the fullest bucket. If that key comes back its bucket is full. So the limit is not kept for
    /// it, but the bound on memory is.
    ///
    /// # Panics
    ///
    /// If `max_keys` is 0.
    ///
    /// ```
    /// let two = goby::rate::Keyed::per_second(0.001, 1).max_keys(2);
    /// assert!(["a", "b", "c"].iter().all(|key| two.allow(*key)));
    /// assert_eq!(two.len(), 2);
    /// ```
    pub fn max_keys(mut self, max_keys: usize) -> Keyed<K> {
        assert!(max_keys > 0, "rate: a keyed limiter keeps at least one key");
        self.max_keys = max_keys;
        self
    }

    /// Counts the buckets that are kept.
    ///
    /// ```
    /// let keyed = goby::rate::Keyed::per_second(0.1, 1);
    /// assert!(keyed.allow("a") && keyed.allow("b"));
    /// assert_eq!(keyed.len(), 2);
    /// ```
    pub fn len(&self) -> usize {
        self.buckets.lock().map.len()
    }

    /// Whether no bucket is kept.
    ///
    /// ```
    /// assert!(goby::rate::Keyed::<u64>::per_second(1.0, 1).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq> Keyed<K> {
    /// Returns the limiter of a key, for uses that this type has no method for. The limiter is not
    /// forgotten while somebody has it.
    ///
    /// ```
    /// let keyed = goby::rate::Keyed::per_second(0.1, 3);
    /// let reserved = keyed.get("ann").reserve().delay();
    /// assert!(reserved.is_zero());
    /// ```
    pub fn get<Q>(&self, key: &Q) -> Arc<Limiter>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.get_at(key, goby_runtime::now())
    }

    /// Takes a token of the key's if there is one; returns whether the event may happen now.
    ///
    /// ```
    /// let keyed = goby::rate::Keyed::per_second(0.1, 1);
    /// assert!(keyed.allow(&7));
    /// assert!(!keyed.allow(&7));
    /// ```
    pub fn allow<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.allow_n(key, goby_runtime::now(), 1)
    }

    /// Takes `n` tokens of the key's if they are there at `at`; a refusal takes none.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let keyed = goby::rate::Keyed::per_second(10.0, 2);
    /// let start = Instant::now();
    /// assert!(keyed.allow_n("ann", start, 2));
    /// assert!(!keyed.allow_n("ann", start, 1));
    /// assert!(keyed.allow_n("ann", start + Duration::from_millis(200), 2));
    /// ```
    pub fn allow_n<Q>(&self, key: &Q, at: Instant, n: usize) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.get_at(key, at).allow_n(at, n)
    }

    /// Waits until the key's event may happen.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until there is a token for it.
    ///
    /// # Errors
    ///
    /// As [`Limiter::wait_n`].
    ///
    /// ```
    /// let keyed = goby::rate::Keyed::per_second(1000.0, 1);
    /// for host in ["a", "b", "a"] {
    ///     keyed.wait(&goby::Context::background(), host)?;
    /// }
    /// # Ok::<(), goby::rate::WaitError>(())
    /// ```
    pub fn wait<Q>(&self, ctx: &Context, key: &Q) -> Result<(), WaitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.get(key).wait(ctx)
    }

    /// Does what [`get`](Keyed::get) does, at `at`. The caller takes tokens before the limiter can
    /// be forgotten, because it holds the limiter.
    fn get_at<Q>(&self, key: &Q, at: Instant) -> Arc<Limiter>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut buckets = self.buckets.lock();
        buckets.forget_idle(at);
        if let Some(limiter) = buckets.map.get(key) {
            return limiter.clone();
        }
        if buckets.map.len() >= self.max_keys {
            buckets.forget_fullest(at);
        }
        let limiter = Arc::new(Limiter::new(self.limit, self.burst));
        buckets.map.insert(key.to_owned(), limiter.clone());
        limiter
    }
}

impl<K> Buckets<K> {
    /// Looks at the next few buckets, and removes those that are idle.
    fn forget_idle(&mut self, at: Instant) {
        for _ in 0..LOOKED_AT.min(self.map.len()) {
            self.hand %= self.map.len();
            let limiter = &self.map[self.hand];
            // The one reference is the map's, and only under this lock can the count grow.
            if Arc::strong_count(limiter) == 1 && limiter.is_full_at(at) {
                // The last bucket comes to its place, and is looked at next.
                self.map.swap_remove_index(self.hand);
            } else {
                self.hand += 1;
            }
        }
        if self.map.capacity() > FEW && self.map.len() < self.map.capacity() / 4 {
            // This happens so seldom that its cost per removal is constant.
            self.map.shrink_to(self.map.len() * 2);
        }
    }

    /// Removes one of the next few buckets, to make room.
    fn forget_fullest(&mut self, at: Instant) {
        let n = self.map.len();
        let candidates = (0..CANDIDATES.min(n)).map(|i| (self.hand + i) % n);
        let tokens = |index: &usize| self.map[*index].tokens_then(at);
        if let Some(index) = candidates.max_by(|a, b| tokens(a).total_cmp(&tokens(b))) {
            self.map.swap_remove_index(index);
            self.hand += 1;
        }
    }
}

impl<K> fmt::Debug for Keyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("limit", &self.limit)
            .field("burst", &self.burst)
            .field("max_keys", &self.max_keys)
            .field("len", &self.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
