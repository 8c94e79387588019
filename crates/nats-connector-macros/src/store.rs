//! Where the responses of a method are kept: `kv(..)` and `objects(..)`.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Result};

use crate::options::{Given, Options, Problems, Written};
use crate::template::Template;
use crate::values::{Text, name};

/// Both kinds of stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kv,
    Objects,
}

const KV: [&str; 15] = [
    "bucket",
    "key",
    "escape",
    "policy",
    "receipt",
    "client_only",
    "timeout",
    "ttl",
    "history",
    "replicas",
    "storage",
    "max_value_size",
    "max_bytes",
    "compression",
    "description",
];
const OBJECTS: [&str; 14] = [
    "bucket",
    "key",
    "escape",
    "policy",
    "receipt",
    "client_only",
    "timeout",
    "ttl",
    "replicas",
    "storage",
    "max_chunk_size",
    "max_bytes",
    "compression",
    "description",
];

/// The shortest lifetime that a server accepts for what a stream holds.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest description that a server accepts, in bytes.
const DESCRIPTION: usize = 4096;
/// The longest name of a stream is 255 bytes; `KV_` or `OBJ_` is in front of a bucket's.
const NAME: usize = 251;

pub(crate) struct Store {
    pub(crate) kind: Kind,
    bucket: Text,
    key: Template,
    escape: bool,
    client_only: bool,
    policy: Option<TokenStream>,
    receipt: bool,
    timeout: Option<TokenStream>,
    /// Calls on the bucket's configuration.
    config: Vec<TokenStream>,
}

impl Store {
    /// A place as it is written, or none and what is wrong with it.
    pub(crate) fn parse(
        kind: Kind,
        option: &Written,
        crate_: &TokenStream,
        problems: &mut Problems,
    ) -> Option<Self> {
        let (word, known): (_, &[&str]) = match kind {
            Kind::Kv => ("kv", &KV),
            Kind::Objects => ("objects", &OBJECTS),
        };
        let Given::List(list) = &option.given else {
            let example =
                format!("a list, as `{word}(bucket = \"orders\", key = \"order.{{id}}\")`");
            problems.add(option.expected(&example));
            return None;
        };
        let mut given = Options::parse(&format!("`{word}(..)`"), known, list.clone(), problems);

        let mut needed = |name: &str, example: &str| {
            let option_ = given.take(name);
            if option_.is_none() {
                let problem = format!("`{word}(..)` needs `{name} = {example}`");
                problems.at(option.span, problem);
            }
            option_
        };
        let (bucket, key) = (needed("bucket", "\"orders\""), needed("key", "\"order.{id}\""));
        let bucket =
            bucket.and_then(|it| problems.keep(it.text("the name of a bucket", bucket_name)));
        let key = key.and_then(|it| problems.keep(template(&it)));
        let escape = given.read("escape", problems, Written::flag);
        let client_only = given.read("client_only", problems, Written::flag);
        let policy = given.read("policy", problems, |it| {
            it.choice(&[
                ("after_reply", quote!(#crate_::rpc::Policy::AfterReply)),
                ("before_reply", quote!(#crate_::rpc::Policy::BeforeReply)),
                ("required", quote!(#crate_::rpc::Policy::Required)),
            ])
        });
        let receipt = given.read("receipt", problems, Written::flag);
        let timeout = given.read("timeout", problems, |it| it.duration(Duration::ZERO));
        Some(Store {
            kind,
            receipt: receipt.unwrap_or_default(),
            timeout,
            config: config(&mut given, crate_, problems),
            bucket: bucket?,
            key: key?,
            escape: escape.unwrap_or_default(),
            client_only: client_only.unwrap_or_default(),
            policy,
        })
    }

    /// The `Persist` of requests of this type.
    pub(crate) fn persist(&self, crate_: &TokenStream, request: &syn::Type) -> TokenStream {
        let (new, module) = match self.kind {
            Kind::Kv => (quote!(kv), quote!(kv)),
            Kind::Objects => (quote!(objects), quote!(objects)),
        };
        let (bucket, config) = (self.bucket.tokens(), &self.config);
        let key = self.key.function(crate_, request, self.escape);
        let policy = self.policy.as_ref().map(|policy| quote!(.policy(#policy)));
        let receipt = self.receipt.then(|| quote!(.receipt()));
        let client_only = self.client_only.then(|| quote!(.client_only()));
        let timeout = self.timeout.as_ref().map(|timeout| quote!(.timeout(#timeout)));
        quote! {
            #crate_::rpc::Persist::#new(
                #crate_::#module::BucketConfig::new(#bucket) #(#config)*,
                #key,
            ) #policy #receipt #client_only #timeout
        }
    }
}

/// The calls that make a bucket's configuration of what is given.
fn config(given: &mut Options, crate_: &TokenStream, problems: &mut Problems) -> Vec<TokenStream> {
    let mut calls = Vec::new();
    let mut call = |name: &str, read: &dyn Fn(&Written) -> Result<TokenStream>| {
        if let Some(value) = given.read(name, problems, read) {
            let method = quote::format_ident!("{name}");
            calls.push(quote!(.#method(#value)));
        }
    };
    call("ttl", &|it| it.duration(SHORTEST));
    call("history", &|it| it.number(1..=64));
    call("replicas", &|it| it.number(1..=5));
    call("storage", &|it| {
        let file = quote!(#crate_::kv::Storage::File);
        it.choice(&[("file", file), ("memory", quote!(#crate_::kv::Storage::Memory))])
    });
    call("max_value_size", &Written::size);
    call("max_chunk_size", &Written::size);
    call("max_bytes", &Written::size);
    call("compression", &|it| it.flag().map(|on| quote!(#on)));
    call("description", &|it| Ok(it.text("a text", description)?.tokens()));
    calls
}

fn template(option: &Written) -> Result<Template> {
    let what = "the template of a key in quotes, as \"order.{customer.id}.{id}\"";
    Template::parse(option.literal(what)?)
}

fn bucket_name(text: &str) -> std::result::Result<(), String> {
    if text.len() > NAME {
        return Err(format!("a bucket's name has at most {NAME} bytes, not {}", text.len()));
    }
    name(text).map_err(|problem| format!("a bucket's name: {problem}"))
}

fn description(text: &str) -> std::result::Result<(), String> {
    if text.len() > DESCRIPTION {
        return Err(format!("a description has at most {DESCRIPTION} bytes, not {}", text.len()));
    }
    Ok(())
}

/// For methods whose responses cannot be kept.
pub(crate) fn refuse(option: &Written) -> Error {
    let problem = format!(
        "`{}` keeps the response of a call that has one request and one response; this method \
         streams",
        option.name
    );
    Error::new(option.span, problem)
}
