//! The options of an attribute: `flag`, `name = value`, `name(..)`.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Ident, LitStr, Result, Token};

/// What is wrong, all of it, so that one build tells everything.
#[derive(Default)]
pub(crate) struct Problems(Option<Error>);

impl Problems {
    pub(crate) fn add(&mut self, error: Error) {
        match &mut self.0 {
            None => self.0 = Some(error),
            Some(all) => all.combine(error),
        }
    }

    pub(crate) fn at(&mut self, span: Span, problem: impl Display) {
        self.add(Error::new(span, problem));
    }

    /// The value, or none and a problem more.
    pub(crate) fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// An option as it is written.
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) span: Span,
    pub(crate) given: Given,
}

/// What is given for an option.
pub(crate) enum Given {
    Flag,
    Value(Box<Expr>),
    List(TokenStream),
}

impl Parse for Written {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (name, span) = if input.peek(LitStr) {
            let name: LitStr = input.parse()?;
            (name.value(), name.span())
        } else if input.peek(Ident::peek_any) {
            let name = Ident::parse_any(input)?;
            (name.unraw().to_string(), name.span())
        } else {
            return Err(input.error("expected the name of an option"));
        };
        let given = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Given::Value(input.parse()?)
        } else if input.peek(syn::token::Paren) {
            let list;
            syn::parenthesized!(list in input);
            Given::List(list.parse()?)
        } else {
            Given::Flag
        };
        Ok(Written { name, span, given })
    }
}

/// The options of one attribute, or of one list in it, of which each is taken once.
pub(crate) struct Options(Vec<Written>);

impl Options {
    /// The options of `owner`, which knows these names.
    pub(crate) fn parse(
        owner: &str,
        known: &[&str],
        tokens: TokenStream,
        problems: &mut Problems,
    ) -> Self {
        let mut options = Options::any(tokens, problems);
        options.0.retain(|option| {
            let is_known = known.contains(&option.name.as_str());
            if !is_known {
                problems.at(option.span, unknown(owner, &option.name, known));
            }
            is_known
        });
        options
    }

    /// The same of whatever names, each given once.
    pub(crate) fn any(tokens: TokenStream, problems: &mut Problems) -> Self {
        let parser = Punctuated::<Written, Token![,]>::parse_terminated;
        let mut options: Vec<Written> = Vec::new();
        for option in problems.keep(parser.parse2(tokens)).into_iter().flatten() {
            if options.iter().any(|it| it.name == option.name) {
                problems.at(option.span, format!("`{}` is given twice", option.name));
            } else {
                options.push(option);
            }
        }
        Options(options)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Written> {
        let place = self.0.iter().position(|option| option.name == name)?;
        Some(self.0.swap_remove(place))
    }

    /// Takes an option and reads its value.
    pub(crate) fn read<T>(
        &mut self,
        name: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Written) -> Result<T>,
    ) -> Option<T> {
        let option = self.take(name)?;
        problems.keep(read(&option))
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = Written> {
        self.0.into_iter()
    }
}

fn unknown(owner: &str, name: &str, known: &[&str]) -> String {
    let mut near: Vec<_> = known
        .iter()
        .map(|it| (strsim::jaro_winkler(name, it), *it))
        .filter(|(likeness, _)| *likeness > 0.7)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let quoted = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>()
    };
    let all = quoted(&mut known.iter().copied()).join(", ");
    match quoted(&mut near.iter().take(2).map(|(_, name)| *name)).join(" or ") {
        near if near.is_empty() => format!("{owner} has no option `{name}`; it knows {all}"),
        near => format!("{owner} has no option `{name}`; did you mean {near}? It knows {all}"),
    }
}
