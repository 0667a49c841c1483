//! Profiles in the format of pprof (`profile.proto`), and as much of protocol buffers as it takes:
//! numbers, texts and messages, each behind its field's number.
//!
//! Written by hand: the messages have a handful of fields that never change, and a crate for
//! protocol buffers would come with generated code.

use std::collections::HashMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use goby_runtime::{Frame, Names};

use super::{Profile, ProfileSample, Spot};

/// Bytes of a message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Writes a number, which is left out if it is zero: that is what a field without a value is.
    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// Writes a list of numbers, one after the other.
    fn numbers(&mut self, field: u64, values: impl IntoIterator<Item = u64>) {
        self.message(field, |list| values.into_iter().for_each(|value| list.varint(value)));
    }
}

/// What samples refer to by number.
#[derive(Default)]
struct Tables {
    strings: HashMap<String, u64>,
    /// By name and file.
    functions: HashMap<(u64, u64), u64>,
    locations: HashMap<Place, u64>,
    /// Their messages, as fields of the profile.
    written: Message,
}

/// What a location stands for.
#[derive(PartialEq, Eq, Hash)]
enum Place {
    Address(usize),
    /// A name and a file with a line: of something that has no address.
    Spot(String, String, u64),
}

impl Tables {
    fn string(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        // 0 is the empty one.
        let next = self.strings.len() as u64 + 1;
        *self.strings.entry(text.to_owned()).or_insert(next)
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (self.string(name), self.string(file));
        let next = self.functions.len() as u64 + 1;
        if let Some(&known) = self.functions.get(&key) {
            return known;
        }
        self.functions.insert(key, next);
        self.written.message(5, |function| {
            function.number(1, next);
            function.number(2, key.0);
            function.number(3, key.0);
            function.number(4, key.1);
        });
        next
    }

    /// Enters a location whose lines are these, the innermost first: function and line.
    fn location(&mut self, place: Place, address: usize, lines: &[(u64, u64)]) -> u64 {
        let next = self.locations.len() as u64 + 1;
        self.locations.insert(place, next);
        self.written.message(4, |location| {
            location.number(1, next);
            location.number(2, 1);
            location.number(3, address as u64);
            for &(function, line) in lines {
                location.message(4, |message| {
                    message.number(1, function);
                    message.number(2, line);
                });
            }
        });
        next
    }

    fn at_address(&mut self, address: usize, frames: &[Frame]) -> u64 {
        if let Some(&known) = self.locations.get(&Place::Address(address)) {
            return known;
        }
        let line = |frame: &Frame| {
            let (file, line) = frame.place.as_ref().map_or((Path::new(""), 0), |(file, line)| (&**file, *line));
            (self.function(&frame.function, &file.to_string_lossy()), line.into())
        };
        let lines: Vec<(u64, u64)> = frames.iter().map(line).collect();
        self.location(Place::Address(address), address, &lines)
    }

    /// Writes a sample to the profile's message.
    fn sample(&mut self, sample: &ProfileSample, names: &mut Names, message: &mut Message) {
        let mut locations: Vec<u64> = match &sample.stack {
            None => Vec::new(),
            Some(stack) => {
                let calls = names.calls(stack).into_iter().filter(|(_, frames)| !frames.is_empty());
                calls.map(|(address, frames)| self.at_address(address, frames)).collect()
            }
        };
        if locations.is_empty() {
            locations.push(self.at_spot(&sample.spot()));
        }
        let labels = [
            (self.string("state"), self.string(sample.status.as_str())),
            (self.string("started"), self.string(&sample.started_at.to_string())),
        ];
        message.message(2, |out| {
            out.numbers(1, locations);
            out.numbers(2, sample.values.iter().copied());
            for (key, text) in labels {
                out.message(3, |label| {
                    label.number(1, key);
                    label.number(2, text);
                });
            }
        });
    }

    fn at_spot(&mut self, spot: &Spot<'_>) -> u64 {
        let place = Place::Spot(spot.name.to_owned(), spot.file.to_owned(), spot.line.into());
        if let Some(&known) = self.locations.get(&place) {
            return known;
        }
        let function = self.function(spot.name, spot.file);
        self.location(place, 0, &[(function, spot.line.into())])
    }
}

/// Writes a profile. Looks names up.
pub(super) fn encode(profile: &Profile) -> Vec<u8> {
    let (mut tables, mut names, mut message) = (Tables::default(), Names::default(), Message::default());
    for &(kind, unit) in profile.kind.values() {
        let (kind, unit) = (tables.string(kind), tables.string(unit));
        message.message(1, |value_type| {
            value_type.number(1, kind);
            value_type.number(2, unit);
        });
    }
    for sample in profile.samples() {
        tables.sample(sample, &mut names, &mut message);
    }
    let program = std::env::current_exe().ok().map(|path| path.to_string_lossy().into_owned());
    let program = tables.string(&program.unwrap_or_default());
    message.message(3, |mapping| {
        mapping.number(1, 1);
        mapping.number(5, program);
        // Functions, files, lines and inlined calls are all here: nothing is left to look up.
        (7..=10).for_each(|field| mapping.number(field, 1));
    });
    let taken = profile.taken_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    message.number(9, u64::try_from(taken.as_nanos()).unwrap_or(0));
    message.number(10, u64::try_from(profile.lasted.as_nanos()).unwrap_or(0));
    let &(kind, unit) = profile.kind.values().last().expect("a profile has values");
    let (kind, unit) = (tables.string(kind), tables.string(unit));
    message.message(11, |period_type| {
        period_type.number(1, kind);
        period_type.number(2, unit);
    });
    message.number(12, 1);
    message.number(14, kind);
    message.0.extend_from_slice(&tables.written.0);
    let mut strings: Vec<(String, u64)> = tables.strings.into_iter().collect();
    strings.sort_unstable_by_key(|(_, number)| *number);
    message.bytes(6, b"");
    strings.iter().for_each(|(text, _)| message.bytes(6, text.as_bytes()));
    Names::forget_symbols();
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_groups_of_seven_bits() {
        let mut message = Message::default();
        message.number(1, 300);
        message.number(2, 0);
        message.bytes(3, b"ab");
        message.numbers(4, [1, 128]);
        assert_eq!(message.0, [0x08, 0xac, 0x02, 0x1a, 2, b'a', b'b', 0x22, 3, 1, 0x80, 1]);
    }
}
