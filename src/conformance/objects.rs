//! What every object store does, as [`Objects`] shows it.
//!
//! ```
//! use nats_connector::{conformance, objects::Objects};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(
//! conformance::objects::run(|| Objects::memory())
//! # );
//! ```
//!
//! For the author of a driver: `run` takes a function that gives handles on one store, with JSON and
//! no bucket prefix; a read that may be answered by a copy that lags behind is to be sent to the one
//! that does not. Buckets have names of their own, so the store may be in use and the suites may run
//! again. What only some operations need is asked of the driver itself. What [`Capabilities`] claim
//! is tried; what they do not claim must be refused as `Unsupported`. Outages, permissions and lost
//! replies are the driver's own to test.

mod buckets;
mod bytes;
mod changes;
mod lifetimes;
mod limits;
mod links;
mod listing;
mod names;
mod puts;
mod reads;
mod values;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ::bytes::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, future, stream};
use tokio::time::{Instant, sleep, timeout_at};

pub use buckets::{apart, bucket_life, bucket_options, buckets, seal};
pub use bytes::{digests, ranges, readers, sizes};
pub use changes::{change, change_refused, rename};
pub use lifetimes::{ttl, ttl_in_watch};
pub use limits::{full, limits, refusals};
pub use links::{link_loops, links, links_refused};
pub use listing::{delete, listing, missing};
pub use names::names;
pub use puts::{concurrent_puts, dropped_put, failed_put, late_put, replace};
pub use reads::{deleted_while_read, many_reads, replaced_while_read};
pub use values::{headers, values};
pub use watches::{watch, watch_remade, watch_under_load};

use super::{ok, refused, same, supported, unique};
use crate::Serializer;
use crate::error::{ErrorKind, Result};
use crate::objects::driver::{Change, Consistency, Draft, Driver, Limits, Upload};
use crate::objects::{BucketConfig, Capabilities, Event, Link, ObjectInfo, Objects, Storage};

/// How many suites run at a time: those that wait for lifetimes must not wait for each other.
const AT_ONCE: usize = 16;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(15);

/// The size of chunks where a suite is about them.
const CHUNK: usize = 1024;

/// Runs every suite of this module, several at a time.
///
/// # Panics
///
/// When the driver does not do what it must; the message names the step.
pub async fn run(make: impl Fn() -> Objects) {
    macro_rules! suites {
        ($($suite:ident),* $(,)?) => {
            [$({
                let objects = make();
                async move { $suite(&objects).await }.boxed()
            }),*]
        };
    }
    // Those that wait for lifetimes come first.
    let suites = suites![
        ttl,
        ttl_in_watch,
        sizes,
        digests,
        ranges,
        readers,
        replace,
        concurrent_puts,
        failed_put,
        dropped_put,
        late_put,
        replaced_while_read,
        deleted_while_read,
        many_reads,
        missing,
        listing,
        delete,
        names,
        values,
        headers,
        change,
        change_refused,
        rename,
        links,
        link_loops,
        links_refused,
        watch,
        watch_under_load,
        watch_remade,
        apart,
        buckets,
        bucket_life,
        bucket_options,
        seal,
        full,
        limits,
        refusals,
    ];
    stream::iter(suites).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn capabilities(objects: &Objects) -> Capabilities {
    ok("capabilities", objects.capabilities().await)
}

fn soon() -> Instant {
    Instant::now() + LIMIT
}

/// So many bytes, no two chunks of which are alike.
fn pattern(len: usize, seed: u32) -> Bytes {
    let mut bytes = vec![0; len];
    for (n, part) in (1_u32..).zip(bytes.chunks_mut(64)) {
        let word = n.wrapping_mul(0x9E37_79B9) ^ seed.wrapping_mul(0x85EB_CA6B);
        for (byte, to) in word.to_le_bytes().into_iter().zip(part) {
            *to = byte;
        }
    }
    bytes.into()
}

/// What is told of an object but its time: a store may tell that by another clock later.
fn timeless(mut info: ObjectInfo) -> ObjectInfo {
    info.modified = None;
    info
}

fn digest(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    format!("SHA-256={}", URL_SAFE.encode(hash))
}

/// Ends the upload of `bytes`, all of which were given.
async fn end(upload: &mut dyn Upload, bytes: &Bytes) -> Result<ObjectInfo> {
    upload.finish(bytes.len() as u64, digest(bytes)).await.map(timeless)
}

/// Compares bytes without printing them.
#[track_caller]
fn same_bytes(step: &str, found: Result<Option<Bytes>>, expected: &[u8]) {
    match ok(step, found) {
        None => panic!("{step}: there is no object"),
        Some(found) => {
            let differs = || found.iter().zip(expected).position(|(a, b)| a != b);
            assert!(
                found == expected,
                "{step}: {} bytes, expected {}; the first difference is at {:?}",
                found.len(),
                expected.len(),
                differs(),
            );
        }
    }
}

/// Waits for what need not be done at once.
async fn in_time<F: Future<Output = bool>>(step: &str, condition: impl Fn() -> F) {
    let deadline = soon();
    while !condition().await {
        assert!(Instant::now() < deadline, "{step}: it did not come to that");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A bucket of the driver itself.
#[derive(Clone)]
struct Raw {
    driver: Arc<dyn Driver>,
    bucket: String,
    objects: Objects,
}

impl Raw {
    fn new(objects: &Objects, what: &str) -> Self {
        Raw::of(objects, unique(what))
    }

    fn of(objects: &Objects, bucket: String) -> Self {
        Raw { driver: objects.driver(), objects: objects.bucket(&bucket), bucket }
    }

    async fn begin(&self, draft: Draft) -> Result<Box<dyn Upload>> {
        self.driver.put(&self.bucket, draft, Limits::steps(LIMIT)).await
    }

    /// Begins to store `bytes` under `name`, and gives all of them, but does not end it.
    async fn give(&self, name: &str, bytes: &Bytes) -> Result<Box<dyn Upload>> {
        let mut draft = Draft::new(name);
        draft.max_chunk_size = Some(CHUNK);
        self.give_as(draft, bytes).await
    }

    async fn give_as(&self, draft: Draft, bytes: &Bytes) -> Result<Box<dyn Upload>> {
        let mut upload = self.begin(draft).await?;
        let mut left = bytes.clone();
        while !left.is_empty() {
            let piece = left.split_to(upload.chunk_size().min(left.len()));
            upload.write(piece).await?;
        }
        Ok(upload)
    }

    async fn put(&self, name: &str, bytes: &Bytes) -> Result<ObjectInfo> {
        let mut upload = self.give(name, bytes).await?;
        end(&mut *upload, bytes).await
    }

    async fn put_as(&self, draft: Draft, bytes: &Bytes) -> Result<ObjectInfo> {
        let mut upload = self.give_as(draft, bytes).await?;
        end(&mut *upload, bytes).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.range(name, 0..u64::MAX).await
    }

    async fn range(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let Some((_, bytes)) = self.open(name, range).await? else { return Ok(None) };
        let all: Vec<Bytes> = bytes.try_collect().await?;
        Ok(Some(all.concat().into()))
    }

    async fn open(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> Result<Option<(ObjectInfo, BoxStream<'static, Result<Bytes>>)>> {
        let limits = Limits::steps(LIMIT);
        let found = self.driver.get(&self.bucket, name, range, Consistency::Latest, limits).await?;
        Ok(found.map(|download| (download.info, download.bytes)))
    }

    async fn info(&self, name: &str) -> Result<Option<ObjectInfo>> {
        let info = self.driver.info(&self.bucket, name, Consistency::Latest, soon()).await;
        Ok(info?.map(timeless))
    }

    async fn list(&self) -> Result<Vec<ObjectInfo>> {
        self.driver.list(&self.bucket, soon()).await?.map_ok(timeless).try_collect().await
    }

    /// The names of all objects, sorted; each comes once.
    async fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.list().await?.into_iter().map(|info| info.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<bool> {
        self.driver.delete(&self.bucket, name, soon()).await
    }

    async fn change(&self, name: &str, change: Change) -> Result<Option<ObjectInfo>> {
        Ok(self.driver.change(&self.bucket, name, change, soon()).await?.map(timeless))
    }

    async fn link(&self, name: &str, to: Link) -> Result<ObjectInfo> {
        self.driver.link(&self.bucket, name, to, soon()).await.map(timeless)
    }

    async fn watch(&self) -> Result<Feed> {
        Ok(Feed { events: self.driver.watch(&self.bucket, soon()).await? })
    }

    /// What the bucket holds, in bytes.
    async fn size(&self) -> u64 {
        let status = self.driver.bucket_status(&self.bucket, soon()).await;
        ok("status", status).map_or(0, |status| status.bytes)
    }

    /// Waits until the bucket holds at most so many bytes.
    async fn shrinks_to(&self, step: &str, bytes: u64) {
        in_time(step, || async { self.size().await <= bytes }).await;
    }
}

/// What a watch tells.
struct Feed {
    events: BoxStream<'static, Result<Event>>,
}

impl Feed {
    async fn next(&mut self, step: &str) -> Event {
        match timeout_at(soon(), self.events.next()).await {
            Ok(Some(event)) => match ok(step, event) {
                Event::Put(info) => Event::Put(timeless(info)),
                event => event,
            },
            Ok(None) => panic!("{step}: the watch ended"),
            Err(_) => panic!("{step}: the watch told nothing more"),
        }
    }

    /// What is there at the beginning, by name.
    async fn first(&mut self, step: &str) -> BTreeMap<String, ObjectInfo> {
        let mut known = BTreeMap::new();
        loop {
            match self.next(step).await {
                Event::Current => return known,
                Event::Put(info) => {
                    let again = known.insert(info.name.clone(), info);
                    assert_eq!(again, None, "{step}: an object was told twice");
                }
                event @ Event::Deleted { .. } => panic!("{step}: {event:?} is not there"),
            }
        }
    }
}
