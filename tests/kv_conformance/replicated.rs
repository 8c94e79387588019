//! A driver whose buckets have three copies, and whose reads see every write.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use nats_connector::Result;
use nats_connector::kv::driver::{
    Change, Condition, Consistency, Filter, Found, Signal, Update, Write,
};
use nats_connector::kv::{BucketConfig, BucketStatus, Capabilities, Driver, Key};
use tokio::time::Instant;

const REPLICAS: usize = 3;

#[derive(Debug)]
pub(crate) struct Replicated(Arc<dyn Driver>);

impl Replicated {
    pub(crate) fn new(driver: Arc<dyn Driver>) -> Self {
        Replicated(driver)
    }

    /// Makes the bucket that `writes` would make.
    async fn prepare(&self, bucket: &str, writes: &[Write<'_>], deadline: Instant) -> Result<()> {
        let stores = |write: &Write<'_>| matches!(write.change, Change::Put(..));
        let can_be_new = |write: &Write<'_>| {
            matches!(write.condition, Condition::Always | Condition::Revision(0))
        };
        if writes.iter().any(stores) && writes.iter().all(can_be_new) {
            self.make(bucket, deadline).await?;
        }
        Ok(())
    }

    async fn make(&self, bucket: &str, deadline: Instant) -> Result<()> {
        let config = BucketConfig::new(bucket).replicas(REPLICAS);
        if self.0.bucket_status(bucket, deadline).await?.is_none() {
            self.0.make_bucket(&config, deadline).await?;
        }
        Ok(())
    }
}

/// The same with three copies.
fn replicated(config: &BucketConfig) -> BucketConfig {
    config.clone().replicas(REPLICAS)
}

impl Driver for Replicated {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn capabilities<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>> {
        self.0.capabilities(bucket, deadline)
    }

    fn whole_name<'a>(&self, bucket: &str, key: Key<'a>) -> Option<Cow<'a, str>> {
        self.0.whole_name(bucket, key)
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        _consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Found>> {
        self.0.get(bucket, key, Consistency::Latest, deadline)
    }

    fn get_many<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [Key<'a>],
        _consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Result<Found>>> {
        self.0.get_many(bucket, keys, Consistency::Latest, deadline)
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            self.prepare(bucket, std::slice::from_ref(&write), deadline).await?;
            self.0.write(bucket, write, deadline).await
        })
    }

    fn transaction<'a>(
        &'a self,
        bucket: &'a str,
        writes: Vec<Write<'a>>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>> {
        Box::pin(async move {
            self.prepare(bucket, &writes, deadline).await?;
            self.0.transaction(bucket, writes, deadline).await
        })
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        self.0.list(bucket, filter, deadline)
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        Box::pin(async move {
            self.make(bucket, deadline).await?;
            self.0.watch(bucket, filter, deadline).await
        })
    }

    fn history<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        self.0.history(bucket, key, deadline)
    }

    fn buckets<'a>(&'a self, deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        self.0.buckets(deadline)
    }

    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        self.0.bucket_status(bucket, deadline)
    }

    fn make_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { self.0.make_bucket(&replicated(config), deadline).await })
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.0.create_bucket(&replicated(config), deadline).await })
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.0.delete_bucket(bucket, deadline)
    }
}
