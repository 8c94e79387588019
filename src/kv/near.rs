//! Near caches: reads answered from this process' memory, kept up to date by a watch.
//!
//! One watch per bucket and process feeds one bounded map, however many handles use it. What the
//! map does not hold is read from the bucket's leader. This process' own writes and consistent
//! reads of the bucket, by any handle on the same driver, are taken in as they are answered: so
//! every read sees the caller's own last write, and none goes back in time. While the watch lags,
//! having lost its connection for instance, nothing is answered from memory.

mod map;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::driver::{
    Change, Consistency, Driver, Entry, Expiry, Filter, Found, Signal, Update, What,
};
use super::slot::Target;
use super::{Key, Kv};
use crate::call::{Call, Task};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use map::{Map, Teller};

/// How long to wait before a watch that ended with an error is begun again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the beginning of a watch may take then.
const BEGIN: Duration = Duration::from_secs(10);

/// What a near cache may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a configuration does nothing until it is given to near_cache"]
pub struct NearCacheConfig {
    max_entries: usize,
    max_bytes: usize,
}

impl NearCacheConfig {
    /// 10,000 entries and 64 MiB.
    pub fn new() -> Self {
        NearCacheConfig { max_entries: 10_000, max_bytes: 64 * 1024 * 1024 }
    }

    /// The most keys that it holds, at least 1. Default 10,000.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// The most that it holds, in bytes, counting 200 for each entry beside key and value. Default
    /// 64 MiB. A value that does not fit is read from the store each time.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }
}

impl Default for NearCacheConfig {
    fn default() -> Self {
        NearCacheConfig::new()
    }
}

/// How a near cache is doing: [`Kv::near_cache_stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearCacheStats {
    /// Reads that were answered from memory.
    pub hits: u64,
    /// Reads that went to the store.
    pub misses: u64,
    /// Changes that the watch told.
    pub updates: u64,
    /// Entries that had to make room.
    pub evictions: u64,
    /// Entries that it holds, keys known to be missing among them.
    pub entries: usize,
    /// What they take, in bytes, as [`NearCacheConfig::max_bytes`] counts.
    pub bytes: usize,
    /// The watch has caught up: reads are answered from memory.
    pub current: bool,
}

impl Kv {
    /// This handle with its reads answered from this process' memory where they can be.
    ///
    /// The memory is shared by all handles on the bucket that ask for it, and lives as long as one
    /// of them. It begins by taking in the bucket's values, and is used from then on; a missing
    /// bucket is made. Writes go to the store as ever.
    ///
    /// Another process' write is seen when the watch tells it: after about a round trip. A
    /// connection that breaks without a word is noticed after some seconds, and so long reads may
    /// be as old; from then on until the watch has caught up, every read goes to the store.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the driver tells no changes; `InvalidInput` for bounds of zero, or other
    /// bounds than those of the bucket's near cache that lives; else as [`set`](Self::set).
    pub fn near_cache(&self, config: NearCacheConfig) -> Call<Task<Result<Kv>>> {
        let target = Target::new("kv near cache", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let near = Near::of(&target, config, deadline).await;
            let near = near.map_err(|error| target.explain(error))?;
            let Target { store, scope, .. } = target;
            Ok(Kv { store: Some(store), scope }.edit(|scope| scope.near = Some(near)))
        })
    }

    /// How this handle's near cache is doing; `None` for a handle without one.
    #[must_use]
    pub fn near_cache_stats(&self) -> Option<NearCacheStats> {
        self.scope.near.as_deref().map(|near| near.stats())
    }
}

/// The near caches of a store, by bucket.
#[derive(Default)]
pub(super) struct Nears {
    /// How many there are: most stores have none, and pay for this look only.
    count: AtomicUsize,
    buckets: RwLock<HashMap<Arc<str>, Weak<Near>>>,
}

impl Nears {
    /// The near cache of a bucket, if there is one.
    #[inline]
    pub(super) fn of(&self, bucket: &str) -> Option<Arc<Near>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.buckets.read().unwrap_or_else(PoisonError::into_inner).get(bucket)?.upgrade()
    }
}

/// A bucket's near cache, for as long as a handle has it.
pub(super) struct Near {
    cache: Arc<Cache>,
    watch: AbortHandle,
}

/// What the handles share with the task that watches.
pub(super) struct Cache {
    bucket: Arc<str>,
    driver: Arc<dyn Driver>,
    config: NearCacheConfig,
    map: Map,
    /// The watch has caught up.
    current: AtomicBool,
    hits: AtomicU64,
    misses: AtomicU64,
    updates: AtomicU64,
}

impl Near {
    /// The near cache of the target's bucket, begun if there is none.
    async fn of(target: &Target, config: NearCacheConfig, deadline: Instant) -> Result<Arc<Self>> {
        if config.max_entries == 0 || config.max_bytes == 0 {
            let message = "a near cache holds at least one entry and one byte";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let Target { store, bucket, .. } = target;
        if let Some(near) = store.nears.of(bucket) {
            return near.shared(&config);
        }
        let driver = store.driver.clone();
        let signals = watch(&*driver, bucket, deadline).await?;
        let mut nears = store.nears.buckets.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster.
        if let Some(near) = nears.get(bucket).and_then(Weak::upgrade) {
            return near.shared(&config);
        }
        let cache = Arc::new(Cache {
            bucket: bucket.clone(),
            driver,
            map: Map::new(&config, store.metrics.near(bucket)),
            config,
            current: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            updates: AtomicU64::new(0),
        });
        let watch = tokio::spawn(follow(Arc::downgrade(&cache), signals)).abort_handle();
        let near = Arc::new(Near { cache, watch });
        nears.retain(|_, near| near.strong_count() > 0);
        nears.insert(bucket.clone(), Arc::downgrade(&near));
        store.nears.count.store(nears.len(), Ordering::Release);
        Ok(near)
    }

    fn shared(self: Arc<Self>, config: &NearCacheConfig) -> Result<Arc<Self>> {
        if self.config == *config {
            return Ok(self);
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "the bucket has a near cache of at most {} entries and {} bytes; use the same bounds",
                self.config.max_entries, self.config.max_bytes
            ),
        ))
    }
}

impl Cache {
    /// What memory says of a key; `None` where the store has to be asked.
    #[inline]
    pub(super) fn lookup(&self, key: Key<'_>) -> Option<Found> {
        let current = self.current.load(Ordering::Acquire);
        let found = if current { self.map.get(&self.name(key)?) } else { None };
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        self.map.metrics().looked_up(found.is_some(), current);
        found
    }

    /// Asks the bucket's leader for a key, and remembers the answer.
    pub(super) async fn load(&self, key: Key<'_>, deadline: Instant) -> Result<Found> {
        let read = || self.driver.get(&self.bucket, key, Consistency::Latest, deadline);
        let Some(name) = self.name(key) else { return read().await };
        let reading = self.map.begin(&name);
        Ok(reading.finish(read().await?))
    }

    /// Notes what a write of this process will have done, before it is sent.
    pub(super) fn begin_write(&self, key: Key<'_>, change: &Change) -> Option<Writing<'_>> {
        let name = self.name(key)?.into_owned();
        let now = SystemTime::now();
        let value = match change {
            Change::Put(value, expiry) => {
                let ends = match expiry {
                    Expiry::Never => None,
                    Expiry::In(ttl) => now.checked_add(*ttl),
                    Expiry::At(at) => Some(*at),
                };
                let entry = Entry::new(value.clone(), 0).with_created(Some(now));
                Some(entry.with_expiry(ends, None))
            }
            Change::Delete | Change::Purge => None,
        };
        Some(Writing { near: self, name, value, epoch: self.map.epoch() })
    }

    fn stats(&self) -> NearCacheStats {
        let (entries, bytes, evictions) = self.map.figures();
        NearCacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            updates: self.updates.load(Ordering::Relaxed),
            evictions,
            entries,
            bytes,
            current: self.current.load(Ordering::Relaxed),
        }
    }

    /// The key's name in the watch of the whole bucket.
    fn name<'a>(&self, key: Key<'a>) -> Option<Cow<'a, str>> {
        match key.prefix() {
            "" => Some(Cow::Borrowed(key.name())),
            _ => self.driver.whole_name(&self.bucket, key),
        }
    }

    fn take_in(&self, signal: Signal) {
        match signal {
            Signal::Update(Update { key, revision, what }) => {
                self.updates.fetch_add(1, Ordering::Relaxed);
                self.map.metrics().updated();
                let found = match what {
                    What::Put(entry) => Found::Value(entry),
                    What::Deleted | What::Purged | What::Expired => Found::Nothing { revision },
                };
                self.map.tell(Teller::Watch, self.map.epoch(), &key, found);
            }
            Signal::Current => {
                if !self.current.load(Ordering::Acquire) {
                    self.map.keep_watched();
                    self.current.store(true, Ordering::Release);
                    tracing::debug!(bucket = &*self.bucket, "near cache: current");
                }
            }
            Signal::Lagging => self.lag("the watch lags"),
            Signal::Reset => {
                self.lag("the bucket was made anew");
                self.map.clear();
            }
        }
    }

    fn lag(&self, cause: &str) {
        if self.current.swap(false, Ordering::AcqRel) {
            tracing::info!(
                bucket = &*self.bucket,
                "near cache: {cause}; reads go to the store until it has caught up"
            );
        }
    }
}

impl Deref for Near {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        &self.cache
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near").field("bucket", &self.bucket).field("stats", &self.stats()).finish()
    }
}

/// A write that is under way.
pub(super) struct Writing<'a> {
    near: &'a Cache,
    name: String,
    value: Option<Entry>,
    epoch: map::Epoch,
}

impl Writing<'_> {
    /// It failed with others: memory may lag behind.
    pub(super) fn forget(self) {
        self.near.map.forget(&self.name);
    }

    /// Takes in what came of it.
    pub(super) fn finish(self, written: &Result<u64>) {
        let Writing { near, name, value, epoch } = self;
        match (written, value) {
            (Ok(revision @ 1..), Some(entry)) => {
                let entry = Entry { revision: *revision, ..entry };
                near.map.tell(Teller::Write, epoch, &name, Found::Value(entry));
            }
            (Ok(revision @ 1..), None) => {
                near.map.tell(Teller::Write, epoch, &name, Found::Nothing { revision: *revision });
            }
            // There was nothing to delete, or somebody else was first: memory may lag behind.
            (Ok(0), _) => near.map.forget(&name),
            (Err(error), _) if error.is_conflict() || error.is_already_exists() => {
                near.map.forget(&name);
            }
            // It was not stored, or the watch will tell.
            (Err(_), _) => {}
        }
    }
}

type Signals = BoxStream<'static, Result<Signal>>;

async fn watch(driver: &dyn Driver, bucket: &str, deadline: Instant) -> Result<Signals> {
    driver.watch(bucket, Filter { prefix: "", glob: None }, deadline).await
}

/// Feeds the cache for as long as it lives. A watch that ends is begun anew, with all it told
/// forgotten.
async fn follow(near: Weak<Cache>, mut signals: Signals) {
    loop {
        let ended = loop {
            let signal = signals.next().await;
            let Some(near) = near.upgrade() else { return };
            match signal {
                Some(Ok(signal)) => near.take_in(signal),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        let Some(alive) = near.upgrade() else { return };
        alive.lag("the watch ended");
        alive.map.clear();
        if ended.as_ref().is_some_and(Error::is_closed) {
            return;
        }
        if let Some(error) = ended {
            tracing::warn!(bucket = &*alive.bucket, %error, "near cache: the watch ended");
        }
        let (driver, bucket) = (alive.driver.clone(), alive.bucket.clone());
        drop(alive);
        signals = loop {
            sleep(AGAIN).await;
            match watch(&*driver, &bucket, after(BEGIN)).await {
                Ok(signals) => break signals,
                Err(error) if error.is_closed() => return,
                Err(error) => tracing::debug!(bucket = &*bucket, %error, "near cache: no watch"),
            }
        };
    }
}
