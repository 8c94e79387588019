//! The side that serves: a trait, and what takes calls to it.

use crate::model::QueueGroup;

use super::{Call, Context, Shape, docs};

impl Context<'_> {
    pub(super) fn service_trait(&self) -> String {
        let name = self.type_name();
        let mut functions = String::new();
        for call in self.calls() {
            let docs = call.docs(2, &format!("Serves `{}`.", call.method.proto_name));
            let (arguments, result) = signature(&call);
            functions.push_str(&format!(
                "{docs}fn {}(&self, {arguments}) -> impl ::std::future::Future<Output = {result}> + Send;\n\n",
                call.name
            ));
        }
        let docs = docs(&self.parsed.comments, 1, &format!("The service `{name}`."));
        format!("{docs}pub trait {name}: Send + Sync + 'static {{\n{functions}}}\n\n")
    }

    pub(super) fn server(&self) -> String {
        let name = self.type_name();
        let endpoints: Vec<_> = self.calls().map(|call| endpoint(&name, &call)).collect();
        let mut builder = "rpc.service(config())".to_owned();
        match &self.service.queue_group {
            QueueGroup::Default => {}
            QueueGroup::Named(group) => builder.push_str(&format!(".queue({group:?})")),
            QueueGroup::Off => builder.push_str(".no_queue()"),
        }
        if let Some(calls) = self.service.concurrency {
            builder.push_str(&format!(".concurrency({calls})"));
        }
        if let Some(calls) = self.service.waiting {
            builder.push_str(&format!(".waiting({calls})"));
        }
        format!(
            "/// Takes calls to a [`{name}`].\n\
             #[derive(Debug)]\n\
             pub struct {name}Server<S> {{\n    service: ::std::sync::Arc<S>,\n}}\n\n\
             impl<S: {name}> {name}Server<S> {{\n\
             /// Takes calls to `service`.\n\
             pub fn new(service: S) -> Self {{\n\
             {name}Server {{ service: ::std::sync::Arc::new(service) }}\n}}\n\n\
             /// Takes calls to a `service` that others hold too.\n\
             pub fn from_arc(service: ::std::sync::Arc<S>) -> Self {{\n\
             {name}Server {{ service }}\n}}\n\n\
             /// What it takes calls to.\n\
             pub fn inner(&self) -> &S {{\n&self.service\n}}\n\n\
             /// The service on `rpc`, to be changed and to be started by `serve`.\n\
             pub fn service(&self, rpc: &rpc::Rpc) -> rpc::ServiceBuilder {{\n\
             {builder}.endpoints(self.endpoints())\n}}\n\n\
             /// What takes the calls of its methods, for a service that is put together by hand.\n\
             pub fn endpoints(&self) -> Vec<rpc::Endpoint> {{\n\
             vec![{}]\n}}\n}}\n\n",
            endpoints.join(", "),
        )
    }
}

/// The arguments of a method's function, and what comes of it.
fn signature(call: &Call<'_>) -> (String, String) {
    let (request, response) = (call.request(1), call.response(1));
    let one = format!("request: rpc::Request<{request}>");
    let many = format!("requests: rpc::Request<rpc::Receiver<{request}>>");
    let sender = format!("responses: rpc::Sender<{response}>");
    let answer = format!("rpc::Result<rpc::Response<{response}>>");
    match call.shape {
        Shape::Unary => (one, answer),
        Shape::ClientStream => (many, answer),
        Shape::ServerStream => (format!("{one}, {sender}"), "rpc::Result<()>".to_owned()),
        Shape::Bidi => (format!("{many}, {sender}"), "rpc::Result<()>".to_owned()),
    }
}

/// The trait is named in full: a method may be called as one of every type is.
fn endpoint(service: &str, call: &Call<'_>) -> String {
    let name = &call.name;
    let (make, arguments) = match call.shape {
        Shape::Unary => ("unary", "request"),
        Shape::ServerStream => ("server_stream", "request, responses"),
        Shape::ClientStream => ("client_stream", "requests"),
        Shape::Bidi => ("bidi", "requests, responses"),
    };
    let mut out = format!(
        "{{\nlet service = self.service.clone();\n\
         rpc::Endpoint::{make}(methods::{name}(), move |{arguments}| {{\n\
         let service = service.clone();\n\
         async move {{ {service}::{name}(&*service, {arguments}).await }}\n}})"
    );
    if let Some(calls) = call.method.concurrency {
        out.push_str(&format!(".concurrency({calls})"));
    }
    if let Some(calls) = call.method.waiting {
        out.push_str(&format!(".waiting({calls})"));
    }
    out + "\n}"
}
