//! What happens before what, said to ThreadSanitizer where it cannot see it from the accesses: the
//! runtime's own accesses are hidden from it (`unseen.rs`), and with them the order that they make.
//! Nothing otherwise.
//!
//! An address stands for the order. All that the callers of `precede` have done happens before what
//! the caller of a later `follow` does. No atomic lies at the address, since the order that this
//! atomic makes would count too.

use super::tsan;

/// An order with an address of its own.
#[derive(Debug, Default)]
pub(crate) struct Order(tsan::Address);

impl Order {
    pub(crate) const fn new() -> Order {
        Order(tsan::Address::new())
    }

    #[inline]
    pub(crate) fn precede(&self) {
        precede(&raw const self.0);
    }

    #[inline]
    pub(crate) fn follow(&self) {
        follow(&raw const self.0);
    }
}

/// Says that the caller's actions so far come before those after `follow`, for an address that
/// belongs to what is handed over.
#[inline]
pub(crate) fn precede<T: ?Sized>(address: *const T) {
    tsan::release(address);
}

/// The other end of [`precede`].
#[inline]
pub(crate) fn follow<T: ?Sized>(address: *const T) {
    tsan::acquire(address);
}
