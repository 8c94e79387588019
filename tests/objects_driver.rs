//! Object stores of a user's own, and what the conformance suite makes of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, future, stream};
use nats_connector::objects::driver::{Change, Consistency, Download, Draft, Limits, Upload};
use nats_connector::objects::{
    BucketConfig, BucketStatus, Capabilities, Driver, Event, Link, MemoryDriver, ObjectInfo,
    Objects,
};
use nats_connector::{Error, ErrorKind, Result, conformance};
use tokio::time::Instant;

/// What is wrong with a driver, or what it does not claim.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// Right, with plain uploads, downloads, lists and buckets alone.
    Basic,
    /// Says nothing of what it can do.
    ClaimsTooLittle,
    FoldsCase,
    TrimsNames,
    MissesBuckets,
    /// The last chunk does not come.
    CutsShort,
    SwapsChunks,
    IgnoresRanges,
    MissesEmpty,
    ForgetsDigests,
    ForgetsHeaders,
    GivesOneId,
    RevisionsStandStill,
    /// Chunks as large as they may be, whatever was asked for.
    IgnoresChunkSize,
    /// The first chunk is there before the rest.
    ShowsEarly,
    /// What was given up is there all the same.
    KeepsGivenUp,
    /// What was given up takes room for ever.
    KeepsChunks,
    /// So does what was replaced.
    KeepsReplaced,
    /// The first put of a name stays.
    FirstStays,
    /// A name that is there from the beginning of a put on must be there at its end.
    LateIsLost,
    /// Whoever reads what is replaced reads on in what is new.
    MixesReads,
    MissIsAnError,
    MakesBucketsOnRead,
    ListsTwice,
    ListsOnePage,
    KeepsDeleted,
    DeletesWhatIsNot,
    ChangesTooMuch,
    RenamesOverOthers,
    KeepsOldNames,
    LinksOverObjects,
    ForgetsLinks,
    DeletesBehindLinks,
    NeverCurrent,
    CurrentTwice,
    LosesEvents,
    TellsEventsTwice,
    ForgetsDeletesInWatch,
    IgnoresLifetimes,
    EndsEarly,
    IgnoresLimits,
    /// A full bucket cannot be emptied.
    StaysFull,
    IgnoresSeals,
    MakesBucketsTwice,
    KeepsDeletedBuckets,
    TellsOldFigures,
}

const FLAWS: [Flaw; 45] = [
    Flaw::ClaimsTooLittle,
    Flaw::FoldsCase,
    Flaw::TrimsNames,
    Flaw::MissesBuckets,
    Flaw::CutsShort,
    Flaw::SwapsChunks,
    Flaw::IgnoresRanges,
    Flaw::MissesEmpty,
    Flaw::ForgetsDigests,
    Flaw::ForgetsHeaders,
    Flaw::GivesOneId,
    Flaw::RevisionsStandStill,
    Flaw::IgnoresChunkSize,
    Flaw::ShowsEarly,
    Flaw::KeepsGivenUp,
    Flaw::KeepsChunks,
    Flaw::KeepsReplaced,
    Flaw::FirstStays,
    Flaw::LateIsLost,
    Flaw::MixesReads,
    Flaw::MissIsAnError,
    Flaw::MakesBucketsOnRead,
    Flaw::ListsTwice,
    Flaw::ListsOnePage,
    Flaw::KeepsDeleted,
    Flaw::DeletesWhatIsNot,
    Flaw::ChangesTooMuch,
    Flaw::RenamesOverOthers,
    Flaw::KeepsOldNames,
    Flaw::LinksOverObjects,
    Flaw::ForgetsLinks,
    Flaw::DeletesBehindLinks,
    Flaw::NeverCurrent,
    Flaw::CurrentTwice,
    Flaw::LosesEvents,
    Flaw::TellsEventsTwice,
    Flaw::ForgetsDeletesInWatch,
    Flaw::IgnoresLifetimes,
    Flaw::EndsEarly,
    Flaw::IgnoresLimits,
    Flaw::StaysFull,
    Flaw::IgnoresSeals,
    Flaw::MakesBucketsTwice,
    Flaw::KeepsDeletedBuckets,
    Flaw::TellsOldFigures,
];

/// How long anything may take within these tests.
const STEP: Duration = Duration::from_secs(60);

/// How many drivers are tried at a time: each takes some memory.
const AT_ONCE: usize = 16;

fn soon() -> Instant {
    Instant::now() + STEP
}

/// The memory driver with a flaw.
#[derive(Debug)]
struct Flawed {
    inner: MemoryDriver,
    flaw: Flaw,
    /// All bytes that were ever put.
    put: AtomicU64,
}

/// What goes wrong on the way in.
struct FlawedUpload {
    inner: Option<Box<dyn Upload>>,
    driver: MemoryDriver,
    bucket: String,
    name: String,
    flaw: Flaw,
    given: u64,
    ended: bool,
}

impl Upload for FlawedUpload {
    fn chunk_size(&self) -> usize {
        self.inner.as_ref().unwrap().chunk_size()
    }

    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.flaw == Flaw::ShowsEarly && self.given == 0 && !bytes.is_empty() {
                put(&self.driver, &self.bucket, &self.name, &bytes).await?;
            }
            self.given += bytes.len() as u64;
            self.inner.as_mut().unwrap().write(bytes).await
        })
    }

    fn finish<'a>(&'a mut self, size: u64, digest: String) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(async move {
            let latest = Consistency::Latest;
            let there = self.driver.info(&self.bucket, &self.name, latest, soon()).await?;
            match (self.flaw, there) {
                (Flaw::FirstStays, Some(there)) => return Ok(there),
                (Flaw::LateIsLost, None) if self.ended => {
                    return Err(Error::new(ErrorKind::Conflict, "the object is gone"));
                }
                _ => {}
            }
            let digest = if self.flaw == Flaw::ForgetsDigests { String::new() } else { digest };
            self.ended = true;
            self.inner.as_mut().unwrap().finish(size, digest).await
        })
    }
}

impl Drop for FlawedUpload {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take().filter(|_| !self.ended) else { return };
        match self.flaw {
            // The futures of the memory driver are ready at once.
            Flaw::KeepsGivenUp => drop(inner.finish(self.given, String::new()).now_or_never()),
            Flaw::KeepsChunks => std::mem::forget(inner),
            _ => {}
        }
    }
}

async fn put(driver: &MemoryDriver, bucket: &str, name: &str, bytes: &Bytes) -> Result<ObjectInfo> {
    let mut upload = driver.put(bucket, Draft::new(name), Limits::steps(STEP)).await?;
    upload.write(bytes.clone()).await?;
    upload.finish(bytes.len() as u64, String::new()).await
}

/// Each chunk is read from what has the name at that time.
fn mixed(driver: MemoryDriver, bucket: String, name: String) -> BoxStream<'static, Result<Bytes>> {
    let chunks = stream::try_unfold(0, move |from| {
        let (driver, bucket, name) = (driver.clone(), bucket.clone(), name.clone());
        async move {
            let range = from..from + 128 * 1024;
            let limits = Limits::steps(STEP);
            let found = driver.get(&bucket, &name, range, Consistency::Latest, limits).await?;
            let Some(found) = found else { return Ok(None) };
            let bytes: Vec<Bytes> = found.bytes.try_collect().await?;
            let bytes = Bytes::from(bytes.concat());
            let end = from + bytes.len() as u64;
            Ok((!bytes.is_empty()).then_some((bytes, end)))
        }
    });
    chunks.boxed()
}

impl Flawed {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn name_of(&self, name: &str) -> String {
        match self.flaw {
            Flaw::FoldsCase => name.to_lowercase(),
            Flaw::TrimsNames if name.trim() != "" => name.trim().to_owned(),
            _ => name.to_owned(),
        }
    }

    fn bucket_of<'a>(&self, bucket: &'a str) -> &'a str {
        if self.has(Flaw::MissesBuckets) { "one" } else { bucket }
    }

    /// What a driver that claims little refuses.
    fn basic_refuses(&self, what: bool) -> Result<()> {
        if what && self.has(Flaw::Basic) {
            return Err(Error::new(ErrorKind::Unsupported, "this driver claims little"));
        }
        Ok(())
    }

    fn tell(&self, mut info: ObjectInfo) -> ObjectInfo {
        match self.flaw {
            Flaw::GivesOneId => "one".clone_into(&mut info.id),
            Flaw::RevisionsStandStill => info.revision = 1,
            Flaw::ForgetsLinks => info.link = None,
            _ => {}
        }
        info
    }

    async fn delete_flawed(&self, bucket: &str, name: &str, deadline: Instant) -> Result<bool> {
        let name = self.name_of(name);
        let found = self.inner.info(bucket, &name, Consistency::Latest, deadline).await?;
        match self.flaw {
            Flaw::KeepsDeleted => return Ok(found.is_some()),
            Flaw::DeletesBehindLinks => {
                if let Some(Link { bucket, name: Some(name), .. }) =
                    found.as_ref().and_then(|info| info.link.clone())
                {
                    self.inner.delete(&bucket, &name, deadline).await?;
                }
            }
            Flaw::StaysFull => {
                let status = self.inner.bucket_status(bucket, deadline).await?;
                // What a delete leaves does not fit.
                if status
                    .is_some_and(|status| status.bytes + 700 > 100 * 1024 && is_limited(&status))
                {
                    return Err(Error::new(ErrorKind::TooLarge, "the bucket is full"));
                }
            }
            _ => {}
        }
        let deleted = self.inner.delete(bucket, &name, deadline).await?;
        Ok(deleted || self.has(Flaw::DeletesWhatIsNot))
    }

    async fn change_flawed(
        &self,
        bucket: &str,
        name: &str,
        mut change: Change,
        deadline: Instant,
    ) -> Result<Option<ObjectInfo>> {
        self.basic_refuses(true)?;
        let name = self.name_of(name);
        let to = change.name.clone().filter(|to| *to != name);
        match (self.flaw, &to) {
            (Flaw::ChangesTooMuch, _) => {
                change.headers.get_or_insert_default();
                change.metadata.get_or_insert_default();
            }
            (Flaw::RenamesOverOthers, Some(to)) => {
                self.inner.delete(bucket, to, deadline).await?;
            }
            (Flaw::KeepsOldNames, Some(_)) => {
                let all = 0..u64::MAX;
                let old = self.get(bucket, &name, all, Consistency::Latest, Limits::steps(STEP));
                if let Some(old) = old.await? {
                    let bytes: Vec<Bytes> = old.bytes.try_collect().await?;
                    let changed = self.inner.change(bucket, &name, change, deadline).await?;
                    put(&self.inner, bucket, &name, &bytes.concat().into()).await?;
                    return Ok(changed);
                }
            }
            _ => {}
        }
        let changed = self.inner.change(bucket, &name, change, deadline).await?;
        Ok(changed.map(|info| self.tell(info)))
    }

    fn config_of(&self, config: &BucketConfig) -> BucketConfig {
        let config = config.clone();
        match self.flaw {
            Flaw::IgnoresLifetimes => config.ttl(Duration::ZERO),
            // The suite's lifetimes have two seconds.
            Flaw::EndsEarly if has_lifetime(&config) => config.ttl(Duration::from_millis(600)),
            Flaw::IgnoresLimits => config.max_bytes(0),
            _ => config,
        }
    }
}

fn is_limited(status: &BucketStatus) -> bool {
    status.config.clone().max_bytes(0) != status.config
}

fn has_lifetime(config: &BucketConfig) -> bool {
    config.clone().ttl(Duration::from_secs(2)) == *config
}

impl Driver for Flawed {
    fn name(&self) -> &str {
        "flawed"
    }

    fn capabilities<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>> {
        Box::pin(async move {
            let full = self.inner.capabilities(bucket, deadline).await?;
            let basic = matches!(self.flaw, Flaw::Basic | Flaw::ClaimsTooLittle);
            Ok(if basic { Capabilities::basic() } else { full })
        })
    }

    fn put<'a>(
        &'a self,
        bucket: &'a str,
        mut draft: Draft,
        limits: Limits,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            let told = draft.description.is_some()
                || !draft.headers.is_empty()
                || !draft.metadata.is_empty();
            self.basic_refuses(told)?;
            let bucket = self.bucket_of(bucket);
            let (name, flaw) = (self.name_of(&draft.name), self.flaw);
            draft.name.clone_from(&name);
            match flaw {
                Flaw::ForgetsHeaders => draft.headers = BTreeMap::new(),
                Flaw::IgnoresChunkSize => draft.max_chunk_size = None,
                _ => {}
            }
            let latest = Consistency::Latest;
            let there = self.inner.info(bucket, &name, latest, limits.deadline()).await?;
            let inner = self.inner.put(bucket, draft, limits).await?;
            self.put.fetch_add(64 * 1024, Ordering::Relaxed);
            let upload = FlawedUpload {
                inner: Some(inner),
                driver: self.inner.clone(),
                bucket: bucket.to_owned(),
                name,
                flaw,
                given: 0,
                ended: flaw == Flaw::LateIsLost && there.is_some(),
            };
            Ok(Box::new(upload) as Box<dyn Upload>)
        })
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        range: Range<u64>,
        consistency: Consistency,
        limits: Limits,
    ) -> BoxFuture<'a, Result<Option<Download>>> {
        Box::pin(async move {
            let (bucket, name) = (self.bucket_of(bucket), self.name_of(name));
            let range = if self.has(Flaw::IgnoresRanges) { 0..u64::MAX } else { range };
            let whole = range == (0..u64::MAX);
            let found = self.inner.get(bucket, &name, range, consistency, limits).await?;
            let Some(mut found) = found else {
                return match self.flaw {
                    Flaw::MissIsAnError => Err(Error::new(ErrorKind::NotFound, "no such object")),
                    Flaw::MakesBucketsOnRead => {
                        let config = BucketConfig::new(bucket);
                        self.inner.make_bucket(&config, limits.deadline()).await?;
                        Ok(None)
                    }
                    _ => Ok(None),
                };
            };
            found.info = self.tell(found.info);
            match self.flaw {
                Flaw::MissesEmpty if found.info.size == 0 && found.info.link.is_none() => {
                    return Ok(None);
                }
                Flaw::CutsShort if found.info.chunks > 1 => {
                    let most = found.info.chunks as usize - 1;
                    found.bytes = found.bytes.take(most).boxed();
                }
                Flaw::SwapsChunks if whole => {
                    let mut chunks: Vec<Result<Bytes>> = found.bytes.collect().await;
                    chunks.reverse();
                    found.bytes = stream::iter(chunks).boxed();
                }
                Flaw::MixesReads if whole => {
                    found.bytes = mixed(self.inner.clone(), bucket.to_owned(), name);
                }
                _ => {}
            }
            Ok(Some(found))
        })
    }

    fn info<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>> {
        Box::pin(async move {
            let (bucket, name) = (self.bucket_of(bucket), self.name_of(name));
            let info = self.inner.info(bucket, &name, consistency, deadline).await?;
            Ok(info.map(|info| self.tell(info)))
        })
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<ObjectInfo>>>> {
        Box::pin(async move {
            let objects = self.inner.list(self.bucket_of(bucket), deadline).await?;
            let all: Vec<ObjectInfo> = objects.try_collect().await?;
            let mut all: Vec<ObjectInfo> = all.into_iter().map(|info| self.tell(info)).collect();
            match self.flaw {
                Flaw::ListsTwice => all.extend(all.clone()),
                Flaw::ListsOnePage => all.truncate(256),
                _ => {}
            }
            Ok(stream::iter(all).map(Ok).boxed())
        })
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Event>>>> {
        Box::pin(async move {
            self.basic_refuses(true)?;
            let events = self.inner.watch(self.bucket_of(bucket), deadline).await?;
            let repeated = |times: fn(usize, &Event) -> usize| {
                let events = events.enumerate().flat_map(move |(n, event)| {
                    let times = event.as_ref().map_or(1, |event| times(n, event));
                    let told = (0..times).map(|_| event.as_ref().unwrap().clone()).map(Ok);
                    stream::iter(told.collect::<Vec<Result<Event>>>())
                });
                events.boxed()
            };
            Ok(match self.flaw {
                Flaw::NeverCurrent => repeated(|_, event| usize::from(*event != Event::Current)),
                Flaw::CurrentTwice => {
                    repeated(|_, event| 1 + usize::from(*event == Event::Current))
                }
                Flaw::LosesEvents => repeated(|n, _| usize::from(n % 20 != 19)),
                Flaw::TellsEventsTwice => repeated(|n, _| 1 + usize::from(n % 20 == 19)),
                Flaw::ForgetsDeletesInWatch => {
                    repeated(|_, event| usize::from(!matches!(event, Event::Deleted { .. })))
                }
                _ => repeated(|_, _| 1),
            })
        })
    }

    fn delete<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.delete_flawed(self.bucket_of(bucket), name, deadline))
    }

    fn change<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        change: Change,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>> {
        Box::pin(self.change_flawed(self.bucket_of(bucket), name, change, deadline))
    }

    fn link<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        to: Link,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(async move {
            self.basic_refuses(true)?;
            let (bucket, name) = (self.bucket_of(bucket), self.name_of(name));
            if self.has(Flaw::LinksOverObjects) {
                self.inner.delete(bucket, &name, deadline).await?;
            }
            Ok(self.tell(self.inner.link(bucket, &name, to, deadline).await?))
        })
    }

    fn purge_orphans<'a>(
        &'a self,
        bucket: &'a str,
        age: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        self.inner.purge_orphans(bucket, age, deadline)
    }

    fn buckets<'a>(&'a self, deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        self.inner.buckets(deadline)
    }

    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        Box::pin(async move {
            let mut status = self.inner.bucket_status(bucket, deadline).await?;
            if let Some(status) = &mut status {
                match self.flaw {
                    Flaw::KeepsReplaced => status.bytes += self.put.load(Ordering::Relaxed),
                    Flaw::TellsOldFigures => (status.revision, status.bytes) = (1, 1),
                    _ => {}
                }
            }
            Ok(status)
        })
    }

    fn make_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.basic_refuses(config.clone().compression(true) == *config)?;
            let made = self.inner.make_bucket(&self.config_of(config), deadline).await?;
            Ok(made || self.has(Flaw::MakesBucketsTwice))
        })
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.basic_refuses(config.clone().compression(true) == *config)?;
            self.inner.create_bucket(&self.config_of(config), deadline).await
        })
    }

    fn seal<'a>(&'a self, bucket: &'a str, deadline: Instant) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.basic_refuses(true)?;
            if self.has(Flaw::IgnoresSeals) {
                Ok(())
            } else {
                self.inner.seal(bucket, deadline).await
            }
        })
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            if self.has(Flaw::KeepsDeletedBuckets) {
                return Ok(self.inner.bucket_status(bucket, deadline).await?.is_some());
            }
            self.inner.delete_bucket(bucket, deadline).await
        })
    }
}

fn flawed(flaw: Flaw) -> Objects {
    Objects::new(Flawed { inner: MemoryDriver::new(), flaw, put: AtomicU64::new(0) })
}

#[tokio::test]
async fn a_driver_that_claims_little_passes() {
    let objects = flawed(Flaw::Basic);
    conformance::objects::run(|| objects.clone()).await;
}

#[tokio::test]
async fn flaws_are_found() {
    // One without is not found, so the others are not found for the load that they make together.
    let runs = [&[Flaw::None], &FLAWS[..]].concat().into_iter().map(|flaw| async move {
        let objects = flawed(flaw);
        let run = AssertUnwindSafe(conformance::objects::run(|| objects.clone())).catch_unwind();
        run.await.is_ok().then_some(flaw)
    });
    let runs = stream::iter(runs).buffer_unordered(AT_ONCE);
    let missed: Vec<Flaw> = runs.filter_map(future::ready).collect().await;
    assert_eq!(missed, [Flaw::None], "these were not found");
}
