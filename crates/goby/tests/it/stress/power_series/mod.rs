//! S3: power series on demand channels, with plain numbers and with trait objects in the channels.

mod rational;
mod series;

use std::sync::Arc;

use rational::{Coefficient, Item, Rational};
use series::{Series, World};

use crate::support::{size, with_workers};

/// Checks the first coefficients of a series against `expected`, fractions separated by spaces,
/// "end" for its end.
fn check<C: Coefficient>(expected: &str, make: impl FnOnce(&World) -> Series<C>) {
    let (world, end) = World::new();
    let series = make(&world);
    for (i, expected_term) in expected.split_whitespace().enumerate() {
        let Ok(term) = world.take(&series) else { panic!("the series ended at term {i} of {expected}") };
        assert_eq!(term.print(), expected_term, "term {i} of {expected}");
        assert!(term.same(&C::pack(term.value())) && !term.same(&C::pack(Rational::int(-7))));
    }
    drop(series);
    drop(end); // Ends the goroutines of cycles; those of other series end with their series.
}

/// The first `count` of the terms in `terms`.
fn first(count: usize, terms: &str) -> String {
    terms.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

const EXP: &str = "1 1 3/2 13/6 73/24 167/40 4051/720 37633/5040 43817/4480 4596553/362880 \
    58941091/3628800 274691047/13305600 12470162233/479001600 202976401213/6227020800 \
    1178339174801/29059430400";

fn tables<C: Coefficient>() {
    let ratio = Rational::new;
    let ones = |world: &World| world.rep::<C>(Rational::ONE);
    let twos = |world: &World| world.rep::<C>(Rational::int(2));
    let minus_one = -Rational::ONE;
    check("1 1 1 1 1", ones);
    check("2 2 2 2 2 2 2 2 2 2", |w| w.add(ones(w), ones(w)));
    check("3 3 3 3 3 3 3 3 3 3", |w| w.add(ones(w), twos(w)));
    check("-1 -1 -1 -1 -1 -1 -1 -1 -1 -1", |w| w.sub(ones(w), twos(w)));
    check("-2 -2 -2 -2 -2 -2 -2 -2 -2 -2", |w| w.cmul(minus_one, twos(w)));
    check("0 0 0 1 1 1", |w| w.monmul(ones(w), 3));
    check("7 1 1 1", |w| w.shift(Rational::int(7), ones(w)));
    check("1 2 3 4 5 6 7 8 9 10", |w| w.diff(ones(w)));
    check("0 1 1/2 1/3 1/4 1/5 1/6 1/7 1/8 1/9", |w| w.integ(Rational::ZERO, ones(w)));
    check("1 2 3 4 5 6 7 8 9 10", |w| w.mul(ones(w), ones(w)));
    check("1 3 6 10 15 21 28 36 45 55", |w| w.mul(w.diff(ones(w)), ones(w)));
    check("1 0 -1 0 1 0 -1 0 1 0", |w| w.mon_subst(ones(w), minus_one, 2));
    check("0 1 0 -1/3 0 1/5 0 -1/7 0 1/9", arctan::<C>);
    check(&first(size(12, 15), EXP), |w| w.exp(ones(w)));
    check("1 2 4 22/3 38/3 314/15 1504/45 16346/315 24796/315 331906/2835", |w| w.exp(twos(w)));
    check("1 1 1/2 1/6 1/24 1/120 1/720 1/5040 1/40320 1/362880", |w| w.exp(x::<C>(w)));
    check("1 -1 0 0 0 0 0 0 0 0", |w| w.recip(ones(w)));
    check("1 -2 1 0 0 0 0 0 0 0", |w| w.recip(w.diff(ones(w))));
    check::<C>("1 1/2 -1/8 1/16 -5/128 7/256 -21/1024 33/2048 -429/32768 715/65536", |w| w.binom(ratio(1, 2)));
    check::<C>("1 3 3 1 end", |w| w.binom(Rational::int(3)));
    // Finite series: ends that come together, one after the other, and of a product.
    let finite = |w: &World, terms: &[i64]| w.finite(terms.iter().copied().map(Rational::int).collect());
    check::<C>("5 7 4 end", |w| w.add(finite(w, &[1, 2]), finite(w, &[4, 5, 4])));
    check::<C>("5 7 4 end", |w| w.add(finite(w, &[4, 5, 4]), finite(w, &[1, 2])));
    check::<C>("5 7 end", |w| w.add(finite(w, &[1, 2]), finite(w, &[4, 5])));
    check::<C>("2 6 end", |w| w.diff(finite(w, &[1, 2, 3])));
    check::<C>("end", |w| w.diff(finite(w, &[])));
    // 1 + V + V^2 + ... with V = x + x^2: Fibonacci's numbers.
    check("1 1 2 3 5 8 13 21", |w| w.subst(ones(w), finite(w, &[0, 1, 1, 0, 0, 0, 0, 0, 0])));
    let tangent = "0 1 0 1/3 0 2/15 0 17/315 0 62/2835 0 1382/155925";
    check(&first(size(6, 12), tangent), |w| w.revert(arctan::<C>(w)));
}

fn x<C: Coefficient>(world: &World) -> Series<C> {
    world.finite(vec![Rational::ZERO, Rational::ONE])
}

fn arctan<C: Coefficient>(world: &World) -> Series<C> {
    let ones = world.rep(Rational::ONE);
    world.integ(Rational::ZERO, world.mon_subst(ones, -Rational::ONE, 2))
}

#[test]
fn s3_power_series() {
    with_workers(tables::<Rational>);
}

#[test]
fn s3_power_series_of_trait_objects() {
    with_workers(tables::<Arc<dyn Item>>);
}

/// Dropping the series alone ends everything when no series is defined by itself, also in the
/// middle of a split.
#[test]
fn s3_teardown_by_drop() {
    with_workers(|| {
        let (world, _end) = World::new();
        for terms in 0..6 {
            let ones = world.rep::<Rational>(Rational::ONE);
            let product = world.mul(world.diff(ones), world.binom(Rational::new(1, 2)));
            let series = world.mul(product, world.rep(Rational::int(2)));
            for _ in 0..terms {
                assert!(world.take(&series).is_ok());
            }
        }
        crate::support::wait_until("all series to end", || goby::num_goroutines() == 1);
    });
}
