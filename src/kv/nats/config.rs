//! A bucket's options as those of its stream (ADR-8).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::bucket::stream_name;
use crate::connector::{Capabilities, Feature};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::{Info, Options, nanos};
use crate::kv::{BucketConfig, KeyCodec, Storage};

/// Where a bucket's metadata keeps its key codec.
const KEY_CODEC: &str = "nats-connector.key-codec";
/// Where it keeps a number of its own, which tells two that make one bucket at the same time apart:
/// to the server, making the same stream twice is making it once.
const MADE_BY: &str = "nats-connector.made-by";
/// The lifetime of limit markers, which is set where there is none.
const MARKER_TTL: &str = "subject_delete_marker_ttl";

/// How long the server tells readers that a value has expired: the least it allows, since a longer
/// one would raise shorter lifetimes of keys in buckets with history.
const LIMIT_MARKER_TTL: Duration = Duration::from_secs(1);
/// The stream's window for duplicates, where values live longer.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The stream options that `config` sets.
pub(super) fn options(config: &BucketConfig) -> Options {
    let mut options = Options::default();
    let mut set = |option, field, value: Option<Value>| options.set(option, field, value);
    set("ttl", "max_age", config.ttl.map(|ttl| json!(nanos(ttl))));
    set("ttl", "duplicate_window", config.ttl.map(|ttl| json!(nanos(duplicate_window(ttl)))));
    set("replicas", "num_replicas", config.replicas.map(|n| json!(n)));
    set("storage", "storage", config.storage.map(|storage| json!(storage.to_string())));
    set("history", "max_msgs_per_subject", config.history.map(|n| json!(n)));
    set("max_value_size", "max_msg_size", config.max_value_size.map(|n| limit(n as u64)));
    set("max_bytes", "max_bytes", config.max_bytes.map(limit));
    set("description", "description", config.description.as_ref().map(|text| json!(text)));
    let compression = config.compression.map(|on| json!(if on { "s2" } else { "none" }));
    set("compression", "compression", compression);
    set("per_key_ttl", "allow_msg_ttl", config.per_key_ttl.map(|on| json!(on)));
    set("transactions", "allow_atomic", config.transactions.map(|on| json!(on)));
    options
}

/// Gives a stream's config these options.
pub(super) fn apply(options: &Options, stream: &mut Map<String, Value>) {
    options.apply(stream);
    let ttl = stream.get("allow_msg_ttl") == Some(&json!(true));
    if ttl && stream.get(MARKER_TTL).and_then(Value::as_i64).unwrap_or(0) == 0 {
        stream.insert(MARKER_TTL.to_owned(), json!(nanos(LIMIT_MARKER_TTL)));
    }
}

/// The stream of a new bucket: what `config` sets, and for the rest what keeps a key's last value
/// for ever, as far as this server can.
pub(super) fn new_stream(
    config: &BucketConfig,
    codec: KeyCodec,
    server: &Capabilities,
) -> Map<String, Value> {
    let mut stream = Map::new();
    let mut set = |name: &str, value: Value| stream.insert(name.to_owned(), value);
    set("name", json!(stream_name(&config.name)));
    set("subjects", json!([format!("$KV.{}.>", config.name)]));
    set("retention", json!("limits"));
    set("discard", json!("new"));
    set("storage", json!("file"));
    set("num_replicas", json!(1));
    set("max_msgs_per_subject", json!(1));
    set("max_msgs", json!(-1));
    set("max_bytes", json!(-1));
    set("max_msg_size", json!(-1));
    set("max_consumers", json!(-1));
    set("max_age", json!(0));
    set("duplicate_window", json!(nanos(DUPLICATE_WINDOW)));
    set("allow_rollup_hdrs", json!(true));
    set("deny_delete", json!(true));
    set("allow_direct", json!(true));
    if server.supports(Feature::StreamMetadata) {
        let made_by = format!("{:016x}", rand::random::<u64>());
        set("metadata", json!({ KEY_CODEC: codec.as_str(), MADE_BY: made_by }));
    }
    if server.supports(Feature::PerKeyTtl) {
        set("allow_msg_ttl", json!(true));
    }
    if server.supports(Feature::Transactions) {
        set("allow_atomic", json!(true));
    }
    apply(&options(config), &mut stream);
    stream
}

/// A stream's config as that of the bucket `name`, all of it that a bucket has.
pub(super) fn bucket_config(name: &str, info: &Info, default: KeyCodec) -> BucketConfig {
    BucketConfig {
        name: name.to_owned(),
        ttl: Some(info.duration("max_age").unwrap_or_default()),
        replicas: usize::try_from(info.number("num_replicas")).ok(),
        storage: match info.text("storage") {
            "file" => Some(Storage::File),
            "memory" => Some(Storage::Memory),
            _ => None,
        },
        // Streams of others may keep more than a bucket can.
        history: u8::try_from(info.number("max_msgs_per_subject")).ok(),
        max_value_size: usize::try_from(info.limit("max_msg_size")).ok(),
        max_bytes: Some(info.limit("max_bytes")),
        description: Some(info.text("description").to_owned()),
        compression: Some(!matches!(info.text("compression"), "" | "none")),
        key_codec: Some(kept_codec(info).unwrap_or(default)),
        per_key_ttl: Some(info.flag("allow_msg_ttl")),
        transactions: Some(info.flag("allow_atomic")),
    }
}

/// The codec that a stream's metadata names.
pub(super) fn kept_codec(info: &Info) -> Option<KeyCodec> {
    info.config.get("metadata")?.get(KEY_CODEC)?.as_str()?.parse().ok()
}

/// Writes the codec into a stream's metadata, beside what is there.
pub(super) fn keep_codec(stream: &mut Map<String, Value>, codec: KeyCodec) {
    let metadata = stream.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert(KEY_CODEC.to_owned(), json!(codec.as_str()));
    }
}

/// Refuses what the server is known to lack, before anything is sent.
pub(super) fn check_supported(
    config: &BucketConfig,
    default: KeyCodec,
    server: &Capabilities,
) -> Result<()> {
    if config.compression == Some(true) {
        server.require(Feature::StreamCompression)?;
    }
    if config.per_key_ttl == Some(true) {
        server.require(Feature::PerKeyTtl)?;
    }
    if config.transactions == Some(true) {
        server.require(Feature::Transactions)?;
    }
    if config.key_codec.is_some_and(|codec| codec != default) {
        server.require(Feature::StreamMetadata).map_err(|error| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "a bucket cannot keep a key codec of its own ({error}); set NATS.KEY_CODEC for \
                     all buckets"
                ),
            )
        })?;
    }
    Ok(())
}

fn duplicate_window(ttl: Duration) -> Duration {
    if ttl.is_zero() { DUPLICATE_WINDOW } else { ttl.min(DUPLICATE_WINDOW) }
}

/// Zero is no limit here and -1 in a stream's config.
fn limit(n: u64) -> Value {
    if n == 0 { json!(-1) } else { json!(n) }
}
