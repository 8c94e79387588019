//! Streams: `STREAMS.<NAME>.<FIELD>`, from the same sources as all settings.

mod fields;

use super::keys::{Key, STREAMS};
use super::named::{Block, Draft, Reading};
use super::parse::{self, Values};
use super::source::{Origin, normal};
use crate::pubsub::subject::check_subscribe;
use crate::streams::{Discard, Retention, Storage, StreamConfig};

pub(super) use fields::FIELDS;

/// Every field of a stream.
pub(crate) fn keys() -> &'static [Key] {
    FIELDS
}

/// The block of streams.
const BLOCK: Block = Block {
    name: STREAMS,
    fields: FIELDS,
    named_by: "SUBJECTS",
    what: "stream",
    example: "orders",
    example_field: "SUBJECTS",
};

/// Begins to read the streams of the sources.
pub(super) fn reading() -> Reading {
    Reading::new(&BLOCK)
}

/// The streams that were read, by name. What is wrong is a problem of `reading`.
pub(super) fn read(
    reading: &mut Reading,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Vec<StreamConfig> {
    let mut streams = Vec::new();
    for (name, Draft { mut values, others }) in reading.things() {
        values.expand(variable);
        for (field, (key, value)) in others {
            if let Origin::Environment(_) = value.origin {
                let meant = values.nearest(&field).map(|meant| {
                    let name = normal(&values.full_name(meant.short_name()));
                    format!(" (did you mean {name}?)")
                });
                reading.strange(key + &meant.unwrap_or_default());
            } else {
                let problem = BLOCK.unknown_field(&values, &key, &field, &value.origin);
                values.problem(problem);
            }
        }
        streams.extend(stream(&name, &mut values));
        values.into_problems().into_iter().for_each(|problem| reading.problem(problem));
    }
    streams
}

/// Reads every field into its type. What is wrong becomes a problem of `values`.
fn stream(name: &str, values: &mut Values) -> Option<StreamConfig> {
    const COUNT: &str = "a number of messages; expected for example 1000, and 0 for no limit";
    const SIZE: &str =
        "a size; expected a number of bytes, for example 1048576 or 64MiB, and 0 for no limit";
    const TIME: &str = "a duration; expected at least 100ms, for example 30s or 1h";
    let count = |text: &str| text.parse().ok().filter(|n| i64::try_from(*n).is_ok());
    let subjects = values.read_optional(
        "SUBJECTS",
        "a list of subjects; expected for example orders.>, or orders.*.created,invoices.>",
        subjects,
    );
    if values.get("SUBJECTS").is_none() {
        let key = values.full_name("SUBJECTS");
        values.problem(format!("{key} is not set; every stream needs it, for example orders.>"));
    }
    let config = StreamConfig {
        description: values.get("DESCRIPTION").map(|value| value.text.clone()),
        retention: values.choice_optional(
            "RETENTION",
            &[
                ("limits", Retention::Limits),
                ("workqueue", Retention::WorkQueue),
                ("interest", Retention::Interest),
            ],
        ),
        storage: values
            .choice_optional("STORAGE", &[("file", Storage::File), ("memory", Storage::Memory)]),
        replicas: values.read_optional(
            "REPLICAS",
            "a number of copies; expected 1 to 5",
            |text| text.parse().ok().filter(|n| (1..=5).contains(n)),
        ),
        max_age: values.read_optional(
            "MAX_AGE",
            "a duration; expected 0 for ever, or at least 100ms, for example 30s or 1h",
            parse::lifetime,
        ),
        max_bytes: values.read_optional("MAX_BYTES", SIZE, parse::size),
        max_messages: values.read_optional("MAX_MESSAGES", COUNT, count),
        max_messages_per_subject: values.read_optional("MAX_MESSAGES_PER_SUBJECT", COUNT, count),
        max_message_size: values.read_optional(
            "MAX_MESSAGE_SIZE",
            "a size below 2GiB; expected a number of bytes, for example 65536 or 1MiB, and 0 for no \
             limit",
            |text| i32::try_from(parse::size(text)?).ok()?.try_into().ok(),
        ),
        discard: values
            .choice_optional("DISCARD", &[("old", Discard::Old), ("new", Discard::New)]),
        duplicate_window: values.read_optional("DUPLICATE_WINDOW", TIME, |text| {
            parse::lifetime(text).filter(|window| !window.is_zero())
        }),
        compression: values.boolean_optional("COMPRESSION"),
        message_ttl: values.boolean_optional("MESSAGE_TTL"),
        schedules: values.boolean_optional("SCHEDULES"),
        fast_ingest: values.boolean_optional("FAST_INGEST"),
        atomic_publish: values.boolean_optional("ATOMIC_PUBLISH"),
        ..StreamConfig::new(name, subjects?)
    };
    if let Err(error) = config.check() {
        let problem = format!("{}: {}", values.domain(), error.message());
        values.problem(problem);
    }
    Some(config)
}

/// A comma list of subjects with wildcards.
fn subjects(text: &str) -> Option<Vec<String>> {
    let subjects: Vec<String> = text.split(',').map(|one| one.trim().to_owned()).collect();
    subjects.iter().all(|one| check_subscribe(one).is_ok()).then_some(subjects)
}
