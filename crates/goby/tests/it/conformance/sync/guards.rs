//! Guards that own their lock, and guards of a part of what it guards.

use std::sync::Arc;

use goby::context::ContextError;
use goby::sync::{
    ArcMutexGuard, ArcRwLockReadGuard, ArcRwLockWriteGuard, MappedMutexGuard, MappedRwLockReadGuard,
    MappedRwLockWriteGuard, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use goby::{Context, go};

use super::{canceled, n_waiting, panic_text};
use crate::support::{wait_until, with_workers};

#[test]
fn an_owned_guard_outlives_every_other_handle_of_its_lock() {
    struct Dropped(Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.lock().push("dropped");
        }
    }
    with_workers(|| {
        let log = Arc::new(Mutex::new(vec![]));
        let mutex = Arc::new(Mutex::new((1, Dropped(log.clone()))));
        let mut guard = mutex.lock_arc();
        assert!(mutex.try_lock_arc().is_none() && mutex.try_lock().is_none());
        drop(mutex);
        guard.0 += 1;
        log.lock().push("sent");
        assert_eq!(go(move || guard.0).join().unwrap(), 2);
        assert_eq!(*log.lock(), ["sent", "dropped"]);
    });
}

#[test]
fn owned_guards_exclude_as_the_others_do() {
    with_workers(|| {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock_arc();
        let adders: Vec<_> = (0..4)
            .map(|n| {
                let mutex = mutex.clone();
                go(move || match n % 2 {
                    0 => *mutex.lock_arc() += 1,
                    _ => *mutex.lock() += 1,
                })
            })
            .collect();
        wait_until("them to wait", || n_waiting("sync.Mutex.Lock") == 4);
        assert!(Arc::ptr_eq(ArcMutexGuard::lock(&guard), &mutex));
        assert_eq!(format!("{guard:?} {guard}"), "0 0");
        drop(guard);
        adders.into_iter().for_each(|adder| adder.join().unwrap());
        assert_eq!(*mutex.lock_arc_ctx(&Context::background()).unwrap(), 4);
        assert_eq!(mutex.lock_arc_ctx(&canceled()).unwrap_err(), ContextError::Canceled);
        assert_eq!(*mutex.try_lock_arc().unwrap(), 4);

        let lock = Arc::new(RwLock::new(1));
        let readers = (lock.read_arc(), lock.try_read_arc().unwrap(), lock.read());
        assert!(lock.try_write_arc().is_none());
        assert!(Arc::ptr_eq(ArcRwLockReadGuard::lock(&readers.0), &lock));
        assert_eq!(lock.write_arc_ctx(&canceled()).unwrap_err(), ContextError::Canceled);
        drop(readers);
        let mut writer = lock.write_arc();
        *writer += 1;
        assert!(lock.try_read_arc().is_none());
        assert_eq!(lock.read_arc_ctx(&canceled()).unwrap_err(), ContextError::Canceled);
        assert!(Arc::ptr_eq(ArcRwLockWriteGuard::lock(&writer), &lock));
        drop(writer);
        assert_eq!(*lock.read_arc_ctx(&Context::background()).unwrap(), 2);
        *lock.write_arc_ctx(&Context::background()).unwrap() += 1;
        assert_eq!(*lock.read(), 3);
    });
}

#[test]
fn a_mapped_guard_is_the_lock_still() {
    with_workers(|| {
        let mutex = Mutex::new((1, vec![2, 3]));
        let list = MutexGuard::map(mutex.lock(), |pair| &mut pair.1);
        assert!(mutex.try_lock().is_none());
        let list = MappedMutexGuard::try_map(list, |list| list.get_mut(9)).unwrap_err();
        let mut last = MappedMutexGuard::try_map(list, |list| list.last_mut()).unwrap();
        *last += 1;
        assert_eq!(format!("{last:?} {last}"), "4 4");
        // The guard may go to another goroutine, and unlock there.
        goby::scope(|s| _ = s.go(move || *last += 1));
        assert_eq!(*mutex.lock(), (1, vec![2, 5]));
        let guard = MutexGuard::try_map(mutex.lock(), |_| None::<&mut ()>).unwrap_err();
        assert_eq!(guard.0, 1);
        drop(guard);

        let lock = RwLock::new((1, [2, 3]));
        let reader = MappedRwLockReadGuard::map(RwLockReadGuard::map(lock.read(), |pair| &pair.1), |list| &list[0]);
        assert!(*reader == 2 && lock.try_read().is_some() && lock.try_write().is_none());
        let reader = MappedRwLockReadGuard::try_map(reader, |_| None::<&u8>).unwrap_err();
        drop(reader);
        let writer = RwLockWriteGuard::map(lock.write(), |pair| &mut pair.1);
        assert!(lock.try_read().is_none());
        let mut writer = MappedRwLockWriteGuard::map(writer, |list| &mut list[1]);
        *writer = 7;
        drop(writer);
        assert_eq!(*lock.read(), (1, [2, 7]));
        let writer = RwLockWriteGuard::try_map(lock.write(), |pair| pair.1.first_mut()).unwrap();
        drop(writer);
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn a_map_that_panics_unlocks() {
    fn unit(_: &mut i32) -> &mut i32 {
        panic!("no part")
    }
    with_workers(|| {
        let (mutex, lock) = (Mutex::new(1), RwLock::new(1));
        assert_eq!(panic_text(|| drop(MutexGuard::map(mutex.lock(), unit))), "no part");
        let mapped = MutexGuard::map(mutex.try_lock().expect("unlocked"), |value| value);
        assert_eq!(panic_text(|| drop(MappedMutexGuard::map(mapped, unit))), "no part");
        assert_eq!(panic_text(|| drop(RwLockWriteGuard::map(lock.write(), unit))), "no part");
        assert_eq!(
            panic_text(|| drop(RwLockReadGuard::map(lock.read(), |_| -> &i32 { panic!("no part") }))),
            "no part"
        );
        assert!(mutex.try_lock().is_some() && lock.try_write().is_some());
    });
}
