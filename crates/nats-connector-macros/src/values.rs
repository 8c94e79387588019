//! What options are given: literals, which are checked here, and other expressions, which the
//! compiler checks and the library when it starts.

use std::ops::RangeInclusive;
use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Expr, Lit, LitStr, Result};

use crate::options::{Given, Written};

/// The value of an option.
enum Value<'a> {
    Literal(&'a Lit),
    Expression(&'a Expr),
}

/// A text, known now or when it runs.
pub(crate) enum Text {
    Literal(LitStr),
    Expression(TokenStream),
}

impl Text {
    pub(crate) fn tokens(&self) -> TokenStream {
        match self {
            Text::Literal(text) => quote!(#text),
            Text::Expression(text) => text.clone(),
        }
    }

    pub(crate) fn known(&self) -> Option<String> {
        match self {
            Text::Literal(text) => Some(text.value()),
            Text::Expression(_) => None,
        }
    }

    pub(crate) fn span(&self) -> Span {
        match self {
            Text::Literal(text) => text.span(),
            Text::Expression(text) => text.span(),
        }
    }
}

impl Written {
    pub(crate) fn expected(&self, what: &str) -> Error {
        let problem = format!("`{}` expects {what}", self.name);
        match &self.given {
            Given::Value(value) => Error::new_spanned(value, problem),
            Given::Flag | Given::List(_) => Error::new(self.span, problem),
        }
    }

    fn value(&self, what: &str) -> Result<Value<'_>> {
        let Given::Value(value) = &self.given else { return Err(self.expected(what)) };
        let mut value = &**value;
        // What comes out of a macro by example is in a group of its own.
        while let Expr::Group(group) = value {
            value = &group.expr;
        }
        match value {
            Expr::Lit(literal) => Ok(Value::Literal(&literal.lit)),
            Expr::Unary(unary) if matches!(*unary.expr, Expr::Lit(_)) => Err(self.expected(what)),
            other => Ok(Value::Expression(other)),
        }
    }

    /// A text that `check` has nothing against.
    pub(crate) fn text(
        &self,
        what: &str,
        check: impl FnOnce(&str) -> std::result::Result<(), String>,
    ) -> Result<Text> {
        match self.value(what)? {
            Value::Literal(Lit::Str(text)) => {
                check(&text.value()).map_err(|problem| Error::new(text.span(), problem))?;
                Ok(Text::Literal(text.clone()))
            }
            Value::Literal(_) => Err(self.expected(what)),
            Value::Expression(text) => Ok(Text::Expression(quote!(#text))),
        }
    }

    /// A text that must be known now.
    pub(crate) fn literal(&self, what: &str) -> Result<LitStr> {
        match self.value(what)? {
            Value::Literal(Lit::Str(text)) => Ok(text.clone()),
            _ => Err(self.expected(what)),
        }
    }

    /// `name`, `name = true` or `name = false`.
    pub(crate) fn flag(&self) -> Result<bool> {
        if matches!(self.given, Given::Flag) {
            return Ok(true);
        }
        match self.value("`true` or `false`")? {
            Value::Literal(Lit::Bool(on)) => Ok(on.value),
            _ => Err(self.expected("`true` or `false`")),
        }
    }

    /// A length of time of at least `shortest`, or zero where that has a meaning.
    pub(crate) fn duration(&self, shortest: Duration) -> Result<TokenStream> {
        let mut what = "a duration, such as \"500ms\", \"5s\" or \"1h 30m\"".to_owned();
        if !shortest.is_zero() {
            what.push_str(&format!(", of at least {}", humantime::format_duration(shortest)));
        }
        match self.value(&what)? {
            Value::Literal(Lit::Str(text)) => {
                let known = match text.value().as_str() {
                    "0" => Some(Duration::ZERO),
                    other => humantime::parse_duration(other).ok(),
                };
                let fits = |time: &Duration| {
                    (time.is_zero() || *time >= shortest) && i64::try_from(time.as_nanos()).is_ok()
                };
                let time = known.filter(fits).ok_or_else(|| self.expected(&what))?;
                let (seconds, nanoseconds) = (time.as_secs(), time.subsec_nanos());
                Ok(quote!(::core::time::Duration::new(#seconds, #nanoseconds)))
            }
            Value::Literal(_) => Err(self.expected(&what)),
            Value::Expression(time) => Ok(quote!(#time)),
        }
    }

    /// A whole number.
    pub(crate) fn number(&self, range: RangeInclusive<u64>) -> Result<TokenStream> {
        let what = match (*range.start(), *range.end()) {
            (start, u64::MAX) => format!("a whole number of at least {start}"),
            (start, end) => format!("a whole number from {start} to {end}"),
        };
        match self.value(&what)? {
            Value::Literal(literal @ Lit::Int(number)) => {
                let known = number.base10_parse().is_ok_and(|it| range.contains(&it));
                if known { Ok(quote!(#literal)) } else { Err(self.expected(&what)) }
            }
            Value::Literal(_) => Err(self.expected(&what)),
            Value::Expression(number) => Ok(quote!(#number)),
        }
    }

    /// A number of bytes.
    pub(crate) fn size(&self) -> Result<TokenStream> {
        let what = "a number of bytes, such as 1048576 or \"64MiB\"";
        match self.value(what)? {
            Value::Literal(Lit::Str(text)) => {
                let bytes = bytes(&text.value()).ok_or_else(|| self.expected(what))?;
                let bytes = proc_macro2::Literal::u64_unsuffixed(bytes);
                Ok(quote_spanned!(text.span()=> #bytes))
            }
            Value::Literal(Lit::Int(number)) => {
                let known = number.base10_parse::<u64>().is_ok_and(|it| i64::try_from(it).is_ok());
                if known { Ok(quote!(#number)) } else { Err(self.expected(what)) }
            }
            Value::Literal(_) => Err(self.expected(what)),
            Value::Expression(bytes) => Ok(quote!(#bytes)),
        }
    }

    /// One of some words, each with what it stands for.
    pub(crate) fn choice(&self, words: &[(&str, TokenStream)]) -> Result<TokenStream> {
        let names: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let what = names.join(" or ");
        match self.value(&what)? {
            Value::Literal(Lit::Str(text)) => {
                let given = text.value();
                let word = words.iter().find(|(word, _)| *word == given);
                word.map(|(_, tokens)| tokens.clone()).ok_or_else(|| self.expected(&what))
            }
            Value::Literal(_) => Err(self.expected(&what)),
            Value::Expression(value) => Ok(quote!(#value)),
        }
    }
}

/// As in settings: bytes, or a number with a binary unit.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    i64::try_from(bytes).is_ok().then_some(bytes)
}

/// The name of a service, a method or a bucket.
pub(crate) fn name(text: &str) -> std::result::Result<(), String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !text.is_empty() && text.bytes().all(legal) {
        return Ok(());
    }
    Err(format!("\"{text}\" cannot be a name here: expected letters, digits, `_` and `-`"))
}

/// Tokens of a subject, joined by dots.
pub(crate) fn subject(text: &str) -> std::result::Result<(), String> {
    let legal = |token: &str| {
        !token.is_empty()
            && !token.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c))
    };
    if text.split('.').all(legal) {
        return Ok(());
    }
    Err(format!(
        "\"{text}\" cannot be part of a subject: expected words joined by single dots, without \
         spaces, `*` and `>`"
    ))
}

/// A semantic version.
pub(crate) fn version(text: &str) -> std::result::Result<(), String> {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<_> = core.split('.').collect();
    let number = |it: &&str| {
        !it.is_empty()
            && it.bytes().all(|b| b.is_ascii_digit())
            && (it.len() == 1 || !it.starts_with('0'))
    };
    let rest = &text[core.len()..];
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
    if numbers.len() == 3 && numbers.iter().all(number) && rest.bytes().all(legal) {
        return Ok(());
    }
    Err(format!("\"{text}\" is no semantic version: expected one as \"1.4.0\" or \"2.0.0-rc.1\""))
}
