//! What a dead letter's headers say about it.

use std::fmt;
use std::time::SystemTime;

use async_nats::{HeaderMap, HeaderValue, Subject};

use crate::pubsub::durable::dead::{
    CAUSE, CONSUMER, DELIVERIES, MESSAGE_ID, SEQUENCE, STREAM, SUBJECT, TIME,
};
use crate::pubsub::headers::{of_the_user, without};
use crate::pubsub::subject::check_publish;

const NAMES: [&str; 8] = [CAUSE, CONSUMER, DELIVERIES, MESSAGE_ID, SEQUENCE, STREAM, SUBJECT, TIME];

/// Where a dead letter comes from, and why.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) subject: Subject,
    pub(super) stream: String,
    pub(super) sequence: u64,
    pub(super) consumer: String,
    pub(super) cause: String,
    pub(super) deliveries: u64,
    pub(super) published: Option<SystemTime>,
    pub(super) message_id: Option<String>,
}

impl Record {
    /// What was added to a message's headers when it died, and what they were before; `None` for a
    /// message that is no dead letter.
    pub(super) fn read(headers: &HeaderMap) -> Option<(Self, HeaderMap)> {
        let text = |name| headers.get(name).map(HeaderValue::as_str);
        let subject = text(SUBJECT)?;
        check_publish(subject).ok()?;
        let record = Record {
            subject: subject.into(),
            stream: text(STREAM)?.to_owned(),
            sequence: text(SEQUENCE)?.parse().ok()?,
            consumer: text(CONSUMER)?.to_owned(),
            cause: text(CAUSE)?.to_owned(),
            deliveries: text(DELIVERIES)?.parse().ok()?,
            published: text(TIME).and_then(|time| humantime::parse_rfc3339(time).ok()),
            message_id: text(MESSAGE_ID).map(str::to_owned),
        };
        Some((record, without(&of_the_user(headers), |name| NAMES.contains(&name))))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("subject", &self.subject)
            .field("stream", &self.stream)
            .field("sequence", &self.sequence)
            .field("consumer", &self.consumer)
            .field("cause", &self.cause)
            .field("deliveries", &self.deliveries)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (SUBJECT, "orders.new"),
            (STREAM, "ORDERS"),
            (SEQUENCE, "7"),
            (CONSUMER, "billing"),
            (CAUSE, "no tax"),
            (DELIVERIES, "5"),
            (TIME, "2026-01-01T00:00:00Z"),
            (MESSAGE_ID, "one"),
            ("Nats-Msg-Id", "ORDERS:7:billing"),
            ("Trace", "1"),
        ] {
            headers.insert(name, value);
        }
        headers
    }

    #[test]
    fn a_record_is_told_from_the_messages_own_headers() {
        let (record, own) = Record::read(&letter()).unwrap();
        assert_eq!((record.subject.as_str(), record.sequence), ("orders.new", 7));
        assert_eq!((record.deliveries, record.message_id.as_deref()), (5, Some("one")));
        assert!(record.published.is_some());
        let names: Vec<&str> = own.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["Trace"]);
    }

    #[test]
    fn what_is_not_whole_is_no_dead_letter() {
        assert!(Record::read(&HeaderMap::new()).is_none());
        for name in [SUBJECT, STREAM, SEQUENCE, CONSUMER, CAUSE, DELIVERIES] {
            let headers = without(&letter(), |other| other == name);
            assert!(Record::read(&headers).is_none(), "{name}");
        }
        for (name, value) in [(SUBJECT, "orders.*"), (SEQUENCE, "x"), (DELIVERIES, "-1")] {
            let mut headers = letter();
            headers.insert(name, value);
            assert!(Record::read(&headers).is_none(), "{name}");
        }
    }
}
