//! Traffic with pauses: one message per period between two goroutines, and a program that has
//! nothing to do.

use std::io::Read;
use std::time::{Duration, Instant};

use goby::sync::WaitGroup;
use goby::{chan, go, time};

use crate::measure::{Clock, cpu_ns, percentile_us, report};

const LENGTH: Duration = Duration::from_secs(1);

/// Reports latencies from the moment of the send and from the moment it was due, and the
/// processor's time in all.
fn burst(name: &str, period: Duration) {
    let n = LENGTH.as_nanos() / period.as_nanos();
    let (tx, rx) = chan::bounded::<(Instant, Instant)>(0);
    let receiver = go(move || {
        let mut seen = [Vec::new(), Vec::new()];
        for (due, sent) in rx {
            let now = Instant::now();
            seen[0].push((now - sent).as_nanos() as u64);
            seen[1].push((now - due).as_nanos() as u64);
        }
        seen.map(|mut latencies| {
            latencies.sort_unstable();
            latencies
        })
    });
    let (clock, cpu) = (Clock::start(), cpu_ns());
    let start = Instant::now();
    for i in 1..=n as u32 {
        let due = start + period * i;
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            time::sleep(left);
        }
        tx.send((due, Instant::now())).unwrap();
    }
    let (took, used) = (clock.ns(), cpu_ns() - cpu);
    drop(tx);
    let [from_send, from_due] = receiver.join().unwrap();
    report(&format!("{name}_p50"), percentile_us(&from_send, 0.5), "us");
    report(&format!("{name}_p99"), percentile_us(&from_send, 0.99), "us");
    report(&format!("{name}_due_p50"), percentile_us(&from_due, 0.5), "us");
    report(&format!("{name}_due_p99"), percentile_us(&from_due, 0.99), "us");
    report(&format!("{name}_cpu"), used / took * 100.0, "%");
}

pub fn burst_10us() {
    burst("burst_10us", Duration::from_micros(10));
}

pub fn burst_100us() {
    burst("burst_100us", Duration::from_micros(100));
}

pub fn burst_1ms() {
    burst("burst_1ms", Duration::from_millis(1));
}

/// Park a thousand goroutines, say so, and wait for the end of standard input: cliffs.py looks on
/// from outside.
pub fn idle_program() {
    let (_close, stop) = chan::bounded::<()>(0);
    let ready = WaitGroup::new();
    for _ in 0..1000 {
        ready.add(1);
        let (ready, stop) = (ready.clone(), stop.clone());
        go(move || {
            time::sleep(Duration::from_millis(1));
            ready.done();
            let _ = stop.recv();
        });
    }
    ready.wait();
    println!("ready");
    goby::blocking(|| std::io::stdin().read(&mut [0])).expect("standard input can be read");
}
