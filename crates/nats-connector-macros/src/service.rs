//! The trait of a service, as it is written.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Error, Expr, ItemTrait, TraitItem, parse_quote};

use crate::method::{self, Method, Queue};
use crate::options::{Given, Options, Problems, Written};
use crate::values::{Text, name, subject, version};

const KNOWN: [&str; 11] = [
    "name",
    "prefix",
    "version",
    "description",
    "timeout",
    "codec",
    "queue",
    "concurrency",
    "waiting",
    "metadata",
    "crate",
];

/// The names that a client has of its own.
const OF_CLIENTS: [&str; 4] = ["new", "from_client", "client", "methods"];

pub(crate) struct Service {
    pub(crate) crate_: TokenStream,
    pub(crate) name: Text,
    pub(crate) prefix: Option<Text>,
    pub(crate) version: Option<Text>,
    pub(crate) description: Option<Text>,
    pub(crate) timeout: Option<TokenStream>,
    pub(crate) queue: Option<Queue>,
    pub(crate) concurrency: Option<TokenStream>,
    pub(crate) waiting: Option<TokenStream>,
    pub(crate) metadata: Vec<(String, TokenStream)>,
    pub(crate) codec: TokenStream,
    pub(crate) methods: Vec<Method>,
}

impl Service {
    /// Reads the trait and takes the attributes of its methods away.
    pub(crate) fn parse(
        options: TokenStream,
        item: &mut ItemTrait,
        problems: &mut Problems,
    ) -> Self {
        let mut options = Options::parse("`#[service(..)]`", &KNOWN, options, problems);
        let crate_ =
            options.read("crate", problems, path).unwrap_or_else(|| quote!(::nats_connector));
        let word = |what: &'static str| move |it: &Written| it.text(what, |_| Ok(()));
        let name = options
            .read("name", problems, |it| it.text("the name of the service", name))
            .unwrap_or_else(|| {
                let ident = &item.ident;
                let name = snake_case(&ident.unraw().to_string());
                Text::Literal(syn::LitStr::new(&name, ident.span()))
            });
        let prefix = options.read("prefix", problems, |it| {
            let check = |text: &str| if text.is_empty() { Ok(()) } else { subject(text) };
            it.text("what goes before the names of methods, as \"api.v1\"", check)
        });
        let version =
            options.read("version", problems, |it| it.text("a version, as \"1.4.0\"", version));
        let description = options.read("description", problems, word("a text"));
        let timeout = options.read("timeout", problems, |it| it.duration(Duration::ZERO));
        let codec = options
            .read("codec", problems, |it| method::codec(it, &crate_))
            .unwrap_or_else(|| quote!(#crate_::rpc::Json));
        let queue = options.read("queue", problems, method::queue);
        let concurrency = options.read("concurrency", problems, method::concurrency);
        let waiting = options.read("waiting", problems, method::waiting);
        let metadata = method::metadata(&mut options, problems);

        refuse_generics(item, problems);
        let mut methods = Vec::new();
        for item in &mut item.items {
            match item {
                TraitItem::Fn(item) => methods.extend(Method::parse(item, &crate_, problems)),
                TraitItem::Macro(item) => {
                    let problem = "a service's trait has its methods written out";
                    problems.add(Error::new_spanned(item, problem));
                }
                other => {
                    let problem = "a service's trait has methods only";
                    problems.add(Error::new_spanned(other, problem));
                }
            }
        }
        refuse_same_names(&methods, problems);
        Service {
            crate_,
            name,
            prefix,
            version,
            description,
            timeout,
            queue,
            concurrency,
            waiting,
            metadata,
            codec,
            methods,
        }
    }
}

/// What the trait becomes: its futures are `Send`, and so are those who implement it.
pub(crate) fn rewrite(item: &mut ItemTrait) {
    item.supertraits.extend::<[syn::TypeParamBound; 3]>([
        parse_quote!(::core::marker::Send),
        parse_quote!(::core::marker::Sync),
        parse_quote!('static),
    ]);
    item.colon_token.get_or_insert_default();
    for item in &mut item.items {
        let TraitItem::Fn(method) = item else { continue };
        if method.sig.asyncness.take().is_none() {
            continue;
        }
        let output = match &method.sig.output {
            syn::ReturnType::Default => parse_quote!(()),
            syn::ReturnType::Type(_, ty) => (**ty).clone(),
        };
        method.sig.output = parse_quote! {
            -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
        };
        if let Some(body) = &mut method.default {
            let statements = std::mem::take(&mut body.stmts);
            body.stmts = parse_quote!(async move { #(#statements)* });
        }
    }
}

fn refuse_generics(item: &ItemTrait, problems: &mut Problems) {
    if !item.generics.params.is_empty() {
        let problem = "the trait of a service has no generic parameters: what goes over the wire \
                       has one type";
        problems.add(Error::new_spanned(&item.generics.params, problem));
    }
    if let Some(token) = &item.unsafety {
        problems.at(token.span, "the trait of a service cannot be `unsafe`");
    }
    if let Some(token) = &item.auto_token {
        problems.at(token.span, "the trait of a service cannot be an `auto trait`");
    }
}

/// Names that two things would have.
fn refuse_same_names(methods: &[Method], problems: &mut Problems) {
    for (place, method) in methods.iter().enumerate() {
        // Of methods that are there in turns, as features say, only one may be there.
        let others =
            || methods[..place].iter().filter(|it| it.cfg.is_empty() && method.cfg.is_empty());
        let endpoint = method.name.known();
        if others().any(|it| endpoint.is_some() && it.name.known() == endpoint) {
            let name = endpoint.unwrap_or_default();
            problems.at(method.name.span(), format!("another method has the name \"{name}\" too"));
        }
        let base = method.base();
        if OF_CLIENTS.contains(&base.as_str()) {
            let problem = format!(
                "clients have a `{base}` of their own; give the method another name and its \
                 endpoint this one, by `#[rpc(name = \"{base}\")]`"
            );
            problems.at(method.ident.span(), problem);
        }
    }
    for method in methods {
        let handles = method.handles();
        let key = (!handles.is_empty()).then(|| method.key_name());
        for made in handles.into_iter().map(|(_, _, name)| name).chain(key) {
            if let Some(other) = methods.iter().find(|it| made == it.base()) {
                let problem = format!(
                    "clients get a `{made}` for the stored responses of `{}`; give this method \
                     another name and its endpoint this one, by `#[rpc(name = \"{made}\")]`",
                    method.base()
                );
                problems.at(other.ident.span(), problem);
            }
        }
    }
}

fn path(option: &Written) -> syn::Result<TokenStream> {
    match &option.given {
        Given::Value(value) if matches!(**value, Expr::Path(_)) => Ok(quote!(#value)),
        _ => Err(option.expected("the path of nats_connector, as `::my_framework::nats`")),
    }
}

/// `OrderService` as `order_service`, `HTTPApi` as `http_api`.
fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (i, letter) in letters.iter().enumerate() {
        let before = i.checked_sub(1).map(|it| letters[it]);
        let starts_word = letter.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_ascii_digit()
                    || before.is_uppercase()
                        && letters.get(i + 1).is_some_and(|it| it.is_lowercase())
            });
        if starts_word {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
