//! goby's mutex: mutex_uncontended, mutex_8.

use goby::scope;
use goby::sync::Mutex;

use crate::measure::Clock;

pub fn mutex_uncontended() {
    const N: usize = 50_000_000;
    let m = Mutex::new(0);
    let clock = Clock::start();
    for _ in 0..N {
        *m.lock() += 1;
    }
    assert_eq!(m.into_inner(), N);
    clock.per_op("mutex_uncontended", N);
}

pub fn mutex_contended() {
    const N: usize = 4_000_000;
    const P: usize = 8;
    let m = Mutex::new(0);
    let clock = Clock::start();
    scope(|s| {
        for _ in 0..P {
            s.go(|| {
                for _ in 0..N / P {
                    *m.lock() += 1;
                }
            });
        }
    });
    clock.per_op("mutex_8", N);
    assert_eq!(m.into_inner(), N);
}
