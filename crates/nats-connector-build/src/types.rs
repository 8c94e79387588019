//! Where prost puts the types of messages and enums, as a path from a package's module.

use crate::names::{modules, rust_snake, rust_type};

/// The types that live elsewhere than in the module of their package.
#[derive(Debug, Clone, Default)]
pub(crate) struct Types {
    /// `.package` or `.package.Type`, and the path that stands for it.
    external: Vec<(String, String)>,
}

impl Types {
    pub(crate) fn new(external: &[(String, String)]) -> Self {
        let dotted = |it: &String| if it.starts_with('.') { it.clone() } else { format!(".{it}") };
        let external = external.iter().map(|(proto, rust)| (dotted(proto), rust.clone()));
        Types { external: external.collect() }
    }

    /// The path of the type `name`, full, seen from the module of `package`.
    pub(crate) fn path(&self, package: &str, name: &str) -> String {
        let dotted = format!(".{name}");
        let within = |prefix: &str| dotted.strip_prefix(prefix).filter(|it| it.starts_with('.'));
        let longest = self
            .external
            .iter()
            .filter(|(proto, _)| *proto == dotted || within(proto).is_some())
            .max_by_key(|(proto, _)| proto.len());
        if let Some((proto, rust)) = longest {
            return match within(proto) {
                Some(rest) => format!("{rust}::{}", Types::inner(&rest[1..])),
                None => rust.clone(),
            };
        }
        let mut from = modules(package);
        let mut to: Vec<&str> = name.split('.').collect();
        let last = to.pop().unwrap_or_default();
        let to: Vec<String> = to.into_iter().map(rust_snake).collect();
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let mut path: Vec<String> = from.drain(common..).map(|_| "super".to_owned()).collect();
        path.extend_from_slice(&to[common..]);
        path.push(rust_type(last));
        path.join("::")
    }

    fn inner(name: &str) -> String {
        let (outer, last) = name.rsplit_once('.').map_or((None, name), |(a, b)| (Some(a), b));
        let outer = outer.into_iter().flat_map(|it| it.split('.')).map(rust_snake);
        outer.chain([rust_type(last)]).collect::<Vec<_>>().join("::")
    }
}

/// A path as it is from a module `depth` levels further in.
pub(crate) fn from_within(path: &str, depth: usize) -> String {
    const PLAIN: &[&str] = &["bool", "f32", "f64", "i32", "i64", "u32", "u64"];
    let absolute = path.starts_with("::") || path.starts_with("crate::") || path.starts_with('(');
    if absolute || PLAIN.contains(&path) {
        path.to_owned()
    } else {
        format!("{}{path}", "super::".repeat(depth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_from_the_module_of_a_package() {
        let types = Types::new(&[
            ("google.protobuf".to_owned(), "::prost_types".to_owned()),
            (".shop.v1.Money".to_owned(), "crate::Money".to_owned()),
        ]);
        for (package, name, expected) in [
            ("shop.v1", "shop.v1.Order", "Order"),
            ("shop.v1", "shop.v1.Order.Line", "order::Line"),
            ("shop.v1", "common.v1.Page", "super::super::common::v1::Page"),
            ("shop.v1", "shop.Item", "super::Item"),
            ("", "Root", "Root"),
            ("", "a.B", "a::B"),
            ("a", "Root", "super::Root"),
            ("shop.v1", "google.protobuf.Timestamp", "::prost_types::Timestamp"),
            ("shop.v1", "google.protobuf.Field.Kind", "::prost_types::field::Kind"),
            ("shop.v1", "shop.v1.Money", "crate::Money"),
            ("shop.v1", "shop.v1.MoneyBag", "MoneyBag"),
            ("type.v1", "type.v1.self.Async", "self_::Async"),
        ] {
            assert_eq!(types.path(package, name), expected, "{name} from {package}");
        }
        assert_eq!(from_within("super::common::X", 2), "super::super::super::common::X");
        assert_eq!(from_within("::prost_types::Any", 2), "::prost_types::Any");
        assert_eq!(from_within("()", 2), "()");
        assert_eq!(from_within("bool", 1), "bool");
    }
}
