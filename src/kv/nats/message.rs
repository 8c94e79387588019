//! Messages of a bucket's stream, as entries.

use async_nats::header::{NATS_MARKER_REASON, NATS_SEQUENCE};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use serde::Deserialize;

use super::api;
use super::bucket::Bucket;
use crate::connector::capabilities::ApiError;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{Entry, Found, Value};
use crate::serializer::CONTENT_TYPE;

/// The header of a message that is no value (ADR-8).
pub(super) const KV_OPERATION: &str = "KV-Operation";
/// A delete, in that header.
pub(super) const DELETED: &str = "DEL";
const PURGED: &str = "PURGE";

/// The answer to a direct get.
pub(super) fn direct(answer: Message) -> Result<Found> {
    if answer.status == Some(StatusCode::NOT_FOUND) {
        return Ok(Found::NEVER);
    }
    let sequence = answer.headers.as_ref().and_then(|headers| headers.get(NATS_SEQUENCE));
    let revision = sequence.and_then(|sequence| sequence.as_str().parse().ok());
    let (Some(headers), Some(revision)) = (&answer.headers, revision) else {
        let error = Error::new(ErrorKind::Other, "the server refused to read the key");
        let said = answer.status.map(|status| status.to_string()).into_iter();
        let said: Vec<String> = said.chain(answer.description).collect();
        return Err(error.with("answer", said.join(" ")));
    };
    Ok(entry(headers, revision, answer.payload))
}

/// A stored message.
pub(super) fn stored(raw: RawMessage) -> Result<Found> {
    let message = StreamMessage::try_from(raw).map_err(|error| {
        Error::new(ErrorKind::Decode, "the stored message cannot be read").with_source(error)
    })?;
    Ok(entry(&message.headers, message.sequence, message.payload))
}

/// A value, or nothing for what deletes, purges and expiries leave.
fn entry(headers: &HeaderMap, revision: u64, payload: Bytes) -> Found {
    let operation = headers.get(KV_OPERATION).map(|operation| operation.as_str());
    if matches!(operation, Some(DELETED | PURGED)) || headers.get(NATS_MARKER_REASON).is_some() {
        return Found::Nothing { revision };
    }
    let value = Value::new(payload);
    let value = match headers.get(CONTENT_TYPE) {
        Some(content_type) => value.with_content_type(content_type.as_str()),
        None => value,
    };
    Found::Value(Entry::new(value, revision))
}

/// The revision in a stream's acknowledgement.
pub(super) fn acknowledged(payload: &[u8], bucket: &Bucket) -> Result<u64> {
    #[derive(Deserialize)]
    struct Ack<'a> {
        #[serde(borrow)]
        stream: Option<&'a str>,
        seq: Option<u64>,
        error: Option<ApiError>,
    }
    match serde_json::from_slice(payload) {
        Ok(Ack { error: Some(refusal), .. }) => Err(api::write_error(&refusal, bucket)),
        Ok(Ack { stream: Some(stream), seq: Some(seq), .. }) if stream == bucket.stream => Ok(seq),
        Ok(Ack { stream: Some(stream), seq: Some(_), .. }) => Err(Error::new(
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
