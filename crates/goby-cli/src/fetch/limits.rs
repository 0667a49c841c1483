//! How fast requests may start.

/// The share of a second's requests that may start at once: 10 ms worth. Smaller bursts would need
/// timers that are exact to the millisecond; larger ones are no longer an even rate.
const BURST_SHARE: f64 = 0.01;

/// How many requests of a rate may start at once.
pub(crate) fn burst(rate: f64) -> usize {
    (rate * BURST_SHARE).ceil().clamp(1.0, 1e6) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_ten_milliseconds_worth_and_at_least_one() {
        assert_eq!([0.1, 1.0, 100.0, 101.0, 5000.0].map(burst), [1, 1, 1, 2, 50]);
    }
}
