//! Writes of one key: a change and its condition as one message, which the server takes or refuses
//! as a whole.
//!
//! A message is sent again only after an answer which proves that it was not stored: nobody served
//! the subject, or the stream had no leader that could take it. An answer that is lost ends in
//! `Timeout`. So nothing is stored twice, and no conflict is one with an own earlier try.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL, NATS_ROLLUP};
use async_nats::{HeaderMap, HeaderValue, Subject};
use bytes::Bytes;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::{NatsDriver, is_gone, message};
use crate::connector::Feature;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{Change, Condition, Consistency, Expiry, Found, Value, Write};
use crate::kv::retry::Retry;
use crate::kv::slot::LONGEST;
use crate::serializer::CONTENT_TYPE;

/// How long the marker of a delete stays: long enough for watchers to see it after a reconnect.
const DELETE_MARKER_TTL: Duration = Duration::from_secs(60);
/// The subject that a message's expected sequence is about, where it is not its own.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// What is sent for a change.
pub(super) struct Draft {
    pub(super) subject: Subject,
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
}

impl Draft {
    /// The message of a change to a key of `bucket`.
    pub(super) fn new(bucket: &Bucket, write: &Write<'_>) -> Result<Draft> {
        let mut headers = HeaderMap::new();
        let mut payload = Bytes::new();
        match &write.change {
            Change::Put(value, expiry) => match Lifetime::of(bucket, *expiry) {
                Lifetime::Over => delete(bucket, &mut headers),
                lifetime => {
                    if let Some(content_type) = &value.content_type {
                        headers.insert(CONTENT_TYPE, content_type.as_str());
                    }
                    lifetime.write(bucket, &mut headers);
                    payload = value.bytes.clone();
                }
            },
            Change::Delete => delete(bucket, &mut headers),
            Change::Purge => {
                headers.insert(message::KV_OPERATION, message::PURGED);
                if bucket.ttl {
                    ending(bucket, DELETE_MARKER_TTL.as_secs(), &mut headers);
                }
                headers.insert(NATS_ROLLUP, ROLLUP_KEY);
            }
        }
        match write.condition {
            Condition::Always => {}
            Condition::Revision(revision) => {
                headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(revision));
            }
            Condition::Held { lock, revision } => {
                headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(revision));
                headers.insert(EXPECTED_SUBJECT, bucket.subject(lock)?.as_str());
            }
        }
        Ok(Draft {
            subject: bucket.write_subject(write.key)?.into(),
            headers: Some(headers).filter(|headers| !headers.is_empty()),
            payload,
        })
    }
}

/// The message takes the place of all earlier ones of its key.
const ROLLUP_KEY: &str = "sub";

fn delete(bucket: &Bucket, headers: &mut HeaderMap) {
    headers.insert(message::KV_OPERATION, message::DELETED);
    if bucket.markers_expire() {
        ending(bucket, DELETE_MARKER_TTL.as_secs(), headers);
    }
}

/// Gives a message a lifetime. Then it must be the only one of its key: an older one would come
/// back. That holds by itself in a bucket without history, but somebody may have given it one.
fn ending(bucket: &Bucket, seconds: u64, headers: &mut HeaderMap) {
    headers.insert(NATS_MESSAGE_TTL, HeaderValue::from(seconds));
    if bucket.history || bucket.rollup {
        headers.insert(NATS_ROLLUP, ROLLUP_KEY);
    }
}

/// How long the server is to keep a value.
enum Lifetime {
    Endless,
    /// For so many whole seconds, which is all that the server can count, and where that is not the
    /// exact end, until this moment of its clock.
    Ends {
        seconds: u64,
        exact: Option<SystemTime>,
    },
    Over,
}

impl Lifetime {
    fn of(bucket: &Bucket, expiry: Expiry) -> Lifetime {
        let now = SystemTime::now();
        let (ttl, end) = match expiry {
            Expiry::Never => return Lifetime::Endless,
            Expiry::In(ttl) => (ttl, bucket.raises(ttl).then(|| now.checked_add(ttl)).flatten()),
            Expiry::At(at) => match at.duration_since(now) {
                Ok(left) if !left.is_zero() => (left, Some(at)),
                _ => return Lifetime::Over,
            },
        };
        let up = u64::from(ttl.subsec_nanos() > 0);
        Lifetime::Ends {
            seconds: ttl.as_secs().saturating_add(up).clamp(1, LONGEST.as_secs()),
            exact: end.and_then(|end| bucket.clock.server(end)),
        }
    }

    fn write(&self, bucket: &Bucket, headers: &mut HeaderMap) {
        let Lifetime::Ends { seconds, exact } = self else { return };
        ending(bucket, *seconds, headers);
        let since_epoch = exact.and_then(|exact| exact.duration_since(UNIX_EPOCH).ok());
        if let Some(millis) = since_epoch.and_then(|it| u64::try_from(it.as_millis()).ok()) {
            headers.insert(message::EXPIRES, HeaderValue::from(millis));
        }
    }
}

impl NatsDriver {
    /// Changes a key and gives the revision of the change.
    pub(super) async fn change(
        &self,
        name: &str,
        write: Write<'_>,
        deadline: Instant,
    ) -> Result<u64> {
        if let Change::Put(value, _) = &write.change {
            self.check_size(value)?;
        }
        if let Condition::Held { .. } = write.condition {
            self.link.capabilities(deadline).await?.require(Feature::Fencing)?;
        }
        let mut retry = Retry::until(deadline);
        let mut first = None;
        loop {
            let one = std::slice::from_ref(&write);
            let needs = ends(&write).then_some(Feature::PerKeyTtl);
            let bucket = self.bucket_for(name, one, needs, deadline).await?;
            let Some(bucket) = bucket else {
                return match write {
                    Write { condition: Condition::Always | Condition::Revision(0), .. } => Ok(0),
                    _ => Err(Error::new(ErrorKind::Conflict, "the bucket does not exist")),
                };
            };
            check_same(first.get_or_insert_with(|| bucket.clone()), &bucket, &write)?;
            match self.change_once(name, bucket.clone(), &write, deadline).await {
                Err(error) if is_gone(&error) => {
                    self.recover(name, &bucket, error, &mut retry).await?;
                }
                changed => return changed,
            }
        }
    }

    /// The bucket for these changes, made when it is missing and they may make it: there is a value
    /// to store, no condition that a new bucket's keys cannot meet, and what they need is there.
    pub(super) async fn bucket_for(
        &self,
        name: &str,
        writes: &[Write<'_>],
        needs: Option<Feature>,
        deadline: Instant,
    ) -> Result<Option<Arc<Bucket>>> {
        let stores = |write: &Write<'_>| matches!(write.change, Change::Put(..));
        let fits = |write: &Write<'_>| {
            matches!(write.condition, Condition::Always | Condition::Revision(0))
        };
        let check_keys = || writes.iter().try_for_each(|write| self.check_key(write.key));
        if !(writes.iter().any(stores) && writes.iter().all(fits)) {
            let bucket = self.buckets.open(name, deadline).await?;
            return if bucket.is_none() { check_keys().map(|()| None) } else { Ok(bucket) };
        }
        let needed = match needs {
            Some(feature) => self.link.capabilities(deadline).await?.require(feature),
            None => Ok(()),
        };
        let check = || check_keys().and(needed);
        self.buckets.open_or_make(name, check, deadline).await.map(Some)
    }

    async fn change_once(
        &self,
        name: &str,
        mut bucket: Arc<Bucket>,
        write: &Write<'_>,
        deadline: Instant,
    ) -> Result<u64> {
        if ends(write) {
            bucket = self.with_ttl(name, bucket, deadline).await?;
        }
        if let Condition::Held { lock, revision } = write.condition {
            let found = self.read_once(&bucket, lock, Consistency::Stored, deadline).await?;
            if !matches!(found, Found::Value(entry) if entry.revision == revision) {
                return Err(Error::new(ErrorKind::Conflict, "the lock is not held any more"));
            }
        }
        if self.is_done(&bucket, write, deadline).await? {
            return Ok(0);
        }
        let Draft { subject, headers, payload } = Draft::new(&bucket, write)?;
        let answer = self.link.request_change(subject, headers, payload, deadline).await?;
        message::acknowledged(&answer.payload, &bucket).map(|ack| ack.revision)
    }

    /// Whether a change needs no message: there is nothing to take away, and a marker would only
    /// add to a heap.
    async fn is_done(&self, bucket: &Bucket, write: &Write<'_>, deadline: Instant) -> Result<bool> {
        let leaves_heaps = match &write.change {
            Change::Put(_, Expiry::At(at)) if *at <= SystemTime::now() => !bucket.markers_expire(),
            Change::Put(..) => return Ok(false),
            Change::Delete => !bucket.markers_expire(),
            Change::Purge => !bucket.ttl,
        };
        let never = write.condition == Condition::Revision(0);
        let reads = never || (leaves_heaps && bucket.known);
        if !reads {
            return Ok(false);
        }
        let found = self.read_once(bucket, write.key, Consistency::Latest, deadline).await?;
        match write.condition {
            Condition::Revision(revision) if revision != found.revision() => {
                Err(Error::new(ErrorKind::Conflict, "the key has another revision"))
            }
            _ if found.revision() == 0 => Ok(true),
            // A purge also takes the history away, where there is one.
            _ => Ok(matches!(found, Found::Nothing { .. }) && write.change != Change::Purge),
        }
    }

    /// The bucket, if its values may have lifetimes.
    pub(super) async fn with_ttl(
        &self,
        name: &str,
        bucket: Arc<Bucket>,
        deadline: Instant,
    ) -> Result<Arc<Bucket>> {
        const REFUSAL: &str = "this bucket gives single values no lifetime; switch it on by \
                               create_bucket with BucketConfig::per_key_ttl(true)";
        self.with_option(name, bucket, |bucket| bucket.ttl, Feature::PerKeyTtl, REFUSAL, deadline)
            .await
    }

    /// The bucket, if it has an option. The server is asked again before that is denied: somebody
    /// may have switched it on.
    pub(super) async fn with_option(
        &self,
        name: &str,
        bucket: Arc<Bucket>,
        has: fn(&Bucket) -> bool,
        feature: Feature,
        refusal: &'static str,
        deadline: Instant,
    ) -> Result<Arc<Bucket>> {
        if has(&bucket) {
            return Ok(bucket);
        }
        self.link.capabilities(deadline).await?.require(feature)?;
        if !bucket.known {
            return Ok(bucket);
        }
        match self.buckets.refresh(name, &bucket, deadline).await? {
            Some(bucket) if has(&bucket) => Ok(bucket),
            Some(_) => Err(Error::new(ErrorKind::Unsupported, refusal)),
            None => Err(Error::new(ErrorKind::NotFound, "the bucket was deleted meanwhile")),
        }
    }

    pub(super) fn check_size(&self, value: &Value) -> Result<()> {
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
}

/// Whether a change is one of a value that ends.
pub(super) fn ends(write: &Write<'_>) -> bool {
    matches!(write.change, Change::Put(_, Expiry::In(_) | Expiry::At(_)))
}

/// A bucket that was made anew between two tries has other revisions than the one that was read.
pub(super) fn check_same(first: &Bucket, now: &Bucket, write: &Write<'_>) -> Result<()> {
    let names_one = !matches!(write.condition, Condition::Always | Condition::Revision(0));
    if names_one && first.created != now.created {
        return Err(Error::new(ErrorKind::Conflict, "the bucket was made anew meanwhile"));
    }
    Ok(())
}
