//! S1, S5, S9 and S10: programs with a known output, over channels without a buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby::chan::{Receiver, Sender, bounded};
use goby::go;

use crate::support::{debug_or_release, size, with_workers};

/// The primes. One more filter in the chain finds each of them. Dropping the receiver unwinds the
/// chain from its end.
fn sieve() -> Receiver<u32> {
    let (tx, mut numbers) = bounded(0);
    go(move || (2..).try_for_each(|number| tx.send(number)));
    let (found, primes) = bounded(0);
    go(move || {
        loop {
            let prime = numbers.recv().unwrap();
            if found.send(prime).is_err() {
                return;
            }
            let (tx, filtered) = bounded(0);
            let input = std::mem::replace(&mut numbers, filtered);
            go(move || input.iter().filter(|n| n % prime != 0).try_for_each(|n| tx.send(n)));
        }
    });
    primes
}

#[test]
fn s1_prime_sieve() {
    with_workers(|| {
        let first: Vec<u32> = sieve().iter().take(25).collect();
        let expected = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97];
        assert_eq!(first, expected);
        // The 1000th prime is 7919 and the sum to there 3 682 913; a debug build does fewer.
        let primes: Vec<u32> = sieve().iter().take(debug_or_release(200, 1000)).collect();
        assert!(primes.iter().copied().eq((2..).filter(|n| (2..*n).all(|d| n % d != 0)).take(primes.len())));
        if primes.len() == 1000 {
            assert_eq!((primes[999], primes.iter().sum::<u32>()), (7919, 3_682_913));
        }
    });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Color {
    Blue,
    Red,
    Yellow,
}
use Color::{Blue, Red, Yellow};

impl Color {
    fn complement(self, other: Color) -> Color {
        match (self, other) {
            (Blue, Blue) | (Red, Yellow) | (Yellow, Red) => Blue,
            (Red, Red) | (Blue, Yellow) | (Yellow, Blue) => Red,
            (Yellow, Yellow) | (Blue, Red) | (Red, Blue) => Yellow,
        }
    }
}

/// The state of the meeting place, in a channel of capacity one.
struct Meetings {
    left: usize,
    waiting: Option<Visitor>,
}

struct Visitor {
    id: usize,
    color: Color,
    /// Where the creature that comes second sends its id and color.
    partner: Sender<(usize, Color)>,
}

/// Lets creatures of these colors meet `meetings` times. Returns for each creature the number of
/// its meetings, and of those with itself.
fn chameneos(colors: &[Color], meetings: usize) -> Vec<(usize, usize)> {
    let (leave, enter) = bounded(1);
    leave.send(Meetings { left: meetings, waiting: None }).ok().unwrap();
    let creatures: Vec<_> = colors
        .iter()
        .enumerate()
        .map(|(id, &color)| {
            let (leave, enter) = (leave.clone(), enter.clone());
            go(move || creature(id, color, &enter, &leave))
        })
        .collect();
    creatures.into_iter().map(|creature| creature.join().unwrap()).collect()
}

fn creature(id: usize, mut color: Color, enter: &Receiver<Meetings>, leave: &Sender<Meetings>) -> (usize, usize) {
    let (mut met, mut met_itself) = (0, 0);
    let (partner, partners) = bounded(0);
    loop {
        let mut place = enter.recv().unwrap();
        if place.left == 0 {
            leave.send(place).ok().unwrap();
            return (met, met_itself);
        }
        let (other_id, other_color) = match place.waiting.take() {
            None => {
                place.waiting = Some(Visitor { id, color, partner: partner.clone() });
                leave.send(place).ok().unwrap();
                partners.recv().unwrap()
            }
            Some(other) => {
                place.left -= 1;
                leave.send(place).ok().unwrap();
                other.partner.send((id, color)).unwrap();
                (other.id, other.color)
            }
        };
        color = color.complement(other_color);
        met += 1;
        met_itself += usize::from(other_id == id);
    }
}

#[test]
fn s5_chameneos() {
    let table = [Blue, Red, Yellow].map(|a| [Blue, Red, Yellow].map(|b| a.complement(b)));
    assert_eq!(table, [[Blue, Yellow, Red], [Yellow, Red, Blue], [Red, Blue, Yellow]]);
    with_workers(|| {
        let few = [Blue, Red, Yellow];
        let many = [Blue, Red, Yellow, Red, Yellow, Blue, Red, Yellow, Red, Blue];
        for (colors, meetings) in [(&few[..], 600), (&many, 600), (&many, size(60_000, 600_000))] {
            let met = chameneos(colors, meetings);
            assert_eq!(met.iter().map(|(met, _)| met).sum::<usize>(), 2 * meetings);
            assert!(met.iter().all(|(_, met_itself)| *met_itself == 0), "{met:?}");
        }
    });
}

/// `length` goroutines in a row forward one value, which comes in at the far end.
fn chain(length: usize) {
    let before = ResidentPages::now();
    let (first, leftmost) = bounded(0);
    let mut left = first;
    for _ in 0..length {
        let (tx, right) = bounded(0);
        go(move || left.send(right.recv().unwrap()).unwrap());
        left = tx;
    }
    left.send(1).unwrap();
    assert_eq!(leftmost.recv(), Ok(1));
    println!("chain of {length}: {}", ResidentPages::now().since(before, length));
}

#[test]
fn s9_chain_of_goroutines() {
    with_workers(|| {
        chain(10_000);
        if size(0, 1) == 1 {
            chain(100_000);
            chain(1_000_000);
        }
    });
}

/// Memory of the process, for a line that says what a goroutine costs. The stacks stay mapped for
/// reuse, so the difference is close to the peak.
#[derive(Clone, Copy)]
struct ResidentPages(usize);

impl ResidentPages {
    fn now() -> Self {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        ResidentPages(statm.split(' ').nth(1).unwrap().parse().unwrap())
    }

    fn since(self, before: Self, goroutines: usize) -> String {
        format!("{} bytes a goroutine", self.0.saturating_sub(before.0) * 4096 / goroutines)
    }
}

/// Sends the sum of `count` ordinals from `first` on to `parent`, by a tree of goroutines with ten
/// children each.
fn skynet(parent: &Sender<u64>, first: u64, count: u64, started: &Arc<AtomicUsize>) {
    started.fetch_add(1, Ordering::Relaxed);
    if count == 1 {
        return parent.send(first).unwrap();
    }
    let (tx, sums) = bounded(0);
    for child in 0..10 {
        let (tx, started) = (tx.clone(), started.clone());
        go(move || skynet(&tx, first + child * count / 10, count / 10, &started));
    }
    drop(tx);
    parent.send(sums.iter().sum()).unwrap();
}

#[test]
fn s10_skynet() {
    with_workers(|| {
        let leaves = size(100_000, 1_000_000) as u64;
        let (tx, sum) = bounded(0);
        let started = Arc::new(AtomicUsize::new(0));
        go({
            let started = started.clone();
            move || skynet(&tx, 0, leaves, &started)
        });
        assert_eq!(sum.recv().unwrap(), leaves * (leaves - 1) / 2);
        assert_eq!(started.load(Ordering::Relaxed), if leaves == 100_000 { 111_111 } else { 1_111_111 });
    });
}
