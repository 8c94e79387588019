//! The key-value driver of one process, for tests and first steps.
//!
//! It models what a client sees of NATS key-value on one nats-server: buckets with their options,
//! one growing revision for each bucket, history, lifetimes of buckets and keys, conditions,
//! transactions, watches, key codecs and the limits of keys, values, headers and buckets. It refuses
//! what such a server refuses, more than one replica for instance. Every read is up to date, and a
//! lifetime ends at its very moment. Storage and compression are kept and change nothing that a
//! client can see.
//!
//! The end of a value leaves a trace with a revision: in a bucket with history a delete stays there,
//! everything else goes after 60 s. A watch that is read so slowly that it missed one begins anew,
//! with [`Signal::Reset`].
//!
//! What belongs to a server and is not here: persistence, copies that lag behind, outages,
//! permissions.

mod bucket;
mod log;
#[cfg(test)]
mod tests;
mod watch;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::Instant;

use self::bucket::Bucket;
use self::watch::Watcher;
use super::driver::{
    Capabilities, Change, Condition, Consistency, Driver, Filter, Found, Signal, Update, Write,
};
use super::{BucketConfig, BucketStatus, Glob, Key, KeyCodec};
use crate::error::{Error, ErrorKind, Result};

/// The largest message of a nats-server that is not told otherwise, headers included.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// How many names a listing takes at a time.
const PAGE: usize = 256;

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
    /// How many buckets were made.
    count: u64,
    /// Tells when one is made.
    made: tokio::sync::watch::Sender<()>,
    closed: bool,
}

impl Store {
    fn make(&mut self, config: &BucketConfig, codec: KeyCodec) -> Result<Bucket> {
        self.count += 1;
        Bucket::new(config, self.count, codec)
    }

    fn keep(&mut self, name: &str, bucket: Bucket) {
        self.buckets.insert(name.to_owned(), bucket);
        self.made.send_replace(());
    }
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

    /// Ends the store: what it held is gone, watches end, and they and later calls fail with
    /// `Closed`.
    pub fn close(&self) {
        *self.lock() = Store { closed: true, ..Store::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on the store, unless it is closed, when polled.
    fn with<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut Store) -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(future::lazy(move |_| {
            let mut store = self.lock();
            if store.closed { Err(closed()) } else { work(&mut store) }
        }))
    }

    fn check_key(&self, key: Key<'_>) -> Result<()> {
        self.codec.encode(key, &mut String::new())
    }

    fn read(&self, store: &mut Store, bucket: &str, key: Key<'_>) -> Result<Found> {
        match store.buckets.get_mut(bucket) {
            Some(bucket) => bucket.get(key),
            None => self.check_key(key).map(|()| Found::NEVER),
        }
    }

    /// Makes all changes or none, and a missing bucket where there is something to store.
    fn write_all(&self, store: &mut Store, name: &str, writes: Vec<Write<'_>>) -> Result<Vec<u64>> {
        if let Some(bucket) = store.buckets.get_mut(name) {
            return bucket.write(writes);
        }
        for write in &writes {
            self.check_key(write.key)?;
            if !matches!(write.condition, Condition::Always | Condition::Revision(0)) {
                return Err(Error::new(ErrorKind::Conflict, "the bucket does not exist"));
            }
        }
        if !writes.iter().any(|write| matches!(write.change, Change::Put(..))) {
            return Ok(vec![0; writes.len()]);
        }
        let mut made = store.make(&BucketConfig::new(name), self.codec)?;
        let revisions = made.write(writes)?;
        store.keep(name, made);
        Ok(revisions)
    }

    /// One page of a listing.
    fn page(&self, listing: &Listing) -> Result<(Vec<String>, Option<String>)> {
        if Instant::now() >= listing.deadline {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the listing was not read to its end in time",
            ));
        }
        let mut store = self.lock();
        if store.closed {
            return Err(closed());
        }
        let filter = Filter { prefix: &listing.prefix, glob: listing.glob.as_ref() };
        match store.buckets.get_mut(&listing.bucket) {
            Some(bucket) => bucket.list(filter, listing.after.as_deref(), PAGE),
            None => Ok((Vec::new(), None)),
        }
    }
}

/// A listing under way.
struct Listing {
    bucket: String,
    prefix: String,
    glob: Option<Glob>,
    after: Option<String>,
    deadline: Instant,
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
        self.with(|store| {
            let bucket = store.buckets.get(bucket);
            Ok(bucket.map_or(Capabilities::full(MAX_PAYLOAD), Bucket::capabilities))
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
        self.with(move |store| self.read(store, bucket, key))
    }

    fn get_many<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [Key<'a>],
        _consistency: Consistency,
        _deadline: Instant,
    ) -> BoxFuture<'a, Vec<Result<Found>>> {
        Box::pin(future::lazy(move |_| {
            let mut store = self.lock();
            let closed_now = store.closed;
            let read = |key: &Key<'_>| match closed_now {
                true => Err(closed()),
                false => self.read(&mut store, bucket, *key),
            };
            keys.iter().map(read).collect()
        }))
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        self.with(move |store| {
            let revisions = self.write_all(store, bucket, vec![write])?;
            Ok(revisions.first().copied().unwrap_or_default())
        })
    }

    fn transaction<'a>(
        &'a self,
        bucket: &'a str,
        writes: Vec<Write<'a>>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>> {
        self.with(move |store| {
            if store.buckets.get(bucket).is_some_and(|it| !it.capabilities().transactions) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "this bucket was made without transactions; switch them on with create_bucket \
                     and transactions(true)",
                ));
            }
            self.write_all(store, bucket, writes)
        })
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        Box::pin(future::lazy(move |_| {
            let listing = Listing {
                bucket: bucket.to_owned(),
                prefix: filter.prefix.to_owned(),
                glob: filter.glob.cloned(),
                after: None,
                deadline,
            };
            let first = self.page(&listing)?;
            let driver = self.clone();
            let pages = stream::unfold(Some((listing, Some(first))), move |state| {
                let next = state.map(|(mut listing, page)| {
                    let (names, after) = match page.map_or_else(|| driver.page(&listing), Ok) {
                        Ok(page) => page,
                        Err(error) => return (vec![Err(error)], None),
                    };
                    let names = names.into_iter().map(Ok).collect();
                    listing.after = after;
                    (names, listing.after.is_some().then_some((listing, None)))
                });
                future::ready(next)
            });
            Ok(pages.flat_map(|names: Vec<Result<String>>| stream::iter(names)).boxed())
        }))
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        self.with(move |store| {
            if !store.buckets.contains_key(bucket) {
                let made = store.make(&BucketConfig::new(bucket), self.codec)?;
                store.keep(bucket, made);
            }
            let Some(made) = store.buckets.get(bucket) else { return Err(closed()) };
            made.space(filter.prefix)?;
            let watcher = Watcher::new(self.store.clone(), bucket, made, filter);
            Ok(watcher.signals())
        })
    }

    fn history<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        self.with(move |store| match store.buckets.get_mut(bucket) {
            Some(bucket) => bucket.history_of(key),
            None => self.check_key(key).map(|()| Vec::new()),
        })
    }

    fn buckets<'a>(&'a self, _deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        self.with(|store| Ok(store.buckets.keys().cloned().collect()))
    }

    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        self.with(|store| Ok(store.buckets.get_mut(bucket).map(Bucket::status)))
    }

    fn make_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.with(|store| {
            if store.buckets.contains_key(&config.name) {
                return Ok(false);
            }
            let made = store.make(config, self.codec)?;
            store.keep(&config.name, made);
            Ok(true)
        })
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        self.with(|store| {
            if let Some(bucket) = store.buckets.get_mut(&config.name) {
                return bucket.change(config);
            }
            let made = store.make(config, self.codec)?;
            store.keep(&config.name, made);
            Ok(())
        })
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.with(|store| Ok(store.buckets.remove(bucket).is_some()))
    }
}
