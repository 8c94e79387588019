//! A stream's options: what is not said, and what a nats-server refuses.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::subject;
use crate::streams::{Discard, Retention, Storage, StreamConfig};

/// How long a stream knows message ids, unless it is told.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The shortest age and window.
const SHORTEST: Duration = Duration::from_millis(100);

/// The options of a new stream, every one of them said.
pub(super) fn complete(config: &StreamConfig) -> Result<StreamConfig> {
    let subjects = match &config.subjects[..] {
        [] => vec![config.name.clone()],
        subjects => subjects.to_vec(),
    };
    let nothing = StreamConfig::new(&config.name, subjects)
        .description("")
        .retention(Retention::default())
        .storage(Storage::default())
        .replicas(1)
        .max_age(Duration::ZERO)
        .max_bytes(0)
        .max_messages(0)
        .max_messages_per_subject(0)
        .max_message_size(0)
        .discard(Discard::default())
        .compression(false)
        .message_ttl(false)
        .schedules(false)
        .fast_ingest(false)
        .atomic_publish(false);
    let mut merged = merge(&nothing, config);
    if merged.duplicate_window.is_none_or(|window| window.is_zero()) {
        let age = merged.max_age.filter(|age| !age.is_zero());
        merged.duplicate_window = Some(age.unwrap_or(DUPLICATE_WINDOW).min(DUPLICATE_WINDOW));
    }
    check(&merged)?;
    Ok(merged)
}

/// The options of a stream after a change.
pub(super) fn changed(present: &StreamConfig, change: &StreamConfig) -> Result<StreamConfig> {
    let mut merged = merge(present, change);
    // Message ids are not known for longer than messages are kept.
    if let Some(age) = merged.max_age.filter(|age| !age.is_zero())
        && change.duplicate_window.is_none()
    {
        merged.duplicate_window = merged.duplicate_window.map(|window| window.min(age));
    }
    let work_queue = |config: &StreamConfig| config.retention == Some(Retention::WorkQueue);
    let refuse = |what| Err(refused(what, &present.name));
    if merged.storage != present.storage {
        return refuse("the storage of a stream that is there cannot change");
    }
    if work_queue(&merged) != work_queue(present) {
        return refuse("a stream that is there cannot become a work queue, nor cease to be one");
    }
    if merged.message_ttl == Some(false) && present.message_ttl == Some(true) {
        return refuse("lifetimes of messages, once there, cannot be switched off");
    }
    if merged.schedules == Some(false) && present.schedules == Some(true) {
        return refuse("schedules, once there, cannot be switched off");
    }
    check(&merged)?;
    Ok(merged)
}

/// What `change` says, and `base` where it says nothing.
fn merge(base: &StreamConfig, change: &StreamConfig) -> StreamConfig {
    let subjects = if change.subjects.is_empty() { &base.subjects } else { &change.subjects };
    StreamConfig {
        name: base.name.clone(),
        subjects: subjects.clone(),
        description: change.description.clone().or_else(|| base.description.clone()),
        retention: change.retention.or(base.retention),
        storage: change.storage.or(base.storage),
        replicas: change.replicas.or(base.replicas),
        max_age: change.max_age.or(base.max_age),
        max_bytes: change.max_bytes.or(base.max_bytes),
        max_messages: change.max_messages.or(base.max_messages),
        max_messages_per_subject: change.max_messages_per_subject.or(base.max_messages_per_subject),
        max_message_size: change.max_message_size.or(base.max_message_size),
        discard: change.discard.or(base.discard),
        duplicate_window: change.duplicate_window.or(base.duplicate_window),
        compression: change.compression.or(base.compression),
        message_ttl: change.message_ttl.or(base.message_ttl),
        schedules: change.schedules.or(base.schedules),
        fast_ingest: change.fast_ingest.or(base.fast_ingest),
        atomic_publish: change.atomic_publish.or(base.atomic_publish),
    }
}

fn check(config: &StreamConfig) -> Result<()> {
    let refuse = |what| Err(refused(what, &config.name));
    let unsupported = |what: &'static str| {
        Err(Error::new(ErrorKind::Unsupported, what).with("stream", &config.name))
    };
    if config.replicas.is_some_and(|replicas| replicas > 1) {
        return unsupported(
            "more than one replica needs a cluster; the memory driver is a single process",
        );
    }
    if config.fast_ingest == Some(true) {
        return unsupported("the memory driver has no fast ingest; leave it out");
    }
    let age = config.max_age.filter(|age| !age.is_zero());
    let window = config.duplicate_window.unwrap_or_default();
    if age.is_some_and(|age| age < SHORTEST) {
        return refuse("max_age is below 100 ms; give at least that");
    }
    if window < SHORTEST {
        return refuse("duplicate_window is below 100 ms; give at least that");
    }
    if age.is_some_and(|age| age < window) {
        return refuse("duplicate_window is longer than max_age; make it as short or shorter");
    }
    for (at, one) in config.subjects.iter().enumerate() {
        subject::check_subscribe(one).map_err(|error| error.with("stream", &config.name))?;
        if config.subjects[..at].iter().any(|other| subject::overlap(one, other)) {
            return Err(refused("two subjects of the stream overlap; keep one", &config.name)
                .with("subject", one));
        }
    }
    Ok(())
}

fn refused(what: &'static str, stream: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, what).with("stream", stream)
}
