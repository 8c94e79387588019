//! Attributes that make services of traits, for nats-connector.
//!
//! They are documented where they are used from: `nats_connector::service` and
//! `nats_connector::rpc::key`, with the feature `macros`. What they make names `::nats_connector`, so
//! this crate is of no use without it.

mod expand;
mod method;
mod options;
mod service;
mod store;
mod template;
#[cfg(test)]
mod tests;
mod values;

use options::Problems;
use proc_macro::TokenStream;
use quote::ToTokens;
use service::Service;

/// Makes a service of a trait.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut item = match syn::parse::<syn::ItemTrait>(item.clone()) {
        Ok(item) => item,
        Err(error) => {
            let help =
                syn::Error::new(error.span(), format!("`#[service]` stands on a trait: {error}"));
            let mut tokens = TokenStream::from(help.into_compile_error());
            tokens.extend(item);
            return tokens;
        }
    };
    let mut problems = Problems::default();
    let service = Service::parse(options.into(), &mut item, &mut problems);
    // The trait stays also when something is wrong, so that what uses it is not wrong as well.
    service::rewrite(&mut item);
    let mut tokens = item.to_token_stream();
    tokens.extend(match problems.finish() {
        Err(error) => error.into_compile_error(),
        Ok(()) => expand::expand(&service, &item),
    });
    tokens.into()
}

/// Makes a function that gives the key of a request.
#[proc_macro]
pub fn key(input: TokenStream) -> TokenStream {
    match syn::parse::<template::KeyMacro>(input) {
        Ok(key) => key.expand().into(),
        Err(error) => error.into_compile_error().into(),
    }
}
