//! A bucket's options as those of its stream (ADR-8).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::api::Info;
use super::bucket::stream_name;
use crate::connector::{Capabilities, Feature};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{BucketConfig, KeyCodec};

/// Where a bucket's metadata keeps its key codec.
const KEY_CODEC: &str = "nats-connector.key-codec";

/// How long the server tells readers that a value has expired: the least it allows, since a longer
/// one would raise shorter lifetimes of keys in buckets with history.
const LIMIT_MARKER_TTL: Duration = Duration::from_secs(1);
/// The stream's window for duplicates, where values live longer.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Stream options that a bucket's config sets, by their names in the API.
pub(super) struct Options(Vec<(&'static str, Value)>);

impl Options {
    /// What `config` sets.
    pub(super) fn of(config: &BucketConfig) -> Self {
        let mut options = Vec::new();
        let mut set = |name, value: Option<Value>| options.extend(value.map(|value| (name, value)));
        set("max_age", config.ttl.map(|ttl| json!(nanos(ttl))));
        set("duplicate_window", config.ttl.map(|ttl| json!(nanos(duplicate_window(ttl)))));
        set("num_replicas", config.replicas.map(|n| json!(n)));
        set("storage", config.storage.map(|storage| json!(storage.to_string())));
        set("max_msgs_per_subject", config.history.map(|n| json!(n)));
        set("max_msg_size", config.max_value_size.map(|n| limit(n as u64)));
        set("max_bytes", config.max_bytes.map(limit));
        set("description", config.description.as_ref().map(|text| json!(text)));
        set("compression", config.compression.map(|on| json!(if on { "s2" } else { "none" })));
        Options(options)
    }

    /// The first option that a stream does not have as it is set here. Servers leave out what has
    /// no effect, and leave out in silence what they do not know.
    pub(super) fn first_missing(&self, info: &Info) -> Option<&'static str> {
        let has = |name: &str, value: &Value| match info.config.get(name) {
            Some(found) => found == value,
            None => *value == json!("") || *value == json!("none"),
        };
        self.0.iter().find(|(name, value)| !has(name, value)).map(|(name, _)| *name)
    }

    pub(super) fn apply(&self, config: &mut Map<String, Value>) {
        for (name, value) in &self.0 {
            config.insert((*name).to_owned(), value.clone());
        }
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
        set("metadata", json!({ KEY_CODEC: codec.as_str() }));
    }
    if server.supports(Feature::PerKeyTtl) {
        set("allow_msg_ttl", json!(true));
        set("subject_delete_marker_ttl", json!(nanos(LIMIT_MARKER_TTL)));
    }
    Options::of(config).apply(&mut stream);
    stream
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

fn nanos(duration: Duration) -> u64 {
    // The server's own range is that of i64.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX as u64)
}

fn duplicate_window(ttl: Duration) -> Duration {
    if ttl.is_zero() { DUPLICATE_WINDOW } else { ttl.min(DUPLICATE_WINDOW) }
}

/// Zero is no limit here and -1 in a stream's config.
fn limit(n: u64) -> Value {
    if n == 0 { json!(-1) } else { json!(n) }
}
