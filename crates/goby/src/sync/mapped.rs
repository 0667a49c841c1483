//! Guards of a part of what a lock guards. The unsafe code rests on one fact: a mapped guard is
//! made of a guard that is not dropped, so the lock stays held until the mapped guard drops its
//! hold on it.
//!
//! A closure borrows the part from the whole, and must do so for any lifetime. So the part lies in
//! the value, or lives forever. A hold unlocks when it is dropped. It says nothing of the value:
//! the type of that is forgotten.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::raw_mutex::RawMutex;
use super::raw_rwlock::RawRwLock;

/// A mutex that is locked, until this is dropped.
pub(super) struct MutexHold<'a>(pub(super) &'a RawMutex);

impl Drop for MutexHold<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// A reader's place in a lock, until this is dropped.
pub(super) struct ReadHold<'a>(pub(super) &'a RawRwLock);

impl Drop for ReadHold<'_> {
    fn drop(&mut self) {
        self.0.unlock_read();
    }
}

/// The writer's place in a lock, until this is dropped.
pub(super) struct WriteHold<'a>(pub(super) &'a RawRwLock);

impl Drop for WriteHold<'_> {
    fn drop(&mut self) {
        self.0.unlock_write();
    }
}

/// What the three kinds have in common. `$access` is what the guard owns. `$sendable` is what its
/// value must be, so that the guard may be sent.
macro_rules! mapped_guard {
    ($(#[$doc:meta])* $name:ident, $hold:ident, $access:ty, Send if $sendable:ident) => {
        $(#[$doc])*
        #[must_use = "the lock is given up again at once if the guard is not kept"]
        pub struct $name<'a, T: ?Sized> {
            value: NonNull<T>,
            hold: $hold<'a>,
            access: PhantomData<$access>,
        }

        // SAFETY: it gives out what `access` is, which may be sent on this condition. Any thread
        // may unlock.
        unsafe impl<T: ?Sized + $sendable> Send for $name<'_, T> {}
        // SAFETY: a shared guard gives out `&T` and nothing else.
        unsafe impl<T: ?Sized + Sync> Sync for $name<'_, T> {}

        impl<'a, T: ?Sized> $name<'a, T> {
            /// # Safety
            ///
            /// `value` may be accessed as `access` says for as long as `hold` exists.
            pub(super) unsafe fn new(value: NonNull<T>, hold: $hold<'a>) -> $name<'a, T> {
                $name { value, hold, access: PhantomData }
            }
        }

        impl<T: ?Sized> Deref for $name<'_, T> {
            type Target = T;

            fn deref(&self) -> &T {
                // SAFETY: by the contract of `new`; the hold exists while the guard does.
                unsafe { self.value.as_ref() }
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<T: ?Sized + fmt::Display> fmt::Display for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    };
}

/// What a guard that gives out `&mut T` has besides.
macro_rules! mapped_mut_guard {
    ($name:ident) => {
        impl<T: ?Sized> DerefMut for $name<'_, T> {
            fn deref_mut(&mut self) -> &mut T {
                // SAFETY: as in `deref`. The guard is borrowed exclusively, and so is the value
                // that it holds.
                unsafe { self.value.as_mut() }
            }
        }

        impl<'a, T: ?Sized> $name<'a, T> {
            /// Narrows the guard to a part of what it guards.
            pub fn map<U: ?Sized>(mut guard: $name<'a, T>, f: impl FnOnce(&mut T) -> &mut U) -> $name<'a, U> {
                let part = NonNull::from(f(&mut guard));
                // SAFETY: it is a part of what the guard may access, for the same time. The hold
                // goes along.
                unsafe { $name::new(part, guard.hold) }
            }

            /// Narrows the guard to a part of what it guards, if there is one.
            ///
            /// # Errors
            ///
            /// The guard, if `f` returned `None`.
            pub fn try_map<U: ?Sized>(
                mut guard: $name<'a, T>,
                f: impl FnOnce(&mut T) -> Option<&mut U>,
            ) -> Result<$name<'a, U>, $name<'a, T>> {
                match f(&mut guard).map(NonNull::from) {
                    // SAFETY: as in `map`.
                    Some(part) => Ok(unsafe { $name::new(part, guard.hold) }),
                    None => Err(guard),
                }
            }
        }
    };
}

mapped_guard! {
    /// The right to use a part of the value of a [`Mutex`](super::Mutex), from
    /// [`MutexGuard::map`](super::MutexGuard::map); dropping it unlocks.
    ///
    /// It is Send if `T: Send` and Sync if `T: Sync`: like a `&mut T`.
    ///
    /// ```
    /// use goby::sync::{MappedMutexGuard, Mutex, MutexGuard};
    ///
    /// let pair = Mutex::new((1, [2, 3]));
    /// let list = MutexGuard::map(pair.lock(), |pair| &mut pair.1);
    /// let mut last = MappedMutexGuard::map(list, |list| &mut list[1]);
    /// *last += 10;
    /// drop(last);
    /// assert_eq!(*pair.lock(), (1, [2, 13]));
    /// ```
    MappedMutexGuard, MutexHold, &'a mut T, Send if Send
}
mapped_mut_guard! { MappedMutexGuard }

mapped_guard! {
    /// The right to change a part of the value of an [`RwLock`](super::RwLock), from
    /// [`RwLockWriteGuard::map`](super::RwLockWriteGuard::map); dropping it unlocks.
    ///
    /// It is Send if `T: Send` and Sync if `T: Sync`: like a `&mut T`.
    MappedRwLockWriteGuard, WriteHold, &'a mut T, Send if Send
}
mapped_mut_guard! { MappedRwLockWriteGuard }

mapped_guard! {
    /// The right to read a part of the value of an [`RwLock`](super::RwLock), from
    /// [`RwLockReadGuard::map`](super::RwLockReadGuard::map); dropping it unlocks.
    ///
    /// It is Send and Sync if `T: Sync`: like a `&T`.
    MappedRwLockReadGuard, ReadHold, &'a T, Send if Sync
}

impl<'a, T: ?Sized> MappedRwLockReadGuard<'a, T> {
    /// Narrows the guard to a part of what it guards.
    pub fn map<U: ?Sized>(
        guard: MappedRwLockReadGuard<'a, T>,
        f: impl FnOnce(&T) -> &U,
    ) -> MappedRwLockReadGuard<'a, U> {
        let part = NonNull::from(f(&guard));
        // SAFETY: it is a part of what the guard may read, for the same time. The hold goes along.
        unsafe { MappedRwLockReadGuard::new(part, guard.hold) }
    }

    /// Narrows the guard to a part of what it guards, if there is one.
    ///
    /// # Errors
    ///
    /// The guard, if `f` returned `None`.
    pub fn try_map<U: ?Sized>(
        guard: MappedRwLockReadGuard<'a, T>,
        f: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<MappedRwLockReadGuard<'a, U>, MappedRwLockReadGuard<'a, T>> {
        match f(&guard).map(NonNull::from) {
            // SAFETY: as in `map`.
            Some(part) => Ok(unsafe { MappedRwLockReadGuard::new(part, guard.hold) }),
            None => Err(guard),
        }
    }
}
