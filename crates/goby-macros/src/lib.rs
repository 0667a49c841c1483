//! The attributes of the `goby` crate: `#[goby::main]` and `#[goby::test]`. Their pages are in that
//! crate.
//!
//! Both turn `fn name() -> R { body }` into a function that returns an `ExitCode`. The function as
//! it was written is inside it:
//!
//! ```text
//! #[test]
//! fn name() -> ExitCode {
//!     fn name() -> R { body }
//!     goby::__macros::test(name, TestOptions { … })
//! }
//! ```
//!
//! Nothing of the body is parsed, so no parser for Rust is needed: `item` splits the function's
//! tokens at its name, its parameters and its body, and `options` reads the tokens in the
//! attribute's parentheses.

mod item;
mod options;

use proc_macro::{Span, TokenStream};

use item::Function;
use options::Options;

/// What is wrong, and where.
struct Fault {
    at: Span,
    message: String,
}

impl Fault {
    fn new(at: Span, message: impl Into<String>) -> Fault {
        Fault { at, message: message.into() }
    }

    /// Returns the tokens that make the compiler report it.
    fn into_tokens(self) -> TokenStream {
        let error: TokenStream =
            format!("::core::compile_error!({:?});", self.message).parse().expect("it is a macro call");
        error
            .into_iter()
            .map(|mut token| {
                token.set_span(self.at);
                token
            })
            .collect()
    }
}

#[doc(hidden)]
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    if let Err(fault) = options::none(options) {
        // The function stays: a missing function would be a second error.
        return fault.into_tokens().into_iter().chain(item).collect();
    }
    let made = Function::parse(item, "#[goby::main]").map(|function| {
        let call = format!("::goby::__macros::main({})", function.name);
        function.replaced("", &call)
    });
    made.unwrap_or_else(Fault::into_tokens)
}

#[doc(hidden)]
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    let made = Options::parse(options).and_then(|options| {
        let function = Function::parse(item, "#[goby::test]")?;
        let call = format!("::goby::__macros::test({}, {})", function.name, options.as_expression());
        Ok(function.replaced("#[::core::prelude::v1::test]", &call))
    });
    made.unwrap_or_else(Fault::into_tokens)
}
