//! The summary as JSON, and the latencies as a drawing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::tally::{End, Stopped, Tally};
use crate::text::{count, duration};

/// The longest bar of the drawing.
const WIDTH: u64 = 40;
/// How many bars there are at most.
const BARS: u64 = 12;

impl Tally {
    /// The summary as a JSON object on a line.
    pub(crate) fn summary_json(&self, end: &End) -> String {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile| ms(self.latency.value_at_quantile(quantile));
        let by_kind: BTreeMap<&str, u64> = self.failures.iter().map(|(kind, n)| (kind.as_str(), *n)).collect();
        let by_status: BTreeMap<String, u64> =
            self.statuses.iter().map(|(status, n)| (status.to_string(), *n)).collect();
        let latency = match self.latency.is_empty() {
            true => Value::Null,
            false => json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)}),
        };
        let stopped = end.stopped.map(|stopped| match stopped {
            Stopped::Interrupted => "interrupted",
            Stopped::TotalUp(_) => "total",
            Stopped::OutputGone => "output",
            Stopped::Failed => "failed",
        });
        let summary = json!({
            "urls": self.ended(),
            "fetched": self.fetched,
            "bytes": self.bytes,
            "failed": self.failed(),
            "errors": by_kind,
            "statuses": by_status,
            "skipped": end.fed.skipped,
            "repeated": end.fed.repeated,
            "stopped": stopped,
            "abandoned": self.abandoned,
            "not_started": self.not_started + end.fed.not_fed,
            "requests": self.requests,
            "seconds": end.elapsed.as_secs_f64(),
            "latency_ms": latency,
        });
        format!("{summary}\n")
    }
}

/// Draws the latencies: a bar for each range of them. Ranges grow by a factor, from the shortest
/// latency to the longest.
pub(crate) fn histogram(latency: &Histogram<u64>) -> String {
    if latency.is_empty() {
        return String::new();
    }
    let (min, max) = (latency.min().max(1), latency.max());
    let factor = ((max as f64 / min as f64).powf(1.0 / BARS as f64)).max(1.05);
    // The upper bounds of the ranges, in microseconds.
    let mut bars: Vec<(u64, u64)> = Vec::new();
    let mut bound = min as f64;
    while bars.last().is_none_or(|(bound, _)| *bound < max) {
        bound *= factor;
        bars.push((bound.ceil() as u64, 0));
    }
    for step in latency.iter_recorded() {
        let bar = bars.partition_point(|(bound, _)| *bound < step.value_iterated_to()).min(bars.len() - 1);
        bars[bar].1 += step.count_since_last_iteration();
    }
    let most = bars.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1);
    let mut text = String::new();
    for (to, n) in bars {
        let length = (n * WIDTH).div_ceil(most) as usize;
        let to = duration(Duration::from_micros(to));
        let line = format!("            {to:>8} {:<40} {}", "▇".repeat(length), count(n));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_in_a_bar() {
        let mut latency = Histogram::new(3).unwrap();
        (1..=1000_u64).for_each(|ms| latency.record(ms * 1000).unwrap());
        let text = histogram(&latency);
        let counts = text.lines().map(|line| line.rsplit(' ').next().unwrap().replace(',', "").parse::<u64>().unwrap());
        assert_eq!(counts.sum::<u64>(), 1000, "{text}");
        assert!(text.lines().count() <= BARS as usize + 1, "{text}");
        assert!(text.contains(&"▇".repeat(WIDTH as usize)), "{text}");
    }

    #[test]
    fn equal_latencies_are_one_bar_and_none_is_no_drawing() {
        let mut latency = Histogram::new(3).unwrap();
        assert_eq!(histogram(&latency), "");
        latency.record_n(5000, 7).unwrap();
        assert!(histogram(&latency).ends_with(" 7\n"), "{}", histogram(&latency));
    }
}
