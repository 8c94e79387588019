//! A stream's options as those of the JetStream API.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::connector::{Capabilities, Feature};
use crate::error::Result;
use crate::jetstream::{Info, Options, nanos};
use crate::streams::{Discard, Retention, Storage, StreamConfig, StreamStatus};

/// Where a stream's metadata keeps a number of its own, which tells two that make one stream at the
/// same time apart: to the server, making the same stream twice is making it once.
const MADE_BY: &str = "nats-connector.made-by";

/// A time to live on single messages, in words.
const MESSAGE_TTL: &str = "message TTL";
/// Publishing all or nothing, in words.
const ATOMIC_PUBLISH: &str = "atomic publish";

/// Refuses a message's lifetime where the server would drop it in silence.
pub(crate) fn require_message_ttl(server: &Capabilities) -> Result<()> {
    server.require_for(Feature::PerKeyTtl, MESSAGE_TTL)
}

/// Refuses publishing all or nothing where the server knows no such thing.
pub(crate) fn require_atomic_publish(server: &Capabilities) -> Result<()> {
    server.require_for(Feature::Transactions, ATOMIC_PUBLISH)
}

/// Refuses what the server is known to lack, before anything is sent.
pub(super) fn check_supported(config: &StreamConfig, server: &Capabilities) -> Result<()> {
    let features = [
        (config.compression, "compression", Feature::StreamCompression, "compression"),
        (config.message_ttl, "message_ttl", Feature::PerKeyTtl, MESSAGE_TTL),
        (config.schedules, "schedules", Feature::Schedules, "publishing later"),
        (config.fast_ingest, "fast_ingest", Feature::FastIngest, "fast ingest"),
        (config.atomic_publish, "atomic_publish", Feature::Transactions, ATOMIC_PUBLISH),
    ];
    features.into_iter().filter(|(wanted, ..)| *wanted == Some(true)).try_for_each(
        |(_, option, feature, name)| {
            server.require_for(feature, name).map_err(|error| error.with("option", option))
        },
    )
}

/// The stream options that `config` sets.
pub(super) fn options(config: &StreamConfig) -> Options {
    let mut options = Options::default();
    let mut set = |option, field, value: Option<Value>| options.set(option, field, value);
    let subjects = Some(&config.subjects).filter(|subjects| !subjects.is_empty());
    set("subjects", "subjects", subjects.map(|subjects| json!(subjects)));
    set("description", "description", config.description.as_ref().map(|text| json!(text)));
    set("retention", "retention", config.retention.map(|kind| json!(retention(kind))));
    set("storage", "storage", config.storage.map(|storage| json!(storage.to_string())));
    set("replicas", "num_replicas", config.replicas.map(|n| json!(n)));
    set("max_age", "max_age", config.max_age.map(|age| json!(nanos(age))));
    set("max_bytes", "max_bytes", config.max_bytes.map(limit));
    set("max_messages", "max_msgs", config.max_messages.map(limit));
    let per_subject = config.max_messages_per_subject.map(limit);
    set("max_messages_per_subject", "max_msgs_per_subject", per_subject);
    let size = config.max_message_size.map(|bytes| limit(bytes as u64));
    set("max_message_size", "max_msg_size", size);
    set("discard", "discard", config.discard.map(|discard| json!(discard.to_string())));
    let window = config.duplicate_window.map(|window| json!(nanos(window)));
    set("duplicate_window", "duplicate_window", window);
    let compression = config.compression.map(|on| json!(if on { "s2" } else { "none" }));
    set("compression", "compression", compression);
    set("message_ttl", "allow_msg_ttl", config.message_ttl.map(|on| json!(on)));
    set("schedules", "allow_msg_schedules", config.schedules.map(|on| json!(on)));
    set("fast_ingest", "allow_batched", config.fast_ingest.map(|on| json!(on)));
    set("atomic_publish", "allow_atomic", config.atomic_publish.map(|on| json!(on)));
    options
}

/// A new stream: what `config` sets, and no limits else. The window for duplicates is the server's.
pub(super) fn new_stream(config: &StreamConfig, server: &Capabilities) -> Map<String, Value> {
    let mut stream = Map::new();
    let mut set = |name: &str, value: Value| stream.insert(name.to_owned(), value);
    set("name", json!(config.name));
    set("retention", json!("limits"));
    set("discard", json!("old"));
    set("storage", json!("file"));
    set("num_replicas", json!(1));
    set("max_msgs", json!(-1));
    set("max_msgs_per_subject", json!(-1));
    set("max_bytes", json!(-1));
    set("max_msg_size", json!(-1));
    set("max_consumers", json!(-1));
    set("max_age", json!(0));
    set("allow_direct", json!(true));
    if server.supports(Feature::StreamMetadata) {
        let made_by = format!("{:016x}", rand::random::<u64>());
        set("metadata", json!({ MADE_BY: made_by }));
    }
    options(config).apply(&mut stream);
    stream
}

/// The config of a stream that is there, changed by `options`.
pub(super) fn changed(config: &StreamConfig, options: &Options, info: &Info) -> Map<String, Value> {
    let mut stream = info.config.clone();
    options.apply(&mut stream);
    // The server refuses to know message ids for longer than messages.
    if let Some(age) = config.max_age.filter(|age| !age.is_zero())
        && config.duplicate_window.is_none()
        && info.duration("duplicate_window").is_some_and(|window| window > age)
    {
        stream.insert("duplicate_window".to_owned(), json!(nanos(age)));
    }
    stream
}

/// A stream as the server tells it.
pub(super) fn status(name: &str, info: &Info) -> StreamStatus {
    let subjects = info.config.get("subjects").and_then(Value::as_array);
    let subjects = subjects.into_iter().flatten().filter_map(Value::as_str);
    let config = StreamConfig {
        description: Some(info.text("description").to_owned()),
        retention: match info.text("retention") {
            "limits" => Some(Retention::Limits),
            "workqueue" => Some(Retention::WorkQueue),
            "interest" => Some(Retention::Interest),
            _ => None,
        },
        storage: match info.text("storage") {
            "file" => Some(Storage::File),
            "memory" => Some(Storage::Memory),
            _ => None,
        },
        replicas: usize::try_from(info.number("num_replicas")).ok(),
        max_age: Some(info.duration("max_age").unwrap_or_default()),
        max_bytes: Some(info.limit("max_bytes")),
        max_messages: Some(info.limit("max_msgs")),
        max_messages_per_subject: Some(info.limit("max_msgs_per_subject")),
        max_message_size: usize::try_from(info.limit("max_msg_size")).ok(),
        discard: match info.text("discard") {
            "old" => Some(Discard::Old),
            "new" => Some(Discard::New),
            _ => None,
        },
        duplicate_window: Some(info.duration("duplicate_window").unwrap_or(Duration::ZERO)),
        compression: Some(!matches!(info.text("compression"), "" | "none")),
        message_ttl: Some(info.flag("allow_msg_ttl")),
        schedules: Some(info.flag("allow_msg_schedules")),
        fast_ingest: Some(info.flag("allow_batched")),
        atomic_publish: Some(info.flag("allow_atomic")),
        ..StreamConfig::new(name, subjects)
    };
    let mut status = StreamStatus::new(config);
    status.messages = info.state.messages;
    status.bytes = info.state.bytes;
    status.last_sequence = info.state.last_seq;
    status.first_sequence = if info.state.last_seq == 0 { 0 } else { info.state.first_seq };
    status.consumers = info.state.consumer_count;
    status.created = info.created();
    status
}

fn retention(retention: Retention) -> &'static str {
    match retention {
        Retention::Limits => "limits",
        Retention::WorkQueue => "workqueue",
        Retention::Interest => "interest",
    }
}

/// Zero is no limit here and -1 in a stream's config.
fn limit(n: u64) -> Value {
    if n == 0 { json!(-1) } else { json!(n) }
}
