//! Numbers, sizes and durations as people read and write them, and the one way to write to standard
//! error.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

/// Writes `goby: message` to standard error. If standard error is gone, it does nothing.
pub(crate) fn complain(message: &dyn Display) {
    let _ = writeln!(io::stderr(), "goby: {message}");
}

/// Gives an error of the system in words only, without `(os error 2)`.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `count` with its noun: `1 request`, `2,000 requests`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A number of bytes with three digits and a decimal unit: `999 B`, `1.23 MB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1000.0;
    let mut unit = 0;
    // 999.5 would print as 1000, so it takes the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// A duration with three digits: `1.23 ms`, `12.3 s`, `2m05s`, `1h02m`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.9995 {
        format!("{} ms", three_digits(seconds * 1e3))
    } else if seconds < 59.95 {
        format!("{} s", three_digits(seconds))
    } else {
        let whole = seconds.round() as u64;
        let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
        if hours == 0 { format!("{minutes}m{seconds:02}s") } else { format!("{hours}h{minutes:02}m") }
    }
}

/// A rate or another figure with about three digits: `0.25`, `12.3`, `4,567`.
pub(crate) fn figure(value: f64) -> String {
    if value < 999.5 { three_digits(value) } else { count(value.round() as u64) }
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Reads a duration as it is typed: `10s`, `1m30s`, `500ms`, `1.5h`; a bare number is seconds. Zero
/// is refused.
///
/// # Errors
/// In words, for clap to print behind the option's name.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration such as 10s, 500ms or 1m30s";
    let mut seconds = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(EXPECTED.to_string());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| EXPECTED.to_string())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" if digits == text.trim().len() => 1.0,
            _ => return Err(EXPECTED.to_string()),
        };
        seconds += number * unit;
        rest = &rest[letters..];
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration.is_zero() => Err("it must be more than zero".to_string()),
        Ok(duration) if duration > LONGEST_DURATION => Err("it must be at most 10000h".to_string()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("it must be at most 10000h".to_string()),
    }
}

/// Reads a number of bytes as it is typed: `500`, `64k`, `1.5M`, `2G`, in units of 1024 as curl's.
///
/// # Errors
/// In words, for clap to print behind the option's name.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, unit) = match text.chars().last().map(|c| c.to_ascii_lowercase()) {
        Some('k') => (&text[..text.len() - 1], 1 << 10),
        Some('m') => (&text[..text.len() - 1], 1 << 20),
        Some('g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match number.parse::<f64>() {
        Ok(number) if is_number && number * f64::from(unit) < 1e18 => Ok((number * f64::from(unit)) as u64),
        _ => Err("expected a number of bytes such as 500, 64k or 1.5M".to_string()),
    }
}

/// The longest duration that may be typed: more than a year, and far from overflowing an `Instant`.
const LONGEST_DURATION: Duration = Duration::from_secs(10_000 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        let shown = [0, 7, 999, 1000, 12_345, 999_999, 1_000_000].map(count);
        assert_eq!(shown, ["0", "7", "999", "1,000", "12,345", "999,999", "1,000,000"]);
        assert_eq!(counted(1, "request"), "1 request");
        assert_eq!(counted(2000, "request"), "2,000 requests");
    }

    #[test]
    fn bytes_have_three_digits_and_a_decimal_unit() {
        let shown = [0, 999, 1000, 1234, 99_960, 999_499, 999_500, 1_500_000_000, u64::MAX].map(bytes);
        let expected = ["0 B", "999 B", "1.00 kB", "1.23 kB", "100 kB", "999 kB", "1.00 MB", "1.50 GB", "18.4 EB"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn durations_have_three_digits_or_two_parts() {
        let shown = [0, 1_234, 56_780, 999_600, 12_340_000, 59_960_000, 125_000_000, 3_720_000_000]
            .map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(shown, ["0.00 ms", "1.23 ms", "56.8 ms", "1.00 s", "12.3 s", "1m00s", "2m05s", "1h02m"]);
    }

    #[test]
    fn figures_have_about_three_digits() {
        assert_eq!([0.25, 12.34, 123.4, 4567.4].map(figure), ["0.25", "12.3", "123", "4,567"]);
    }

    #[test]
    fn durations_are_read_with_and_without_units() {
        let read = |text| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(read("10s"), Ok(10_000));
        assert_eq!(read("10"), Ok(10_000));
        assert_eq!(read(" 0.5 "), Ok(500));
        assert_eq!(read("500ms"), Ok(500));
        assert_eq!(read("1m30s"), Ok(90_000));
        assert_eq!(read("1.5h"), Ok(5_400_000));
    }

    #[test]
    fn bytes_are_read_with_and_without_units() {
        assert_eq!(["0", "500", "64k", "1.5M", "2G"].map(parse_bytes), [0, 500, 65_536, 1_572_864, 2 << 30].map(Ok));
        for text in ["", "k", "-1", "1x", "1e3", "inf", "99999999999G"] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_without_sense_are_refused() {
        for text in ["", " ", "s", "-1s", "10x", "1m30", "1.2.3s", "10 s", "ten"] {
            assert_eq!(
                parse_duration(text).unwrap_err(),
                "expected a duration such as 10s, 500ms or 1m30s",
                "{text:?}"
            );
        }
        assert_eq!(parse_duration("0").unwrap_err(), "it must be more than zero");
        assert_eq!(parse_duration("99999999h").unwrap_err(), "it must be at most 10000h");
    }
}
