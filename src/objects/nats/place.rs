//! Where a bucket's messages are, and how they are read and written.

use std::collections::HashMap;
use std::time::SystemTime;

use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID, NATS_ROLLUP};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderMap, HeaderValue, StatusCode, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::message::Meta;
use crate::connector::capabilities::ApiError;
use crate::connector::{Feature, Link};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::objects::ObjectInfo;
use crate::objects::driver::Consistency;

/// What the names of buckets' streams begin with (ADR-20).
pub(super) const STREAM_PREFIX: &str = "OBJ_";
/// A message that takes the place of all earlier ones of its subject.
const ROLLUP_SUBJECT: &str = "sub";

/// A bucket's names.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) stream: String,
}

/// What a bucket tells of a name.
#[derive(Clone)]
pub(super) struct Seen {
    bucket: String,
    /// The sequence of the message that tells it; 0 without one.
    pub(super) revision: u64,
    meta: Option<Meta>,
    /// The message as it is stored.
    pub(super) payload: Bytes,
    stored: Option<SystemTime>,
}

impl Seen {
    /// An object or a link, if it is one and not deleted.
    pub(super) fn object(self) -> Option<(ObjectInfo, Meta)> {
        let meta = self.meta.filter(|meta| !meta.deleted)?;
        Some((meta.info(&self.bucket, self.revision, self.stored), meta))
    }

    /// The name that it is about, deleted or not.
    pub(super) fn name(&self) -> Option<&str> {
        self.meta.as_ref().map(|meta| meta.name.as_str())
    }

    pub(super) fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref().filter(|meta| !meta.deleted)
    }
}

impl Place {
    pub(super) fn new(bucket: &str) -> Self {
        Place { bucket: bucket.to_owned(), stream: format!("{STREAM_PREFIX}{bucket}") }
    }

    /// The subject that an object's chunks are stored under.
    pub(super) fn chunks(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.bucket)
    }

    /// The subject that tells of an object.
    pub(super) fn meta(&self, name: &str) -> String {
        format!("$O.{}.M.{}", self.bucket, URL_SAFE.encode(name))
    }

    /// Where a message for a subject of the bucket is sent. An API prefix goes before it, as before
    /// those of key-value buckets; that of a domain does not, since servers have no mapping for
    /// `$O.` there: it reaches the other domain as it is.
    pub(super) fn send_to(link: &Link, subject: &str) -> Subject {
        let prefix = link.js_put_prefix();
        let prefix = prefix.filter(|it| !(it.starts_with("$JS.") && it.ends_with(".API")));
        match prefix {
            Some(prefix) => format!("{prefix}.{subject}").into(),
            None => subject.into(),
        }
    }

    fn seen(&self, revision: u64, payload: Bytes, stored: Option<SystemTime>) -> Result<Seen> {
        let meta = if revision == 0 { None } else { Some(Meta::read(&payload)?) };
        Ok(Seen { bucket: self.bucket.clone(), revision, meta, payload, stored })
    }

    /// What there is to say of a message that tells of an object.
    pub(super) fn seen_in(&self, message: jetstream::feed::Delivered) -> Result<Seen> {
        self.seen(message.sequence, message.payload, message.stored)
    }

    /// What the bucket tells of a name; nothing when there is no bucket.
    pub(super) async fn read(
        &self,
        link: &Link,
        name: &str,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Seen> {
        let subject = self.meta(name);
        // For a bucket that is not there nobody answers on servers before 2.10, nor from another domain.
        let tells = link.js_put_prefix().is_none()
            && link.known_capabilities().supports(Feature::StreamMetadata);
        let found = match consistency {
            Consistency::Any if tells => self.last(link, &subject, deadline).await,
            _ => self.last_of_leader(link, &subject, deadline).await,
        };
        match found {
            Ok(found) => self.seen_last(found),
            Err(error) if error.is_not_found() => self.seen_last(None),
            Err(error) => Err(error),
        }
    }

    /// What the last message of a name tells.
    pub(super) fn seen_last(&self, last: Option<Last>) -> Result<Seen> {
        match last {
            Some(Last { sequence, payload, stored }) => self.seen(sequence, payload, stored),
            None => self.seen(0, Bytes::new(), None),
        }
    }

    /// The last message of a subject, as any copy has it, or the leader where none answers. An error
    /// `NotFound` when there is no bucket.
    pub(super) async fn last(
        &self,
        link: &Link,
        subject: &str,
        deadline: Instant,
    ) -> Result<Option<Last>> {
        let call = link.js_subject(&format!("DIRECT.GET.{}.{subject}", self.stream));
        let answer = match link.ask(call, Bytes::new(), deadline).await {
            Ok(answer) => answer,
            // No such bucket, no leader, or copies may not answer: the leader knows.
            Err(error) if error.is_no_responders() => {
                return self.last_of_leader(link, subject, deadline).await;
            }
            Err(error) => return Err(error),
        };
        if answer.status == Some(StatusCode::NOT_FOUND) {
            return Ok(None);
        }
        let header = |name: &str| Some(answer.headers.as_ref()?.get(name)?.as_str());
        let Some(sequence) = header("Nats-Sequence").and_then(|text| text.parse().ok()) else {
            let said = answer.status.map(|status| status.to_string()).into_iter();
            let said: Vec<String> = said.chain(answer.description.clone()).collect();
            let message = "the server refused to read the object";
            return Err(Error::new(ErrorKind::Other, message).with("answer", said.join(" ")));
        };
        let stored = header("Nats-Time-Stamp").and_then(|at| humantime::parse_rfc3339(at).ok());
        Ok(Some(Last { sequence, payload: answer.payload, stored }))
    }

    /// The same as the leader has it.
    pub(super) async fn last_of_leader(
        &self,
        link: &Link,
        subject: &str,
        deadline: Instant,
    ) -> Result<Option<Last>> {
        let found = jetstream::last_message(link, &self.stream, subject, deadline).await?;
        found.map(Last::read).transpose()
    }

    /// Sends a message that tells of an object, in place of the one with `revision`; gives its own.
    pub(super) async fn tell(
        &self,
        link: &Link,
        name: &str,
        payload: Bytes,
        revision: u64,
        id: &str,
        deadline: Instant,
    ) -> Result<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_ROLLUP, ROLLUP_SUBJECT);
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(revision));
        headers.insert(NATS_MESSAGE_ID, id);
        let subject = Place::send_to(link, &self.meta(name));
        let answer = link.request_change(subject, Some(headers), payload, deadline).await?;
        self.acknowledged(&answer.payload)
    }

    fn acknowledged(&self, payload: &[u8]) -> Result<u64> {
        #[derive(Deserialize)]
        struct Answer {
            stream: Option<String>,
            seq: Option<u64>,
            error: Option<ApiError>,
        }
        match serde_json::from_slice(payload) {
            Ok(Answer { error: Some(refusal), .. }) => Err(refused(&refusal)),
            Ok(Answer { stream: Some(stream), seq: Some(sequence), .. })
                if stream == self.stream =>
            {
                Ok(sequence)
            }
            Ok(Answer { stream: Some(stream), seq: Some(_), .. }) => Err(another(&stream)),
            Ok(_) | Err(_) => Err(Error::new(
                ErrorKind::Other,
                "the answer to a write is no acknowledgement of a stream: something else answers \
                 on the subjects of the bucket",
            )),
        }
    }

    /// Takes out the chunks of these bytes; asked again when no answer comes.
    pub(super) async fn purge(&self, link: &Link, nuid: &str, deadline: Instant) -> Result<()> {
        self.purge_subject(link, &self.chunks(nuid), deadline).await
    }

    pub(super) async fn purge_subject(
        &self,
        link: &Link,
        subject: &str,
        deadline: Instant,
    ) -> Result<()> {
        let request = jetstream::body(&json!({ "filter": subject }));
        let call = format!("STREAM.PURGE.{}", self.stream);
        let answer: serde_json::Value = jetstream::ask(link, &call, request, deadline).await?;
        drop(answer);
        Ok(())
    }

    /// The subjects that fit `filter`, with the number of messages of each.
    pub(super) async fn subjects(
        &self,
        link: &Link,
        filter: &str,
        deadline: Instant,
    ) -> Result<HashMap<String, u64>> {
        #[derive(Deserialize)]
        struct Page {
            state: State,
            #[serde(default)]
            total: usize,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            subjects: Option<HashMap<String, u64>>,
        }
        let (mut found, mut offset) = (HashMap::new(), 0);
        loop {
            let request = jetstream::body(&json!({ "subjects_filter": filter, "offset": offset }));
            let call = format!("STREAM.INFO.{}", self.stream);
            let page: Page = jetstream::ask(link, &call, request, deadline).await?;
            let subjects = page.state.subjects.unwrap_or_default();
            offset += subjects.len();
            let last = subjects.is_empty() || offset >= page.total;
            found.extend(subjects);
            if last {
                return Ok(found);
            }
        }
    }
}

/// A stored message.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) sequence: u64,
    pub(super) payload: Bytes,
    pub(super) stored: Option<SystemTime>,
}

impl Last {
    fn read(raw: RawMessage) -> Result<Self> {
        let message = StreamMessage::try_from(raw).map_err(|error| {
            Error::new(ErrorKind::Other, "the stored message cannot be read").with_source(error)
        })?;
        let StreamMessage { sequence, payload, time, .. } = message;
        Ok(Last { sequence, payload, stored: Some(time.into()) })
    }
}

/// Why a write was refused.
pub(super) fn refused(failure: &ApiError) -> Error {
    match failure.err_code {
        jetstream::STREAM_FULL => full(),
        jetstream::STREAM_SEALED => {
            Error::new(ErrorKind::Unsupported, "the bucket is sealed and takes no changes any more")
        }
        _ => jetstream::error(failure),
    }
}

pub(super) fn full() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "the bucket is full; delete objects, or raise its max_bytes by create_bucket",
    )
}

pub(super) fn another(stream: &str) -> Error {
    Error::new(
        ErrorKind::Other,
        "another stream than the bucket's took a part of the object: its subjects cover those of \
         buckets",
    )
    .with("stream", stream)
}
