//! A driver whose buckets have what a test wants them to have, and whose reads see every put: those
//! of objects ask the leader, and those that any copy answers begin when all copies agree.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{self, BoxFuture};
use futures::stream::BoxStream;
use nats_connector::Result;
use nats_connector::objects::driver::{Change, Consistency, Download, Draft, Limits, Upload};
use nats_connector::objects::{
    BucketConfig, BucketStatus, Capabilities, Driver, Event, Link, ObjectInfo,
};
use testkit::{Cluster, eventually};
use tokio::time::Instant;

pub(crate) struct Adjusted {
    pub(crate) driver: Arc<dyn Driver>,
    /// What buckets are to have.
    pub(crate) adjust: fn(BucketConfig) -> BucketConfig,
    /// The servers that copies are on.
    pub(crate) cluster: Option<Arc<Cluster>>,
}

impl Adjusted {
    /// Makes the bucket that an operation would make.
    async fn make(&self, bucket: &str, deadline: Instant) -> Result<()> {
        if self.driver.bucket_status(bucket, deadline).await?.is_none() {
            let config = (self.adjust)(BucketConfig::new(bucket));
            self.driver.make_bucket(&config, deadline).await?;
        }
        Ok(())
    }

    /// Waits until every node has what any of them has.
    async fn agree(&self, bucket: &str) {
        let Some(cluster) = &self.cluster else { return };
        let stream = format!("OBJ_{bucket}");
        eventually(Duration::from_secs(30), || async {
            let nodes = cluster.nodes().iter();
            let pages = nodes.map(|node| node.monitor("/jsz?accounts=true&streams=true"));
            let pages = future::join_all(pages).await;
            let states: Vec<Option<u64>> = pages.iter().map(|it| last(it, &stream)).collect();
            states.iter().all(|state| *state == states[0])
        })
        .await;
    }
}

/// The last revision of a stream on the node that the page is of.
fn last(page: &serde_json::Value, stream: &str) -> Option<u64> {
    let accounts = page["account_details"].as_array()?;
    let streams = accounts.iter().filter_map(|account| account["stream_detail"].as_array());
    let found = streams.flatten().find(|it| it["name"] == stream)?;
    found["state"]["last_seq"].as_u64()
}

impl fmt::Debug for Adjusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adjusted").field("driver", &self.driver).finish_non_exhaustive()
    }
}

impl Driver for Adjusted {
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

    fn put<'a>(
        &'a self,
        bucket: &'a str,
        draft: Draft,
        limits: Limits,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            self.make(bucket, limits.deadline()).await?;
            self.driver.put(bucket, draft, limits).await
        })
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        range: Range<u64>,
        _consistency: Consistency,
        limits: Limits,
    ) -> BoxFuture<'a, Result<Option<Download>>> {
        self.driver.get(bucket, name, range, Consistency::Latest, limits)
    }

    fn info<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        _consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>> {
        self.driver.info(bucket, name, Consistency::Latest, deadline)
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<ObjectInfo>>>> {
        Box::pin(async move {
            self.agree(bucket).await;
            self.driver.list(bucket, deadline).await
        })
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Event>>>> {
        Box::pin(async move {
            self.make(bucket, deadline).await?;
            self.agree(bucket).await;
            self.driver.watch(bucket, deadline).await
        })
    }

    fn delete<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.driver.delete(bucket, name, deadline)
    }

    fn change<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        change: Change,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>> {
        self.driver.change(bucket, name, change, deadline)
    }

    fn link<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        to: Link,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(async move {
            self.make(bucket, deadline).await?;
            self.driver.link(bucket, name, to, deadline).await
        })
    }

    fn purge_orphans<'a>(
        &'a self,
        bucket: &'a str,
        age: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        self.driver.purge_orphans(bucket, age, deadline)
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
        Box::pin(
            async move { self.driver.make_bucket(&(self.adjust)(config.clone()), deadline).await },
        )
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.driver.create_bucket(&(self.adjust)(config.clone()), deadline).await
        })
    }

    fn seal<'a>(&'a self, bucket: &'a str, deadline: Instant) -> BoxFuture<'a, Result<()>> {
        self.driver.seal(bucket, deadline)
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.driver.delete_bucket(bucket, deadline)
    }
}
