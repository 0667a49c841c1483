//! The values of a context: a chain from the nearest to the farthest. All contexts that are derived
//! from it share it.
//!
//! Links never change. A long chain is dropped link by link, not by recursion.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use goby_runtime::Foreign;

pub(super) struct Link {
    layer: u32,
    next: Option<Arc<Link>>,
    held: Held,
    _foreign: Foreign,
}

enum Held {
    Value {
        type_name: &'static str,
        value: Box<dyn Any + Send + Sync>,
    },
    /// The place where `without_cancel` cut the cancel tree off; it is only printed.
    WithoutCancel,
}

impl Link {
    pub(super) fn with_value<T: Any + Send + Sync>(layer: u32, value: T, next: Option<Arc<Link>>) -> Link {
        Link {
            layer,
            next,
            held: Held::Value { type_name: std::any::type_name::<T>(), value: Box::new(value) },
            _foreign: Foreign,
        }
    }

    pub(super) fn without_cancel(layer: u32, next: Option<Arc<Link>>) -> Link {
        Link { layer, next, held: Held::WithoutCancel, _foreign: Foreign }
    }

    pub(super) fn get<T: Any>(&self) -> Option<&T> {
        match &self.held {
            Held::Value { value, .. } => value.downcast_ref(),
            Held::WithoutCancel => None,
        }
    }

    pub(super) fn next(&self) -> Option<&Link> {
        self.next.as_deref()
    }

    pub(super) fn layer(&self) -> u32 {
        self.layer
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(link) = next {
            // If two threads drop the last two references, `into_inner` gives the link to one of
            // them. So no link is left to a recursive drop.
            next = Arc::into_inner(link).and_then(|mut link| link.next.take());
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.held {
            Held::Value { type_name, .. } => write!(f, "WithValue({type_name})"),
            Held::WithoutCancel => f.write_str("WithoutCancel"),
        }
    }
}
