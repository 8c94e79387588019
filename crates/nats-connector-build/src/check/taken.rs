//! Names in Rust that two things would have.

use prost_reflect::{FileDescriptor, ServiceDescriptor};

use super::{Check, Place};
use crate::model::Method;
use crate::names::{rust_part, rust_snake, rust_type};

/// Names of types and traits that the code of a service has use for.
const USED: &[&str] = &["Clone", "Debug", "Into", "S", "Self_", "Send", "String", "Sync", "Vec"];

impl Check<'_> {
    /// What is generated must not have one name with anything else.
    pub(super) fn names(&mut self, descriptor: &ServiceDescriptor, methods: &[Method]) {
        let file = descriptor.parent_file();
        let here = Place { file: file.clone(), path: descriptor.path().to_vec() };
        let name = rust_type(descriptor.name());
        if USED.contains(&name.as_str()) {
            let text = format!("{name} is a word of Rust that the code needs; rename the service");
            self.problem(&here, text);
        }
        let mine = [name.clone(), format!("{name}Client"), format!("{name}Server")];
        let module = rust_snake(descriptor.name());
        let pool = descriptor.parent_pool();
        let inner = match file.package_name() {
            "" => descriptor.name().to_owned(),
            package => format!("{package}.{}", descriptor.name()),
        };
        let package = |it: &FileDescriptor| {
            it.package_name().split('.').map(rust_snake).collect::<Vec<_>>().join(".")
        };
        let inner: String = inner.split('.').map(rust_snake).collect::<Vec<_>>().join(".");
        for other in pool.files() {
            let within = package(&other);
            if within == inner || within.starts_with(&format!("{inner}.")) {
                let text = format!(
                    "the package {} and the service {} are both modules {module}; rename one",
                    other.package_name(),
                    descriptor.name()
                );
                self.problem(&here, text);
            }
            if other.package_name() != file.package_name() {
                continue;
            }
            let messages = other.messages().map(|it| it.name().to_owned());
            for taken in messages.chain(other.enums().map(|it| it.name().to_owned())) {
                if mine.contains(&rust_type(&taken)) || rust_snake(&taken) == module {
                    let text = format!(
                        "{taken} and what is made for the service {} have one name in Rust; rename \
                         one",
                        descriptor.name()
                    );
                    self.problem(&here, text);
                }
            }
        }
        // Functions for methods themselves are compared elsewhere.
        let mut functions: Vec<(String, &str, bool)> = Vec::new();
        for method in methods {
            let part = rust_part(&method.proto_name);
            let mut made: Vec<String> = Vec::new();
            made.extend(method.kv.iter().map(|_| format!("kv_{part}")));
            made.extend(method.objects.iter().map(|_| format!("objects_{part}")));
            if method.kv.is_some() || method.objects.is_some() {
                made.push(format!("{part}_key"));
            }
            let made = made.into_iter().map(|it| (it, true));
            for (function, derived) in [(part, false)].into_iter().chain(made) {
                let twin = functions.iter().find(|(other, of, other_derived)| {
                    *other == function && *of != method.proto_name && (derived || *other_derived)
                });
                if let Some((_, other, _)) = twin {
                    let text = format!(
                        "what is made for {other} and {} has one name, {function}; rename one",
                        method.proto_name
                    );
                    self.problem(&here, text);
                }
                functions.push((function, &method.proto_name, derived));
            }
        }
    }
}
