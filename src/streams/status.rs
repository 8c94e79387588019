//! A stream as it is, and how that differs from what is asked for.

use std::time::{Duration, SystemTime};

use super::StreamConfig;
use crate::difference::{Difference, Differences};

/// A stream as it was at the moment of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStatus {
    /// Its name, its full subjects and its options, all of those that the back end tells.
    pub config: StreamConfig,
    /// How many messages it holds.
    pub messages: u64,
    /// The size of what it holds.
    pub bytes: u64,
    /// The sequence of its first message; 0 before there was one.
    pub first_sequence: u64,
    /// The sequence of its last message; 0 before there was one.
    pub last_sequence: u64,
    /// How many consumers it has.
    pub consumers: usize,
    /// When it was made, where the back end knows: another time is another stream.
    pub created: Option<SystemTime>,
}

impl StreamStatus {
    /// An empty stream, as drivers begin to tell one.
    #[must_use]
    pub const fn new(config: StreamConfig) -> Self {
        StreamStatus {
            config,
            messages: 0,
            bytes: 0,
            first_sequence: 0,
            last_sequence: 0,
            consumers: 0,
            created: None,
        }
    }
}

impl StreamConfig {
    /// What this one sets and `found` has otherwise. Subjects are compared as they are written, in
    /// whichever order.
    #[must_use]
    pub fn differences(&self, found: &StreamConfig) -> Vec<Difference> {
        let mut differences = Differences::default();
        let mut compare = |option, wanted, found| differences.compare(option, wanted, found);
        if !self.subjects.is_empty() {
            compare("subjects", Some(listed(&self.subjects)), Some(listed(&found.subjects)));
        }
        let text = |text: &Option<String>| text.as_ref().map(|text| format!("{text:?}"));
        compare("description", text(&self.description), text(&found.description));
        compare("retention", shown(self.retention), shown(found.retention));
        compare("storage", shown(self.storage), shown(found.storage));
        compare("replicas", shown(self.replicas), shown(found.replicas));
        compare("max_age", self.max_age.map(age), found.max_age.map(age));
        compare("max_bytes", self.max_bytes.map(size), found.max_bytes.map(size));
        let (wanted, there) = (self.max_messages, found.max_messages);
        compare("max_messages", wanted.map(count), there.map(count));
        let (wanted, there) = (self.max_messages_per_subject, found.max_messages_per_subject);
        compare("max_messages_per_subject", wanted.map(count), there.map(count));
        let bytes = |bytes: usize| size(bytes as u64);
        let (wanted, there) = (self.max_message_size, found.max_message_size);
        compare("max_message_size", wanted.map(bytes), there.map(bytes));
        compare("discard", shown(self.discard), shown(found.discard));
        let (wanted, there) = (self.duplicate_window, found.duplicate_window);
        compare("duplicate_window", wanted.map(age), there.map(age));
        compare("compression", shown(self.compression), shown(found.compression));
        compare("message_ttl", shown(self.message_ttl), shown(found.message_ttl));
        compare("schedules", shown(self.schedules), shown(found.schedules));
        compare("fast_ingest", shown(self.fast_ingest), shown(found.fast_ingest));
        compare("atomic_publish", shown(self.atomic_publish), shown(found.atomic_publish));
        differences.into_vec()
    }
}

fn shown(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn listed(subjects: &[String]) -> String {
    let mut subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    subjects.sort_unstable();
    subjects.join(", ")
}

fn age(age: Duration) -> String {
    match age.is_zero() {
        true => "none".to_owned(),
        false => humantime::format_duration(age).to_string(),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "no limit".to_owned(),
        bytes => format!("{bytes} bytes"),
    }
}

fn count(messages: u64) -> String {
    match messages {
        0 => "no limit".to_owned(),
        messages => messages.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Retention;
    use super::*;

    #[test]
    fn only_what_is_asked_for_can_differ() {
        let hour = Duration::from_secs(3600);
        let found = StreamConfig::new("S", ["b", "a"]).max_age(hour).max_bytes(0).replicas(3);
        assert_eq!(StreamConfig::new("S", ["a", "b"]).differences(&found), []);
        let wanted = StreamConfig::new("S", ["a", "c"])
            .max_age(Duration::ZERO)
            .max_bytes(10)
            .replicas(3)
            .retention(Retention::WorkQueue);
        let told: Vec<String> =
            wanted.differences(&found).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "subjects is a, b, not a, c",
                "retention is unknown, not work queue",
                "max_age is 1h, not none",
                "max_bytes is no limit, not 10 bytes",
            ]
        );
    }
}
