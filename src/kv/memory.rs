//! The key-value driver of one process, for tests and first steps.
//!
//! It models what a client sees of NATS key-value on one nats-server: buckets with their options,
//! one growing revision for each bucket, history, lifetimes, delete markers (in buckets with history;
//! elsewhere a delete leaves nothing), key codecs and the limits of keys, values, headers and buckets. It
//! refuses what such a server refuses, more than one replica for instance. Every read is up to
//! date. Storage and compression are kept and change nothing that a client can see.
//!
//! What belongs to a server and is not here: persistence, copies that lag behind, outages,
//! permissions.

mod bucket;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{self, BoxFuture};
use futures::stream::BoxStream;
use tokio::time::Instant;

use self::bucket::Bucket;
use super::driver::{
    Capabilities, Change, Condition, Consistency, Driver, Filter, Found, Signal, Update, Write,
};
use super::{BucketConfig, BucketStatus, Key, KeyCodec};
use crate::error::{Error, ErrorKind, Result};

/// The largest message of a nats-server that is not told otherwise, headers included.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// A key-value store in this process; see [`kv`](crate::kv). Each `new` is a store of its own, and
/// its clones are the same one.
#[derive(Clone)]
pub struct MemoryDriver {
    codec: KeyCodec,
    store: Arc<Mutex<Store>>,
}

#[derive(Default)]
struct Store {
    buckets: HashMap<String, Bucket>,
    closed: bool,
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
        MemoryDriver { codec, store: Arc::default() }
    }

    /// Ends the store: what it held is gone, and later calls fail with `Closed`.
    pub fn close(&self) {
        *self.lock() = Store { closed: true, ..Store::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on the buckets unless the store is closed.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut HashMap<String, Bucket>) -> Result<T>,
    ) -> BoxFuture<'static, Result<T>> {
        let mut store = self.lock();
        let result = if store.closed { Err(closed()) } else { work(&mut store.buckets) };
        drop(store);
        Box::pin(future::ready(result))
    }

    fn check_key(&self, key: Key<'_>) -> Result<()> {
        self.codec.encode(key, &mut String::new())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the memory driver is closed; make a new one")
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
        self.with(|buckets| {
            let max_value_size = buckets.get(bucket).map_or(MAX_PAYLOAD, Bucket::max_size);
            let capabilities = Capabilities::basic(max_value_size);
            let capabilities = capabilities.with_content_type(true).with_history(true);
            Ok(capabilities.with_compare_and_set(true).with_compression(true))
        })
    }

    fn whole_name<'a>(&self, bucket: &str, key: Key<'a>) -> Option<Cow<'a, str>> {
        let codec = self.lock().buckets.get(bucket).map_or(self.codec, Bucket::codec);
        codec.whole_name(key).ok()
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        _consistency: Consistency,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Found>> {
        self.with(|buckets| match buckets.get_mut(bucket) {
            Some(bucket) => bucket.get(key),
            None => self.check_key(key).map(|()| Found::NEVER),
        })
    }

    fn get_many<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [Key<'a>],
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Result<Found>>> {
        Box::pin(future::join_all(
            keys.iter().map(move |key| self.get(bucket, *key, consistency, deadline)),
        ))
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        let Write { key, change, condition } = write;
        self.with(|buckets| {
            if let Some(bucket) = buckets.get_mut(bucket) {
                return match change {
                    Change::Put(value, _) => bucket.put(key, value, condition),
                    _ => bucket.delete(key).map(|()| 0),
                };
            }
            self.check_key(key)?;
            let Change::Put(value, _) = change else { return Ok(0) };
            if !matches!(condition, Condition::Always | Condition::Revision(0)) {
                return Err(Error::new(ErrorKind::Conflict, "the bucket does not exist"));
            }
            let mut made = Bucket::new(&BucketConfig::new(bucket), self.codec)?;
            let revision = made.put(key, value, condition)?;
            buckets.insert(bucket.to_owned(), made);
            Ok(revision)
        })
    }

    fn transaction<'a>(
        &'a self,
        _bucket: &'a str,
        _writes: Vec<Write<'a>>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>> {
        unsupported()
    }

    fn list<'a>(
        &'a self,
        _bucket: &'a str,
        _filter: Filter<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        unsupported()
    }

    fn watch<'a>(
        &'a self,
        _bucket: &'a str,
        _filter: Filter<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        unsupported()
    }

    fn history<'a>(
        &'a self,
        _bucket: &'a str,
        _key: Key<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        unsupported()
    }

    fn buckets<'a>(&'a self, _deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        unsupported()
    }

    fn bucket_status<'a>(
        &'a self,
        _bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        unsupported()
    }

    fn make_bucket<'a>(
        &'a self,
        _config: &'a BucketConfig,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        unsupported()
    }

    fn delete_bucket<'a>(
        &'a self,
        _bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        unsupported()
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        self.with(|buckets| match buckets.get_mut(&config.name) {
            Some(bucket) => bucket.change(config),
            None => {
                let made = Bucket::new(config, self.codec)?;
                buckets.insert(config.name.clone(), made);
                Ok(())
            }
        })
    }
}

/// What is still to come.
fn unsupported<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T>> {
    Box::pin(future::ready(Err(Error::new(ErrorKind::Unsupported, "not there yet"))))
}
