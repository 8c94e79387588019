//! The NATS key-value driver: buckets are streams (ADR-8), read and written by requests of its own.
//!
//! - Reads ask any copy (direct get) where the bucket allows it, else the leader; what a
//!   compare-and-set stands on is always read from the leader.
//! - A subject that nobody serves is never taken for a miss: the server is asked whether the bucket
//!   exists. If not, reads miss and writes make it; if so, the call tries again until its deadline.
//! - Deletes leave a marker. Where the server and the bucket (history 1) can, it has a lifetime;
//!   elsewhere only keys that have a value get one, so that deletes of missing keys leave nothing.
//! - A user that may not ask for the stream (`STREAM.INFO`) can still read and write keys: the
//!   bucket is then taken to be as this crate makes them, and a missing one is an error.

mod api;
mod bucket;
mod buckets;
mod clock;
mod config;
mod message;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::time::Instant;

use self::bucket::Bucket;
use self::buckets::Buckets;
use super::driver::{
    Capabilities, Change, Condition, Consistency, Driver, Filter, Found, Signal, Update, Value,
    Write,
};
use super::retry::Retry;
use super::{BucketConfig, BucketStatus, Key};
use crate::connector::{Feature, Link};
use crate::error::{Error, ErrorKind, Result};
use crate::serializer::CONTENT_TYPE;

/// How long the marker of a delete stays: long enough for watchers to see it after a reconnect.
const DELETE_MARKER_TTL: Duration = Duration::from_secs(60);

/// What the answer to a read has beside the value, at most: its subject, stream, time, JSON.
const ANSWER_OVERHEAD: usize = 4096;

/// The driver on one connection.
#[derive(Debug)]
pub(crate) struct NatsDriver {
    link: Arc<Link>,
    buckets: Buckets,
}

/// What a message of a key is.
enum Content {
    Value(Value, Option<u64>),
    DeleteMarker,
}

impl NatsDriver {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        let codec = link.settings().key_codec();
        NatsDriver { buckets: Buckets::new(link.clone(), codec), link }
    }

    /// What there is to say of a key in a bucket that does not exist.
    fn check_key(&self, key: Key<'_>) -> Result<()> {
        self.buckets.default_codec().encode(key, &mut String::new())
    }

    /// The largest value that can be written and read again.
    ///
    /// Answers of another domain come over a leaf node's connection, which ends when a message is
    /// above its server's limit; an answer has more headers than the value was written with, and
    /// the leader's is in base64.
    fn max_value_size(&self) -> usize {
        let max_payload = self.link.client().max_payload();
        match self.link.settings().jetstream_domain() {
            Some(_) => (max_payload / 4 * 3).saturating_sub(ANSWER_OVERHEAD),
            None => max_payload,
        }
    }

    fn check_size(&self, value: &Value) -> Result<()> {
        let (size, limit) = (value.bytes.len(), self.max_value_size());
        if size <= limit {
            return Ok(());
        }
        let max_payload = self.link.client().max_payload();
        Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "the value has {size} bytes; the limit is {limit}, which follows from the server's \
                 max_payload of {max_payload}"
            ),
        ))
    }

    async fn read(
        &self,
        name: &str,
        key: Key<'_>,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Found> {
        let mut retry = Retry::until(deadline);
        loop {
            let Some(bucket) = self.buckets.open(name, deadline).await? else {
                return self.check_key(key).map(|()| Found::NEVER);
            };
            match self.read_once(&bucket, key, consistency, deadline).await {
                Err(error) if is_gone(&error) => {
                    self.recover(name, &bucket, error, &mut retry).await?;
                }
                read => return read,
            }
        }
    }

    async fn read_once(
        &self,
        bucket: &Bucket,
        key: Key<'_>,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Found> {
        if bucket.direct && consistency == Consistency::Any {
            let subject = bucket.read_subject(key)?.into();
            let answer = self.link.request(subject, None, Bytes::new(), deadline).await?;
            return message::direct(bucket, answer);
        }
        let subject = bucket.subject(key)?;
        let found = api::last_message(&self.link, &bucket.stream, &subject, deadline).await?;
        found.map_or(Ok(Found::NEVER), |raw| message::stored(bucket, raw))
    }

    /// Appends a message to a key and gives its revision. A missing bucket is made for a value
    /// without a condition; else the result is `None`.
    async fn append(
        &self,
        name: &str,
        key: Key<'_>,
        content: &Content,
        deadline: Instant,
    ) -> Result<Option<u64>> {
        let mut retry = Retry::until(deadline);
        let makes = matches!(content, Content::Value(_, None | Some(0)));
        loop {
            let bucket = if makes {
                let check = || self.check_key(key);
                Some(self.buckets.open_or_make(name, check, deadline).await?)
            } else {
                self.buckets.open(name, deadline).await?
            };
            let Some(bucket) = bucket else { return self.check_key(key).map(|()| None) };
            match self.write_once(&bucket, key, content, deadline).await {
                Err(error) if is_gone(&error) => {
                    self.recover(name, &bucket, error, &mut retry).await?;
                }
                written => return written.map(Some),
            }
        }
    }

    async fn write_once(
        &self,
        bucket: &Bucket,
        key: Key<'_>,
        content: &Content,
        deadline: Instant,
    ) -> Result<u64> {
        let subject = bucket.write_subject(key)?.into();
        let (headers, payload) = match content {
            Content::Value(value, condition) => {
                (value_headers(value, *condition), value.bytes.clone())
            }
            Content::DeleteMarker => (Some(marker_headers(bucket)), Bytes::new()),
        };
        let answer = self.link.request(subject, headers, payload, deadline).await?;
        message::acknowledged(&answer.payload, bucket)
    }

    /// After an answer that may mean that the bucket is gone: asks for it again at the next try,
    /// after a pause. An error when there is no time for that.
    async fn recover(
        &self,
        name: &str,
        bucket: &Arc<Bucket>,
        error: Error,
        retry: &mut Retry,
    ) -> Result<()> {
        if !bucket.known {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "nobody serves this bucket: it does not exist, or it has no leader now; this user \
                 may not ask which, since publishing to its STREAM.INFO is not permitted",
            )
            .with_source(error));
        }
        self.buckets.forget(name, bucket);
        if retry.pause().await { Ok(()) } else { Err(unavailable(error)) }
    }

    async fn delete_key(&self, name: &str, key: Key<'_>, deadline: Instant) -> Result<()> {
        let Some(bucket) = self.buckets.open(name, deadline).await? else {
            return self.check_key(key);
        };
        let leaves_heaps = bucket.known && !bucket.markers_expire;
        if leaves_heaps
            && self.read(name, key, Consistency::Latest, deadline).await?.entry().is_none()
        {
            return Ok(());
        }
        self.append(name, key, &Content::DeleteMarker, deadline).await.map(drop)
    }

    async fn capabilities_of(&self, name: &str, deadline: Instant) -> Result<Capabilities> {
        let server = self.link.capabilities(deadline).await?;
        let bucket = self.buckets.open(name, deadline).await?;
        let limit = bucket.and_then(|bucket| bucket.max_value_size).unwrap_or(usize::MAX);
        Ok(Capabilities::basic(limit.min(self.max_value_size()))
            .with_compare_and_set(true)
            .with_content_type(true)
            .with_history(true)
            .with_compression(server.supports(Feature::StreamCompression)))
    }
}

/// Nobody served the subject, or the server said that there is no such stream, or that it has no
/// leader now: nothing was read or stored.
fn is_gone(error: &Error) -> bool {
    error.is_no_responders() || error.is_not_found() || api::is_temporary(error)
}

fn unavailable(error: Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the bucket's stream did not take the call until the deadline; does it have a leader?",
    )
    .with_source(error)
}

fn value_headers(value: &Value, condition: Option<u64>) -> Option<HeaderMap> {
    if value.content_type.is_none() && condition.is_none() {
        return None;
    }
    let mut headers = HeaderMap::new();
    if let Some(content_type) = &value.content_type {
        headers.insert(CONTENT_TYPE, content_type.as_str());
    }
    if let Some(revision) = condition {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(revision));
    }
    Some(headers)
}

fn marker_headers(bucket: &Bucket) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(message::KV_OPERATION, message::DELETED);
    if bucket.markers_expire {
        headers.insert(NATS_MESSAGE_TTL, HeaderValue::from(DELETE_MARKER_TTL.as_secs()));
    }
    headers
}

impl Driver for NatsDriver {
    fn name(&self) -> &str {
        "nats"
    }

    fn capabilities<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>> {
        Box::pin(self.capabilities_of(bucket, deadline))
    }

    fn whole_name<'a>(&self, bucket: &str, key: Key<'a>) -> Option<Cow<'a, str>> {
        self.buckets.cached(bucket)?.codec.whole_name(key).ok()
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Found>> {
        Box::pin(self.read(bucket, key, consistency, deadline))
    }

    fn get_many<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [Key<'a>],
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Result<Found>>> {
        Box::pin(futures::future::join_all(
            keys.iter().map(move |key| self.get(bucket, *key, consistency, deadline)),
        ))
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let Write { key, change, condition } = write;
            let Change::Put(value, _) = change else {
                return self.delete_key(bucket, key, deadline).await.map(|()| 0);
            };
            self.check_size(&value)?;
            let revision = match condition {
                Condition::Always => None,
                Condition::Revision(revision) => Some(revision),
                Condition::Held { .. } => return unsupported().await,
            };
            let content = Content::Value(value, revision);
            let written = self.append(bucket, key, &content, deadline).await?;
            written.ok_or_else(|| Error::new(ErrorKind::Conflict, "the bucket does not exist"))
        })
    }

    fn transaction<'a>(
        &'a self,
        _bucket: &'a str,
        _writes: Vec<Write<'a>>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>> {
        unsupported()
    }

    fn list<'a>(
        &'a self,
        _bucket: &'a str,
        _filter: Filter<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        unsupported()
    }

    fn watch<'a>(
        &'a self,
        _bucket: &'a str,
        _filter: Filter<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        unsupported()
    }

    fn history<'a>(
        &'a self,
        _bucket: &'a str,
        _key: Key<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        unsupported()
    }

    fn buckets<'a>(&'a self, _deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        unsupported()
    }

    fn bucket_status<'a>(
        &'a self,
        _bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        unsupported()
    }

    fn make_bucket<'a>(
        &'a self,
        _config: &'a BucketConfig,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        unsupported()
    }

    fn delete_bucket<'a>(
        &'a self,
        _bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        unsupported()
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.buckets.create(config, deadline))
    }
}

/// What is still to come.
fn unsupported<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T>> {
    Box::pin(futures::future::ready(Err(Error::new(ErrorKind::Unsupported, "not there yet"))))
}
