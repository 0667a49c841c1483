//! Where goroutines of a check have panicked. The panics are told by the check, so the hook prints
//! none of them.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

use goby_runtime::checked;

/// Panics of one execution that are kept: the latest.
const KEPT: usize = 16;

thread_local! {
    static PLACES: RefCell<Vec<(u64, String)>> = const { RefCell::new(Vec::new()) };
    static ARE_HEARD: Cell<bool> = const { Cell::new(false) };
}

/// Hears of panics on this thread from here on, instead of the program's hook.
pub(crate) fn hear() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !ARE_HEARD.get() {
                return former(info);
            }
            let place = info.location().map_or_else(String::new, ToString::to_string);
            let number = checked::current_number().unwrap_or(0);
            PLACES.with_borrow_mut(|places| {
                if places.len() == KEPT {
                    places.remove(0);
                }
                places.push((number, place));
            });
        }));
    });
    ARE_HEARD.set(true);
    PLACES.with_borrow_mut(Vec::clear);
}

/// Returns where a goroutine has panicked last.
pub(crate) fn place(number: u64) -> Option<String> {
    PLACES.with_borrow(|places| places.iter().rev().find(|(other, _)| *other == number).map(|(_, place)| place.clone()))
}

/// Begins another execution.
#[inline]
pub(crate) fn forget() {
    PLACES.with_borrow_mut(|places| {
        if !places.is_empty() {
            places.clear();
        }
    });
}
