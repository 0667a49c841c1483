//! The first panic among several goroutines, kept until the one that waits for them raises it
//! again.

use std::any::Any;
use std::fmt;
use std::mem;
use std::panic;
use std::sync::Arc;

/// What `catch_unwind` returns.
type Payload = Box<dyn Any + Send>;

/// A place for the first panic. Its lock is held for a few instructions and never across user code.
#[derive(Default)]
pub(crate) struct FirstPanic {
    kept: parking_lot::Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The text of the first panic.
    message: Option<Arc<str>>,
    /// Its payload, until it is raised.
    payload: Option<Payload>,
}

impl FirstPanic {
    /// Keeps a panic unless there is one already. A goroutine that ends by `goexit` has not
    /// panicked.
    pub(crate) fn keep(&self, payload: Payload) {
        if goby_runtime::is_goexit(&*payload) {
            return;
        }
        let message = message_of(&*payload).into();
        self.keep_message(message, Some(payload));
    }

    /// Keeps the message of a panic, with its payload if that is known, unless there is one
    /// already.
    pub(crate) fn keep_message(&self, message: Arc<str>, payload: Option<Payload>) {
        let mut kept = self.kept.lock();
        let refused = if kept.message.is_none() {
            (kept.message, kept.payload) = (Some(message), payload);
            None
        } else {
            payload
        };
        drop(kept);
        // The payload is the user's, so it is dropped outside the lock. Whatever its destructor
        // does, the caller still has to tell others of its end.
        goby_runtime::discard_quietly(refused);
    }

    /// Takes the payload, if nobody has raised it yet. A later [`raise`](FirstPanic::raise) still
    /// has the message.
    pub(crate) fn take(&self) -> Option<Payload> {
        self.kept.lock().payload.take()
    }

    /// Whether a panic is kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.lock().message.is_some()
    }

    /// Raises the panic, if there was one since the last call. Does nothing in a goroutine that
    /// panics already.
    pub(crate) fn raise_once(&self) {
        if panicking() {
            return;
        }
        let kept = mem::take(&mut *self.kept.lock());
        if let Some(payload) = kept.payload {
            panic::resume_unwind(payload);
        }
    }

    /// Raises the panic, if there was one: the first caller with its payload, others with its
    /// message. Does nothing in a goroutine that panics already, because a second panic would abort
    /// the process.
    pub(crate) fn raise(&self) {
        if panicking() {
            return;
        }
        let (message, payload) = {
            let mut kept = self.kept.lock();
            (kept.message.clone(), kept.payload.take())
        };
        match (message, payload) {
            (_, Some(payload)) => panic::resume_unwind(payload),
            (Some(message), None) => panic!("{message}"),
            (None, None) => {}
        }
    }
}

pub(super) use goby_runtime::panicking;

/// The text of a panic, if it has one.
pub(super) fn message_of(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (None, Some(message)) => message,
        (None, None) => "a goroutine panicked with a value that is not text",
    }
}

impl fmt::Debug for FirstPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FirstPanic").field(&self.kept.lock().message).finish()
    }
}
