//! Names: on the wire as protoc-gen-nats-micro writes them, in Rust as prost does.

use heck::{ToSnakeCase as _, ToUpperCamelCase as _};

/// A name of a .proto file as protobuf-go writes it, from which names on the wire are made.
pub(crate) fn go_camel(name: &str) -> String {
    let bytes = name.as_bytes();
    let lower = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_lowercase);
    let mut out = String::with_capacity(name.len());
    let mut at = 0;
    while at < bytes.len() {
        let b = bytes[at];
        match b {
            b'_' if at == 0 => out.push('X'),
            // A letter follows, which begins a word.
            b'_' if lower(at + 1) => {}
            _ => {
                out.push(char::from(b.to_ascii_uppercase()));
                if !b.is_ascii_digit() {
                    while lower(at + 1) {
                        at += 1;
                        out.push(char::from(bytes[at]));
                    }
                }
            }
        }
        at += 1;
    }
    out
}

/// The name in snake case: a word begins at an upper letter after a lower one or a digit, and at the
/// last upper letter of an acronym that a word follows.
pub(crate) fn wire_snake(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = String::with_capacity(name.len() + 4);
    for (at, b) in bytes.iter().enumerate() {
        if at > 0 && b.is_ascii_uppercase() {
            let before = bytes[at - 1];
            let ends_acronym = before.is_ascii_uppercase()
                && bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
            if before.is_ascii_lowercase() || before.is_ascii_digit() || ends_acronym {
                out.push('_');
            }
        }
        out.push(char::from(b.to_ascii_lowercase()));
    }
    out
}

/// A type's name in Rust.
pub(crate) fn rust_type(name: &str) -> String {
    sanitized(name.to_upper_camel_case())
}

/// The name of a field, method or module in Rust.
pub(crate) fn rust_snake(name: &str) -> String {
    sanitized(name.to_snake_case())
}

/// The name of a constant in Rust.
pub(crate) fn rust_constant(name: &str) -> String {
    name.to_snake_case().to_ascii_uppercase()
}

/// The name as a part of a longer one: without the marks that keep it from being a keyword.
pub(crate) fn rust_part(name: &str) -> String {
    name.to_snake_case()
}

/// Keywords get the marks that prost gives them, so that both mean the same field.
fn sanitized(name: String) -> String {
    const RAW: &[&str] = &[
        "as", "break", "const", "continue", "else", "enum", "false", "fn", "for", "if", "impl",
        "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "static",
        "struct", "trait", "true", "type", "unsafe", "use", "where", "while", "dyn", "abstract",
        "become", "box", "do", "final", "macro", "override", "priv", "typeof", "unsized",
        "virtual", "yield", "async", "await", "try", "gen",
    ];
    match name.as_str() {
        "_" | "super" | "self" | "Self" | "extern" | "crate" => name + "_",
        it if RAW.contains(&it) => format!("r#{name}"),
        it if it.starts_with(|c: char| c.is_ascii_digit()) => format!("_{name}"),
        _ => name,
    }
}

/// The module of a package, outermost first; the file that prost writes is named alike.
pub(crate) fn modules(package: &str) -> Vec<String> {
    package.split('.').filter(|it| !it.is_empty()).map(rust_snake).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_the_original_names_them() {
        for (name, expected) in [
            ("GetHTTPSURL", "get_httpsurl"),
            ("V2Order", "v2_order"),
            ("GetS3URL", "get_s3_url"),
            ("Get2FA", "get2_fa"),
            ("SaveProfile", "save_profile"),
            ("KVStoreDemoService", "kv_store_demo_service"),
            ("HTTPServer", "http_server"),
            ("Get_Thing", "get_thing"),
            ("A", "a"),
            ("", ""),
        ] {
            assert_eq!(wire_snake(name), expected, "{name}");
        }
    }

    #[test]
    fn names_are_camel_cased_as_protobuf_go_does() {
        for (name, expected) in [
            ("get_user", "GetUser"),
            ("GetUser", "GetUser"),
            ("getUser", "GetUser"),
            ("_private", "XPrivate"),
            ("Get_User", "Get_User"),
            ("get_2fa", "Get_2Fa"),
            ("user_1", "User_1"),
            ("a__b", "A_B"),
            ("trailing_", "Trailing_"),
        ] {
            assert_eq!(go_camel(name), expected, "{name}");
        }
    }

    #[test]
    fn keywords_are_marked_as_prost_marks_them() {
        for (name, expected) in
            [("type", "r#type"), ("self", "self_"), ("Async", "r#async"), ("Super", "super_")]
        {
            assert_eq!(rust_snake(name), expected, "{name}");
        }
        assert_eq!(rust_type("self"), "Self_");
        assert_eq!(rust_type("KVStoreDemoService"), "KvStoreDemoService");
        assert_eq!(rust_constant("order-expired"), "ORDER_EXPIRED");
    }
}
