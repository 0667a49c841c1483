//! std's atomics, as points of a check: each operation is one at which others may go on. Outside of
//! a check they are std's.
//!
//! A check explores the sequentially consistent interleavings of these operations. It does not
//! reorder what weaker orderings allow to be reordered. But the orderings say what is ordered for a
//! [`RaceCell`](crate::RaceCell): a flag that is stored with `Relaxed` publishes nothing.

use std::fmt;
use std::ptr;
use std::sync::atomic as std_atomic;
pub use std::sync::atomic::Ordering;

use goby_runtime::checked;

use crate::clocks::{self, ORDERS_NOTHING};

fn acquires(order: Ordering) -> bool {
    matches!(order, Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst)
}

fn releases(order: Ordering) -> bool {
    matches!(order, Ordering::Release | Ordering::AcqRel | Ordering::SeqCst)
}

/// What an operation does to the atomic.
#[derive(Clone, Copy)]
enum Does {
    Load,
    Store,
    Update,
}

/// Says what an operation that has been done orders.
fn note(object: usize, does: Does, order: Ordering) {
    if !clocks::are_kept() {
        return;
    }
    let Some(number) = checked::current_number() else { return };
    clocks::with(|clocks| {
        if !matches!(does, Does::Store) {
            clocks.acquire(number, object, acquires(order));
        }
        if !matches!(does, Does::Load) {
            clocks.release(number, object, releases(order), matches!(does, Does::Update));
        }
    });
}

/// A fence: [`std::sync::atomic::fence`], as a point of a check.
///
/// ```
/// goby_check::sync::atomic::fence(goby_check::sync::atomic::Ordering::SeqCst);
/// ```
pub fn fence(order: Ordering) {
    checked::point(ORDERS_NOTHING);
    std_atomic::fence(order);
    if clocks::are_kept()
        && let Some(number) = checked::current_number()
    {
        clocks::with(|clocks| clocks.fence(number));
    }
}

macro_rules! atomic {
    ($(#[$doc:meta])* $Name:ident $(<$T:ident>)?, $Value:ty, $new:expr) => {
        $(#[$doc])*
        pub struct $Name $(<$T>)? {
            inner: std_atomic::$Name $(<$T>)?,
        }

        impl $(<$T>)? $Name $(<$T>)? {
            /// Makes an atomic.
            pub const fn new(value: $Value) -> Self {
                $Name { inner: std_atomic::$Name::new(value) }
            }

            fn point(&self) -> usize {
                let object = ptr::from_ref(self).addr() << 1 | ORDERS_NOTHING;
                checked::point(object);
                object
            }

            /// Returns the value.
            pub fn load(&self, order: Ordering) -> $Value {
                let object = self.point();
                let value = self.inner.load(order);
                note(object, Does::Load, order);
                value
            }

            /// Replaces the value.
            pub fn store(&self, value: $Value, order: Ordering) {
                let object = self.point();
                self.inner.store(value, order);
                note(object, Does::Store, order);
            }

            /// Replaces the value, and returns the former one.
            pub fn swap(&self, value: $Value, order: Ordering) -> $Value {
                let object = self.point();
                let former = self.inner.swap(value, order);
                note(object, Does::Update, order);
                former
            }

            /// Replaces the value if it is `current`.
            ///
            /// # Errors
            ///
            /// The value, if it is another.
            pub fn compare_exchange(
                &self,
                current: $Value,
                new: $Value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$Value, $Value> {
                let object = self.point();
                let result = self.inner.compare_exchange(current, new, success, failure);
                match result {
                    Ok(_) => note(object, Does::Update, success),
                    Err(_) => note(object, Does::Load, failure),
                }
                result
            }

            /// Does as [`compare_exchange`](Self::compare_exchange), and in a check never fails
            /// without a reason.
            ///
            /// # Errors
            ///
            /// The value, if it is another.
            pub fn compare_exchange_weak(
                &self,
                current: $Value,
                new: $Value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$Value, $Value> {
                self.compare_exchange(current, new, success, failure)
            }

            /// Replaces the value by what `f` makes of it, until no other has changed it meanwhile.
            ///
            /// # Errors
            ///
            /// The value, if `f` returns none.
            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut f: impl FnMut($Value) -> Option<$Value>,
            ) -> Result<$Value, $Value> {
                let mut current = self.load(fetch);
                while let Some(new) = f(current) {
                    match self.compare_exchange(current, new, set, fetch) {
                        Ok(former) => return Ok(former),
                        Err(changed) => current = changed,
                    }
                }
                Err(current)
            }

            /// Returns the value, when nobody else can use it.
            pub fn get_mut(&mut self) -> &mut $Value {
                self.inner.get_mut()
            }

            /// Returns the value, when nobody else can use it.
            pub fn into_inner(self) -> $Value {
                self.inner.into_inner()
            }
        }

        impl $(<$T>)? fmt::Debug for $Name $(<$T>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.inner.fmt(f)
            }
        }

        impl $(<$T>)? Default for $Name $(<$T>)? {
            fn default() -> Self {
                $Name::new($new)
            }
        }

        impl $(<$T>)? From<$Value> for $Name $(<$T>)? {
            fn from(value: $Value) -> Self {
                $Name::new(value)
            }
        }
    };
}

macro_rules! updates {
    ($Name:ident, $Value:ty: $($fetch:ident $does:literal),*) => {
        impl $Name {
            $(
                #[doc = $does]
                pub fn $fetch(&self, value: $Value, order: Ordering) -> $Value {
                    let object = self.point();
                    let former = self.inner.$fetch(value, order);
                    note(object, Does::Update, order);
                    former
                }
            )*
        }
    };
}

macro_rules! integer {
    ($($Name:ident $Value:ty),*) => {$(
        atomic! {
            #[doc = concat!("std's `", stringify!($Name), "`, as points of a check.")]
            $Name, $Value, 0
        }
        updates! {
            $Name, $Value:
            fetch_add "Adds, wrapping around, and returns the former value.",
            fetch_sub "Subtracts, wrapping around, and returns the former value.",
            fetch_and "Takes the bitwise and, and returns the former value.",
            fetch_nand "Takes the bitwise nand, and returns the former value.",
            fetch_or "Takes the bitwise or, and returns the former value.",
            fetch_xor "Takes the bitwise exclusive or, and returns the former value.",
            fetch_max "Takes the greater one, and returns the former value.",
            fetch_min "Takes the lesser one, and returns the former value."
        }
    )*};
}

integer! {
    AtomicU8 u8, AtomicU16 u16, AtomicU32 u32, AtomicU64 u64, AtomicUsize usize,
    AtomicI8 i8, AtomicI16 i16, AtomicI32 i32, AtomicI64 i64, AtomicIsize isize
}

atomic! {
    /// std's `AtomicBool`, as points of a check.
    AtomicBool, bool, false
}
updates! {
    AtomicBool, bool:
    fetch_and "Takes the logical and, and returns the former value.",
    fetch_nand "Takes the logical nand, and returns the former value.",
    fetch_or "Takes the logical or, and returns the former value.",
    fetch_xor "Takes the logical exclusive or, and returns the former value."
}
atomic! {
    /// std's `AtomicPtr`, as points of a check.
    AtomicPtr<T>, *mut T, ptr::null_mut()
}
