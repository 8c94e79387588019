//! A driver with what the handles on it share.

use std::sync::Arc;

use tokio::time::Instant;

use super::Key;
use super::driver::{Consistency, Driver, Found, Write};
use crate::error::Result;

/// One for each driver, behind every handle on it: all reads and writes of keys go through here.
pub(crate) struct Store {
    pub(super) driver: Arc<dyn Driver>,
}

impl Store {
    pub(super) fn new(driver: impl Driver) -> Arc<Self> {
        Arc::new(Store { driver: Arc::new(driver) })
    }

    pub(super) async fn read(
        &self,
        bucket: &str,
        key: Key<'_>,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Found> {
        self.driver.get(bucket, key, consistency, deadline).await
    }

    pub(super) async fn read_many(
        &self,
        bucket: &str,
        keys: &[Key<'_>],
        consistency: Consistency,
        deadline: Instant,
    ) -> Vec<Result<Found>> {
        self.driver.get_many(bucket, keys, consistency, deadline).await
    }

    pub(super) async fn write(
        &self,
        bucket: &str,
        write: Write<'_>,
        deadline: Instant,
    ) -> Result<u64> {
        self.driver.write(bucket, write, deadline).await
    }

    pub(super) async fn transaction(
        &self,
        bucket: &str,
        writes: Vec<Write<'_>>,
        deadline: Instant,
    ) -> Result<Vec<u64>> {
        self.driver.transaction(bucket, writes, deadline).await
    }
}
