//! Power series as goroutines (after McIlroy, "Squinting at Power Series").
//!
//! A series is a pair of channels without a buffer: its consumer sends a request and receives one
//! coefficient. Nothing is computed without a request. A goroutine ends when the consumer of its
//! series is gone; that ends the goroutines that it consumes from. A series that is defined by
//! itself (exp, recip, revert) is a cycle of goroutines, which only [`World`] ends.

use goby::chan::{Receiver, Sender, bounded};
use goby::{go, select};

use super::rational::{Coefficient, Rational};

/// The consumer's end.
#[derive(Clone)]
pub(super) struct Series<C> {
    request: Sender<()>,
    data: Receiver<C>,
}

/// The producer's end.
#[derive(Clone)]
pub(super) struct Source<C> {
    request: Receiver<()>,
    data: Sender<C>,
}

/// Why a goroutine of a series ends before its series does: its consumer is gone, or the world has
/// ended.
pub(super) struct Gone;

type Step<T = ()> = Result<T, Gone>;

impl<T> From<goby::chan::SendError<T>> for Gone {
    fn from(_: goby::chan::SendError<T>) -> Self {
        Gone
    }
}

impl From<goby::chan::RecvError> for Gone {
    fn from(_: goby::chan::RecvError) -> Self {
        Gone
    }
}

/// The maker of series. Its channel closes when the test is done with them; each wait of each
/// goroutine watches it.
#[derive(Clone)]
pub(super) struct World {
    done: Receiver<()>,
}

impl World {
    /// A world, and what ends it when dropped.
    pub(super) fn new() -> (Self, Sender<()>) {
        let (end, done) = bounded(0);
        (World { done }, end)
    }

    fn series<C>(&self) -> (Source<C>, Series<C>) {
        let ((request, requests), (data_tx, data)) = (bounded(0), bounded(0));
        (Source { request: requests, data: data_tx }, Series { request, data })
    }

    /// A series produced by a goroutine that runs `body`.
    fn make<C: Coefficient>(&self, body: impl FnOnce(&World, &Source<C>) -> Step + Send + 'static) -> Series<C> {
        let (source, series) = self.series();
        let world = self.clone();
        go(move || body(&world, &source).unwrap_or(()));
        series
    }

    /// Parks until the consumer asks.
    fn requested<C>(&self, source: &Source<C>) -> Step {
        select! {
            recv(source.request) -> request => Ok(request?),
            recv(self.done) -> _ => Err(Gone),
        }
    }

    fn give<C>(&self, source: &Source<C>, coefficient: C) -> Step {
        select! {
            send(source.data, coefficient) -> sent => Ok(sent?),
            recv(self.done) -> _ => Err(Gone),
        }
    }

    fn put<C: Coefficient>(&self, source: &Source<C>, value: Rational) -> Step {
        self.requested(source)?;
        self.give(source, C::pack(value))
    }

    /// The next coefficient, as it traveled.
    pub(super) fn take<C>(&self, series: &Series<C>) -> Step<C> {
        select! {
            send(series.request, ()) -> sent => sent?,
            recv(self.done) -> _ => return Err(Gone),
        }
        select! {
            recv(series.data) -> value => Ok(value?),
            recv(self.done) -> _ => Err(Gone),
        }
    }

    fn get<C: Coefficient>(&self, series: &Series<C>) -> Step<Rational> {
        Ok(self.take(series)?.value())
    }

    /// The next coefficients of two series, requested at once: four selects, where each step of
    /// each series is disabled once it is done.
    fn get_two<C: Coefficient>(&self, u: &Series<C>, v: &Series<C>) -> Step<(Rational, Rational)> {
        let (mut asked_u, mut asked_v) = (false, false);
        let (mut from_u, mut from_v) = (None, None);
        for _ in 0..4 {
            select! {
                send(u.request, ()) -> sent if !asked_u => { sent?; asked_u = true; }
                send(v.request, ()) -> sent if !asked_v => { sent?; asked_v = true; }
                recv(u.data) -> value if asked_u && from_u.is_none() => from_u = Some(value?.value()),
                recv(v.data) -> value if asked_v && from_v.is_none() => from_v = Some(value?.value()),
                recv(self.done) -> _ => return Err(Gone),
            }
        }
        Ok(from_u.zip(from_v).expect("four selects read both series"))
    }

    /// Passes on the rest of a series.
    fn copy<C: Coefficient>(&self, input: &Series<C>, output: &Source<C>) -> Step {
        loop {
            self.requested(output)?;
            let coefficient = self.take(input)?;
            let end = coefficient.value().is_end();
            self.give(output, coefficient)?;
            if end {
                return Ok(());
            }
        }
    }

    /// Lets two consumers read one series, each at its own speed.
    fn split<C: Coefficient>(&self, input: Series<C>) -> [Series<C>; 2] {
        let ((source1, series1), (source2, series2)) = (self.series(), self.series());
        self.split_into(input, [source1, source2]);
        [series1, series2]
    }

    fn split_into<C: Coefficient>(&self, input: Series<C>, outputs: [Source<C>; 2]) {
        let (release, released) = bounded(1);
        release.send(()).unwrap(); // The first generation may serve both from the start.
        self.start_generation(input, outputs, released);
    }

    fn start_generation<C: Coefficient>(&self, input: Series<C>, outputs: [Source<C>; 2], released: Receiver<()>) {
        let world = self.clone();
        go(move || world.generation(input, outputs, &released).unwrap_or(()));
    }

    /// Serves one coefficient to both consumers. The faster one gets it first; from its next
    /// request on, the next generation serves it. The slower one gets it when the older generations
    /// have `released` it. If one consumer is gone, the other gets the rest directly.
    fn generation<C: Coefficient>(
        &self,
        input: Series<C>,
        [fast, slow]: [Source<C>; 2],
        released: &Receiver<()>,
    ) -> Step {
        let mut waiting = true;
        let (fast, slow) = select! {
            recv(fast.request) -> request => match request {
                Ok(()) => (fast, slow),
                Err(_) => {
                    self.released(released)?;
                    return self.copy(&input, &slow);
                }
            },
            recv(released) -> release => {
                release?;
                waiting = false;
                // Neither consumer still needs an older coefficient, so either may be the faster
                // one from here on.
                select! {
                    recv(fast.request) -> request => match request {
                        Ok(()) => (fast, slow),
                        Err(_) => return self.copy(&input, &slow),
                    },
                    recv(slow.request) -> request => match request {
                        Ok(()) => (slow, fast),
                        Err(_) => return self.copy(&input, &fast),
                    },
                    recv(self.done) -> _ => return Err(Gone),
                }
            }
            recv(self.done) -> _ => return Err(Gone),
        };
        let coefficient = self.take(&input)?;
        let (release, next_released) = bounded(0);
        let more = !coefficient.value().is_end();
        if more {
            self.start_generation(input, [fast.clone(), slow.clone()], next_released);
        }
        // A consumer that goes away does not end the other's series: the next generation notices.
        let _ = self.give(&fast, coefficient.clone());
        if waiting {
            self.released(released)?;
        }
        let _ = self.requested(&slow).and_then(|()| self.give(&slow, coefficient));
        if more {
            select! {
                send(release, ()) -> _ => {}
                recv(self.done) -> _ => {}
            }
        }
        Ok(())
    }

    fn released(&self, released: &Receiver<()>) -> Step {
        select! {
            recv(released) -> release => Ok(release?),
            recv(self.done) -> _ => Err(Gone),
        }
    }
}

/// The operations; each returns a new series.
impl World {
    /// A finite series.
    pub(super) fn finite<C: Coefficient>(&self, coefficients: Vec<Rational>) -> Series<C> {
        self.make(move |world, z| {
            coefficients.into_iter().try_for_each(|c| world.put(z, c))?;
            world.put(z, Rational::END)
        })
    }

    /// c, c, c, ...
    pub(super) fn rep<C: Coefficient>(&self, c: Rational) -> Series<C> {
        self.make(move |world, z| {
            loop {
                world.put(z, c)?;
            }
        })
    }

    pub(super) fn add<C: Coefficient>(&self, u: Series<C>, v: Series<C>) -> Series<C> {
        self.make(move |world, z| {
            loop {
                world.requested(z)?;
                match world.get_two(&u, &v)? {
                    (a, b) if a.is_end() => {
                        world.give(z, C::pack(b))?;
                        return if b.is_end() { Ok(()) } else { world.copy(&v, z) };
                    }
                    (a, b) if b.is_end() => {
                        world.give(z, C::pack(a))?;
                        return world.copy(&u, z);
                    }
                    (a, b) => world.give(z, C::pack(a + b))?,
                }
            }
        })
    }

    pub(super) fn sub<C: Coefficient>(&self, u: Series<C>, v: Series<C>) -> Series<C> {
        let minus_v = self.cmul(-Rational::ONE, v);
        self.add(u, minus_v)
    }

    /// Each coefficient through `f`, which also gets its index.
    fn map<C: Coefficient>(
        &self,
        u: Series<C>,
        mut f: impl FnMut(i64, Rational) -> Rational + Send + 'static,
    ) -> Series<C> {
        self.make(move |world, z| {
            for i in 0.. {
                world.requested(z)?;
                let a = world.get(&u)?;
                if a.is_end() {
                    return world.give(z, C::pack(a));
                }
                world.give(z, C::pack(f(i, a)))?;
            }
            unreachable!()
        })
    }

    /// c * U.
    pub(super) fn cmul<C: Coefficient>(&self, c: Rational, u: Series<C>) -> Series<C> {
        self.map(u, move |_, a| c * a)
    }

    /// c + x * U.
    pub(super) fn shift<C: Coefficient>(&self, c: Rational, u: Series<C>) -> Series<C> {
        self.make(move |world, z| {
            world.put(z, c)?;
            world.copy(&u, z)
        })
    }

    /// x^n * U.
    pub(super) fn monmul<C: Coefficient>(&self, u: Series<C>, n: usize) -> Series<C> {
        self.make(move |world, z| {
            (0..n).try_for_each(|_| world.put(z, Rational::ZERO))?;
            world.copy(&u, z)
        })
    }

    pub(super) fn diff<C: Coefficient>(&self, u: Series<C>) -> Series<C> {
        let tail = self.make(move |world, z| {
            world.requested(z)?;
            let constant = world.get(&u)?;
            let first = if constant.is_end() { constant } else { world.get(&u)? };
            world.give(z, C::pack(first))?;
            if first.is_end() { Ok(()) } else { world.copy(&u, z) }
        });
        self.map(tail, |i, a| Rational::int(i + 1) * a)
    }

    pub(super) fn integ<C: Coefficient>(&self, c: Rational, u: Series<C>) -> Series<C> {
        let tail = self.map(u, |i, a| a / Rational::int(i + 1));
        self.shift(c, tail)
    }

    /// u0*v0 + x*(u0*VV + v0*UU) + x^2*UU*VV, where U = u0 + x*UU and V = v0 + x*VV.
    pub(super) fn mul<C: Coefficient>(&self, u: Series<C>, v: Series<C>) -> Series<C> {
        self.make(move |world, z| {
            world.requested(z)?;
            let (u0, v0) = world.get_two(&u, &v)?;
            if u0.is_end() || v0.is_end() {
                return world.give(z, C::pack(Rational::END));
            }
            world.give(z, C::pack(u0 * v0))?;
            let ([u1, u2], [v1, v2]) = (world.split(u), world.split(v));
            let linear = world.add(world.cmul(u0, v1), world.cmul(v0, u1));
            let product = world.mul(u2, v2);
            world.copy(&world.add(linear, world.monmul(product, 1)), z)
        })
    }

    /// U(c * x^n).
    pub(super) fn mon_subst<C: Coefficient>(&self, u: Series<C>, c: Rational, n: usize) -> Series<C> {
        self.make(move |world, z| {
            let mut power = Rational::ONE;
            loop {
                world.requested(z)?;
                let a = world.get(&u)?;
                if a.is_end() {
                    return world.give(z, C::pack(a));
                }
                world.give(z, C::pack(a * power))?;
                (1..n).try_for_each(|_| world.put(z, Rational::ZERO))?;
                power = power * c;
            }
        })
    }

    /// A series defined by itself: `define` gets the series that it returns.
    fn feedback<C: Coefficient>(&self, define: impl FnOnce(&World, Series<C>) -> Series<C>) -> Series<C> {
        let ((result_source, result), (again_source, again)) = (self.series(), self.series());
        self.split_into(define(self, again), [result_source, again_source]);
        result
    }

    /// Z = 1 + integral of Z * U'.
    pub(super) fn exp<C: Coefficient>(&self, u: Series<C>) -> Series<C> {
        self.feedback(|world, z| world.integ(Rational::ONE, world.mul(z, world.diff(u))))
    }

    /// 1 / U: z0 = 1/u0, and the rest is -UU * Z / u0.
    pub(super) fn recip<C: Coefficient>(&self, u: Series<C>) -> Series<C> {
        self.feedback(|world, again| {
            world.make(move |world, z| {
                world.requested(z)?;
                let z0 = world.get(&u)?.inverse();
                world.give(z, C::pack(z0))?;
                world.copy(&world.cmul(-z0, world.mul(u, again)), z)
            })
        })
    }

    /// (1 + x)^c.
    pub(super) fn binom<C: Coefficient>(&self, c: Rational) -> Series<C> {
        self.make(move |world, z| {
            let mut term = Rational::ONE;
            for n in 1.. {
                if term == Rational::ZERO {
                    break;
                }
                world.put(z, term)?;
                term = term * (c + Rational::int(1 - n)) / Rational::int(n);
            }
            world.put(z, Rational::END)
        })
    }

    /// U(V(x)), where V has no constant term: u0 + x * VV * UU(V).
    pub(super) fn subst<C: Coefficient>(&self, u: Series<C>, v: Series<C>) -> Series<C> {
        self.make(move |world, z| {
            world.requested(z)?;
            let u0 = world.get(&u)?;
            world.give(z, C::pack(u0))?;
            if u0.is_end() {
                return Ok(());
            }
            world.requested(z)?;
            let [v1, v2] = world.split(v);
            let v0 = world.get(&v1)?;
            if v0.is_end() {
                return world.give(z, C::pack(v0));
            }
            let rest = world.mul(v1, world.subst(u, v2));
            world.give(z, world.take(&rest)?)?;
            world.copy(&rest, z)
        })
    }

    /// The series R with U(R(x)) = x, where U = x * UU: R = x * (1 / UU(R)).
    pub(super) fn revert<C: Coefficient>(&self, u: Series<C>) -> Series<C> {
        self.feedback(|world, again| {
            let tail = world.make(move |world, z| {
                world.requested(z)?;
                world.get(&u)?; // The constant term, which is 0.
                world.give(z, world.take(&u)?)?;
                world.copy(&u, z)
            });
            world.shift(Rational::ZERO, world.recip(world.subst(tail, again)))
        })
    }
}
