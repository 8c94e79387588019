//! What both sides share: the service's name and place, its methods, the keys of what they keep.

use crate::model::{Method, Setting, Store};

use super::key::Keys;
use super::{Call, Context, text, time};

impl Context<'_> {
    /// `NAME`, `ENDPOINTS` and `config()`.
    pub(super) fn description(&self) -> String {
        let service = self.service;
        let subject = |it: &Method| text(&format!("{}.{}", service.prefix, it.name));
        let subjects: Vec<_> = service.methods.iter().map(subject).collect();
        let mut config = "rpc::ServiceConfig::new(NAME)".to_owned();
        config.push_str(&format!(".version({})", text(&service.version)));
        config.push_str(&format!(".description({})", text(&service.description)));
        config.push_str(&format!(".prefix({})", text(&service.prefix)));
        for (name, value) in &service.metadata {
            config.push_str(&format!(".metadata({}, {})", text(name), text(value)));
        }
        if let Some(timeout) = service.timeout {
            config.push_str(&format!(".timeout({})", time(timeout)));
        }
        format!(
            "/// The name that the service is found by.\n\
             pub const NAME: &str = {};\n\n\
             /// The subjects of its methods, without a handle's topic prefix.\n\
             pub const ENDPOINTS: &[&str] = &[{}];\n\n\
             /// What it is called, and where it is reached.\n\
             pub fn config() -> rpc::ServiceConfig {{ {config} }}\n\n",
            text(&service.name),
            subjects.join(", "),
        )
    }

    /// The module of the methods.
    pub(super) fn methods(&self) -> String {
        let mut out = String::new();
        for call in self.calls() {
            let (request, response) = (call.request(2), call.response(2));
            let kind = format!("rpc::Method<{request}, {response}>");
            let docs = call.docs(2, &format!("`{}`.", call.method.proto_name));
            let name = &call.name;
            let method = self.method(&call);
            out.push_str(&format!(
                "{docs}pub fn {name}() -> &'static {kind} {{\n\
                 static METHOD: LazyLock<{kind}> = LazyLock::new(|| {method});\n&METHOD\n}}\n\n"
            ));
        }
        if out.is_empty() {
            return out;
        }
        let library = &self.generator.library;
        let json = self.service.json.then(|| {
            format!(
                "/// The files that the messages are from.\n\
                 static DESCRIPTORS: rpc::protobuf::Descriptors = \
                 rpc::protobuf::Descriptors::new(include_bytes!({}));\n\n",
                text(self.generator.descriptors_file)
            )
        });
        format!(
            "/// The methods, as both sides know them.\npub mod methods {{\n\
             use ::std::sync::LazyLock;\nuse {library}::rpc;\n\n{}{out}}}\n\n",
            json.unwrap_or_default()
        )
    }

    fn method(&self, call: &Call<'_>) -> String {
        let method = call.method;
        let mut out = if self.service.json {
            let codec = |name: &str| {
                format!("rpc::protobuf::ProtobufJson::new(&DESCRIPTORS, {})", text(name))
            };
            let (request, response) = (codec(&method.request), codec(&method.response));
            format!("rpc::Method::with_codecs({}, {request}, {response})", text(&method.name))
        } else {
            format!("rpc::Method::with_codec({}, rpc::protobuf::Protobuf)", text(&method.name))
        };
        if let Some(timeout) = method.timeout {
            out.push_str(&format!(".timeout({})", time(timeout)));
        }
        for (name, value) in &method.metadata {
            out.push_str(&format!(".metadata({}, {})", text(name), text(value)));
        }
        if let Some(window) = method.max_inflight {
            out.push_str(&format!(".window({window})"));
        }
        if let Some(store) = &method.kv {
            out.push_str(&self.persist("kv", &call.key_of(store), store));
        }
        if let Some(store) = &method.objects {
            out.push_str(&self.persist("objects", &call.key_of(store), store));
        }
        out
    }

    fn persist(&self, place: &str, key: &str, store: &Store) -> String {
        let library = &self.generator.library;
        let mut bucket = format!("{library}::{place}::BucketConfig::new({})", text(&store.bucket));
        for (name, value) in &store.settings {
            let value = match value {
                Setting::Text(value) => text(value),
                Setting::Number(value) => value.to_string(),
                Setting::Time(value) => time(*value),
                Setting::On => "true".to_owned(),
                Setting::Storage(value) => format!("{library}::kv::Storage::{value}"),
            };
            bucket.push_str(&format!(".{name}({value})"));
        }
        let mut out = format!(".persist(rpc::Persist::{place}({bucket}, super::keys::{key})");
        if let Some(policy) = store.policy {
            out.push_str(&format!(".policy(rpc::Policy::{policy})"));
        }
        if store.receipt {
            out.push_str(".receipt()");
        }
        if let Some(timeout) = store.write_timeout {
            out.push_str(&format!(".timeout({})", time(timeout)));
        }
        if store.client_only {
            out.push_str(".client_only()");
        }
        out.push(')');
        out
    }

    /// The module of the keys.
    pub(super) fn keys(&self) -> String {
        let keys = Keys { types: &self.generator.types, package: &self.parsed.package, depth: 2 };
        let mut out = String::new();
        for call in self.calls() {
            for (name, store) in call.keys() {
                let request = call.request(2);
                let body = keys.body(&store.key, store.escape);
                let used = if body.contains("request") { "request" } else { "_request" };
                out.push_str(&format!(
                    "/// The key of a response of `{}` to this request.\n///\n/// # Errors\n\
                     /// `InvalidInput` for a value that cannot stand in a key, naming the field.\n\
                     pub fn {name}({used}: &{request}) -> {}::Result<String> {{\n{body}\n}}\n\n",
                    call.method.proto_name, self.generator.library,
                ));
            }
        }
        if out.is_empty() {
            return out;
        }
        format!(
            "/// The keys that responses are kept under.\npub mod keys {{\nuse {}::rpc;\n\n{out}}}\n\n",
            self.generator.library
        )
    }
}

impl Call<'_> {
    /// The keys of what the method keeps: one where both places have the same.
    pub(super) fn keys(&self) -> Vec<(String, &Store)> {
        let stores = self.method.kv.iter().chain(&self.method.objects);
        let mut keys: Vec<(String, &Store)> = Vec::new();
        for store in stores {
            let name = self.key_of(store);
            if !keys.iter().any(|(other, _)| *other == name) {
                keys.push((name, store));
            }
        }
        keys
    }

    /// The name of the function for the key of what is in this store.
    pub(super) fn key_of(&self, store: &Store) -> String {
        match (&self.method.kv, &self.method.objects) {
            (Some(kv), Some(objects)) if kv.key != objects.key || kv.escape != objects.escape => {
                let place = if std::ptr::eq(store, kv) { "kv" } else { "objects" };
                format!("{place}_{}", self.part)
            }
            _ => self.name.clone(),
        }
    }
}
