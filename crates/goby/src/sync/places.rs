//! A first-in first-out line. A member may leave from the middle in O(log n), also when many leave
//! at once.
//!
//! A place keeps its ticket when its member leaves, and is vacant from then on. Tickets are drawn
//! in order, so a place is found by binary search. Two rules keep vacant places few: the front
//! place is never vacant, and when more than half of the places are vacant they are taken out.

use std::collections::VecDeque;

/// Members of type `E`, each with an `I` that the server of the line looks at.
#[derive(Debug)]
pub(super) struct Places<I, E> {
    places: VecDeque<Place<I, E>>,
    n_vacant: usize,
}

#[derive(Debug)]
struct Place<I, E> {
    ticket: usize,
    info: I,
    /// `None`: vacant.
    member: Option<E>,
}

/// Whether ticket `a` was drawn before ticket `b`; right across the wrap.
pub(super) fn is_before(a: usize, b: usize) -> bool {
    (a.wrapping_sub(b) as isize) < 0
}

impl<I, E> Places<I, E> {
    pub(super) const fn new() -> Places<I, E> {
        Places { places: VecDeque::new(), n_vacant: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Joins at the back. `ticket` was drawn after all tickets here.
    pub(super) fn push_back(&mut self, ticket: usize, info: I, member: E) {
        debug_assert!(self.places.back().is_none_or(|last| is_before(last.ticket, ticket)));
        self.places.push_back(Place { ticket, info, member: Some(member) });
    }

    pub(super) fn front_ticket(&self) -> Option<usize> {
        self.places.front().map(|place| place.ticket)
    }

    pub(super) fn front_info(&self) -> Option<&I> {
        self.places.front().map(|place| &place.info)
    }

    /// Takes out the member that has been here longest.
    pub(super) fn pop_front(&mut self) -> Option<E> {
        let member = self.places.pop_front()?.member;
        self.skip_vacant();
        member
    }

    /// Takes out the member with `ticket`, if it is still here.
    pub(super) fn leave(&mut self, ticket: usize) -> Option<E> {
        let index = self.places.partition_point(|place| is_before(place.ticket, ticket));
        let place = self.places.get_mut(index).filter(|place| place.ticket == ticket)?;
        let member = place.member.take()?;
        self.n_vacant += 1;
        self.skip_vacant();
        if self.n_vacant > self.places.len() / 2 {
            self.places.retain(|place| place.member.is_some());
            self.n_vacant = 0;
        }
        Some(member)
    }

    fn skip_vacant(&mut self) {
        while self.places.front().is_some_and(|place| place.member.is_none()) {
            self.places.pop_front();
            self.n_vacant -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of five, across the wrap of the tickets.
    fn line() -> Places<(), usize> {
        let mut places = Places::new();
        (0..5usize).for_each(|n| places.push_back(n.wrapping_sub(2), (), n));
        places
    }

    #[test]
    fn who_leaves_is_not_served() {
        let mut places = line();
        assert_eq!(places.leave(0), Some(2));
        assert_eq!(places.leave(0), None, "only once");
        assert_eq!(places.leave(7), None, "never here");
        assert_eq!(places.pop_front(), Some(0));
        assert_eq!(places.leave(0usize.wrapping_sub(2)), None, "served before");
        assert_eq!(places.pop_front(), Some(1));
        assert_eq!(places.front_ticket(), Some(1));
        assert_eq!([places.pop_front(), places.pop_front(), places.pop_front()], [Some(3), Some(4), None]);
        assert!(places.is_empty());
    }

    #[test]
    fn vacant_places_do_not_pile_up() {
        let mut places = line();
        // The one in front stays; all others come and go.
        for ticket in 3..10_000usize {
            places.push_back(ticket, (), ticket);
            assert!(places.leave(ticket.wrapping_sub(4)).is_some());
            assert!(places.places.len() <= 12, "{} places for five", places.places.len());
        }
        assert_eq!(places.pop_front(), Some(0));
    }
}
