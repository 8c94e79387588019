//! What is refused, where and with which words; and the shapes that are taken.

use proc_macro2::TokenStream;
use quote::ToTokens;

use crate::expand::expand;
use crate::options::Problems;
use crate::service::{Service, rewrite};

/// What the attribute with these options makes of a trait, or its problems: where, and what.
fn made(options: &str, item: &str) -> Result<String, Vec<(String, String)>> {
    let options: TokenStream = options.parse().unwrap();
    let mut item: syn::ItemTrait = syn::parse_str(item).unwrap();
    let mut problems = Problems::default();
    let service = Service::parse(options, &mut item, &mut problems);
    rewrite(&mut item);
    problems.finish().map_err(|error| {
        let at = |it: &syn::Error| it.span().source_text().unwrap_or_default();
        error.into_iter().map(|it| (at(&it), it.to_string())).collect::<Vec<_>>()
    })?;
    let mut tokens = item.to_token_stream();
    tokens.extend(expand(&service, &item));
    syn::parse2::<syn::File>(tokens.clone()).unwrap();
    Ok(tokens.to_string())
}

#[track_caller]
fn refused(options: &str, item: &str, at: &str, problem: &str) {
    let problems = made(options, item).expect_err("refused");
    let [(place, text)] = problems.as_slice() else { panic!("one problem: {problems:?}") };
    assert_eq!(place, at, "{text}");
    assert!(text.contains(problem), "{text}");
}

/// A trait with one method with these options.
fn one(options: &str) -> String {
    format!("trait Orders {{ #[rpc({options})] async fn get(&self, r: Get) -> Result<Order>; }}")
}

const PLAIN: &str = "trait Orders { async fn get(&self, r: Get) -> Result<Order>; }";

#[test]
fn options_of_a_service() {
    for (options, at, problem) in [
        ("nam = \"orders\"", "nam", "has no option `nam`; did you mean `name`"),
        ("zzz", "zzz", "has no option `zzz`; it knows `name`, `prefix`"),
        ("name = \"or ders\"", "\"or ders\"", "letters, digits, `_` and `-`"),
        ("name = 5", "5", "`name` expects the name of the service"),
        ("name", "name", "`name` expects the name of the service"),
        ("name = \"a\", name = \"b\"", "name", "`name` is given twice"),
        ("prefix = \"api..v1\"", "\"api..v1\"", "single dots"),
        ("prefix = \"api.*\"", "\"api.*\"", "cannot be part of a subject"),
        ("version = \"1.2\"", "\"1.2\"", "no semantic version"),
        ("version = \"01.2.3\"", "\"01.2.3\"", "no semantic version"),
        ("timeout = \"5 parsecs\"", "\"5 parsecs\"", "`timeout` expects a duration, such as"),
        ("timeout = 5", "5", "`timeout` expects a duration, such as"),
        ("timeout = -5", "-5", "`timeout` expects a duration, such as"),
        ("codec = \"xml\"", "\"xml\"", "\"json\" or \"message_pack\", or a codec of your own"),
        ("queue = true", "true", "`false` for none"),
        ("queue = \"a b\"", "\"a b\"", "cannot be part of a subject"),
        ("concurrency = 0", "0", "a whole number from 1 to 65536"),
        ("metadata = \"x\"", "\"x\"", "expects a list"),
        ("metadata(team)", "team", "`team` expects a text"),
        ("crate = \"x\"", "\"x\"", "the path of nats_connector"),
        ("= 5", "=", "expected the name of an option"),
    ] {
        refused(options, PLAIN, at, problem);
    }
}

#[test]
fn options_of_a_method() {
    for (options, at, problem) in [
        (
            "timout = \"5s\"",
            "timout",
            "`#[rpc(..)]` has no option `timout`; did you mean `timeout`",
        ),
        ("name = \"a.b\"", "\"a.b\"", "letters, digits"),
        ("waiting = 1_000_001", "1_000_001", "a whole number from 0 to 1000000"),
        ("window = 8", "window", "`window` is of streams; this method has none"),
        ("skip = 1", "1", "`true` or `false`"),
        ("skip, timeout = \"1s\"", "timeout", "a skipped method has no other options"),
        ("kv", "kv", "`kv` expects a list, as `kv(bucket"),
        ("kv(bucket = \"b\")", "kv", "`kv(..)` needs `key = \"order.{id}\"`"),
        ("objects(key = \"{id}\")", "objects", "`objects(..)` needs `bucket = \"orders\"`"),
        ("kv(bucket = \"a.b\", key = \"{id}\")", "\"a.b\"", "a bucket's name: "),
        ("kv(bucket = \"b\", key = KEY)", "KEY", "the template of a key in quotes"),
        ("kv(bucket = \"b\", key = \"{id}\", ttl = \"1ms\")", "\"1ms\"", "of at least 100ms"),
        ("kv(bucket = \"b\", key = \"{id}\", history = 65)", "65", "from 1 to 64"),
        ("kv(bucket = \"b\", key = \"{id}\", replicas = 0)", "0", "from 1 to 5"),
        (
            "kv(bucket = \"b\", key = \"{id}\", storage = \"disk\")",
            "\"disk\"",
            "\"file\" or \"memory\"",
        ),
        (
            "kv(bucket = \"b\", key = \"{id}\", policy = \"always\")",
            "\"always\"",
            "or \"required\"",
        ),
        ("kv(bucket = \"b\", key = \"{id}\", max_bytes = \"1GB\")", "\"1GB\"", "or \"64MiB\""),
        (
            "kv(bucket = \"b\", key = \"{id}\", max_chunk_size = 1)",
            "max_chunk_size",
            "`kv(..)` has no option",
        ),
        (
            "objects(bucket = \"b\", key = \"{id}\", history = 1)",
            "history",
            "`objects(..)` has no option",
        ),
    ] {
        refused("", &one(options), at, problem);
    }
    let ttls = "kv(bucket = \"b\", key = \"{id}\", ttl = \"0\"), timeout = LIMIT";
    assert!(made("", &one(ttls)).is_ok());
}

#[test]
fn templates() {
    for (template, problem) in [
        ("", "is empty"),
        ("a.{id", "has a `{` without a `}`"),
        ("a.id}", "has a `}` without a `{`"),
        ("a.{}", "has the field {}"),
        ("a.{ id }", "has the field { id }"),
        ("a.{x..y}", "has the field {x..y}"),
        ("a.{x()}", "has the field {x()}"),
        ("a.{self}", "has the field {self}"),
        ("a b.{id}", "has ' '"),
        ("*.{id}", "has '*'"),
        ("ü.{id}", "has 'ü'"),
        (".{id}", "has a dot at an end"),
        ("{id}.", "has a dot at an end"),
        ("a..{id}", "has a dot at an end, or two in a row"),
    ] {
        let options = format!("kv(bucket = \"b\", key = \"{template}\")");
        let at = format!("\"{template}\"");
        let problem = format!("the template of a key {problem}");
        refused("", &one(&options), &at, &problem);
    }
    let options = "kv(bucket = \"b\", key = \"o.{type}-{a.0.b}\", escape)";
    let made = made("", &one(options)).unwrap();
    let key = ". escaping () . text (\"o.\") . field (\"type\" , & request . r#type) ? . text (\"-\") \
               . field (\"a.0.b\" , & request . a . 0 . b) ? . finish ()";
    assert!(made.contains(key), "{made}");
}

#[test]
fn methods() {
    for (method, at, problem) in [
        ("fn get(&self, r: Get) -> Result<Order>;", "fn", "a method of a service is an `async fn`"),
        ("async fn get(r: Get) -> Result<Order>;", "r: Get", "takes `&self` first"),
        ("async fn get() -> Result<Order>;", "get", "takes `&self` first"),
        ("async fn get(&mut self, r: Get) -> Result<Order>;", "&mut self", "takes `&self` first"),
        ("async fn get(self, r: Get) -> Result<Order>;", "self", "takes `&self` first"),
        ("async fn get<T>(&self, r: T) -> Result<Order>;", "T", "no generic parameters"),
        ("async unsafe fn get(&self) -> Result<()>;", "unsafe", "cannot be `unsafe`"),
        ("async fn get(&self, r: &Get) -> Result<Order>;", "&Get", "is taken by value"),
        ("async fn get(&self, r: impl X) -> Result<Order>;", "impl X", "one type"),
        (
            "async fn get(&self, a: A, b: B) -> Result<Order>;",
            "B",
            "several values go into one struct",
        ),
        ("async fn get(&self, r: Get);", "get", "gives a `Result<..>`"),
        ("async fn get(&self, r: Get) -> Order;", "Order", "gives a `Result<..>`"),
        ("async fn s(&self, s: Sender<T>) -> Result<T>;", "T", "gives `Result<()>`"),
        ("type X;", "type X;", "has methods only"),
        ("const X: u8;", "const X: u8;", "has methods only"),
        ("async fn new(&self) -> Result<()>;", "new", "clients have a `new` of their own"),
        (
            "#[rpc(kv(bucket = \"b\", key = \"k\"))] async fn s(&self, s: Sender<T>) -> Result<()>;",
            "kv",
            "this method streams",
        ),
        (
            "#[rpc = 5] async fn get(&self) -> Result<()>;",
            "rpc = 5",
            "expected options in parentheses",
        ),
    ] {
        refused("", &format!("trait Orders {{ {method} }}"), at, problem);
    }
    refused("", "trait Orders<T> { }", "T", "no generic parameters");
    let same = "trait Orders { #[rpc(name = \"b\")] async fn a(&self) -> Result<()>; \
                async fn b(&self) -> Result<()>; }";
    refused("", same, "b", "another method has the name \"b\"");
    let taken = "trait Orders { #[rpc(kv(bucket = \"b\", key = \"k\"))] async fn a(&self) -> Result<()>; \
                 async fn a_key(&self) -> Result<()>; }";
    refused("", taken, "a_key", "clients get a `a_key` for the stored responses of `a`");
}

#[test]
fn all_problems_at_once() {
    let item = "trait Orders { #[rpc(x)] async fn a(&self) -> Result<()>; fn b(); }";
    let problems = made("nam = 1, version = \"1\"", item).unwrap_err();
    let places: Vec<_> = problems.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(places, ["nam", "\"1\"", "x", "fn"]);
}

#[test]
fn the_name_of_a_service_is_that_of_its_trait() {
    for (ident, name) in [
        ("Orders", "orders"),
        ("OrderService", "order_service"),
        ("HTTPApi", "http_api"),
        ("V2Orders", "v2_orders"),
        ("r#Orders", "orders"),
    ] {
        let made = made("", &format!("trait {ident} {{}}")).unwrap();
        assert!(made.contains(&format!("ServiceConfig :: new (\"{name}\")")), "{made}");
    }
}

#[test]
fn what_a_method_has_of_attributes_goes_where_it_belongs() {
    let item = "trait Orders { /// Words.\n #[cfg(unix)] #[deprecated] #[inline] \
                async fn get(&self) -> Result<()>; }";
    let made = made("", item).unwrap();
    // The trait's method, its description, that one's value, the endpoint, the call.
    assert_eq!(made.matches("# [cfg (unix)]").count(), 5, "{made}");
    assert_eq!(made.matches("# [doc = \" Words.\"]").count(), 3, "{made}");
    assert_eq!(made.matches("# [inline]").count(), 1, "{made}");
    assert!(!made.contains("# [rpc"), "{made}");
}
