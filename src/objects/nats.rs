//! The NATS driver: buckets are streams (ADR-20), and an object is chunks under one subject and a
//! message that tells of them under another.
//!
//! - What tells of an object is changed by compare-and-set: nobody's bytes are lost or left over when
//!   several change one name at the same time.
//! - What an upload, delete or rename has begun to change it also ends, in a task of its own that a
//!   drain waits for: a caller that goes away leaves nothing half done.
//! - Reads ask any copy; where that has less than it should, the leader is asked.
//! - No state is kept of a bucket, so none can be wrong: one that is missing is noticed when it is
//!   used.

mod buckets;
mod change;
mod download;
mod message;
mod orphans;
mod place;
mod upload;
mod uploads;
mod watch;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::time::Instant;

use self::buckets::Buckets;
use self::place::Place;
pub(crate) use self::uploads::Uploads;
use super::driver::{Capabilities, Change, Consistency, Download, Draft, Driver, Limits, Upload};
use super::{BucketConfig, BucketStatus, Event, Link as LinkTo, ObjectInfo};
use crate::connector::{Feature, Link};
use crate::error::Result;

/// The driver on one connection.
#[derive(Debug)]
pub(crate) struct NatsDriver {
    link: Arc<Link>,
    buckets: Arc<Buckets>,
}

impl NatsDriver {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        NatsDriver { buckets: Arc::new(Buckets::new(link.clone())), link }
    }
}

impl Driver for NatsDriver {
    fn name(&self) -> &str {
        "nats"
    }

    fn capabilities<'a>(
        &'a self,
        _bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>> {
        Box::pin(async move {
            let server = self.link.capabilities(deadline).await?;
            let compression = server.supports(Feature::StreamCompression);
            Ok(Capabilities::full().with_compression(compression))
        })
    }

    fn put<'a>(
        &'a self,
        bucket: &'a str,
        draft: Draft,
        limits: Limits,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            let place = Place::new(bucket);
            let begun = upload::begin(&self.link, &self.buckets, place, draft, limits).await?;
            Ok(Box::new(begun) as Box<dyn Upload>)
        })
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        range: Range<u64>,
        consistency: Consistency,
        limits: Limits,
    ) -> BoxFuture<'a, Result<Option<Download>>> {
        let place = Place::new(bucket);
        Box::pin(download::begin(&self.link, place, name, range, consistency, limits))
    }

    fn info<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>> {
        Box::pin(async move {
            let place = Place::new(bucket);
            let seen = place.read(&self.link, name, consistency, deadline).await?;
            Ok(seen.object().map(|(info, _)| info))
        })
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<ObjectInfo>>>> {
        Box::pin(watch::list(&self.link, Place::new(bucket), deadline))
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Event>>>> {
        Box::pin(watch::watch(&self.link, &self.buckets, Place::new(bucket), deadline))
    }

    fn delete<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(change::delete(&self.link, Place::new(bucket), name, deadline))
    }

    fn change<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        change: Change,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>> {
        Box::pin(change::change(&self.link, Place::new(bucket), name, change, deadline))
    }

    fn link<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        to: LinkTo,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<ObjectInfo>> {
        let place = Place::new(bucket);
        Box::pin(change::link(&self.link, &self.buckets, place, name, to, deadline))
    }

    fn purge_orphans<'a>(
        &'a self,
        bucket: &'a str,
        age: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(orphans::purge(&self.link, Place::new(bucket), age, deadline))
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

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.buckets.create(config, deadline))
    }

    fn seal<'a>(&'a self, bucket: &'a str, deadline: Instant) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.buckets.seal(bucket, deadline))
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.buckets.delete(bucket, deadline))
    }
}
