//! What a condition needs of the guards that it takes.

use std::ops::Deref;
use std::ptr;
use std::sync::Arc;

use super::mutex::{Mutex, MutexGuard};
use super::owned::{ArcMutexGuard, ArcRwLockReadGuard, ArcRwLockWriteGuard};
use super::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A guard that a [`Cond`](super::Cond) can wait with: those of [`Mutex`] and [`RwLock`], but not
/// mapped ones, nor those of upgradable readers.
///
/// It is sealed: there are no others.
pub trait CondGuard: Deref + Sealed {}

impl<G: Deref + Sealed> CondGuard for G {}

/// Says how to give a guard up, and how to get one like it again.
pub trait Sealed: Sized {
    /// A reference to the lock, which keeps it alive.
    type Lock;

    /// Returns the lock that the guard came from.
    fn lock_of(guard: &Self) -> Self::Lock;

    /// Returns an address that tells locks apart.
    fn address(lock: &Self::Lock) -> usize;

    /// Waits for the lock.
    fn relock(lock: Self::Lock) -> Self;
}

impl<'a, T: ?Sized> Sealed for MutexGuard<'a, T> {
    type Lock = &'a Mutex<T>;

    fn lock_of(guard: &Self) -> &'a Mutex<T> {
        MutexGuard::mutex(guard)
    }

    fn address(lock: &&'a Mutex<T>) -> usize {
        ptr::from_ref(*lock).addr()
    }

    fn relock(lock: &'a Mutex<T>) -> Self {
        lock.lock()
    }
}

impl<'a, T: ?Sized> Sealed for RwLockReadGuard<'a, T> {
    type Lock = &'a RwLock<T>;

    fn lock_of(guard: &Self) -> &'a RwLock<T> {
        RwLockReadGuard::lock(guard)
    }

    fn address(lock: &&'a RwLock<T>) -> usize {
        ptr::from_ref(*lock).addr()
    }

    fn relock(lock: &'a RwLock<T>) -> Self {
        lock.read()
    }
}

impl<'a, T: ?Sized> Sealed for RwLockWriteGuard<'a, T> {
    type Lock = &'a RwLock<T>;

    fn lock_of(guard: &Self) -> &'a RwLock<T> {
        RwLockWriteGuard::lock(guard)
    }

    fn address(lock: &&'a RwLock<T>) -> usize {
        ptr::from_ref(*lock).addr()
    }

    fn relock(lock: &'a RwLock<T>) -> Self {
        lock.write()
    }
}

impl<T: ?Sized> Sealed for ArcMutexGuard<T> {
    type Lock = Arc<Mutex<T>>;

    fn lock_of(guard: &Self) -> Arc<Mutex<T>> {
        ArcMutexGuard::lock(guard).clone()
    }

    fn address(lock: &Arc<Mutex<T>>) -> usize {
        Arc::as_ptr(lock).addr()
    }

    fn relock(lock: Arc<Mutex<T>>) -> Self {
        lock.lock_arc()
    }
}

impl<T: ?Sized> Sealed for ArcRwLockReadGuard<T> {
    type Lock = Arc<RwLock<T>>;

    fn lock_of(guard: &Self) -> Arc<RwLock<T>> {
        ArcRwLockReadGuard::lock(guard).clone()
    }

    fn address(lock: &Arc<RwLock<T>>) -> usize {
        Arc::as_ptr(lock).addr()
    }

    fn relock(lock: Arc<RwLock<T>>) -> Self {
        lock.read_arc()
    }
}

impl<T: ?Sized> Sealed for ArcRwLockWriteGuard<T> {
    type Lock = Arc<RwLock<T>>;

    fn lock_of(guard: &Self) -> Arc<RwLock<T>> {
        ArcRwLockWriteGuard::lock(guard).clone()
    }

    fn address(lock: &Arc<RwLock<T>>) -> usize {
        Arc::as_ptr(lock).addr()
    }

    fn relock(lock: Arc<RwLock<T>>) -> Self {
        lock.write_arc()
    }
}
