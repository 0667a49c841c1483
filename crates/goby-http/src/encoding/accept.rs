//! Which coding a client wants: the header `accept-encoding` (RFC 9110, section 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use super::Coding;

/// Chooses the coding of a response; `None` for none.
///
/// It is the one of the largest weight, by [`Coding::ALL`] among equals. A client that likes the
/// plain body more gets that. So does one that sends no such header: it may know no coding.
pub(super) fn choose(headers: &HeaderMap) -> Option<Coding> {
    let mut weights = [None; Coding::ALL.len()];
    let (mut plain, mut others) = (None, None);
    for value in headers.get_all(ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let Some(weight) = thousandths(weight) else { continue };
            match name.trim() {
                "*" => others = Some(weight),
                name if name.eq_ignore_ascii_case("identity") => plain = Some(weight),
                name => {
                    let coding = Coding::by_name(name);
                    if let Some(at) = Coding::ALL.iter().position(|&known| Some(known) == coding) {
                        weights[at] = Some(weight);
                    }
                }
            }
        }
    }
    let weight = |at: usize| weights[at].or(others).unwrap_or(0);
    // `max_by_key` takes the last of equals.
    let best = (0..weights.len()).rev().max_by_key(|&at| weight(at))?;
    let at_least = plain.unwrap_or(0).max(1);
    (weight(best) >= at_least).then_some(Coding::ALL[best])
}

/// Reads a weight, `q=0.75`, as thousandths; `None` if it is not one.
fn thousandths(weight: &str) -> Option<u32> {
    let (name, value) = weight.trim().split_once('=')?;
    let value = value.trim();
    let plain = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value: f64 = value.parse().ok().filter(|_| plain && name.trim().eq_ignore_ascii_case("q"))?;
    (value <= 1.0).then_some((value * 1000.0).round() as u32)
}

#[cfg(all(test, feature = "gzip", feature = "brotli", feature = "zstd"))]
mod tests {
    use http::header::{ACCEPT_ENCODING, HeaderMap};

    use super::choose;

    #[test]
    fn the_client_chooses() {
        for (accepted, chosen) in [
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("GZIP", "gzip"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, deflate, br", "br"),
            ("gzip;q=1.0, br;q=0.5", "gzip"),
            ("br;q=0.5, gzip ; q=0.8", "gzip"),
            ("*", "zstd"),
            ("*;q=0.5, gzip", "gzip"),
            ("zstd;q=0, *", "br"),
            ("gzip;q=0", ""),
            ("gzip;q=0.000", ""),
            ("gzip;q=0.001", "gzip"),
            ("identity", ""),
            ("identity, gzip;q=0.5", ""),
            ("identity;q=0.5, gzip;q=0.5", "gzip"),
            ("identity;q=0, gzip;q=0.1", "gzip"),
            ("compress, deflate", ""),
            ("", ""),
            ("gzip;q=2", ""),
            ("gzip;q=-1", ""),
            ("gzip;q=1e0", ""),
            ("gzip;level=9", ""),
            ("gzip;q=", ""),
            (",,gzip,", "gzip"),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, accepted.parse().unwrap())]);
            assert_eq!(choose(&headers).map_or("", |coding| coding.name()), chosen, "{accepted:?}");
        }
        assert_eq!(choose(&HeaderMap::new()), None);
        let two = [(ACCEPT_ENCODING, "gzip".parse().unwrap()), (ACCEPT_ENCODING, "br".parse().unwrap())];
        assert_eq!(choose(&HeaderMap::from_iter(two)).unwrap().name(), "br");
    }
}
