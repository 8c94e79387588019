//! What is made of a trait: the description that both sides share, the server and the client.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, ItemTrait, Visibility};

use crate::method::{Argument, Method, Queue, Shape};
use crate::service::Service;
use crate::store::Kind;

pub(crate) fn expand(service: &Service, item: &ItemTrait) -> TokenStream {
    let names = Names {
        item: &item.ident,
        visibility: &item.vis,
        methods: format_ident!("{}Methods", item.ident),
        server: format_ident!("{}Server", item.ident),
        client: format_ident!("{}Client", item.ident),
    };
    let parts = [methods(service, &names), server(service, &names), client(service, &names)];
    parts.into_iter().collect()
}

struct Names<'a> {
    item: &'a Ident,
    visibility: &'a Visibility,
    methods: Ident,
    server: Ident,
    client: Ident,
}

/// The description of the service and its methods.
fn methods(service: &Service, names: &Names<'_>) -> TokenStream {
    let Names { item, visibility: vis, methods: ident, .. } = names;
    let crate_ = &service.crate_;
    let fields = service.methods.iter().map(|method| {
        let Method { ident, request, response, .. } = method;
        let attributes = method.attributes();
        quote!(#attributes #vis #ident: #crate_::rpc::Method<#request, #response>,)
    });
    let values = service.methods.iter().map(|method| {
        let (cfg, ident) = (&method.cfg, &method.ident);
        let value = description(service, method);
        quote!(#(#cfg)* #ident: #value,)
    });
    let config = config(service);
    let doc = format!("The methods of [`{item}`], as both sides of a call know them.");
    quote! {
        #[doc = #doc]
        #[allow(dead_code, deprecated)]
        #[derive(::core::fmt::Debug, ::core::clone::Clone)]
        #vis struct #ident { #(#fields)* }

        #[allow(dead_code, deprecated)]
        impl #ident {
            /// What the service is called, where it is reached, and what it says of itself.
            #vis fn config() -> #crate_::rpc::ServiceConfig { #config }

            /// The methods.
            #[must_use]
            #vis fn new() -> Self { Self { #(#values)* } }
        }

        impl ::core::default::Default for #ident {
            fn default() -> Self { Self::new() }
        }
    }
}

fn config(service: &Service) -> TokenStream {
    let crate_ = &service.crate_;
    let name = service.name.tokens();
    let texts = [
        ("prefix", &service.prefix),
        ("version", &service.version),
        ("description", &service.description),
    ];
    let texts = texts.into_iter().filter_map(|(call, text)| {
        let (call, text) = (format_ident!("{call}"), text.as_ref()?.tokens());
        Some(quote!(.#call(#text)))
    });
    let timeout = service.timeout.as_ref().map(|timeout| quote!(.timeout(#timeout)));
    let metadata = metadata(&service.metadata);
    quote!(#crate_::rpc::ServiceConfig::new(#name) #(#texts)* #timeout #metadata)
}

fn description(service: &Service, method: &Method) -> TokenStream {
    let crate_ = &service.crate_;
    let name = method.name.tokens();
    // A type that has no such codec is an error at the method.
    let span = method.ident.span();
    let codec = method.codec.as_ref().unwrap_or(&service.codec).clone();
    let codec: TokenStream = codec
        .into_iter()
        .map(|mut token| {
            token.set_span(token.span().located_at(span));
            token
        })
        .collect();
    let timeout = method.timeout.as_ref().map(|timeout| quote!(.timeout(#timeout)));
    let metadata = metadata(&method.metadata);
    let stores = method.stores.iter().map(|store| {
        let persist = store.persist(crate_, &method.request);
        quote!(.persist(#persist))
    });
    let window = method.window.as_ref().map(|messages| quote!(.window(#messages)));
    quote!(#crate_::rpc::Method::with_codec(#name, #codec) #timeout #window #metadata #(#stores)*)
}

fn metadata(entries: &[(String, TokenStream)]) -> TokenStream {
    entries.iter().map(|(name, value)| quote!(.metadata(#name, #value))).collect()
}

/// The endpoints, on what implements the trait.
fn server(service: &Service, names: &Names<'_>) -> TokenStream {
    let Names { item, visibility: vis, methods, server: ident, .. } = names;
    let crate_ = &service.crate_;
    let endpoints = service.methods.iter().map(|method| {
        let cfg = &method.cfg;
        let endpoint = endpoint(service, method, item);
        quote!(#(#cfg)* #endpoint,)
    });
    let concurrency = service.concurrency.as_ref().map(|calls| quote!(.concurrency(#calls)));
    let waiting = service.waiting.as_ref().map(|calls| quote!(.waiting(#calls)));
    let queue = queue(service.queue.as_ref());
    let doc = format!("The service that an [`{item}`] answers the calls of. Cheap to clone.");
    quote! {
        #[doc = #doc]
        #[allow(dead_code)]
        #vis struct #ident<T>(::std::sync::Arc<T>);

        #[allow(dead_code, deprecated)]
        impl<T: #item> #ident<T> {
            /// The service of `implementation`.
            #[must_use]
            #vis fn new(implementation: T) -> Self {
                Self(::std::sync::Arc::new(implementation))
            }

            /// The service of an implementation that others hold too.
            #[must_use]
            #vis fn from_arc(implementation: ::std::sync::Arc<T>) -> Self { Self(implementation) }

            /// The service, to set more of, and to start by `.serve().await`.
            #vis fn service(&self, rpc: &#crate_::rpc::Rpc) -> #crate_::rpc::ServiceBuilder {
                rpc.service(#methods::config()) #concurrency #waiting #queue
                    .endpoints(self.endpoints())
            }

            /// The endpoints alone, for a service that is called or reached otherwise, or has others
            /// beside them.
            #[must_use]
            #vis fn endpoints(&self) -> ::std::vec::Vec<#crate_::rpc::Endpoint> {
                let methods = #methods::new();
                ::std::vec::Vec::from([#(#endpoints)*])
            }
        }

        impl<T> ::core::clone::Clone for #ident<T> {
            fn clone(&self) -> Self { Self(::std::sync::Arc::clone(&self.0)) }
        }

        impl<T> ::core::fmt::Debug for #ident<T> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(::core::stringify!(#ident)).finish_non_exhaustive()
            }
        }
    }
}

fn endpoint(service: &Service, method: &Method, item: &Ident) -> TokenStream {
    let crate_ = &service.crate_;
    let Method { ident, request, response, .. } = method;
    let (new, sends) = match method.shape {
        Shape::Unary => (quote!(unary), false),
        Shape::ServerStream => (quote!(server_stream), true),
        Shape::ClientStream => (quote!(client_stream), false),
        Shape::Bidi => (quote!(bidi), true),
    };
    let receives = matches!(method.shape, Shape::ClientStream | Shape::Bidi);
    let taken = if receives { quote!(#crate_::rpc::Receiver<#request>) } else { quote!(#request) };
    let (sender, its_type) = match sends {
        true => (Some(quote!(sender)), Some(quote!(, sender: #crate_::rpc::Sender<#response>))),
        false => (None, None),
    };
    let (request_name, argument) = match method.argument {
        Argument::None => (quote!(_), None),
        Argument::Message => (quote!(request), Some(quote!(request.into_inner(),))),
        Argument::Request => (quote!(request), Some(quote!(request,))),
    };
    // A shape is told by the names of types; where they mean others, it is an error at the method.
    let span = Span::call_site().located_at(ident.span());
    let call = quote_spanned! {span=> <T as #item>::#ident(&implementation, #argument #sender) };
    let concurrency = method.concurrency.as_ref().map(|calls| quote!(.concurrency(#calls)));
    let waiting = method.waiting.as_ref().map(|calls| quote!(.waiting(#calls)));
    let queue = queue(method.queue.as_ref());
    quote! {{
        let implementation = ::std::sync::Arc::clone(&self.0);
        #crate_::rpc::Endpoint::#new(
            &methods.#ident,
            move |#request_name: #crate_::rpc::Request<#taken> #its_type| {
                let implementation = ::std::sync::Arc::clone(&implementation);
                async move { #call.await }
            },
        ) #concurrency #waiting #queue
    }}
}

fn queue(queue: Option<&Queue>) -> Option<TokenStream> {
    Some(match queue? {
        Queue::Off => quote!(.no_queue()),
        Queue::Group(group) => {
            let group = group.tokens();
            quote!(.queue(#group))
        }
    })
}

/// The calls.
fn client(service: &Service, names: &Names<'_>) -> TokenStream {
    let Names { item, visibility: vis, methods, client: ident, .. } = names;
    let crate_ = &service.crate_;
    let calls = service.methods.iter().map(|method| call(crate_, method, vis));
    let stores = || service.methods.iter().flat_map(|method| method.handles());
    let fields = stores().map(|(method, _, name)| {
        let Method { cfg, request, response, .. } = method;
        quote!(#(#cfg)* #name: #crate_::rpc::Stored<#request, #response>,)
    });
    let values = stores().map(|(method, kind, name)| {
        let (cfg, ident) = (&method.cfg, &method.ident);
        let handle = match kind {
            Kind::Kv => quote!(kv),
            Kind::Objects => quote!(objects),
        };
        quote!(#(#cfg)* #name: client.#handle(&methods.#ident),)
    });
    let stored = service.methods.iter().map(|method| stored(crate_, method, vis));
    let doc = format!("Calls the methods of an [`{item}`], wherever it is served. Cheap to clone.");
    quote! {
        #[doc = #doc]
        #[allow(dead_code)]
        #[derive(::core::fmt::Debug, ::core::clone::Clone)]
        #vis struct #ident {
            client: #crate_::rpc::Client,
            methods: ::std::sync::Arc<#methods>,
            #(#fields)*
        }

        #[allow(dead_code, deprecated)]
        impl #ident {
            /// Calls the service where its trait says that it is reached.
            #[must_use]
            #vis fn new(rpc: &#crate_::rpc::Rpc) -> Self {
                Self::from_client(rpc.client(#methods::config()))
            }

            /// Calls through `client`, which may have interceptors and a prefix of its own.
            #[must_use]
            #vis fn from_client(client: #crate_::rpc::Client) -> Self {
                let methods = ::std::sync::Arc::new(#methods::new());
                Self { #(#values)* client, methods }
            }

            /// What its calls are made with.
            #[must_use]
            #vis fn client(&self) -> &#crate_::rpc::Client { &self.client }

            /// The methods, for calls on [`client`](Self::client).
            #[must_use]
            #vis fn methods(&self) -> &#methods { &self.methods }

            #(#calls)*
            #(#stored)*
        }
    }
}

fn call(crate_: &TokenStream, method: &Method, vis: &Visibility) -> TokenStream {
    let Method { ident, request, response, .. } = method;
    let attributes = method.attributes();
    let rpc = quote!(#crate_::rpc);
    let (call, opens) = match method.shape {
        Shape::Unary => (quote!(call), quote!(#rpc::Unary<#response>)),
        Shape::ServerStream => {
            (quote!(server_stream), quote!(#rpc::Open<#rpc::Receiver<#response>>))
        }
        Shape::ClientStream => {
            (quote!(client_stream), quote!(#rpc::Open<#rpc::ClientStream<#request, #response>>))
        }
        Shape::Bidi => {
            let ends = quote!((#rpc::Sender<#request>, #rpc::Receiver<#response>));
            (quote!(bidi), quote!(#rpc::Open<#ends>))
        }
    };
    let (taken, given) = match (method.shape, method.argument) {
        (Shape::ClientStream | Shape::Bidi, _) => (None, None),
        (_, Argument::None) => (None, Some(quote!(, ()))),
        (_, Argument::Message | Argument::Request) => {
            (Some(quote!(, request: #request)), Some(quote!(, request)))
        }
    };
    quote! {
        #attributes
        #vis fn #ident(&self #taken) -> #crate_::Call<#opens> {
            self.client.#call(&self.methods.#ident #given)
        }
    }
}

/// What reaches the stored responses of a method.
fn stored(crate_: &TokenStream, method: &Method, vis: &Visibility) -> TokenStream {
    let Method { ident, cfg, request, response, .. } = method;
    let handles = method.handles();
    if handles.is_empty() {
        return TokenStream::new();
    }
    let key = method.key_name();
    let doc = format!(
        "The key that the response of [`{ident}`](Self::{ident}) to this request is kept under, in \
         the first place that it has.\n\n# Errors\n`InvalidInput` naming the field that no key can \
         be made of."
    );
    let handles = handles.iter().map(|(_, kind, name)| {
        let place = match kind {
            Kind::Kv => "its key-value bucket",
            Kind::Objects => "its bucket of objects",
        };
        let doc =
            format!("What is kept of the responses of [`{ident}`](Self::{ident}) in {place}.");
        quote! {
            #(#cfg)*
            #[doc = #doc]
            #[must_use]
            #vis fn #name(&self) -> #crate_::rpc::Stored<#request, #response> {
                ::core::clone::Clone::clone(&self.#name)
            }
        }
    });
    quote! {
        #(#handles)*

        #(#cfg)*
        #[doc = #doc]
        #vis fn #key(&self, request: &#request) -> #crate_::Result<::std::string::String> {
            self.client.key(&self.methods.#ident, request)
        }
    }
}
