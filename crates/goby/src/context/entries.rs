//! What a node tells when it is done: its children, and the callbacks that are registered on it.
//!
//! An entry keeps its slot until it is removed. So adding and removing are O(1), and only growth
//! allocates. Vacant slots form a list. The node's lock guards them. [`take`](Entries::take) takes
//! them out forever.

use std::sync::Weak;

use super::node::Node;

/// "No slot": the end of the vacant list, and the slot of a node that was never registered.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// Without entries it gives its memory back when it has room for more than this many (a kilobyte or
/// two). So a parent that once had a hundred thousand children does not keep room for them, and
/// one that has a few at a time does not reallocate.
const KEEP: usize = 64;

pub(super) enum Entry {
    /// Weak: a child that everybody has dropped leaves by itself.
    Child(Weak<Node>),
    /// Runs when the node is canceled, on the canceler's stack. It is short, and neither parks nor
    /// panics.
    Callback(Box<dyn FnOnce() + Send>),
    /// A free slot, and the next one in the list.
    Vacant(u32),
}

impl Entry {
    /// Calls the callback, if it is one. No lock is held.
    pub(super) fn run(self) {
        if let Entry::Callback(f) = self {
            f();
        }
    }
}

pub(super) struct Entries {
    slots: Vec<Entry>,
    /// First vacant slot.
    vacant: u32,
    /// Slots in use.
    used: u32,
}

impl Entries {
    pub(super) const fn new() -> Entries {
        Entries { slots: Vec::new(), vacant: NO_SLOT, used: 0 }
    }

    /// Puts an entry into a slot, which the entry keeps until it is removed.
    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        self.used += 1;
        if let Some(place) = self.slots.get_mut(self.vacant as usize) {
            let slot = self.vacant;
            if let Entry::Vacant(next) = *place {
                self.vacant = next;
            }
            *place = entry;
            slot
        } else {
            let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 children");
            self.slots.push(entry);
            slot
        }
    }

    /// Takes the entry out of `slot`; takes nothing if all were [taken](Entries::take). Drop the
    /// result after unlocking.
    pub(super) fn remove(&mut self, slot: u32) -> Removed {
        let Some(place) = self.slots.get_mut(slot as usize) else { return Removed { entry: None, _room: Vec::new() } };
        let entry = std::mem::replace(place, Entry::Vacant(self.vacant));
        self.vacant = slot;
        self.used -= 1;
        let mut room = Vec::new();
        if self.used == 0 {
            self.vacant = NO_SLOT;
            if self.slots.capacity() > KEEP {
                room = std::mem::take(&mut self.slots);
            } else {
                self.slots.clear();
            }
        }
        Removed { entry: Some(entry), _room: room }
    }

    /// Takes everything out, when the node is done; nothing is added any more.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.used = 0;
        self.vacant = NO_SLOT;
        std::mem::take(&mut self.slots)
    }

    /// Adds the children to a list; returns true if there are callbacks.
    pub(super) fn add_children(&self, children: &mut Vec<Weak<Node>>) -> bool {
        let mut has_callbacks = false;
        for entry in &self.slots {
            match entry {
                Entry::Child(child) => children.push(child.clone()),
                Entry::Callback(_) => has_callbacks = true,
                Entry::Vacant(_) => {}
            }
        }
        has_callbacks
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used as usize
    }
}

/// What [`Entries::remove`] took out, and the memory it gave up.
#[must_use = "user code may run when it is dropped: unlock first"]
pub(super) struct Removed {
    entry: Option<Entry>,
    _room: Vec<Entry>,
}

impl Removed {
    /// Whether the entry was still there.
    pub(super) fn was_there(&self) -> bool {
        self.entry.is_some()
    }
}
