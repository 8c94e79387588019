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
}

impl Store {
    pub(super) fn new(driver: impl Driver) -> Arc<Self> {
        Arc::new(Store {
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
                    None => near.load(key, deadline).await,
                },
                None => self.driver.get(bucket, key, consistency, deadline).await,
            };
        }
        // What this process has seen, its near cache must know.
        match self.nears.of(bucket) {
            Some(near) => near.load(key, deadline).await,
            None => self.driver.get(bucket, key, consistency, deadline).await,
        }
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
            _ => return self.driver.get_many(bucket, keys, consistency, deadline).await,
        };
        let mut results: Vec<_> = keys.iter().map(|key| near.lookup(*key).map(Ok)).collect();
        let missing: Vec<usize> =
            (0..keys.len()).filter(|index| results[*index].is_none()).collect();
        let loads = stream::iter(missing)
            .map(|index| async move { (index, near.load(keys[index], deadline).await) });
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
        let Some(near) = self.nears.of(bucket) else {
            return self.driver.write(bucket, write, deadline).await;
        };
        let writing = near.begin_write(write.key, &write.change);
        let written = self.driver.write(bucket, write, deadline).await;
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
        let written = self.driver.transaction(bucket, writes, deadline).await;
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
