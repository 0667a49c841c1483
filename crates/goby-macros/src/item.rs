//! A function's tokens, split where the attributes need it.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

use crate::Fault;

/// A function without parameters: everything but its name stays as it was written.
pub(crate) struct Function {
    /// Attributes and visibility.
    front: TokenStream,
    /// From `fn` to the body.
    whole: TokenStream,
    /// Whether it has a return type.
    has_result: bool,
    pub(crate) name: Ident,
}

impl Function {
    /// Splits an item. The message about an item that does not fit names `attribute`.
    pub(crate) fn parse(item: TokenStream, attribute: &str) -> Result<Function, Fault> {
        let mut front = Vec::new();
        let mut rest = item.into_iter();
        let keyword = loop {
            match rest.next() {
                Some(TokenTree::Ident(word)) => match word.to_string().as_str() {
                    "fn" => break word,
                    "async" => {
                        let message = format!(
                            "{attribute} runs its function as a goroutine, which may block: leave out `async`, and \
                             await futures with `goby::block_on`"
                        );
                        return Err(Fault::new(word.span(), message));
                    }
                    "pub" => front.push(TokenTree::Ident(word)),
                    _ => return Err(Fault::new(word.span(), format!("{attribute} is for plain functions"))),
                },
                Some(token) => front.push(token),
                None => return Err(Fault::new(Span::call_site(), format!("{attribute} is for functions"))),
            }
        };
        let mut whole = vec![TokenTree::Ident(keyword.clone())];
        let Some(TokenTree::Ident(name)) = rest.next() else {
            return Err(Fault::new(keyword.span(), "a function has a name"));
        };
        whole.push(TokenTree::Ident(name.clone()));
        match rest.next() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
                if !group.stream().is_empty() {
                    return Err(Fault::new(group.span(), format!("a function with {attribute} takes no parameters")));
                }
                whole.push(TokenTree::Group(group));
            }
            _ => return Err(Fault::new(name.span(), format!("a function with {attribute} is not generic"))),
        }
        let rest: Vec<TokenTree> = rest.collect();
        let has_result = matches!(rest.first(), Some(TokenTree::Punct(minus)) if minus.as_char() == '-');
        whole.extend(rest);
        Ok(Function { front: front.into_iter().collect(), whole: whole.into_iter().collect(), has_result, name })
    }

    /// Returns a function of the same name, with this one inside it, that returns the value of
    /// `call`, an `ExitCode`. A function without a result stays without one: `#[should_panic]` asks
    /// for that.
    pub(crate) fn replaced(self, attribute: &str, call: &str) -> TokenStream {
        let parse = |text: &str| text.parse::<TokenStream>().expect("it is Rust");
        let mut body = self.whole;
        body.extend(parse(call));
        let mut out = parse(attribute);
        out.extend(self.front);
        out.extend(parse("fn"));
        out.extend([TokenTree::Ident(self.name)]);
        if self.has_result {
            out.extend(parse("() -> ::std::process::ExitCode"));
        } else {
            body.extend(parse(";"));
            out.extend(parse("()"));
        }
        out.extend([TokenTree::Group(Group::new(Delimiter::Brace, body))]);
        out
    }
}
