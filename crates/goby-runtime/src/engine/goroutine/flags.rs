//! What else is known of a goroutine, one bit per fact.

use std::cell::Cell;

// | bit | set | cleared |
// |---|---|---|
// | a timer ends its wait | by `park_until` | by the same, after the wait |
// | a context ends its wait | by `with_reach` | by the same, after the wait |
// | it ends by `goexit` | by `goexit` | never |
// | the next one that it starts is to be spread | by `spread_next` | by that start |
// | it was started to be spread | by its starter | never |
// | it has a stack of its own size | at its birth | never |
// | it never ran | by the code that ends it | never |
// | it carries something | by `carry` | by `carry`, and by `away` while it takes that off and puts it on |
const HAS_DEADLINE: u8 = 1;
const HAS_CONTEXT: u8 = 2;
const EXITS: u8 = 4;
const SPREADS: u8 = 8;
const IS_SPREAD: u8 = 16;
const HAS_OWN_STACK: u8 = 32;
const NEVER_RAN: u8 = 64;
const CARRIES: u8 = 128;

/// The bits that reports show of a goroutine that waits.
const REPORTED: u8 = HAS_DEADLINE | HAS_CONTEXT | EXITS;

/// The facts about one goroutine. Touched by its starter; from the first run on by its home
/// worker's thread; if it never runs, by the thread that ends it.
pub(crate) struct Flags(Cell<u8>);

impl Flags {
    #[inline]
    pub(super) fn new(has_own_stack: bool) -> Flags {
        Flags(Cell::new(if has_own_stack { HAS_OWN_STACK } else { 0 }))
    }

    #[inline]
    fn has(&self, bit: u8) -> bool {
        self.0.get() & bit != 0
    }

    #[inline]
    fn add(&self, bits: u8) {
        self.0.set(self.0.get() | bits);
    }

    /// Returns whether it has a stack of its own size, from its birth on.
    #[inline]
    pub(crate) fn has_own_stack(&self) -> bool {
        self.has(HAS_OWN_STACK)
    }

    /// Returns whether it ends by `goexit`.
    #[inline]
    pub(crate) fn exits(&self) -> bool {
        self.has(EXITS)
    }

    pub(crate) fn set_exits(&self) {
        self.add(EXITS);
    }

    /// Returns whether its runtime was shut down before it ran.
    pub(crate) fn never_ran(&self) -> bool {
        self.has(NEVER_RAN)
    }

    /// Called before its result is stored, since the code that drops the result asks.
    pub(crate) fn set_never_ran(&self) {
        self.add(NEVER_RAN);
    }

    /// Returns whether there is something to take off its thread before it gives that away.
    #[inline]
    pub(crate) fn carries(&self) -> bool {
        self.has(CARRIES)
    }

    pub(crate) fn set_carries(&self, carries: bool) {
        self.0.set(self.0.get() & !CARRIES | if carries { CARRIES } else { 0 });
    }

    /// Returns whether it was started to be spread.
    #[inline]
    pub(crate) fn is_spread(&self) -> bool {
        self.has(IS_SPREAD)
    }

    pub(crate) fn set_spread(&self) {
        self.add(IS_SPREAD);
    }

    /// Says that the next goroutine that it starts in its runtime is to be spread.
    pub(crate) fn spread_next(&self) {
        self.add(SPREADS);
    }

    /// Returns whether the goroutine that it starts now is to be spread. Those after that are not.
    #[inline]
    pub(crate) fn take_spread_next(&self) -> bool {
        let spreads = self.has(SPREADS);
        if spreads {
            self.0.set(self.0.get() & !SPREADS);
        }
        spreads
    }

    /// Says that a timer ends its next wait, until `restore`.
    #[inline]
    pub(crate) fn set_deadline(&self) -> Saved {
        Saved(self.0.replace(self.0.get() | HAS_DEADLINE))
    }

    /// Says whether a context ends its waits, until `restore`. One that does so already goes on.
    #[inline]
    pub(crate) fn set_context(&self, has_context: bool) -> Saved {
        Saved(self.0.replace(self.0.get() | if has_context { HAS_CONTEXT } else { 0 }))
    }

    /// Restores what was known before a wait. No other bit is another one after the wait.
    #[inline]
    pub(crate) fn restore(&self, saved: Saved) {
        self.0.set(saved.0);
    }

    /// Returns what reports show of its wait.
    pub(crate) fn reported(&self) -> Reported {
        Reported(self.0.get() & REPORTED)
    }
}

/// The flags before a wait.
#[derive(Clone, Copy)]
#[must_use = "the flags of a wait end with it"]
pub(crate) struct Saved(u8);

/// What reports show of a wait: what ends it beside its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reported(u8);

impl Reported {
    pub(crate) fn has_deadline(self) -> bool {
        self.0 & HAS_DEADLINE != 0
    }

    pub(crate) fn has_context(self) -> bool {
        self.0 & HAS_CONTEXT != 0
    }

    /// Returns the same with a timer that ends the wait.
    pub(crate) fn with_deadline(self) -> Reported {
        Reported(self.0 | HAS_DEADLINE)
    }
}
