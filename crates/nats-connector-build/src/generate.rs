//! The code of services, beside the messages that prost makes.

use prost_build::{Comments, ServiceGenerator};

use crate::model::{Method, Service};
use crate::names::{rust_part, rust_snake, rust_type};
use crate::types::{Types, from_within};

mod client;
mod description;
mod errors;
mod key;
mod server;

/// Writes the services of the files that were asked for; prost calls it with each it meets.
pub(crate) struct Generator {
    services: Vec<Service>,
    types: Types,
    library: String,
    descriptors_file: &'static str,
}

impl Generator {
    pub(crate) fn new(
        services: Vec<Service>,
        types: Types,
        library: String,
        descriptors_file: &'static str,
    ) -> Self {
        Generator { services, types, library, descriptors_file }
    }
}

impl ServiceGenerator for Generator {
    fn generate(&mut self, parsed: prost_build::Service, buf: &mut String) {
        let full_name = match parsed.package.as_str() {
            "" => parsed.proto_name.clone(),
            package => format!("{package}.{}", parsed.proto_name),
        };
        if let Some(service) = self.services.iter().find(|it| it.full_name == full_name) {
            let context = Context { service, parsed: &parsed, generator: self };
            buf.push_str(&context.module());
        }
    }
}

/// One service, as its file and its options describe it.
struct Context<'a> {
    service: &'a Service,
    parsed: &'a prost_build::Service,
    generator: &'a Generator,
}

/// One method, seen from a module within the service's.
struct Call<'a> {
    method: &'a Method,
    parsed: &'a prost_build::Method,
    /// In Rust.
    name: String,
    /// As a part of longer names.
    part: String,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Unary,
    ServerStream,
    ClientStream,
    Bidi,
}

impl<'a> Context<'a> {
    /// What is written into the module of the service's package.
    fn module(&self) -> String {
        let (name, module) = (self.type_name(), rust_snake(&self.parsed.proto_name));
        // A program need not use both sides of what it takes in.
        let mut out = format!(
            "\n#[allow(unused_imports)]\npub use {module}::{{{name}, {name}Client, {name}Server}};\n\n"
        );
        let allowed = self.allowed(&module);
        out.push_str(&format!(
            "/// The service `{}`: what serves and calls it, and the description that both share.\n\
             {allowed}pub mod {module} {{\n    use {}::rpc;\n",
            self.service.full_name, self.generator.library
        ));
        out.push_str(&self.description());
        out.push_str(&self.service_trait());
        out.push_str(&self.server());
        out.push_str(&self.client());
        out.push_str(&self.methods());
        out.push_str(&self.keys());
        out.push_str(&self.errors());
        out.push_str("}\n");
        out
    }

    /// The lints that names of the file's choice, and what nobody uses, set off.
    fn allowed(&self, module: &str) -> String {
        let any = |test: fn(&Call<'_>) -> bool| self.calls().any(|call| test(&call));
        // Those of whoever calls are not meant.
        let deprecated = any(|it| it.is_deprecated()).then_some("deprecated");
        let inner =
            self.parsed.package.rsplit('.').next().is_some_and(|it| rust_snake(it) == module);
        let inner = inner.then_some("clippy::module_inception");
        let self_ = any(|it| {
            it.name == "new" || it.name.starts_with("from_") || it.name.starts_with("into_")
        });
        let self_ = self_.then_some("clippy::wrong_self_convention");
        let traits = any(|it| {
            let names = ["borrow", "clone", "cmp", "deref", "eq", "hash", "index", "partial_cmp"];
            names.contains(&it.name.as_str())
        });
        let traits = traits.then_some("clippy::should_implement_trait");
        let lints: Vec<_> =
            [Some("dead_code"), deprecated, inner, self_, traits].into_iter().flatten().collect();
        format!("#[allow({})]\n", lints.join(", "))
    }

    /// The service's name in Rust.
    fn type_name(&self) -> String {
        rust_type(&self.parsed.proto_name)
    }

    /// The methods that are not skipped.
    fn calls(&self) -> impl Iterator<Item = Call<'a>> + use<'a> {
        let parsed = &self.parsed.methods;
        self.service.methods.iter().filter_map(move |method| {
            let parsed = parsed.iter().find(|it| it.proto_name == method.proto_name)?;
            let shape = match (parsed.client_streaming, parsed.server_streaming) {
                (false, false) => Shape::Unary,
                (false, true) => Shape::ServerStream,
                (true, false) => Shape::ClientStream,
                (true, true) => Shape::Bidi,
            };
            let (name, part) = (rust_snake(&method.proto_name), rust_part(&method.proto_name));
            Some(Call { method, parsed, name, part, shape })
        })
    }
}

impl Call<'_> {
    /// The request's type, from a module `depth` levels within the package's.
    fn request(&self, depth: usize) -> String {
        from_within(&self.parsed.input_type, depth)
    }

    fn response(&self, depth: usize) -> String {
        from_within(&self.parsed.output_type, depth)
    }

    fn is_deprecated(&self) -> bool {
        self.parsed.options.deprecated.unwrap_or(false)
    }

    /// The file's comments, or what stands for them.
    fn docs(&self, indent: u8, otherwise: &str) -> String {
        let mut docs = docs(&self.parsed.comments, indent, otherwise);
        if self.is_deprecated() {
            docs.push_str("#[deprecated]\n");
        }
        docs
    }
}

fn docs(comments: &Comments, indent: u8, otherwise: &str) -> String {
    let mut docs = String::new();
    if comments.leading.is_empty() && comments.trailing.is_empty() {
        docs = format!("/// {otherwise}\n");
    } else {
        let blank = Comments { leading_detached: Vec::new(), ..comments.clone() };
        blank.append_with_indent(indent, &mut docs);
    }
    docs
}

/// A string literal.
fn text(value: &str) -> String {
    format!("{value:?}")
}

/// An expression for the time.
fn time(value: std::time::Duration) -> String {
    match (value.as_secs(), value.subsec_nanos()) {
        (seconds, 0) => format!("::std::time::Duration::from_secs({seconds})"),
        (0, nanos) if nanos % 1_000_000 == 0 => {
            format!("::std::time::Duration::from_millis({})", nanos / 1_000_000)
        }
        (seconds, nanos) => format!("::std::time::Duration::new({seconds}, {nanos})"),
    }
}
