//! The wait of a future, which does not park: its claim wakes a waker.

use std::fmt;
use std::task::Waker;

use crate::base::claim::ClaimWord;
use crate::base::lock::Lock;
use crate::engine::errand::Notice;
use crate::engine::unparker::Unparker;

/// One wait of a future.
///
/// Like a [`Wait`](crate::Wait) it is shown to queues, and exactly one claim ends it. It is `Send`
/// and `Sync` by its fields alone: the word is atomic, and the waker is behind a lock of its own.
pub struct TaskWait {
    word: ClaimWord,
    notice: Lock<Option<Notice>>,
}

const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<TaskWait>();
};

impl TaskWait {
    /// Starts a wait; [`set_waker`](TaskWait::set_waker) says what to wake.
    pub fn new() -> TaskWait {
        TaskWait { word: ClaimWord::new(), notice: Lock::new(None) }
    }

    /// Sets the waker that the claimer wakes. The claim may have happened already: ask
    /// [`token`](TaskWait::token) afterwards.
    pub fn set_waker(&self, waker: &Waker) {
        // Cloned and dropped outside the lock, since both run the executor's code.
        let new = Notice::new(waker);
        let old = self.notice.lock().replace(new);
        drop(old);
    }

    /// Ends the wait with `token`, unless another claim has ended it. The caller must unpark, after
    /// it has released its locks.
    #[must_use = "a claimed waiter must be unparked"]
    pub fn claim(&self, token: usize) -> Option<Unparker> {
        self.word.claim(token).then(|| Unparker::of_task(self.notice.lock().take()))
    }

    /// Returns whether somebody has claimed it already.
    #[inline]
    pub fn is_claimed(&self) -> bool {
        self.word.is_claimed()
    }

    /// Returns the token of the claim, if there was one.
    #[inline]
    pub fn token(&self) -> Option<usize> {
        self.word.token()
    }
}

impl Default for TaskWait {
    fn default() -> TaskWait {
        TaskWait::new()
    }
}

impl fmt::Debug for TaskWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskWait").field("token", &self.token()).finish_non_exhaustive()
    }
}
