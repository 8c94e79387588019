//! The key-value driver of one process, for tests and first steps.
//!
//! It models what a client sees of NATS key-value on one nats-server: buckets with their options,
//! one growing revision for each bucket, history, lifetimes, delete markers (which count as
//! messages of their key), key codecs and the limits of keys, values, headers and buckets. It
//! refuses what such a server refuses, more than one replica for instance. Every read is up to
//! date. Storage and compression are kept and change nothing that a client can see.
//!
//! What belongs to a server and is not here: persistence, copies that lag behind, outages,
//! permissions.

mod bucket;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::{self, BoxFuture};
use tokio::time::Instant;

use self::bucket::Bucket;
use super::driver::{Capabilities, Condition, Consistency, Driver, Entry, Value};
use super::{BucketConfig, Key, KeyCodec};
use crate::error::{Error, ErrorKind, Result};

/// The largest message of a nats-server that is not told otherwise, headers included.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// A key-value store in this process; see [`kv`](crate::kv). Each `new` is a store of its own.
pub struct MemoryDriver {
    codec: KeyCodec,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl MemoryDriver {
    /// An empty store; new buckets escape their keys.
    #[must_use]
    pub fn new() -> Self {
        MemoryDriver::with_key_codec(KeyCodec::default())
    }

    /// An empty store whose new buckets write keys with `codec`.
    #[must_use]
    pub fn with_key_codec(codec: KeyCodec) -> Self {
        MemoryDriver { codec, buckets: Mutex::default() }
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_now(
        &self,
        bucket: &str,
        key: Key<'_>,
        value: Value,
        condition: Condition,
    ) -> Result<u64> {
        let mut buckets = self.buckets();
        if let Some(bucket) = buckets.get_mut(bucket) {
            return bucket.put(key, value, condition);
        }
        match condition {
            Condition::Always => {
                let mut made = Bucket::new(&BucketConfig::new(bucket), self.codec)?;
                let revision = made.put(key, value, condition)?;
                buckets.insert(bucket.to_owned(), made);
                Ok(revision)
            }
            Condition::Revision(_) => {
                Err(Error::new(ErrorKind::Conflict, "the bucket does not exist"))
            }
        }
    }

    fn create_now(&self, config: &BucketConfig) -> Result<()> {
        config.check()?;
        let mut buckets = self.buckets();
        match buckets.get_mut(&config.name) {
            Some(bucket) => bucket.change(config),
            None => {
                let made = Bucket::new(config, self.codec)?;
                buckets.insert(config.name.clone(), made);
                Ok(())
            }
        }
    }
}

impl Default for MemoryDriver {
    fn default() -> Self {
        MemoryDriver::new()
    }
}

impl fmt::Debug for MemoryDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDriver").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Driver for MemoryDriver {
    fn name(&self) -> &str {
        "memory"
    }

    fn capabilities<'a>(
        &'a self,
        bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>> {
        let max_value_size = self.buckets().get(bucket).map_or(MAX_PAYLOAD, Bucket::max_size);
        let capabilities =
            Capabilities::basic(max_value_size).with_compare_and_set(true).with_compression(true);
        Box::pin(future::ready(Ok(capabilities)))
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        _consistency: Consistency,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Entry>>> {
        let found = match self.buckets().get_mut(bucket) {
            Some(bucket) => bucket.get(key),
            None => self.codec.encode(key, &mut String::new()).map(|()| None),
        };
        Box::pin(future::ready(found))
    }

    fn put<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        value: Value,
        condition: Condition,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(future::ready(self.put_now(bucket, key, value, condition)))
    }

    fn delete<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        let deleted = match self.buckets().get_mut(bucket) {
            Some(bucket) => bucket.delete(key),
            None => self.codec.encode(key, &mut String::new()),
        };
        Box::pin(future::ready(deleted))
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(future::ready(self.create_now(config)))
    }
}
