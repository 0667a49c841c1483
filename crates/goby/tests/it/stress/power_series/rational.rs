//! Rational numbers, and the two ways in which they travel through a channel: as they are, or as a
//! trait object.

use std::fmt;
use std::ops::{Add, Div, Mul, Neg};
use std::sync::Arc;

/// A reduced fraction; the denominator is positive, or 0 for the end of a finite series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rational {
    numerator: i64,
    denominator: i64,
}

impl Rational {
    pub(super) const ZERO: Self = Rational::int(0);
    pub(super) const ONE: Self = Rational::int(1);
    /// What follows the last coefficient of a finite series.
    pub(super) const END: Self = Rational { numerator: 1, denominator: 0 };

    pub(super) const fn int(numerator: i64) -> Self {
        Rational { numerator, denominator: 1 }
    }

    pub(super) fn new(numerator: i64, denominator: i64) -> Self {
        Self::reduced(numerator.into(), denominator.into())
    }

    /// Products of two `i64` fit an `i128`; a reduced fraction that does not fit an `i64` is a
    /// wrong term, and panics.
    fn reduced(numerator: i128, denominator: i128) -> Self {
        assert_ne!(denominator, 0, "a division by zero, or a sum with the end of a series");
        let divisor = gcd(numerator.abs(), denominator.abs()) * denominator.signum();
        let fit = |value: i128| i64::try_from(value).expect("a coefficient fits 64 bits");
        Rational { numerator: fit(numerator / divisor), denominator: fit(denominator / divisor) }
    }

    pub(super) fn is_end(self) -> bool {
        self.denominator == 0
    }

    pub(super) fn inverse(self) -> Self {
        Self::new(self.denominator, self.numerator)
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Add for Rational {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (a, b) = (i128::from(self.numerator), i128::from(self.denominator));
        let (c, d) = (i128::from(other.numerator), i128::from(other.denominator));
        Self::reduced(a * d + c * b, b * d)
    }
}

impl Mul for Rational {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let product = |a, b| i128::from(a) * i128::from(b);
        Self::reduced(product(self.numerator, other.numerator), product(self.denominator, other.denominator))
    }
}

impl Div for Rational {
    type Output = Self;

    #[allow(clippy::suspicious_arithmetic_impl)]
    fn div(self, other: Self) -> Self {
        self * other.inverse()
    }
}

impl Neg for Rational {
    type Output = Self;

    fn neg(self) -> Self {
        Rational { numerator: -self.numerator, ..self }
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            0 => f.write_str("end"),
            1 => write!(f, "{}", self.numerator),
            _ => write!(f, "{}/{}", self.numerator, self.denominator),
        }
    }
}

/// How a coefficient travels through a data channel.
pub(super) trait Coefficient: Clone + Send + Sync + 'static {
    fn pack(value: Rational) -> Self;
    fn value(&self) -> Rational;
    fn print(&self) -> String;
    fn same(&self, other: &Self) -> bool;
}

impl Coefficient for Rational {
    fn pack(value: Rational) -> Self {
        value
    }

    fn value(&self) -> Rational {
        *self
    }

    fn print(&self) -> String {
        self.to_string()
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// The second variant: channels that know only this of their items.
pub(super) trait Item: Send + Sync {
    fn value(&self) -> Rational;
    fn print(&self) -> String;
    fn same(&self, other: &dyn Item) -> bool;
}

impl Item for Rational {
    fn value(&self) -> Rational {
        *self
    }

    fn print(&self) -> String {
        self.to_string()
    }

    fn same(&self, other: &dyn Item) -> bool {
        *self == other.value()
    }
}

impl Coefficient for Arc<dyn Item> {
    fn pack(value: Rational) -> Self {
        Arc::new(value)
    }

    fn value(&self) -> Rational {
        (**self).value()
    }

    fn print(&self) -> String {
        (**self).print()
    }

    fn same(&self, other: &Self) -> bool {
        (**self).same(&**other)
    }
}
