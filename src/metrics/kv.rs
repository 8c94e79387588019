//! Metrics of key-value: requests to the store, near caches, locks.

use std::sync::Arc;

use ::metrics::{Counter, Gauge, Histogram};

use super::lazy::{Bounded, Handles, Lazy, Maker};
use super::{Begun, error_label, list};
use crate::error::{Error, Result};
use crate::kv::driver::{Change, Found};

/// The metrics of a key-value driver.
#[derive(Debug)]
pub(crate) struct Kv {
    driver: String,
    connector: String,
    buckets: Bounded<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    store: Lazy<StoreHandles>,
    near: Lazy<NearHandles>,
    locks: Lazy<LockHandles>,
}

/// A request to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KvOperation {
    Get,
    GetMany,
    Put,
    Delete,
    Purge,
    Transaction,
    History,
}

impl KvOperation {
    /// In the order of their declaration.
    const ALL: [KvOperation; 7] = [
        KvOperation::Get,
        KvOperation::GetMany,
        KvOperation::Put,
        KvOperation::Delete,
        KvOperation::Purge,
        KvOperation::Transaction,
        KvOperation::History,
    ];

    pub(crate) fn of(change: &Change) -> Self {
        match change {
            Change::Put(..) => KvOperation::Put,
            Change::Delete => KvOperation::Delete,
            Change::Purge => KvOperation::Purge,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            KvOperation::Get => "get",
            KvOperation::GetMany => "get_many",
            KvOperation::Put => "put",
            KvOperation::Delete => "delete",
            KvOperation::Purge => "purge",
            KvOperation::Transaction => "transaction",
            KvOperation::History => "history",
        }
    }
}

#[derive(Debug)]
struct StoreHandles {
    /// By [`KvOperation`].
    operations: [(Counter, Histogram); KvOperation::ALL.len()],
    reads: Histogram,
    writes: Histogram,
    hits: Counter,
    misses: Counter,
    conflicts: Counter,
}

impl Handles for StoreHandles {
    fn make(maker: &Maker<'_>) -> Self {
        let label = |operation: KvOperation| [("operation", operation.as_str())];
        StoreHandles {
            operations: KvOperation::ALL.map(|operation| {
                let count = maker.counter_of(&list::KV_OPERATIONS, label(operation));
                (count, maker.histogram_of(&list::KV_DURATION, label(operation)))
            }),
            reads: maker.histogram_of(&list::KV_BATCH_SIZE, label(KvOperation::GetMany)),
            writes: maker.histogram_of(&list::KV_BATCH_SIZE, label(KvOperation::Transaction)),
            hits: maker.counter(&list::KV_HITS),
            misses: maker.counter(&list::KV_MISSES),
            conflicts: maker.counter(&list::KV_CONFLICTS),
        }
    }
}

impl StoreHandles {
    fn found(&self, found: &Found) {
        match found {
            Found::Value(_) => self.hits.increment(1),
            Found::Nothing { .. } => self.misses.increment(1),
        }
    }
}

impl Kv {
    /// Those of a driver; `connector` is empty for a driver that no connector made.
    pub(crate) fn new(driver: &str, connector: &str) -> Self {
        let (driver, connector) = (driver.to_owned(), connector.to_owned());
        Kv { driver, connector, buckets: Bounded::default() }
    }

    /// A request to the store begins. One that is dropped before it ended is not counted.
    pub(crate) fn begin(&self, bucket: &str, operation: KvOperation) -> Asked {
        Asked { bucket: self.bucket(bucket), operation, begun: Begun::now() }
    }

    pub(crate) fn near(&self, bucket: &str) -> NearMetrics {
        NearMetrics(self.bucket(bucket))
    }

    pub(crate) fn locks(&self, bucket: &str) -> LockMetrics {
        LockMetrics { bucket: self.bucket(bucket), begun: Begun::now() }
    }

    fn bucket(&self, name: &str) -> Arc<Bucket> {
        self.buckets.of(name, |name| {
            let labels =
                [("driver", &*self.driver), ("connector", &*self.connector), ("bucket", name)];
            Bucket {
                store: Lazy::new(labels),
                near: Lazy::unmade(labels),
                locks: Lazy::unmade(labels),
            }
        })
    }
}

/// A request that is under way.
#[must_use]
pub(crate) struct Asked {
    bucket: Arc<Bucket>,
    operation: KvOperation,
    begun: Begun,
}

impl Asked {
    pub(crate) fn read(self, found: &Result<Found>) {
        let Some(handles) = self.ended() else { return };
        match found {
            Ok(found) => handles.found(found),
            Err(error) => self.failed(error),
        }
    }

    pub(crate) fn read_many(self, found: &[Result<Found>]) {
        let Some(handles) = self.ended() else { return };
        handles.reads.record(found.len() as f64);
        found.iter().flatten().for_each(|found| handles.found(found));
        if let Some(error) = found.iter().find_map(|found| found.as_ref().err()) {
            self.failed(error);
        }
    }

    /// What came of a write, or of what has no hits.
    pub(crate) fn done<T>(self, done: &Result<T>) {
        let Some(handles) = self.ended() else { return };
        match done {
            Err(error) if error.is_conflict() => handles.conflicts.increment(1),
            Err(error) => self.failed(error),
            Ok(_) => {}
        }
    }

    pub(crate) fn written(self, size: usize, written: &Result<Vec<u64>>) {
        if let Some(handles) = self.bucket.store.get() {
            handles.writes.record(size as f64);
        }
        self.done(written);
    }

    fn ended(&self) -> Option<&StoreHandles> {
        let handles = self.bucket.store.get()?;
        let (count, duration) = &handles.operations[self.operation as usize];
        count.increment(1);
        duration.record(self.begun.seconds());
        Some(handles)
    }

    fn failed(&self, error: &Error) {
        let more = [("operation", self.operation.as_str()), ("error", &error_label(error))];
        self.bucket.store.count(&list::KV_FAILURES, more);
    }
}

#[derive(Debug)]
struct NearHandles {
    hits: Counter,
    misses: Counter,
    bypassed: Counter,
    updates: Counter,
    evictions: Counter,
    entries: Gauge,
    bytes: Gauge,
}

impl Handles for NearHandles {
    fn make(maker: &Maker<'_>) -> Self {
        NearHandles {
            hits: maker.counter(&list::NEAR_HITS),
            misses: maker.counter(&list::NEAR_MISSES),
            bypassed: maker.counter(&list::NEAR_BYPASSED),
            updates: maker.counter(&list::NEAR_UPDATES),
            evictions: maker.counter(&list::NEAR_EVICTIONS),
            entries: maker.gauge(&list::NEAR_ENTRIES),
            bytes: maker.gauge(&list::NEAR_BYTES),
        }
    }
}

/// The metrics of a bucket's near caches.
#[derive(Debug)]
pub(crate) struct NearMetrics(Arc<Bucket>);

impl NearMetrics {
    /// A read, and whether memory answered it; `current` says whether it could have.
    #[inline]
    pub(crate) fn looked_up(&self, hit: bool, current: bool) {
        let Some(handles) = self.0.near.get() else { return };
        if hit {
            return handles.hits.increment(1);
        }
        handles.misses.increment(1);
        if !current {
            handles.bypassed.increment(1);
        }
    }

    pub(crate) fn updated(&self) {
        if let Some(handles) = self.0.near.get() {
            handles.updates.increment(1);
        }
    }

    /// What a cache holds now, and how much had to make room so far. Several caches of one bucket
    /// add up.
    pub(crate) fn size(&self, told: &mut NearSize, entries: usize, bytes: usize, evictions: u64) {
        let now = NearSize { entries, bytes, evictions };
        if *told == now {
            return;
        }
        let Some(handles) = self.0.near.get() else { return };
        handles.entries.increment(now.entries as f64 - told.entries as f64);
        handles.bytes.increment(now.bytes as f64 - told.bytes as f64);
        handles.evictions.increment(now.evictions.saturating_sub(told.evictions));
        *told = now;
    }
}

/// What a near cache has told of its size, and of what had to make room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NearSize {
    entries: usize,
    bytes: usize,
    evictions: u64,
}

#[derive(Debug)]
struct LockHandles {
    acquired: Counter,
    refused: Counter,
    lost: Counter,
    held: Gauge,
    wait: Histogram,
}

impl Handles for LockHandles {
    fn make(maker: &Maker<'_>) -> Self {
        LockHandles {
            acquired: maker.counter(&list::LOCKS_ACQUIRED),
            refused: maker.counter(&list::LOCKS_REFUSED),
            lost: maker.counter(&list::LOCKS_LOST),
            held: maker.gauge(&list::LOCKS_HELD),
            wait: maker.histogram(&list::LOCK_WAIT),
        }
    }
}

/// The metrics of one way to a lock, and of the lock.
#[derive(Debug)]
pub(crate) struct LockMetrics {
    bucket: Arc<Bucket>,
    begun: Begun,
}

impl LockMetrics {
    /// What came of it.
    pub(crate) fn waited<T>(&self, taken: &Result<T>) {
        let Some(handles) = self.bucket.locks.get() else { return };
        match taken {
            Ok(_) => {
                handles.acquired.increment(1);
                handles.wait.record(self.begun.seconds());
            }
            Err(error) if error.is_conflict() => handles.refused.increment(1),
            Err(_) => {}
        }
    }

    /// The lock is held until what this gives is dropped.
    pub(crate) fn held(self) -> LockHeld {
        let told = self.bucket.locks.get().map(|handles| handles.held.increment(1)).is_some();
        LockHeld { bucket: self.bucket, told }
    }
}

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct LockHeld {
    bucket: Arc<Bucket>,
    told: bool,
}

impl LockHeld {
    pub(crate) fn lost(&self) {
        if let Some(handles) = self.bucket.locks.get() {
            handles.lost.increment(1);
        }
    }

    /// The same as dropping it.
    pub(crate) fn end(self) {}
}

impl Drop for LockHeld {
    fn drop(&mut self) {
        if let (true, Some(handles)) = (self.told, self.bucket.locks.get()) {
            handles.held.decrement(1);
        }
    }
}
