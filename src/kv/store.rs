//! A driver with what the handles on it share.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::Key;
use super::combine::Combiner;
use super::driver::{Consistency, Driver, Found, Write};
use super::flights::Flights;
use super::lock::Locks;
use super::near::{Near, Nears};
use crate::error::Result;
use crate::metrics::{self, KvOperation};

/// How many keys that a near cache does not hold are read at a time.
const LOADS: usize = 256;

/// One for each driver, behind every handle on it: all reads and writes of keys go through here.
pub(crate) struct Store {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) nears: Nears,
    /// The increments under way.
    pub(super) combiner: Combiner,
    /// The loads under way.
    pub(super) flights: Flights,
    pub(super) locks: Arc<Locks>,
    pub(super) metrics: metrics::Kv,
}

impl Store {
    /// A store on `driver`, counted under the name of its connector.
    pub(super) fn new(driver: impl Driver, connector: &str) -> Arc<Self> {
        Arc::new(Store {
            metrics: metrics::Kv::new(driver.name(), connector),
            driver: Arc::new(driver),
            nears: Nears::default(),
            combiner: Combiner::default(),
            flights: Flights::default(),
            locks: Arc::default(),
        })
    }

    /// Reads a key, from the memory of the handle's near cache where that will do.
    pub(super) async fn read(
        &self,
        near: Option<&Near>,
        bucket: &str,
        key: Key<'_>,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Found> {
        if consistency == Consistency::Any {
            return match near {
                Some(near) => match near.lookup(key) {
                    Some(found) => Ok(found),
                    None => self.ask(Some(near), bucket, key, consistency, deadline).await,
                },
                None => self.ask(None, bucket, key, consistency, deadline).await,
            };
        }
        // What this process has seen, its near cache must know.
        let near = self.nears.of(bucket);
        self.ask(near.as_deref(), bucket, key, consistency, deadline).await
    }

    /// Reads a key from the store; a near cache takes in the answer.
    pub(super) async fn ask(
        &self,
        near: Option<&Near>,
        bucket: &str,
        key: Key<'_>,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Found> {
        let asked = self.metrics.begin(bucket, KvOperation::Get);
        let found = match near {
            Some(near) => near.load(key, deadline).await,
            None => self.driver.get(bucket, key, consistency, deadline).await,
        };
        asked.read(&found);
        found
    }

    /// Reads several keys, each as [`read`](Self::read) would.
    pub(super) async fn read_many(
        &self,
        near: Option<&Near>,
        bucket: &str,
        keys: &[Key<'_>],
        consistency: Consistency,
        deadline: Instant,
    ) -> Vec<Result<Found>> {
        let near = match (near, consistency) {
            (Some(near), Consistency::Any) => near,
            _ => {
                let asked = self.metrics.begin(bucket, KvOperation::GetMany);
                let found = self.driver.get_many(bucket, keys, consistency, deadline).await;
                asked.read_many(&found);
                return found;
            }
        };
        let mut results: Vec<_> = keys.iter().map(|key| near.lookup(*key).map(Ok)).collect();
        let missing: Vec<usize> =
            (0..keys.len()).filter(|index| results[*index].is_none()).collect();
        let loads = stream::iter(missing).map(|index| async move {
            (index, self.ask(Some(near), bucket, keys[index], consistency, deadline).await)
        });
        let loaded: Vec<_> = loads.buffer_unordered(LOADS).collect().await;
        for (index, found) in loaded {
            results[index] = Some(found);
        }
        results.into_iter().flatten().collect()
    }

    pub(super) async fn write(
        &self,
        bucket: &str,
        write: Write<'_>,
        deadline: Instant,
    ) -> Result<u64> {
        self.flights.begin_write(bucket, &write);
        let near = self.nears.of(bucket);
        let writing = near.as_ref().and_then(|near| near.begin_write(write.key, &write.change));
        let asked = self.metrics.begin(bucket, KvOperation::of(&write.change));
        let written = self.driver.write(bucket, write, deadline).await;
        asked.done(&written);
        if let Some(writing) = writing {
            writing.finish(&written);
        }
        written
    }

    pub(super) async fn transaction(
        &self,
        bucket: &str,
        writes: Vec<Write<'_>>,
        deadline: Instant,
    ) -> Result<Vec<u64>> {
        for write in &writes {
            self.flights.begin_write(bucket, write);
        }
        let near = self.nears.of(bucket);
        let begun: Vec<_> = near
            .iter()
            .flat_map(|near| writes.iter().map(|write| near.begin_write(write.key, &write.change)))
            .collect();
        let size = writes.len();
        let asked = self.metrics.begin(bucket, KvOperation::Transaction);
        let written = self.driver.transaction(bucket, writes, deadline).await;
        asked.written(size, &written);
        for (index, writing) in begun.into_iter().enumerate() {
            let Some(writing) = writing else { continue };
            match &written {
                Ok(revisions) => {
                    writing.finish(&Ok(revisions.get(index).copied().unwrap_or_default()));
                }
                Err(_) => writing.forget(),
            }
        }
        written
    }
}
