//! The options in an attribute's parentheses.

use proc_macro::{Span, TokenStream, TokenTree};

use crate::Fault;

const KNOWN: &str = "known are `timeout = \"10s\"` and `workers = 2`";

/// The options of a test.
#[derive(Default)]
pub(crate) struct Options {
    timeout_millis: Option<u64>,
    workers: Option<usize>,
}

impl Options {
    /// Reads `name = literal`, separated by commas.
    pub(crate) fn parse(tokens: TokenStream) -> Result<Options, Fault> {
        let mut options = Options::default();
        let mut tokens = tokens.into_iter();
        while let Some(token) = tokens.next() {
            let at = token.span();
            match (token.to_string().as_str(), value(&mut tokens, at)?) {
                ("timeout", text) if options.timeout_millis.is_none() => {
                    options.timeout_millis = Some(millis(&text).ok_or_else(|| {
                        Fault::new(at, format!("timeout = {text}: write a time, as \"500ms\", \"10s\" or \"2m\""))
                    })?);
                }
                ("workers", text) if options.workers.is_none() => {
                    let n = text.parse().ok().filter(|n| (1..=1024).contains(n));
                    options.workers = Some(n.ok_or_else(|| {
                        Fault::new(at, format!("workers = {text}: write a number between 1 and 1024"))
                    })?);
                }
                ("timeout" | "workers", _) => return Err(Fault::new(at, format!("`{token}` stands there twice"))),
                _ => return Err(Fault::new(at, format!("no such option: `{token}`; {KNOWN}"))),
            }
        }
        Ok(options)
    }

    /// Returns the expression that makes the same value in the user's program.
    pub(crate) fn as_expression(&self) -> String {
        format!(
            "::goby::__macros::TestOptions {{ timeout: {}, workers: {} }}",
            match self.timeout_millis {
                Some(n) => format!("::core::option::Option::Some(::core::time::Duration::from_millis({n}))"),
                None => "::core::option::Option::None".into(),
            },
            match self.workers {
                Some(n) => format!("::core::option::Option::Some({n})"),
                None => "::core::option::Option::None".into(),
            }
        )
    }
}

/// Reads `= literal` and the comma behind it, if there is one.
fn value(tokens: &mut impl Iterator<Item = TokenTree>, at: Span) -> Result<String, Fault> {
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Punct(equals)), Some(TokenTree::Literal(value))) if equals.as_char() == '=' => {
            match tokens.next() {
                None => Ok(value.to_string()),
                Some(TokenTree::Punct(comma)) if comma.as_char() == ',' => Ok(value.to_string()),
                Some(token) => Err(Fault::new(token.span(), "a comma is missing before this")),
            }
        }
        _ => Err(Fault::new(at, format!("options are `name = value`; {KNOWN}"))),
    }
}

/// Reads a string literal that is a time.
fn millis(literal: &str) -> Option<u64> {
    let text = literal.strip_prefix('"')?.strip_suffix('"')?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let n: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        _ => return None,
    };
    n.checked_mul(unit).filter(|&millis| millis > 0)
}

/// Refuses every option.
pub(crate) fn none(tokens: TokenStream) -> Result<(), Fault> {
    match tokens.into_iter().next() {
        None => Ok(()),
        Some(token) => Err(Fault::new(
            token.span(),
            "#[goby::main] takes no options: GOBY_MAXPROCS in the environment sets the number of workers",
        )),
    }
}
