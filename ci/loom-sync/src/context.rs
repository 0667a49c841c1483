//! What the sources under test use of contexts.

use std::fmt;

use loom::sync::{Arc, Mutex};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContextError {
    Canceled,
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
pub(crate) struct Context {
    /// Whether it is done, and the hooks to run then.
    state: Arc<Mutex<(bool, Vec<Hook>)>>,
}

impl Context {
    pub(crate) fn background() -> Context {
        Context { state: Arc::new(Mutex::new((false, Vec::new()))) }
    }

    pub(crate) fn cancel(&self) {
        let hooks = {
            let mut state = self.state.lock().unwrap();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        hooks.into_iter().for_each(|hook| hook());
    }

    pub(crate) fn can_end(&self) -> bool {
        true
    }

    pub(crate) fn err(&self) -> Option<ContextError> {
        self.state.lock().unwrap().0.then_some(ContextError::Canceled)
    }

    pub(crate) fn deadline(&self) -> Option<std::time::Instant> {
        None
    }

    /// The hook is never unregistered. It may run late; goby's may, too.
    pub(crate) fn on_done(&self, hook: impl FnOnce() + Send + 'static) -> impl Drop {
        struct OnDone;
        impl Drop for OnDone {
            fn drop(&mut self) {}
        }
        let mut state = self.state.lock().unwrap();
        if state.0 {
            drop(state);
            hook();
        } else {
            state.1.push(Box::new(hook));
        }
        OnDone
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}
