//! The object store of one process, for tests and first steps.
//!
//! It models what a client sees of a NATS object store on one nats-server: buckets with their
//! options, one growing revision for each bucket, uploads that show nothing before they are
//! complete, links, lifetimes, watches, seals and the limits of chunks and buckets. It refuses what
//! such a server refuses, more than one replica for instance. Every read is up to date, and a
//! lifetime ends at its very moment. Storage and compression are kept and change nothing that a
//! client can see.
//!
//! An object's lifetime begins when its bytes are complete; a change of its name or metadata does
//! not prolong it. A delete leaves a trace for 60 s. A watch that is read so slowly that it missed
//! one compares what it told with what is there, and tells the difference.
//!
//! What belongs to a server and is not here: persistence, copies that lag behind, outages,
//! permissions, bytes that nobody owns.

mod bucket;
mod upload;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::Instant;

use self::bucket::{Bucket, Chunks};
use self::upload::MemoryUpload;
use self::watch::Watcher;
use super::driver::{Capabilities, Change, Consistency, Download, Draft, Driver, Limits, Upload};
use super::{BucketConfig, BucketStatus, Event, Link, ObjectInfo};
use crate::error::{Error, ErrorKind, Result};

/// How many objects a listing takes at a time.
const PAGE: usize = 256;

/// An object store in this process; see [`objects`](crate::objects). Each `new` is a store of its
/// own, and its clones are the same one.
#[derive(Clone, Default)]
pub struct MemoryDriver {
    store: Shared,
}

type Shared = Arc<Mutex<Store>>;

#[derive(Default)]
struct Store {
    buckets: HashMap<String, Bucket>,
    /// How many buckets and objects were made.
    count: u64,
    /// Tells when a bucket is made.
    made: tokio::sync::watch::Sender<()>,
    closed: bool,
}

impl Store {
    fn next_id(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn make(&mut self, config: &BucketConfig) -> Result<()> {
        let bucket = Bucket::new(config, self.next_id())?;
        self.buckets.insert(config.name.clone(), bucket);
        self.made.send_replace(());
        Ok(())
    }

    /// The bucket, made where there is none.
    fn make_missing(&mut self, name: &str) -> Result<&mut Bucket> {
        if !self.buckets.contains_key(name) {
            self.make(&BucketConfig::new(name))?;
        }
        self.current(name).ok_or_else(closed)
    }

    /// The bucket, without what has ended.
    fn current(&mut self, name: &str) -> Option<&mut Bucket> {
        let bucket = self.buckets.get_mut(name)?;
        bucket.expire();
        Some(bucket)
    }
}

impl MemoryDriver {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        MemoryDriver::default()
    }

    /// Ends the store: what it held is gone, watches and downloads end, and they, uploads and later
    /// calls fail with `Closed`.
    pub fn close(&self) {
        *lock(&self.store) = Store { closed: true, ..Store::default() };
    }

    /// Does `work` on the store, unless it is closed, when polled.
    fn with<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut Store) -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(future::lazy(move |_| work(&mut *open(&self.store)?)))
    }
}

fn lock(store: &Shared) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store, unless it is closed.
fn open(store: &Shared) -> Result<MutexGuard<'_, Store>> {
    let store = lock(store);
    if store.closed { Err(closed()) } else { Ok(store) }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the memory driver is closed; make a new one")
}

/// A download under way. Only the store keeps the bytes alive, so that a reader finds out when they
/// are taken out.
struct Reading {
    store: Shared,
    bucket: String,
    chunks: Weak<Chunks>,
    next: usize,
    /// What is to be left out of the next chunk.
    skip: usize,
    left: u64,
}

impl Reading {
    /// What of `chunks` is in `range`.
    fn new(store: &Shared, bucket: &str, chunks: &Arc<Chunks>, range: Range<u64>) -> Self {
        let (mut next, mut before) = (0, 0);
        for chunk in &**chunks {
            let end = before + chunk.len() as u64;
            if end > range.start {
                break;
            }
            (next, before) = (next + 1, end);
        }
        Reading {
            store: store.clone(),
            bucket: bucket.to_owned(),
            chunks: Arc::downgrade(chunks),
            next,
            skip: usize::try_from(range.start.saturating_sub(before)).unwrap_or(usize::MAX),
            left: range.end.saturating_sub(range.start),
        }
    }

    fn read(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut store = open(&self.store)?;
        // What has ended is taken out by this.
        store.current(&self.bucket);
        let chunks = self.chunks.upgrade().ok_or_else(|| {
            Error::new(
                ErrorKind::Conflict,
                "the object was replaced or deleted while it was read; read it again",
            )
        })?;
        let Some(chunk) = chunks.get(self.next) else { return Ok(None) };
        let from = self.skip.min(chunk.len());
        let to =
            chunk.len().min(from.saturating_add(usize::try_from(self.left).unwrap_or(usize::MAX)));
        (self.next, self.skip) = (self.next + 1, 0);
        self.left -= (to - from) as u64;
        Ok(Some(chunk.slice(from..to)))
    }

    fn bytes(self) -> BoxStream<'static, Result<Bytes>> {
        let chunks = stream::unfold(Some(self), |reading| {
            let next = reading.and_then(|mut reading| match reading.read() {
                Ok(bytes) => bytes.map(|bytes| (Ok(bytes), Some(reading))),
                Err(error) => Some((Err(error), None)),
            });
            future::ready(next)
        });
        chunks.boxed()
    }
}

/// A listing under way.
struct Listing {
    store: Shared,
    bucket: String,
    after: Option<String>,
    deadline: Instant,
}

impl Listing {
    fn page(&mut self) -> Result<Vec<ObjectInfo>> {
        if Instant::now() >= self.deadline {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the listing was not read to its end in time",
            ));
        }
        let mut store = open(&self.store)?;
        let Some(bucket) = store.current(&self.bucket) else { return Ok(Vec::new()) };
        let page = bucket.objects_after(self.after.as_deref(), PAGE);
        self.after = page.last().map(|info| info.name.clone());
        Ok(page)
    }
}

impl fmt::Debug for MemoryDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDriver").finish_non_exhaustive()
    }
}

impl Driver for MemoryDriver {
    fn name(&self) -> &str {
        "memory"
    }

    fn capabilities<'a>(
        &'a self,
        _bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>> {
        self.with(|_| Ok(Capabilities::full()))
    }

    fn put<'a>(
        &'a self,
        bucket: &'a str,
        draft: Draft,
        _limits: Limits,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        self.with(move |store| {
            let made = store.make_missing(bucket)?;
            made.check_open()?;
            let id = made.id;
            Ok(Box::new(MemoryUpload::new(&self.store, bucket, id, draft)) as Box<dyn Upload>)
        })
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        range: Range<u64>,
        _consistency: Consistency,
        _limits: Limits,
    ) -> BoxFuture<'a, Result<Option<Download>>> {
        self.with(move |store| {
            let object = store.current(bucket).and_then(|it| it.object(name));
            Ok(object.map(|object| Download {
                info: object.info.clone(),
                bytes: Reading::new(&self.store, bucket, &object.chunks, range).bytes(),
            }))
        })
    }

    fn info<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        _consistency: Consistency,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>> {
        self.with(move |store| {
            let object = store.current(bucket).and_then(|it| it.object(name));
            Ok(object.map(|object| object.info.clone()))
        })
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<ObjectInfo>>>> {
        let store = self.store.clone();
        let listing = Listing { store, bucket: bucket.to_owned(), after: None, deadline };
        self.with(move |_| {
            let pages = stream::try_unfold(listing, |mut listing| {
                let page = listing.page();
                let page = page.map(|page| (!page.is_empty()).then_some((page, listing)));
                future::ready(page)
            });
            let objects = pages.flat_map(|page| {
                let objects: Vec<Result<ObjectInfo>> = match page {
                    Ok(page) => page.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                };
                stream::iter(objects)
            });
            Ok(objects.boxed())
        })
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Event>>>> {
        self.with(move |store| {
            let made = store.make_missing(bucket)?;
            Ok(Watcher::new(&self.store, bucket, made).events())
        })
    }

    fn delete<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.with(move |store| store.current(bucket).map_or(Ok(false), |it| it.delete(name)))
    }

    fn change<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        change: Change,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>> {
        self.with(move |store| {
            store.current(bucket).map_or(Ok(None), |it| it.change_object(name, change))
        })
    }

    fn link<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        to: Link,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.with(move |store| {
            let id = store.next_id();
            store.make_missing(bucket)?.link(name, id, to)
        })
    }

    fn purge_orphans<'a>(
        &'a self,
        _bucket: &'a str,
        _age: Duration,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        // An upload takes its bytes with it.
        self.with(|_| Ok(0))
    }

    fn buckets<'a>(&'a self, _deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        self.with(|store| Ok(store.buckets.keys().cloned().collect()))
    }

    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        self.with(|store| Ok(store.current(bucket).map(|it| it.status())))
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
            store.make(config).map(|()| true)
        })
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        self.with(|store| match store.current(&config.name) {
            Some(bucket) => bucket.change(config),
            None => store.make(config),
        })
    }

    fn seal<'a>(&'a self, bucket: &'a str, _deadline: Instant) -> BoxFuture<'a, Result<()>> {
        self.with(|store| {
            let missing = || Error::new(ErrorKind::NotFound, "the bucket does not exist");
            store.current(bucket).ok_or_else(missing)?.seal();
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
