//! How buckets are forgotten: with instants, without sleeps.

use std::time::Duration;

use super::*;

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn every_key_has_its_bucket() {
    let keyed = Keyed::<String>::per_second(1.0, 2);
    let start = Instant::now();
    for key in ["a", "b", "c"] {
        assert!(keyed.allow_n(key, start, 2));
    }
    for key in ["a", "b", "c"] {
        assert!(!keyed.allow_n(key, start, 1));
        assert!(keyed.allow_n(key, start + second(1), 1));
        assert!(!keyed.allow_n(key, start + second(1), 1));
    }
    assert_eq!(keyed.len(), 3);
}

/// A million keys, a thousand per second, each idle again after half a second: 500 are in use, and
/// at most one and a half times as many are kept.
#[test]
fn idle_buckets_are_forgotten_as_new_keys_come() {
    let keyed = Keyed::<u64>::per_second(2.0, 1);
    let start = Instant::now();
    let mut most = 0;
    for key in 0..1_000_000 {
        assert!(keyed.allow_n(&key, start + Duration::from_millis(key), 1));
        most = most.max(keyed.len());
    }
    println!("most {most}");
    assert!((500..=800).contains(&most), "{most}");
    assert!(keyed.buckets.lock().map.capacity() <= 4000);
}

/// A burst of keys goes away while a few keys are used, with its memory.
#[test]
fn idle_buckets_are_forgotten_as_old_keys_are_used() {
    let keyed = Keyed::<u64>::per_second(1.0, 1);
    let start = Instant::now();
    (0..50_000).for_each(|key| assert!(keyed.allow_n(&key, start, 1)));
    assert_eq!(keyed.len(), 50_000);
    for i in 0..25_000 {
        keyed.allow_n(&(i % 3), start + second(10), 1);
    }
    assert_eq!(keyed.len(), 3);
    assert!(keyed.buckets.lock().map.capacity() <= 100);
}

/// Forgetting never undoes a limit: at every instant as many events are allowed as with one limiter
/// per key.
#[test]
fn forgetting_is_not_noticed() {
    let (limit, burst, n_keys) = (Limit::per_second(3.0), 4, 200);
    let keyed = Keyed::<u64>::new(limit, burst);
    let limiters = (0..n_keys).map(|_| Limiter::new(limit, burst)).collect::<Vec<_>>();
    let (start, mut random, mut at) = (Instant::now(), 1_u64, Duration::ZERO);
    let mut fewest = n_keys as usize;
    for step in 0..100_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (key, n) = ((random >> 33) % n_keys, (random >> 60) as usize % (burst + 1));
        at += Duration::from_micros((random >> 40) % 20_000);
        assert_eq!(keyed.allow_n(&key, start + at, n), limiters[key as usize].allow_n(start + at, n), "step {step}");
        if step > 1000 {
            fewest = fewest.min(keyed.len());
        }
    }
    assert!(fewest < n_keys as usize, "some were forgotten");
}

#[test]
fn what_somebody_has_is_not_forgotten() {
    let keyed = Keyed::<u64>::per_second(1.0, 1);
    let start = Instant::now();
    let held = keyed.get_at(&0, start);
    for key in 1..10_000 {
        keyed.allow_n(&key, start + Duration::from_millis(key), 1);
    }
    assert!(Arc::ptr_eq(&held, &keyed.get_at(&0, start)));
}

#[test]
fn there_are_never_more_than_allowed() {
    let keyed = Keyed::<u64>::per_second(0.0, 2).max_keys(100);
    let start = Instant::now();
    for key in 0..10_000 {
        // Key 0 is used up, and the others are fuller.
        assert_eq!(keyed.allow_n(&0, start, 1), key < 2);
        assert!(keyed.allow_n(&(key + 1), start, 1));
        assert!(keyed.len() <= 100);
    }
}

#[test]
#[should_panic = "at least one key"]
fn no_keys_at_all_are_refused() {
    let _ = Keyed::<u64>::per_second(1.0, 1).max_keys(0);
}
