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

mod batch;
mod bucket;
mod buckets;
mod config;
mod feed;
mod message;
mod transaction;
mod write;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::batch::CHUNKS_AT_ONCE;
use self::bucket::Bucket;
use self::buckets::Buckets;
use super::driver::{Capabilities, Consistency, Driver, Filter, Found, Signal, Update, Write};
use super::retry::Retry;
use super::{BucketConfig, BucketStatus, Key, KeyCodec};
use crate::connector::{Feature, Link};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;

/// What the answer to a read has beside the value, at most: its subject, stream, time, JSON.
const ANSWER_OVERHEAD: usize = 4096;

/// The driver on one connection.
#[derive(Debug)]
pub(crate) struct NatsDriver {
    link: Arc<Link>,
    buckets: Buckets,
    /// The requests for many keys that may begin.
    chunks: Semaphore,
}

impl NatsDriver {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        let codec = link.settings().key_codec();
        NatsDriver::with_key_codec(link, codec)
    }

    /// The same with another codec for buckets that do not say how their keys are written.
    pub(crate) fn with_key_codec(link: Arc<Link>, codec: KeyCodec) -> Self {
        let chunks = Semaphore::new(CHUNKS_AT_ONCE);
        NatsDriver { buckets: Buckets::new(link.clone(), codec), link, chunks }
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
            let answer = self.link.ask(subject, Bytes::new(), deadline).await?;
            return message::direct(bucket, answer);
        }
        let subject = bucket.subject(key)?;
        let found = jetstream::last_message(&self.link, &bucket.stream, &subject, deadline).await?;
        found.map_or(Ok(Found::NEVER), |raw| message::stored(bucket, raw, consistency))
    }

    /// What `read` makes of the bucket, found again when it was gone; `None` when there is none.
    async fn of_bucket<T, F>(
        &self,
        name: &str,
        deadline: Instant,
        read: impl Fn(Arc<Bucket>) -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let mut retry = Retry::until(deadline);
        loop {
            let Some(bucket) = self.buckets.open(name, deadline).await? else { return Ok(None) };
            match read(bucket.clone()).await {
                Err(error) if is_gone(&error) => {
                    self.recover(name, &bucket, error, &mut retry).await?;
                }
                read => return read.map(Some),
            }
        }
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
            if jetstream::is_switched_off(&error) {
                return Err(error);
            }
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

    async fn capabilities_of(&self, name: &str, deadline: Instant) -> Result<Capabilities> {
        let server = self.link.capabilities(deadline).await?;
        let bucket = self.buckets.open(name, deadline).await?;
        // What cannot be known of a bucket is tried.
        let bucket = bucket.filter(|bucket| bucket.known);
        let can = |feature, has: fn(&Bucket) -> bool| {
            bucket.as_deref().map_or_else(|| server.supports(feature), has)
        };
        let limit = bucket.as_ref().and_then(|bucket| bucket.max_value_size);
        Ok(Capabilities::basic(limit.unwrap_or(usize::MAX).min(self.max_value_size()))
            .with_compare_and_set(true)
            .with_ttl(can(Feature::PerKeyTtl, |bucket| bucket.ttl))
            .with_fencing(server.supports(Feature::Fencing))
            .with_transactions(can(Feature::Transactions, |bucket| bucket.atomic))
            .with_watch(true)
            .with_content_type(true)
            .with_history(true)
            .with_compression(server.supports(Feature::StreamCompression)))
    }
}

/// Nobody served the subject, or the server said that there is no such stream, or that it has no
/// leader now: nothing was read or stored.
fn is_gone(error: &Error) -> bool {
    error.is_no_responders() || error.is_not_found() || jetstream::is_temporary(error)
}

fn unavailable(error: Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the bucket's stream did not take the call until the deadline; does it have a leader?",
    )
    .with_source(error)
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
        Box::pin(self.read_many(bucket, keys, consistency, deadline))
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(self.change(bucket, write, deadline))
    }

    fn transaction<'a>(
        &'a self,
        bucket: &'a str,
        writes: Vec<Write<'a>>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>> {
        Box::pin(async move { self.transact(bucket, &writes, deadline).await })
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        Box::pin(async move {
            let list = |bucket| feed::list(&self.link, bucket, filter, deadline);
            let listed = self.of_bucket(bucket, deadline, list).await?;
            Ok(listed.unwrap_or_else(|| stream::empty().boxed()))
        })
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        Box::pin(feed::watch(&self.link, &self.buckets, bucket, filter, deadline))
    }

    fn history<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        Box::pin(async move {
            let history = |bucket: Arc<Bucket>| async move {
                feed::history(&self.link, &bucket, key, deadline).await
            };
            match self.of_bucket(bucket, deadline, history).await? {
                Some(updates) => Ok(updates),
                None => self.check_key(key).map(|()| Vec::new()),
            }
        })
    }

    fn buckets<'a>(&'a self, deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(self.buckets.names(deadline))
    }

    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        Box::pin(self.buckets.status(bucket, deadline))
    }

    fn make_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.buckets.make_missing(config, deadline))
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.buckets.delete(bucket, deadline))
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.buckets.create(config, deadline))
    }
}
