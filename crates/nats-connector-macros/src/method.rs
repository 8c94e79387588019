//! A method of the trait, as it is written.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, FnArg, GenericArgument, Ident, Lit, PathArguments, Result, ReturnType,
    Signature, TraitItemFn, Type, parse_quote,
};

use crate::options::{Given, Options, Problems, Written};
use crate::store::{self, Kind, Store};
use crate::values::{Text, name, subject};

const KNOWN: [&str; 11] = [
    "name",
    "timeout",
    "codec",
    "metadata",
    "concurrency",
    "waiting",
    "window",
    "queue",
    "kv",
    "objects",
    "skip",
];
/// The most calls of an endpoint that can run, and that can wait.
const MAX_CONCURRENCY: u64 = 65_536;
const MAX_WAITING: u64 = 1_000_000;
/// The most items that a stream can be ahead of its reader.
const MAX_WINDOW: u64 = 65_536;

/// How many messages go each way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Unary,
    ServerStream,
    ClientStream,
    Bidi,
}

/// Who shares the calls of a service.
pub(crate) enum Queue {
    Group(Text),
    Off,
}

/// What a handler is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    /// Nothing: the message is `()`.
    None,
    Message,
    /// With headers and deadline.
    Request,
}

pub(crate) struct Method {
    pub(crate) ident: Ident,
    attributes: Vec<Attribute>,
    pub(crate) cfg: Vec<Attribute>,
    pub(crate) shape: Shape,
    pub(crate) argument: Argument,
    pub(crate) request: Type,
    pub(crate) response: Type,
    pub(crate) name: Text,
    pub(crate) codec: Option<TokenStream>,
    pub(crate) timeout: Option<TokenStream>,
    pub(crate) concurrency: Option<TokenStream>,
    pub(crate) waiting: Option<TokenStream>,
    pub(crate) window: Option<TokenStream>,
    pub(crate) queue: Option<Queue>,
    pub(crate) metadata: Vec<(String, TokenStream)>,
    pub(crate) stores: Vec<Store>,
}

impl Method {
    /// Reads a method and takes its `#[rpc(..)]` away; none where it is no endpoint.
    pub(crate) fn parse(
        item: &mut TraitItemFn,
        crate_: &TokenStream,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut options = options(&mut item.attrs, problems);
        if options.read("skip", problems, Written::flag) == Some(true) {
            for option in options.into_iter() {
                problems.at(option.span, "a skipped method has no other options");
            }
            return None;
        }
        let ident = item.sig.ident.clone();
        let types = problems.keep(types(item));
        let name = options
            .read("name", problems, |it| it.text("the name of an endpoint", name))
            .unwrap_or_else(|| {
                Text::Literal(syn::LitStr::new(&ident.unraw().to_string(), ident.span()))
            });
        let codec = options.read("codec", problems, |it| codec(it, crate_));
        let timeout = options.read("timeout", problems, |it| it.duration(Duration::ZERO));
        let concurrency = options.read("concurrency", problems, concurrency);
        let waiting = options.read("waiting", problems, waiting);
        let queue = options.read("queue", problems, queue);
        let metadata = metadata(&mut options, problems);
        let streams = types.as_ref().is_some_and(|it| it.shape != Shape::Unary);
        let window = options.take("window").and_then(|option| {
            if !streams && types.is_some() {
                let problem = "`window` is of streams; this method has none";
                problems.at(option.span, problem);
            }
            problems.keep(option.number(1..=MAX_WINDOW))
        });
        let mut stores = Vec::new();
        for (kind, word) in [(Kind::Kv, "kv"), (Kind::Objects, "objects")] {
            match options.take(word) {
                Some(option) if streams => problems.add(store::refuse(&option)),
                Some(option) => stores.extend(Store::parse(kind, &option, crate_, problems)),
                None => {}
            }
        }
        let Types { shape, argument, request, response } = types?;
        let of = |names: &[&str]| {
            let kept = |it: &&Attribute| names.iter().any(|name| it.path().is_ident(name));
            item.attrs.iter().filter(kept).cloned().collect()
        };
        Some(Method {
            ident,
            attributes: of(&["doc", "cfg", "deprecated"]),
            cfg: of(&["cfg"]),
            shape,
            argument,
            request,
            response,
            name,
            codec,
            timeout,
            concurrency,
            waiting,
            window,
            queue,
            metadata,
            stores,
        })
    }

    /// The name that those of its stores are made of.
    pub(crate) fn base(&self) -> String {
        self.ident.unraw().to_string()
    }

    /// What goes to everything that is made of the method: its documentation above all.
    pub(crate) fn attributes(&self) -> TokenStream {
        let attributes = &self.attributes;
        if attributes.iter().any(|it| it.path().is_ident("doc")) {
            return quote!(#(#attributes)*);
        }
        let doc = format!("The method `{}`.", self.base());
        quote!(#[doc = #doc] #(#attributes)*)
    }

    /// What clients reach the stores by: one of each kind.
    pub(crate) fn handles(&self) -> Vec<(&Self, Kind, Ident)> {
        let base = self.base();
        let named = self.stores.iter().map(|store| {
            let name = match store.kind {
                Kind::Kv => format!("kv_{base}"),
                Kind::Objects => format!("objects_{base}"),
            };
            (self, store.kind, Ident::new(&name, self.ident.span()))
        });
        named.collect()
    }

    /// What makes the key of a stored response.
    pub(crate) fn key_name(&self) -> Ident {
        Ident::new(&format!("{}_key", self.base()), self.ident.span())
    }
}

/// Takes the `#[rpc(..)]` attributes away.
fn options(attributes: &mut Vec<Attribute>, problems: &mut Problems) -> Options {
    let mut tokens = TokenStream::new();
    attributes.retain(|attribute| {
        if !attribute.path().is_ident("rpc") {
            return true;
        }
        match &attribute.meta {
            syn::Meta::Path(_) => {}
            syn::Meta::List(list) => {
                let list = &list.tokens;
                if !tokens.is_empty() {
                    tokens.extend(quote!(,));
                }
                tokens.extend(quote!(#list));
            }
            syn::Meta::NameValue(it) => {
                problems.at(
                    it.span(),
                    "expected options in parentheses, as `#[rpc(timeout = \"5s\")]`",
                );
            }
        }
        false
    });
    Options::parse("`#[rpc(..)]`", &KNOWN, tokens, problems)
}

/// `codec = "json"`, `"message_pack"`, or an expression.
pub(crate) fn codec(option: &Written, crate_: &TokenStream) -> Result<TokenStream> {
    let words =
        [("json", quote!(#crate_::rpc::Json)), ("message_pack", quote!(#crate_::rpc::MessagePack))];
    option.choice(&words).map_err(|error| {
        Error::new(error.span(), format!("{error}, or a codec of your own, as `codec = my::Codec`"))
    })
}

/// `metadata(name = "value", "another-name" = "value")`.
pub(crate) fn metadata(
    options: &mut Options,
    problems: &mut Problems,
) -> Vec<(String, TokenStream)> {
    let Some(option) = options.take("metadata") else { return Vec::new() };
    let Given::List(list) = option.given else {
        problems.add(option.expected("a list, as `metadata(team = \"billing\")`"));
        return Vec::new();
    };
    let entries = Options::any(list, problems);
    let texts = entries.into_iter().filter_map(|entry| {
        let text = problems.keep(entry.text("a text", |_| Ok(())))?;
        Some((entry.name, text.tokens()))
    });
    texts.collect()
}

/// How many calls of an endpoint run at once.
pub(crate) fn concurrency(option: &Written) -> Result<TokenStream> {
    option.number(1..=MAX_CONCURRENCY)
}

/// How many calls of an endpoint may wait.
pub(crate) fn waiting(option: &Written) -> Result<TokenStream> {
    option.number(0..=MAX_WAITING)
}

/// `queue = "workers"`, or `queue = false`.
pub(crate) fn queue(option: &Written) -> Result<Queue> {
    let what =
        "the name of a queue group, or `false` for none: then every instance gets every call";
    if let Given::Value(value) = &option.given
        && let Expr::Lit(literal) = &**value
        && let Lit::Bool(on) = &literal.lit
    {
        return if on.value { Err(option.expected(what)) } else { Ok(Queue::Off) };
    }
    Ok(Queue::Group(option.text(what, subject)?))
}

struct Types {
    shape: Shape,
    argument: Argument,
    request: Type,
    response: Type,
}

/// What a method takes and gives, told by the shape of its types.
fn types(item: &TraitItemFn) -> Result<Types> {
    let signature = &item.sig;
    let error = |at: &dyn ToTokens, problem: &str| Err(Error::new_spanned(at, problem));
    if signature.asyncness.is_none() {
        let problem = "a method of a service is an `async fn`; one that is no endpoint is marked \
                       `#[rpc(skip)]`";
        return error(&signature.fn_token, problem);
    }
    if !signature.generics.params.is_empty() {
        let problem = "a method of a service has no generic parameters: what goes over the wire \
                       has one type";
        return error(&signature.generics.params, problem);
    }
    if let Some(token) = &signature.unsafety {
        return error(token, "a method of a service cannot be `unsafe`");
    }
    if let Some(token) = &signature.abi {
        return error(token, "a method of a service cannot be `extern`");
    }
    let mut inputs = signature.inputs.iter();
    let by_reference = |it: &syn::Receiver| {
        it.reference.is_some() && it.mutability.is_none() && it.colon_token.is_none()
    };
    match inputs.next() {
        Some(FnArg::Receiver(receiver)) if by_reference(receiver) => {}
        Some(first) => {
            let problem = "a method of a service takes `&self` first: several calls run at once";
            return error(first, problem);
        }
        None => {
            let problem = "a method of a service takes `&self` first: several calls run at once";
            return error(&signature.ident, problem);
        }
    }
    let mut arguments = Vec::new();
    for input in inputs {
        let FnArg::Typed(input) = input else { continue };
        match plain(&input.ty) {
            Type::Reference(_) => {
                let problem = "a message is taken by value: it belongs to the handler";
                return error(&input.ty, problem);
            }
            Type::ImplTrait(_) => {
                let problem = "expected a type of its own: what goes over the wire has one type";
                return error(&input.ty, problem);
            }
            ty => arguments.push(ty),
        }
    }
    let (sender, arguments) = match arguments.as_slice() {
        [rest @ .., last] if inner(last, "Sender").is_some() => (inner(last, "Sender"), rest),
        all => (None, all),
    };
    let (argument, message) = match arguments {
        [] => (Argument::None, None),
        [message] => match inner(message, "Request") {
            Some(message) => (Argument::Request, Some(message)),
            None => (Argument::Message, Some(*message)),
        },
        [_, more, ..] => {
            let problem = "expected one request, and after it a `Sender<..>` where the method \
                           sends a stream; several values go into one struct";
            return error(more, problem);
        }
    };
    let receiver = message.and_then(|message| inner(message, "Receiver"));
    let output = output(signature)?;
    let request = receiver.or(message).cloned().unwrap_or_else(|| parse_quote!(()));
    if let Some(item) = sender {
        if !matches!(output, Type::Tuple(it) if it.elems.is_empty()) {
            let problem = "a method with a `Sender<..>` gives `Result<()>`: what it has to say it \
                           sends";
            return error(output, problem);
        }
        let shape = if receiver.is_some() { Shape::Bidi } else { Shape::ServerStream };
        return Ok(Types { shape, argument, request, response: item.clone() });
    }
    let shape = if receiver.is_some() { Shape::ClientStream } else { Shape::Unary };
    let response = inner(output, "Response").unwrap_or(output).clone();
    Ok(Types { shape, argument, request, response })
}

/// The first type of a `Result<..>`.
fn output(signature: &Signature) -> Result<&Type> {
    let problem = "a method of a service gives a `Result<..>`, as `rpc::Result<Order>`";
    let ReturnType::Type(_, ty) = &signature.output else {
        return Err(Error::new(signature.ident.span(), problem));
    };
    let ok = arguments(ty, "Result").and_then(|types| match types.as_slice() {
        [ok] | [ok, _] => Some(plain(ok)),
        _ => None,
    });
    ok.ok_or_else(|| Error::new_spanned(ty, problem))
}

/// `T` of `Name<T>`, whatever path leads to it.
fn inner<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    match arguments(ty, name)?.as_slice() {
        [one] => Some(plain(one)),
        _ => None,
    }
}

fn arguments<'a>(ty: &'a Type, name: &str) -> Option<Vec<&'a Type>> {
    let Type::Path(path) = plain(ty) else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(list) = &last.arguments else { return None };
    let types = list.args.iter().map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

/// Without the groups that macros by example leave, and without parentheses.
fn plain(mut ty: &Type) -> &Type {
    loop {
        match ty {
            Type::Group(group) => ty = &group.elem,
            Type::Paren(paren) => ty = &paren.elem,
            other => return other,
        }
    }
}
