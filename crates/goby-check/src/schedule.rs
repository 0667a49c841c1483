//! A schedule as data and as text: what was chosen wherever there was a choice, and the seed of the
//! program's random numbers.

use std::fmt;
use std::str::FromStr;

/// The text of a schedule begins with this, and with the number of its format.
const HEAD: &str = "g1-";
/// Digits of a choice: the choices from here on take several.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijkmnpqrstuvwx";
/// Choices that one digit holds.
const SMALL: u32 = 24;

/// Which goroutine went on, at each point of an execution where several could, and what the random
/// numbers of the program were.
///
/// Its text is what a failure prints, and what [`replay`](crate::replay) takes.
///
/// ```
/// use goby_check::{Config, Schedule, replay};
///
/// // Two goroutines take two locks in opposite orders.
/// fn program() {
///     use goby::{go, sync::Mutex};
///     use std::sync::Arc;
///     let locks = Arc::new((Mutex::new(()), Mutex::new(())));
///     let theirs = locks.clone();
///     let other = go(move || {
///         let _second = theirs.1.lock();
///         let _first = theirs.0.lock();
///     });
///     {
///         let _first = locks.0.lock();
///         let _second = locks.1.lock();
///     }
///     other.join().unwrap();
/// }
///
/// let failure = Config::random(1000).run(program).unwrap_err();
/// let text = failure.schedule().to_string();
/// let schedule: Schedule = text.parse().unwrap();
/// assert_eq!(schedule, *failure.schedule());
/// assert!(std::panic::catch_unwind(|| replay(&text, program)).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub(crate) seed: u64,
    pub(crate) choices: Vec<u32>,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEAD}{:x}-", self.seed)?;
        let mut rest = &self.choices[..];
        while let [first, ..] = rest {
            let n = rest.iter().take_while(|choice| *choice == first).count();
            rest = &rest[n..];
            let digit = Digits(*first);
            // A run of equal choices: the choice, and how many more.
            if n > 3 {
                write!(f, "{digit}z{}", Digits(u32::try_from(n - 1).unwrap_or(u32::MAX)))?;
            } else {
                (0..n).try_for_each(|_| write!(f, "{digit}"))?;
            }
        }
        Ok(())
    }
}

/// A number: one digit below [`SMALL`], otherwise `y`, how many digits, and these.
struct Digits(u32);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let digit = |value: u32| char::from(DIGITS[value as usize]);
        if self.0 < SMALL {
            return f.write_char(digit(self.0));
        }
        let n = (32 - self.0.leading_zeros()).div_ceil(4);
        write!(f, "y{n}")?;
        (0..n).rev().try_for_each(|i| f.write_char(digit(self.0 >> (4 * i) & 15)))
    }
}

/// The text is no schedule of this version of goby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseScheduleError {
    what: &'static str,
}

impl fmt::Display for ParseScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no schedule of a check: {}", self.what)
    }
}

impl std::error::Error for ParseScheduleError {}

fn wrong(what: &'static str) -> ParseScheduleError {
    ParseScheduleError { what }
}

impl FromStr for Schedule {
    type Err = ParseScheduleError;

    /// Reads what [`Display`](fmt::Display) has written.
    fn from_str(text: &str) -> Result<Schedule, ParseScheduleError> {
        let rest = text.trim().strip_prefix(HEAD).ok_or(wrong("it does not begin with \"g1-\""))?;
        let (seed, choices) = rest.split_once('-').ok_or(wrong("it has no second \"-\""))?;
        let seed = u64::from_str_radix(seed, 16).map_err(|_| wrong("the seed is no hexadecimal number"))?;
        let mut bytes = choices.bytes().peekable();
        let mut choices: Vec<u32> = Vec::new();
        while let Some(byte) = bytes.next() {
            if byte == b'z' {
                let n = number(None, &mut bytes)?;
                let last = *choices.last().ok_or(wrong("it begins with a repetition"))?;
                choices.extend((0..n).map(|_| last));
            } else {
                choices.push(number(Some(byte), &mut bytes)?);
            }
        }
        Ok(Schedule { seed, choices })
    }
}

/// Reads one number, whose first byte may have been read.
fn number(first: Option<u8>, bytes: &mut impl Iterator<Item = u8>) -> Result<u32, ParseScheduleError> {
    let mut digit = |byte: Option<u8>| {
        let byte = byte.or_else(|| bytes.next()).ok_or(wrong("it ends amid a number"))?;
        if byte == b'y' {
            return Ok(u32::MAX);
        }
        let value = DIGITS.iter().position(|&digit| digit == byte);
        value.and_then(|value| u32::try_from(value).ok()).ok_or(wrong("a character is none of a schedule's"))
    };
    let value = digit(first)?;
    if value != u32::MAX {
        return if value < SMALL { Ok(value) } else { Err(wrong("a digit is too large")) };
    }
    let n = digit(None)?;
    if n > 8 {
        return Err(wrong("a number is too long"));
    }
    (0..n).try_fold(0, |sum: u32, _| Ok(sum << 4 | digit(None)? & 15))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn text_and_back() {
        let mut random = Random::new(1);
        for len in 0..200 {
            let limit = [1, 2, 30, u64::from(u32::MAX)][len % 4];
            let choices = (0..len).map(|_| random.below(limit) as u32).collect();
            let schedule = Schedule { seed: random.next(), choices };
            assert_eq!(schedule.to_string().parse(), Ok(schedule));
        }
    }

    #[test]
    fn what_is_none() {
        for text in ["", "g1-", "g1-x-", "g2-1-0", "g1-1-!", "g1-1-z1", "g1-1-0z", "g1-1-y", "g1-1-y91", "g1-1-x"] {
            assert!(text.parse::<Schedule>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn runs_are_short() {
        let schedule = Schedule { seed: 1, choices: vec![1; 1000] };
        assert_eq!(schedule.to_string(), "g1-1-1zy33e7");
    }
}
