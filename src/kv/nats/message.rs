//! Messages of a bucket's stream, as entries.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::header::HeaderValue;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use serde::Deserialize;

use super::bucket::Bucket;
use crate::connector::capabilities::ApiError;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::kv::driver::{Consistency, Entry, Found, Value, What};
use crate::serializer::CONTENT_TYPE;

/// The header of a message that is no value (ADR-8).
pub(super) const KV_OPERATION: &str = "KV-Operation";
/// A delete, in that header.
pub(super) const DELETED: &str = "DEL";
/// A delete with the key's history, in that header.
pub(super) const PURGED: &str = "PURGE";
/// When a value's own lifetime ends, in milliseconds of Unix time by the server's clock. Written
/// where the moment is no whole number of seconds from the write, which is all that the server's
/// own lifetimes can say.
pub(super) const EXPIRES: &str = "Nats-Connector-Expires";
/// A lifetime that the bucket's does not end either.
const NEVER: &str = "never";

/// The headers that say something of a message, found in one pass: looking each one up takes longer.
#[derive(Debug, Default)]
pub(super) struct Headers<'a> {
    operation: Option<&'a str>,
    reason: Option<&'a str>,
    ttl: Option<&'a str>,
    expires: Option<&'a str>,
    content_type: Option<&'a str>,
    sequence: Option<&'a str>,
    time: Option<&'a str>,
    subject: Option<&'a str>,
    last: Option<&'a str>,
    left: Option<&'a str>,
}

impl<'a> Headers<'a> {
    pub(super) fn read(headers: Option<&'a HeaderMap>) -> Self {
        let mut found = Headers::default();
        for (name, values) in headers.iter().flat_map(|headers| headers.iter()) {
            let value = values.first().map(HeaderValue::as_str);
            match name.as_ref() {
                KV_OPERATION => found.operation = value,
                "Nats-Marker-Reason" => found.reason = value,
                "Nats-TTL" => found.ttl = value,
                EXPIRES => found.expires = value,
                CONTENT_TYPE => found.content_type = value,
                "Nats-Sequence" => found.sequence = value,
                "Nats-Time-Stamp" => found.time = value,
                "Nats-Subject" => found.subject = value,
                "Nats-Last-Sequence" => found.last = value,
                "Nats-Num-Pending" => found.left = value,
                _ => {}
            }
        }
        found
    }

    /// The subject that a copy's message was stored under.
    pub(super) fn subject(&self) -> &'a str {
        self.subject.unwrap_or_default()
    }

    /// The revision of the message before this one, in an answer of many.
    pub(super) fn last(&self) -> Option<u64> {
        self.last?.parse().ok()
    }

    /// How many messages an answer of many leaves out.
    pub(super) fn left(&self) -> u64 {
        self.left.and_then(|left| left.parse().ok()).unwrap_or(0)
    }
}

/// The answer to a direct get of one key.
pub(super) fn direct(bucket: &Bucket, answer: Message) -> Result<Found> {
    let Message { status, description, headers, payload, .. } = answer;
    if status == Some(StatusCode::NOT_FOUND) {
        return Ok(Found::NEVER);
    }
    copy(bucket, &Headers::read(headers.as_ref()), payload).ok_or_else(|| {
        let said = status.map(|status| status.to_string()).into_iter();
        let said: Vec<String> = said.chain(description).collect();
        let error = Error::new(ErrorKind::Other, "the server refused to read the key");
        error.with("answer", said.join(" "))
    })
}

/// What a message says of its key, as copies of a stream give it; nothing where it is none.
pub(super) fn copy(bucket: &Bucket, headers: &Headers<'_>, payload: Bytes) -> Option<Found> {
    let revision = headers.sequence?.parse().ok()?;
    let stored = headers.time.and_then(|time| humantime::parse_rfc3339(time).ok());
    Some(found(what(bucket, headers, revision, stored, payload), revision))
}

/// A message as the stream's leader gives it.
pub(super) fn stored(bucket: &Bucket, raw: RawMessage, consistency: Consistency) -> Result<Found> {
    let message = StreamMessage::try_from(raw).map_err(|error| {
        Error::new(ErrorKind::Decode, "the stored message cannot be read").with_source(error)
    })?;
    let StreamMessage { sequence, headers, payload, time, .. } = message;
    let headers = Headers::read(Some(&headers));
    let what = what(bucket, &headers, sequence, Some(time.into()), payload);
    Ok(match what {
        What::Put(entry) if consistency == Consistency::Stored => Found::Value(entry),
        what => found(what, sequence),
    })
}

/// What a message did to its key, stored at this moment of the server's clock. Times in an entry
/// are local ones.
pub(super) fn what(
    bucket: &Bucket,
    headers: &Headers<'_>,
    revision: u64,
    stored: Option<SystemTime>,
    payload: Bytes,
) -> What {
    match (headers.operation, headers.reason) {
        (Some(DELETED), _) => What::Deleted,
        (Some(PURGED), _) | (_, Some("Purge")) => What::Purged,
        (_, Some("MaxAge")) => What::Expired,
        (_, Some(_)) => What::Deleted,
        (_, None) => What::Put(entry(bucket, headers, revision, stored, payload)),
    }
}

fn entry(
    bucket: &Bucket,
    headers: &Headers<'_>,
    revision: u64,
    stored: Option<SystemTime>,
    payload: Bytes,
) -> Entry {
    let value = Value::new(payload);
    let value = match headers.content_type {
        Some(content_type) => value.with_content_type(content_type),
        None => value,
    };
    let local = |at: SystemTime| bucket.clock.local(at);
    let ttl = headers.ttl;
    let own = match headers.expires.and_then(|at| at.parse().ok()) {
        Some(millis) => UNIX_EPOCH.checked_add(Duration::from_millis(millis)),
        None => ttl.and_then(seconds).and_then(|ttl| stored?.checked_add(ttl)),
    };
    let max_age = bucket.max_age.filter(|_| ttl != Some(NEVER));
    let of_bucket = max_age.and_then(|age| stored?.checked_add(age));
    Entry::new(value, revision)
        .with_created(stored.and_then(local))
        .with_expiry(own.and_then(local), of_bucket.and_then(local))
}

/// A lifetime as the server takes it: `5`, `5s`, `1m30s`, in whole seconds.
fn seconds(ttl: &str) -> Option<Duration> {
    let seconds = match ttl.parse() {
        Ok(seconds) => seconds,
        Err(_) => humantime::parse_duration(ttl).ok()?.as_secs(),
    };
    Some(Duration::from_secs(seconds))
}

/// What a reader finds: a value that has ended is none, also while the server still has it.
fn found(what: What, revision: u64) -> Found {
    match what {
        What::Put(entry) if !has_ended(&entry) => Found::Value(entry),
        _ => Found::Nothing { revision },
    }
}

/// Whether a value's own lifetime is over. That of the bucket is for the server to say: it may have
/// been changed since it was read.
pub(super) fn has_ended(entry: &Entry) -> bool {
    entry.expires.is_some_and(|expires| expires <= SystemTime::now())
}

/// A stream's acknowledgement.
pub(super) struct Ack {
    /// The revision of the message, or of the last one of a batch.
    pub(super) revision: u64,
    /// How many messages a batch had.
    pub(super) count: Option<u64>,
}

/// Reads the answer to a write.
pub(super) fn acknowledged(payload: &[u8], bucket: &Bucket) -> Result<Ack> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        stream: Option<&'a str>,
        seq: Option<u64>,
        count: Option<u64>,
        error: Option<ApiError>,
    }
    match serde_json::from_slice(payload) {
        Ok(Answer { error: Some(refusal), .. }) => Err(write_error(&refusal, bucket)),
        Ok(Answer { stream: Some(stream), seq: Some(revision), count, .. })
            if stream == bucket.stream =>
        {
            Ok(Ack { revision, count })
        }
        Ok(Answer { stream: Some(stream), seq: Some(_), .. }) => Err(Error::new(
            ErrorKind::Other,
            "another stream than the bucket's took the value: its subjects cover those of buckets",
        )
        .with("stream", stream)),
        Ok(_) | Err(_) => Err(Error::new(
            ErrorKind::Other,
            "the answer to a write is no acknowledgement of a stream: something else answers on \
             the subjects of the bucket",
        )),
    }
}

/// The refusal of a write to `bucket`, naming the limit that it is about.
fn write_error(failure: &ApiError, bucket: &Bucket) -> Error {
    match failure.err_code {
        jetstream::MESSAGE_TOO_LARGE => {
            let limit =
                bucket.max_value_size.map_or("its limit".to_owned(), |n| format!("{n} bytes"));
            Error::new(
                ErrorKind::TooLarge,
                format!("the bucket takes values of at most {limit}, headers included"),
            )
        }
        jetstream::STREAM_FULL => Error::new(ErrorKind::TooLarge, "the bucket is full (max_bytes)"),
        code if jetstream::is_wrong_last_sequence(code) => {
            Error::new(ErrorKind::Conflict, "the key has another revision")
                .with("err_code", code.to_string())
        }
        _ => jetstream::error(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jetstream::Clock;
    use crate::kv::KeyCodec;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        headers
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn stored() -> SystemTime {
        UNIX_EPOCH + 1_700_000_000 * SECOND
    }

    /// When a value with these headers ends, by itself and after all, in a bucket of this lifetime.
    fn ends(max_age: Option<Duration>, pairs: &[(&str, &str)]) -> [Option<SystemTime>; 2] {
        // The server's clock is ten seconds ahead.
        let clock = Clock::read(stored() - 10 * SECOND, stored(), stored() - 10 * SECOND);
        let mut bucket = Bucket::named("b", KeyCodec::Raw);
        (bucket.max_age, bucket.clock) = (max_age, clock);
        let headers = headers(pairs);
        let headers = Headers::read(Some(&headers));
        match what(&bucket, &headers, 7, Some(stored()), Bytes::new()) {
            What::Put(entry) => {
                assert_eq!(entry.created, Some(stored() - 10 * SECOND));
                [entry.expires, entry.ends].map(|at| at.map(|at| at + 10 * SECOND))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lifetimes_are_read_by_the_servers_clock() {
        let at = |seconds| Some(stored() + seconds * SECOND);
        assert_eq!(ends(None, &[]), [None, None]);
        for ttl in ["90", "90s", "1m30s", "1m30.9s"] {
            assert_eq!(ends(None, &[("Nats-TTL", ttl)]), [at(90), at(90)], "{ttl}");
        }
        let hour = Some(3600 * SECOND);
        assert_eq!(ends(hour, &[]), [None, at(3600)]);
        assert_eq!(ends(hour, &[("Nats-TTL", "90")]), [at(90), at(90)]);
        assert_eq!(ends(hour, &[("Nats-TTL", "7200")]), [at(7200), at(3600)]);
        assert_eq!(ends(hour, &[("Nats-TTL", "never")]), [None, None]);
        let exact = [(EXPIRES, "1700000001500"), ("Nats-TTL", "2")];
        assert_eq!(ends(None, &exact)[0], Some(stored() + SECOND * 3 / 2));
        for nonsense in ["", "x", "-1", "99999999999999999999"] {
            assert_eq!(ends(None, &[("Nats-TTL", nonsense)]), [None, None], "{nonsense}");
        }
    }

    #[test]
    fn markers_are_told_apart() {
        let bucket = Bucket::named("b", KeyCodec::Raw);
        let told = |name, text| {
            let headers = headers(&[(name, text)]);
            let headers = Headers::read(Some(&headers));
            what(&bucket, &headers, 1, Some(stored()), Bytes::new())
        };
        assert_eq!(told("KV-Operation", "DEL"), What::Deleted);
        assert_eq!(told("KV-Operation", "PURGE"), What::Purged);
        assert_eq!(told("Nats-Marker-Reason", "MaxAge"), What::Expired);
        assert_eq!(told("Nats-Marker-Reason", "Purge"), What::Purged);
        assert_eq!(told("Nats-Marker-Reason", "Remove"), What::Deleted);
        assert!(matches!(told("Content-Type", "text/plain"), What::Put(_)));
    }
}
