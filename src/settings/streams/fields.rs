//! The one list of a stream's settings.

use super::super::keys::{BOOLEAN, DURATION, Key, TEXT};

const MESSAGES: &str = "messages; 0 without limit";
const BYTES: &str = "bytes, or with KiB, MiB, GiB, TiB; 0 without limit";

/// Every field, in the order in which reference.conf explains them. `<NAME>` is the stream's.
pub(in super::super) const FIELDS: &[Key] = &[
    Key::new(
        "STREAMS.<NAME>.SUBJECTS",
        "subject list",
        "What the stream keeps the messages of, separated by commas, with the wildcards of NATS; the \
         topic prefix is put before each. Every stream needs it.",
    ),
    Key::new("STREAMS.<NAME>.DESCRIPTION", TEXT, "What the stream is for, at most 4096 bytes."),
    Key::new(
        "STREAMS.<NAME>.RETENTION",
        "limits | workqueue | interest",
        "When a message goes: when it is too old or the stream is full, when a consumer has settled \
         it, or when every consumer that it is for has.",
    ),
    Key::new(
        "STREAMS.<NAME>.STORAGE",
        "file | memory",
        "Whether the stream survives a restart of the servers that hold it.",
    ),
    Key::new(
        "STREAMS.<NAME>.REPLICAS",
        "integer",
        "How many servers of a cluster keep a copy of the stream.",
    )
    .unit_of("copies, 1 to 5"),
    Key::new("STREAMS.<NAME>.MAX_AGE", DURATION, "How long the stream keeps each message.")
        .unit_of("time with its unit (500ms, 2s, 1m30s), at least 100ms; 0 for ever"),
    Key::new("STREAMS.<NAME>.MAX_BYTES", "size", "How much the stream may hold.").unit_of(BYTES),
    Key::new("STREAMS.<NAME>.MAX_MESSAGES", "integer", "How many messages the stream may hold.")
        .unit_of(MESSAGES),
    Key::new(
        "STREAMS.<NAME>.MAX_MESSAGES_PER_SUBJECT",
        "integer",
        "How many messages of each subject the stream may hold.",
    )
    .unit_of(MESSAGES),
    Key::new(
        "STREAMS.<NAME>.MAX_MESSAGE_SIZE",
        "size",
        "The largest message that the stream takes, with its headers.",
    )
    .unit_of(BYTES),
    Key::new(
        "STREAMS.<NAME>.DISCARD",
        "old | new",
        "What a full stream does: it gives up its oldest messages, or refuses new ones.",
    ),
    Key::new(
        "STREAMS.<NAME>.DUPLICATE_WINDOW",
        DURATION,
        "How long the stream knows message ids: within it a message that is published twice is \
         stored once. No longer than MAX_AGE.",
    )
    .unit_of("time with its unit (500ms, 2s, 1m30s), at least 100ms"),
    Key::new(
        "STREAMS.<NAME>.COMPRESSION",
        BOOLEAN,
        "Whether the server compresses what it stores; needs nats-server 2.10.",
    ),
    Key::new(
        "STREAMS.<NAME>.MESSAGE_TTL",
        BOOLEAN,
        "Whether single messages may have a lifetime of their own; needs nats-server 2.11, and cannot \
         be taken back.",
    ),
    Key::new(
        "STREAMS.<NAME>.SCHEDULES",
        BOOLEAN,
        "Whether the stream publishes messages later, for which it gets one more subject; needs \
         nats-server 2.12, and cannot be taken back.",
    ),
    Key::new(
        "STREAMS.<NAME>.FAST_INGEST",
        BOOLEAN,
        "Whether many messages may be published without an acknowledgement for each; needs \
         nats-server 2.14.",
    ),
    Key::new(
        "STREAMS.<NAME>.ATOMIC_PUBLISH",
        BOOLEAN,
        "Whether several messages may be published together or not at all; needs nats-server 2.12.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_by_its_end() {
        for a in FIELDS {
            for b in FIELDS {
                let ending = format!("_{}", b.short_name());
                assert!(!a.short_name().ends_with(&ending), "{} and {}", a.name(), b.name());
            }
        }
    }
}
