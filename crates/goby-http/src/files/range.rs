//! Ranges of bytes: the header `range`, and bodies of several parts (RFC 9110, section 14).

use std::ops::Range;

/// The most parts that a client gets. Whoever asks for more gets the whole: each part costs a head.
const MOST: usize = 64;

/// What a client is to get.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    One(Range<u64>),
    Several(Vec<Range<u64>>),
    /// None of the ranges is there.
    Missing,
}

/// Reads a `range` header for something of `len` bytes. One that is not understood is no header.
/// So is one with ranges that have more bytes together than the whole, as in Go and nginx.
pub(super) fn parse(header: &str, len: u64) -> Part {
    let Some((unit, ranges)) = header.split_once('=') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let (mut parts, mut any) = (Vec::new(), false);
    for range in ranges.split(',').map(|range| range.trim_matches([' ', '\t'])) {
        // A list may have empty elements.
        if range.is_empty() {
            continue;
        }
        any = true;
        match parse_one(range, len) {
            None => return Part::Whole,
            Some(range) if range.is_empty() => {}
            Some(range) => parts.push(range),
        }
        if parts.len() > MOST {
            return Part::Whole;
        }
    }
    let total: u64 = parts.iter().map(|part| part.end - part.start).fold(0, u64::saturating_add);
    match parts.len() {
        // The end of nothing is nothing: that is there, but no `content-range` can say so.
        _ if !any || total > len || (len == 0 && has_suffix(ranges)) => Part::Whole,
        0 => Part::Missing,
        1 => Part::One(parts.remove(0)),
        _ => Part::Several(parts),
    }
}

/// Whether one of the ranges is the end of the whole, of more than 0 bytes.
fn has_suffix(ranges: &str) -> bool {
    let mut ends = ranges.split(',').filter_map(|range| range.trim().strip_prefix('-'));
    ends.any(|count| number(count).is_some_and(|count| count > 0))
}

/// Reads one range; `None` if it is not one. It is empty if nothing of it is there.
fn parse_one(range: &str, len: u64) -> Option<Range<u64>> {
    let (first, last) = range.split_once('-')?;
    if first.is_empty() {
        let count = number(last)?.min(len);
        return Some(len - count..len);
    }
    let first = number(first)?;
    let end = match last {
        "" => len,
        last => number(last).filter(|&last| first <= last)?.saturating_add(1).min(len),
    };
    Some(first.min(end)..end)
}

/// Reads a number. One that is too large is as good as the largest.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// The head of a part in a body of several.
pub(super) fn part_head(boundary: &str, kind: &str, part: &Range<u64>, len: u64) -> String {
    let range = content_range(part, len);
    format!("--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {range}\r\n\r\n")
}

/// The value of `content-range` for a part.
pub(super) fn content_range(part: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", part.start, part.end - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        use Part::{Missing, One, Several, Whole};
        for (header, part) in [
            ("bytes=0-0", One(0..1)),
            ("bytes=0-9", One(0..10)),
            ("bytes=0-", One(0..10)),
            ("bytes=3-5", One(3..6)),
            ("bytes=3-100", One(3..10)),
            ("bytes=9-", One(9..10)),
            ("bytes=-3", One(7..10)),
            ("bytes=-10", One(0..10)),
            ("bytes=-11", One(0..10)),
            ("Bytes = 3-5", One(3..6)),
            ("bytes=3-99999999999999999999999", One(3..10)),
            ("bytes=10-", Missing),
            ("bytes=10-11", Missing),
            ("bytes=-0", Missing),
            ("bytes=99999999999999999999999-", Missing),
            ("bytes=0-1,4-5", Several(vec![0..2, 4..6])),
            ("bytes= 0-1 ,, 4-5,", Several(vec![0..2, 4..6])),
            ("bytes=4-5,0-1,-1", Several(vec![4..6, 0..2, 9..10])),
            ("bytes=0-1,10-", One(0..2)),
            ("bytes=0-5,5-9", Whole),
            ("bytes=0-,0-,0-", Whole),
            ("bytes=", Whole),
            ("bytes=,", Whole),
            ("bytes", Whole),
            ("bytes=-", Whole),
            ("bytes=5-3", Whole),
            ("bytes=a-b", Whole),
            ("bytes=1-2,x", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1-2-3", Whole),
            ("lines=1-2", Whole),
        ] {
            assert_eq!(parse(header, 10), part, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Missing);
        assert_eq!(parse("bytes=-5", 0), Whole);
        let many: Vec<_> = (0..100).map(|i| format!("{i}-{i}")).collect();
        assert_eq!(parse(&format!("bytes={}", many.join(",")), 1000), Whole);
    }
}
