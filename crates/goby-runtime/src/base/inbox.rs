//! A worker's inbox: where other threads leave the goroutines that they unpark for it. It is one
//! word, which also says whether the owner must be woken to look.
//!
//! ```text
//! head:  null        nothing is there, and the owner is awake: it will look before it sleeps
//!        an item     the newest of a chain
//!        ASLEEP      nothing is there, and the owner is in its poller, or about to be
//! ```
//!
//! An item is a goroutine of the owner that has been unparked, or an unstarted one that was given
//! to a sleeping owner.
//!
//! *Push* replaces `head` by the new item; the pusher that replaces `ASLEEP` wakes the owner.
//! *Announce* replaces null, and nothing else, by `ASLEEP`. Because both are atomic changes of the
//! same word, one comes first. If it is Push, Announce fails. If it is Announce, the pusher learns
//! of it. `loom_post_or_sleep` below checks this.

use std::ptr;

use crate::base::primitive::{AtomicPtr, Ordering};

/// Something with a link of its own, so that posting allocates nothing.
pub(crate) trait Linked: Sized {
    fn link(&self) -> &AtomicPtr<Self>;
}

/// A multi-producer stack that its owner takes as a whole, and the owner's sleep.
pub(crate) struct Inbox<T: Linked> {
    head: AtomicPtr<T>,
}

impl<T: Linked> Inbox<T> {
    /// `head`: the owner sleeps.
    const ASLEEP: *mut T = ptr::without_provenance_mut(1);

    pub(crate) fn new() -> Inbox<T> {
        Inbox { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Leaves an item. Returns true if the caller must now wake the owner's thread.
    ///
    /// # Safety
    ///
    /// The item is alive, in no inbox, and left alone by the caller from here on.
    #[must_use]
    pub(crate) unsafe fn push(&self, item: *mut T) -> bool {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let asleep = head == Self::ASLEEP;
            // SAFETY: the item is ours until the exchange below.
            unsafe { (*item).link() }.store(if asleep { ptr::null_mut() } else { head }, Ordering::Relaxed);
            // Push. Release pairs with the Acquire of `take`.
            match self.head.compare_exchange_weak(head, item, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return asleep,
                Err(found) => head = found,
            }
        }
    }

    /// Leaves an item for an owner that sleeps. The caller must then wake the owner's thread, which
    /// takes the item before anything else. Returns false, and leaves nothing, if the owner is
    /// awake: it may not come for a long time.
    ///
    /// # Safety
    ///
    /// As for [`push`](Inbox::push), where it is left.
    #[must_use]
    pub(crate) unsafe fn push_to_sleeper(&self, item: *mut T) -> bool {
        // SAFETY: the item is ours until the exchange below.
        unsafe { (*item).link() }.store(ptr::null_mut(), Ordering::Relaxed);
        // Push: as above.
        self.head.compare_exchange(Self::ASLEEP, item, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Takes the duty of waking the owner. Returns false if the owner does not sleep, or another
    /// thread has the duty.
    #[must_use]
    pub(crate) fn notify(&self) -> bool {
        // SeqCst, also where it fails. A thread that has changed something else that the owner
        // looks at after Announce (a timer) either finds the owner asleep here, or has changed it
        // before Announce.
        self.head.compare_exchange(Self::ASLEEP, ptr::null_mut(), Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        head.is_null() || head == Self::ASLEEP
    }

    /// Takes everything, oldest first, as a chain through [`Linked::link`]. For the owner, awake.
    pub(crate) fn take(&self) -> *mut T {
        // Acquire pairs with the Release of Push.
        let mut newest_first = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        debug_assert!(newest_first != Self::ASLEEP);
        let mut oldest_first = ptr::null_mut();
        while !newest_first.is_null() {
            // SAFETY: a pushed item is alive, and ours now.
            let link = unsafe { (*newest_first).link() };
            let next = link.load(Ordering::Relaxed);
            link.store(oldest_first, Ordering::Relaxed);
            oldest_first = newest_first;
            newest_first = next;
        }
        oldest_first
    }

    /// Announces that the owner goes to sleep. Returns false if it must not, because something has
    /// come in.
    #[must_use]
    pub(crate) fn start_sleep(&self) -> bool {
        // Announce. SeqCst: see `notify`.
        self.head.compare_exchange(ptr::null_mut(), Self::ASLEEP, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Records that the owner is awake again. For the owner.
    pub(crate) fn finish_sleep(&self) {
        // Relaxed: a thread that replaced `ASLEEP` has published what it put there. If the exchange
        // fails, just that has happened.
        let _ = self.head.compare_exchange(Self::ASLEEP, ptr::null_mut(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns whether the owner sleeps and no thread has woken it; out of date at once.
    pub(crate) fn sleeps(&self) -> bool {
        self.head.load(Ordering::Relaxed) == Self::ASLEEP
    }
}

#[cfg(test)]
mod test_item {
    use super::*;

    pub(super) struct Item {
        pub(super) number: usize,
        link: AtomicPtr<Item>,
    }

    impl Item {
        pub(super) fn boxed(number: usize) -> *mut Item {
            Box::into_raw(Box::new(Item { number, link: AtomicPtr::new(ptr::null_mut()) }))
        }
    }

    impl Linked for Item {
        fn link(&self) -> &AtomicPtr<Item> {
            &self.link
        }
    }

    /// Frees a chain and returns its numbers.
    pub(super) fn numbers(mut chain: *mut Item) -> Vec<usize> {
        let mut numbers = Vec::new();
        while !chain.is_null() {
            // SAFETY: items come from `boxed`, and a taken chain is the caller's.
            let item = unsafe { Box::from_raw(chain) };
            numbers.push(item.number);
            chain = item.link.load(Ordering::Relaxed);
        }
        numbers
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::test_item::*;
    use super::*;

    #[test]
    fn takes_oldest_first_and_asks_for_one_wake() {
        let inbox = Inbox::new();
        assert!(inbox.start_sleep());
        // SAFETY: each item is new.
        let wakes: Vec<bool> = (0..3).map(|i| unsafe { inbox.push(Item::boxed(i)) }).collect();
        assert_eq!(wakes, [true, false, false]);
        assert_eq!(numbers(inbox.take()), [0, 1, 2]);
        inbox.finish_sleep();
        // SAFETY: as above.
        assert!(!unsafe { inbox.push(Item::boxed(9)) }, "an owner that is awake needs no waking");
        assert!(!inbox.start_sleep(), "there is something to take");
        assert_eq!(numbers(inbox.take()), [9]);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::test_item::*;
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;

    /// Two pushers against an owner that takes, then sleeps: an item that is left behind when the
    /// owner sleeps has a pusher that wakes it.
    #[test]
    fn loom_post_or_sleep() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let woken = Arc::new(AtomicBool::new(false));
            let pushers: Vec<_> = (0..2)
                .map(|i| {
                    let (inbox, woken) = (inbox.clone(), woken.clone());
                    loom::thread::spawn(move || {
                        // SAFETY: each item is new.
                        if unsafe { inbox.push(Item::boxed(i)) } {
                            assert!(!woken.swap(true, Ordering::SeqCst), "woken twice");
                        }
                    })
                })
                .collect();
            let mut got = numbers(inbox.take());
            let asleep = inbox.start_sleep();
            for pusher in pushers {
                pusher.join().unwrap();
            }
            // An owner that sleeps is in its poller: if an item was left since, exactly one pusher
            // has the duty.
            assert_eq!(woken.load(Ordering::SeqCst), asleep && !inbox.is_empty(), "a lost or a needless wake-up");
            inbox.finish_sleep();
            got.extend(numbers(inbox.take()));
            got.sort_unstable();
            assert_eq!(got, [0, 1]);
        });
    }

    /// A giver (to a sleeper only) and a notifier, against an owner that takes, then sleeps: an
    /// item that was given has a waker, and one that was not is still the giver's.
    #[test]
    fn loom_give_or_keep() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let item = Item::boxed(7) as usize;
            let giver = {
                let inbox = inbox.clone();
                // SAFETY: the item is new.
                loom::thread::spawn(move || unsafe { inbox.push_to_sleeper(item as *mut Item) })
            };
            let notifier = {
                let inbox = inbox.clone();
                loom::thread::spawn(move || inbox.notify())
            };
            let asleep = inbox.start_sleep();
            let (given, notified) = (giver.join().unwrap(), notifier.join().unwrap());
            assert!(asleep && !(given && notified), "one duty");
            assert_eq!(given, !inbox.is_empty());
            inbox.finish_sleep();
            let kept = if given { ptr::null_mut() } else { item as *mut Item };
            assert_eq!(numbers(inbox.take()).len(), usize::from(given));
            drop(numbers(kept));
        });
    }
}
