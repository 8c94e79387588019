//! What the settings of one store say, each in its own type.

use std::collections::BTreeMap;

use super::super::Secret;
use super::super::keys::DEFAULT_DOMAIN;
use super::super::parse::{self, Values};
use super::{BUILT_IN, FIELDS, fields};
#[cfg(feature = "redis")]
use crate::kv::RedisConfig;
use crate::kv::{BucketConfig, KeyCodec, Storage};
use crate::settings::builder::domain;

/// A store as the settings have it.
#[derive(Debug, Clone)]
pub(crate) struct StoreFields {
    /// In lower case.
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) prefix: Option<String>,
    pub(crate) serializer: Option<&'static str>,
    pub(crate) domain: String,
    /// The bucket's name, without the domain's prefix, and its options.
    pub(crate) bucket: BucketConfig,
    /// How to reach Redis, for a store on it.
    #[cfg(feature = "redis")]
    pub(crate) redis: Option<RedisConfig>,
    /// The text of every field that is set, in normal form, those of an own driver too.
    pub(crate) texts: BTreeMap<String, Text>,
}

/// A text that may be a secret, so it never prints.
pub(crate) type Text = Secret;

/// The driver of a store; nothing when it is not known.
pub(super) fn driver(values: &mut Values, own: &[&str]) -> Option<String> {
    let known: Vec<&str> = BUILT_IN.iter().chain(own).copied().collect();
    let expected = format!("a driver; expected one of {}", known.join(", "));
    let find = |text: &str| known.iter().find(|name| name.eq_ignore_ascii_case(text));
    let given = values.get("DRIVER").is_some();
    let read = values.read_optional("DRIVER", &expected, find).map(|name| (*name).to_owned());
    let driver = if given { read } else { Some("nats".to_owned()) };
    if driver.as_deref() == Some("redis") && !cfg!(feature = "redis") {
        values.problem(format!(
            "{}: to use Redis, build nats-connector with its feature `redis`",
            values.full_name("DRIVER")
        ));
    }
    driver
}

impl StoreFields {
    /// Reads every field into its type. What is wrong becomes a problem of `values`.
    pub(super) fn read(
        name: &str,
        driver: String,
        extra: BTreeMap<String, String>,
        values: &mut Values,
    ) -> Self {
        const BUCKET: &str = "made of letters, digits, _ and - only, at most 252 of them";
        misplaced(values, &driver);
        values.paths();
        values.pair("TLS_CERT", "TLS_KEY");
        // A password alone is that of Redis' default user.
        if values.get("USERNAME").is_some() {
            values.pair("USERNAME", "PASSWORD");
        }
        let name = name.to_ascii_lowercase();
        let named =
            values.checked("BUCKET", BUCKET, |text| parse::is_bucket(text) && text.len() <= 252);
        let default = if driver == "redis" { "default".to_owned() } else { name.clone() };
        let mut bucket = BucketConfig::new(named.unwrap_or(default));
        bucket.ttl = values.read_optional(
            "TTL",
            "a duration; expected 0 for ever, or at least 100ms, for example 30s or 1h",
            parse::lifetime,
        );
        if driver == "redis" && bucket.name == "default" && bucket.ttl.is_some() {
            let problem = format!(
                "{}: on Redis a lifetime belongs to a bucket; set {} to another name than default",
                values.full_name("TTL"),
                values.full_name("BUCKET")
            );
            values.problem(problem);
        }
        bucket.history =
            values.read_optional("HISTORY", "a number of values; expected 1 to 64", |text| {
                text.parse().ok().filter(|n| (1..=64).contains(n))
            });
        bucket.replicas =
            values.read_optional("REPLICAS", "a number of copies; expected 1 to 5", |text| {
                text.parse().ok().filter(|n| (1..=5).contains(n))
            });
        bucket.storage = values
            .choice_optional("STORAGE", &[("file", Storage::File), ("memory", Storage::Memory)]);
        bucket.max_bytes = values.read_optional(
            "MAX_BYTES",
            "a size; expected a number of bytes, for example 1048576 or 64MiB, and 0 for no limit",
            parse::size,
        );
        bucket.key_codec = values.choice_optional(
            "KEY_CODEC",
            &[("escape", KeyCodec::Escape), ("path", KeyCodec::Path), ("raw", KeyCodec::Raw)],
        );
        values.read("DB", "the number of a database; expected for example 0", |text| {
            text.parse::<u32>().ok()
        });
        values.read("POOL_SIZE", "a number of connections; expected 1 to 10000", |text| {
            text.parse().ok().filter(|n| (1..=10_000).contains(n))
        });
        let text = |values: &Values, field| values.get(field).map(|value| value.text.clone());
        let texts = FIELDS.iter().filter_map(|key| {
            let field = key.short_name();
            Some((field.to_owned(), text(values, field)?))
        });
        let texts = texts.chain(extra).map(|(field, text)| (field, Secret::new(text))).collect();
        StoreFields {
            prefix: text(values, "PREFIX"),
            serializer: values.choice_optional(
                "SERIALIZER",
                &[("json", "json"), ("messagepack", "messagepack"), ("text", "text")],
            ),
            domain: values
                .read_optional(
                    "DOMAIN",
                    "a domain of settings; expected for example AUDIT: letters, digits and _, with \
                     a letter first, and neither NATS_ nor STORES before it",
                    |text| domain(text).ok(),
                )
                .unwrap_or_else(|| DEFAULT_DOMAIN.to_owned()),
            name,
            #[cfg(feature = "redis")]
            redis: (driver == "redis").then(|| redis(values)),
            driver,
            bucket,
            texts,
        }
    }
}

/// Tells fields that mean nothing to a built-in driver.
fn misplaced(values: &mut Values, driver: &str) {
    if !BUILT_IN.contains(&driver) {
        return;
    }
    for key in FIELDS {
        let field = key.short_name();
        let drivers = fields::only_for(field);
        if drivers.is_empty() || drivers.contains(&driver) {
            continue;
        }
        if let Some(value) = values.get(field) {
            let problem = format!(
                "{} from {} is for the driver {}; the driver of this store is {driver}",
                values.full_name(field),
                value.origin,
                drivers.join(" or ")
            );
            values.problem(problem);
        }
    }
}

/// How to reach Redis. Nothing of an address is shown: it may have a password in it.
#[cfg(feature = "redis")]
fn redis(values: &mut Values) -> RedisConfig {
    let text = |field| values.get(field).map(|value| value.text.as_str());
    let mut config = text("ADDR").map_or_else(RedisConfig::default, RedisConfig::new);
    if let Some(name) = text("USERNAME") {
        config = config.username(name);
    }
    if let Some(password) = text("PASSWORD") {
        config = config.password(Secret::new(password));
    }
    if let Some(number) = text("DB").and_then(|text| text.trim().parse().ok()) {
        config = config.db(number);
    }
    if let Some(connections) = text("POOL_SIZE").and_then(|text| text.trim().parse().ok()) {
        config = config.pool_size(connections);
    }
    if let Some(file) = text("TLS_CA") {
        config = config.tls_ca(file);
    }
    if let Some(file) = text("TLS_CERT") {
        config = config.tls_cert(file);
    }
    if let Some(file) = text("TLS_KEY") {
        config = config.tls_key(file);
    }
    // What is found wrong before is told already, with its source.
    if values.is_right()
        && let Err(error) = config.check()
    {
        let problem = match (error.message().strip_prefix("addr: "), values.get("ADDR")) {
            (Some(why), Some(value)) => {
                format!("{}: the value from {}: {why}", values.full_name("ADDR"), value.origin)
            }
            _ => format!("{}: {}", values.full_name("ADDR"), error.message()),
        };
        values.problem(problem);
    }
    config
}
