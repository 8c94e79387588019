//! A driver whose buckets have three copies, and whose reads see every write: those of keys ask the
//! leader, and those that any copy answers begin when all copies agree.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{self, BoxFuture};
use futures::stream::BoxStream;
use nats_connector::Result;
use nats_connector::kv::driver::{
    Change, Condition, Consistency, Filter, Found, Signal, Update, Write,
};
use nats_connector::kv::{BucketConfig, BucketStatus, Capabilities, Driver, Key};
use testkit::{Cluster, eventually};
use tokio::time::Instant;

const REPLICAS: usize = 3;

#[derive(Debug)]
pub(crate) struct Replicated {
    driver: Arc<dyn Driver>,
    cluster: Arc<Cluster>,
}

impl Replicated {
    pub(crate) fn new(driver: Arc<dyn Driver>, cluster: Arc<Cluster>) -> Self {
        Replicated { driver, cluster }
    }

    /// Waits until every node has what any of them has.
    async fn agree(&self, bucket: &str) {
        let stream = format!("KV_{bucket}");
        eventually(Duration::from_secs(60), || async {
            let nodes = self.cluster.nodes().iter();
            let pages = nodes.map(|node| node.monitor("/jsz?accounts=true&streams=true"));
            let pages = future::join_all(pages).await;
            let states: Vec<Option<u64>> = pages.iter().map(|it| last(it, &stream)).collect();
            states.iter().all(|state| *state == states[0])
        })
        .await;
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
        if self.driver.bucket_status(bucket, deadline).await?.is_none() {
            self.driver.make_bucket(&config, deadline).await?;
        }
        Ok(())
    }
}

/// The last revision of a stream on the node that the page is of.
fn last(page: &serde_json::Value, stream: &str) -> Option<u64> {
    let accounts = page["account_details"].as_array()?;
    let streams = accounts.iter().filter_map(|account| account["stream_detail"].as_array());
    let found = streams.flatten().find(|it| it["name"] == stream)?;
    found["state"]["last_seq"].as_u64()
}

/// The same with three copies.
fn replicated(config: &BucketConfig) -> BucketConfig {
    config.clone().replicas(REPLICAS)
}

impl Driver for Replicated {
    fn name(&self) -> &str {
        self.driver.name()
    }

    fn capabilities<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>> {
        self.driver.capabilities(bucket, deadline)
    }

    fn whole_name<'a>(&self, bucket: &str, key: Key<'a>) -> Option<Cow<'a, str>> {
        self.driver.whole_name(bucket, key)
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        _consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Found>> {
        self.driver.get(bucket, key, Consistency::Latest, deadline)
    }

    fn get_many<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [Key<'a>],
        _consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Result<Found>>> {
        self.driver.get_many(bucket, keys, Consistency::Latest, deadline)
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            self.prepare(bucket, std::slice::from_ref(&write), deadline).await?;
            self.driver.write(bucket, write, deadline).await
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
            self.driver.transaction(bucket, writes, deadline).await
        })
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        Box::pin(async move {
            self.agree(bucket).await;
            self.driver.list(bucket, filter, deadline).await
        })
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        Box::pin(async move {
            self.make(bucket, deadline).await?;
            self.agree(bucket).await;
            self.driver.watch(bucket, filter, deadline).await
        })
    }

    fn history<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        Box::pin(async move {
            self.agree(bucket).await;
            self.driver.history(bucket, key, deadline).await
        })
    }

    fn buckets<'a>(&'a self, deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        self.driver.buckets(deadline)
    }

    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        self.driver.bucket_status(bucket, deadline)
    }

    fn make_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { self.driver.make_bucket(&replicated(config), deadline).await })
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.driver.create_bucket(&replicated(config), deadline).await })
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.driver.delete_bucket(bucket, deadline)
    }
}
