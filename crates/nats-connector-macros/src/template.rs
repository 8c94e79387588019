//! Templates of keys: `order.{customer.id}.{id}`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::{Error, Index, LitStr, Result, Token};

/// A template whose fields are those of a request.
pub(crate) struct Template {
    text: LitStr,
    parts: Vec<Part>,
}

enum Part {
    Text(String),
    /// The name as it is written, and how it is reached.
    Field(String, Vec<TokenStream>),
}

impl Template {
    pub(crate) fn parse(text: LitStr) -> Result<Self> {
        let parts = parts(&text.value(), text.span()).map_err(|problem| {
            Error::new(text.span(), format!("the template of a key {problem}"))
        })?;
        Ok(Template { text, parts })
    }

    /// A function that makes the key of a `request`.
    pub(crate) fn function(
        &self,
        crate_: &TokenStream,
        request: &impl ToTokens,
        escape: bool,
    ) -> TokenStream {
        let span = self.text.span();
        // A field that does not exist, or cannot stand in a key, is an error at the template.
        let argument = Ident::new("request", span);
        let escaping = escape.then(|| quote_spanned!(span=> .escaping()));
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => quote_spanned!(span=> .text(#text)),
            Part::Field(name, path) => {
                quote_spanned!(span=> .field(#name, &#argument.#(#path).*)?)
            }
        });
        quote_spanned! {span=>
            |#argument: &#request| -> #crate_::Result<::std::string::String> {
                #crate_::rpc::KeyText::new() #escaping #(#parts)* .finish()
            }
        }
    }
}

fn parts(template: &str, span: Span) -> std::result::Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(brace) = rest.find(['{', '}']) {
        let (text, from) = rest.split_at(brace);
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        let Some(inner) = from.strip_prefix('{') else {
            return Err("has a `}` without a `{`; braces cannot stand in a key".to_owned());
        };
        let Some((name, after)) = inner.split_once('}') else {
            return Err("has a `{` without a `}`".to_owned());
        };
        let path = name.split('.').map(|step| access(step, span)).collect::<Option<_>>();
        let path = path.ok_or_else(|| {
            format!(
                "has the field {{{name}}}; expected names of fields, as {{id}} or {{customer.id}}"
            )
        })?;
        parts.push(Part::Field(name.to_owned(), path));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    check(&parts)?;
    Ok(parts)
}

/// The step from a value to its field: a name, or a number in a tuple.
fn access(name: &str, span: Span) -> Option<TokenStream> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Index { index: name.parse().ok()?, span }.into_token_stream());
    }
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    // A keyword, as `type`, names a field as `r#type` does.
    let mut ident = syn::parse_str::<Ident>(name)
        .or_else(|_| syn::parse_str::<Ident>(&format!("r#{name}")))
        .ok()?;
    ident.set_span(span);
    Some(ident.into_token_stream())
}

/// A value is never empty and has no dots of its own, so what is wrong with a key is seen in its
/// text.
fn check(parts: &[Part]) -> std::result::Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_/=.".contains(c);
    let mut shape = String::new();
    for part in parts {
        match part {
            Part::Text(text) => {
                if let Some(wrong) = text.chars().find(|c| !legal(*c)) {
                    return Err(format!(
                        "has {wrong:?}; only letters, digits, `-`, `_`, `/`, `=` and `.` can stand \
                         there beside {{fields}}"
                    ));
                }
                shape.push_str(text);
            }
            Part::Field(..) => shape.push('x'),
        }
    }
    if shape.is_empty() {
        return Err("is empty; name a field of the request, as \"order.{id}\"".to_owned());
    }
    if shape.split('.').any(str::is_empty) {
        return Err("has a dot at an end, or two in a row".to_owned());
    }
    Ok(())
}

/// What `key!` is given: a type, a template, and perhaps `escape`.
pub(crate) struct KeyMacro {
    request: syn::Type,
    template: Template,
    escape: bool,
}

impl syn::parse::Parse for KeyMacro {
    fn parse(input: syn::parse::ParseStream<'_>) -> Result<Self> {
        let help = "expected the type of the request and a template, as \
                    `key!(GetOrder, \"order.{id}\")`";
        let request = input.parse().map_err(|error| Error::new(error.span(), help))?;
        input.parse::<Token![,]>().map_err(|error| Error::new(error.span(), help))?;
        let text = input.parse::<LitStr>().map_err(|error| Error::new(error.span(), help))?;
        let mut escape = false;
        if input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            let word: Ident = input.parse()?;
            if word != "escape" {
                return Err(Error::new(word.span(), "expected `escape`, or nothing more"));
            }
            escape = true;
            input.parse::<Option<Token![,]>>()?;
        }
        if !input.is_empty() {
            return Err(input.error("expected nothing more"));
        }
        Ok(KeyMacro { request, template: Template::parse(text)?, escape })
    }
}

impl KeyMacro {
    pub(crate) fn expand(&self) -> TokenStream {
        let crate_ = quote::quote!(::nats_connector);
        self.template.function(&crate_, &self.request, self.escape)
    }
}
