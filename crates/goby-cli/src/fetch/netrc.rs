//! A netrc file: names and passwords by host.
//!
//! It is a list of words: `machine HOST`, or `default`, and behind each of these `login NAME` and
//! `password WORD`. A word in quotes may have spaces in it. Source: curl's documentation of
//! `--netrc`.

use std::iter::Peekable;
use std::str::Chars;

use super::request::User;

/// The entries of a file.
#[derive(Debug, Default)]
pub(crate) struct Netrc {
    entries: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// `None` is every host.
    host: Option<String>,
    user: User,
}

impl Netrc {
    /// Reads the text of a file. Words that mean nothing here are skipped.
    pub(crate) fn parse(text: &str) -> Netrc {
        let mut netrc = Netrc::default();
        let mut rest = text.chars().peekable();
        while let Some(word) = next_word(&mut rest) {
            match &*word {
                "machine" => netrc.entries.push(Entry { host: next_word(&mut rest), ..Entry::default() }),
                "default" => netrc.entries.push(Entry::default()),
                "login" | "password" => {
                    let value = next_word(&mut rest).unwrap_or_default();
                    if let Some(entry) = netrc.entries.last_mut() {
                        let User { name, password } = &mut entry.user;
                        *(if word == "login" { name } else { password }) = value;
                    }
                }
                "account" => drop(next_word(&mut rest)),
                // A macro goes on to the next empty line.
                "macdef" => skip_macro(&mut rest),
                _ => {}
            }
        }
        netrc
    }

    /// Gives the name and password for a host: those of the first entry for it.
    pub(crate) fn of(&self, host: &str) -> Option<(&str, &str)> {
        let is_for = |entry: &&Entry| entry.host.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(host));
        self.entries.iter().find(is_for).map(|entry| (&*entry.user.name, &*entry.user.password))
    }
}

fn next_word(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if *rest.peek()? != '#' {
            break;
        }
        while rest.next_if(|&c| c != '\n').is_some() {}
    }
    let mut word = String::new();
    if rest.next_if_eq(&'"').is_none() {
        while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
            word.push(c);
        }
        return Some(word);
    }
    while let Some(c) = rest.next_if(|&c| c != '"') {
        word.push(match c {
            '\\' => match rest.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            },
            _ => c,
        });
    }
    rest.next();
    Some(word)
}

fn skip_macro(rest: &mut Peekable<Chars<'_>>) {
    let mut last = ' ';
    for c in rest {
        if c == '\n' && last == '\n' {
            return;
        }
        last = c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_for_a_host_counts() {
        let netrc = Netrc::parse(
            "# mine\nmachine a.example login me password secret\nmachine b.example\n\tlogin \"two words\"\n\t\
             password \"a \\\"quote\\\"\"\nmacdef init\ncd /\nmachine c.example login no\n\n\
             machine a.example login other password other\ndefault login anonymous password -",
        );
        assert_eq!(netrc.of("A.example"), Some(("me", "secret")));
        assert_eq!(netrc.of("b.example"), Some(("two words", "a \"quote\"")));
        assert_eq!(netrc.of("c.example"), Some(("anonymous", "-")));
    }

    #[test]
    fn a_host_without_an_entry_has_none() {
        assert_eq!(Netrc::parse("machine a.example login me").of("a.example"), Some(("me", "")));
        assert_eq!(Netrc::parse("machine a.example login me").of("b.example"), None);
        assert_eq!(Netrc::parse("login me password machine").of("machine"), None);
    }

    #[test]
    fn a_password_is_in_no_debug_output() {
        let netrc = Netrc::parse("machine a.example login me password secret");
        assert!(!format!("{netrc:?}").contains("secret"));
    }
}
