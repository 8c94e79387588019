//! Drivers of a user's own, and what the conformance suite makes of them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, future, stream};
use nats_connector::kv::driver::{
    Change, Condition, Consistency, Expiry, Filter, Found, Signal, Update, What, Write,
};
use nats_connector::kv::{BucketConfig, BucketStatus, Capabilities, Driver, Key, Kv, MemoryDriver};
use nats_connector::{Error, ErrorKind, Result, conformance};
use tokio::time::Instant;

/// What is wrong with a driver, or what it does not claim.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// Right, with plain reads, writes, lists and buckets alone.
    Basic,
    /// Every conditional write meets another one.
    Contended,
    /// Says nothing of what it cannot do.
    ClaimsTooLittle,
    FoldsCase,
    IgnoresConditions,
    IgnoresFences,
    /// A delete leaves no trace that a condition could meet.
    ForgetsTraces,
    KeepsDeleted,
    ForgetsEmpty,
    ForgetsContentType,
    MissesBuckets,
    IgnoresLifetimes,
    /// Ends lifetimes too late.
    ExpiresLate,
    /// Ends lifetimes too early.
    ExpiresEarly,
    /// An overwrite without a lifetime keeps the earlier one.
    KeepsLifetimes,
    /// A transaction stops at the first condition that does not hold, and leaves what it did.
    TearsTransactions,
    ListsPrefixes,
    ListsDeleted,
    ListsTwice,
    LosesUpdates,
    TellsUpdatesTwice,
    NeverCurrent,
    ForgetsDeletesInWatch,
    ForgetsHistory,
    MixesUpBatches,
    /// Says that it made what was there.
    MakesBucketsTwice,
    KeepsDeletedBuckets,
    TellsOldFigures,
}

const FLAWS: [Flaw; 27] = [
    Flaw::Contended,
    Flaw::ClaimsTooLittle,
    Flaw::FoldsCase,
    Flaw::IgnoresConditions,
    Flaw::IgnoresFences,
    Flaw::ForgetsTraces,
    Flaw::KeepsDeleted,
    Flaw::ForgetsEmpty,
    Flaw::ForgetsContentType,
    Flaw::MissesBuckets,
    Flaw::IgnoresLifetimes,
    Flaw::ExpiresLate,
    Flaw::ExpiresEarly,
    Flaw::KeepsLifetimes,
    Flaw::TearsTransactions,
    Flaw::ListsPrefixes,
    Flaw::ListsDeleted,
    Flaw::ListsTwice,
    Flaw::LosesUpdates,
    Flaw::TellsUpdatesTwice,
    Flaw::NeverCurrent,
    Flaw::ForgetsDeletesInWatch,
    Flaw::ForgetsHistory,
    Flaw::MixesUpBatches,
    Flaw::MakesBucketsTwice,
    Flaw::KeepsDeletedBuckets,
    Flaw::TellsOldFigures,
];

/// More than a lifetime may end after its time.
const LATE: Duration = Duration::from_millis(1500);

/// The memory driver with a flaw.
#[derive(Debug)]
struct Flawed {
    inner: MemoryDriver,
    flaw: Flaw,
    /// The keys that were written, each with its bucket.
    written: Mutex<HashSet<(String, String)>>,
}

impl Flawed {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn name_of<'a>(&self, key: Key<'a>) -> Cow<'a, str> {
        if self.has(Flaw::FoldsCase) { key.name().to_lowercase().into() } else { key.name().into() }
    }

    /// What a driver that claims little refuses.
    fn basic_refuses(&self, what: bool) -> Result<()> {
        if what && self.has(Flaw::Basic) {
            return Err(Error::new(ErrorKind::Unsupported, "this driver claims little"));
        }
        Ok(())
    }

    async fn write_flawed(&self, bucket: &str, write: Write<'_>, deadline: Instant) -> Result<u64> {
        let name = self.name_of(write.key);
        let key = Key::new(write.key.prefix(), &name);
        let Write { mut change, mut condition, .. } = write;
        self.basic_refuses(condition != Condition::Always)?;
        self.basic_refuses(matches!(change, Change::Put(_, Expiry::In(_) | Expiry::At(_))))?;
        if self.has(Flaw::KeepsDeleted) && change == Change::Delete {
            return Ok(0);
        }
        match (self.flaw, condition) {
            (Flaw::Contended, Condition::Revision(_)) => {
                return Err(Error::new(ErrorKind::Conflict, "somebody was first"));
            }
            (Flaw::IgnoresConditions, Condition::Revision(_))
            | (Flaw::IgnoresFences, Condition::Held { .. }) => condition = Condition::Always,
            (Flaw::ForgetsTraces, Condition::Revision(0)) => {
                let found = self.inner.get(bucket, key, Consistency::Latest, deadline).await?;
                condition = Condition::Revision(found.revision());
            }
            _ => {}
        }
        if let Change::Put(_, expiry) = &mut change {
            *expiry = match (self.flaw, *expiry) {
                (Flaw::IgnoresLifetimes, _) => Expiry::Never,
                (Flaw::ExpiresLate, Expiry::In(ttl)) => Expiry::In(ttl + LATE),
                (Flaw::ExpiresEarly, Expiry::In(ttl)) => {
                    Expiry::At(std::time::SystemTime::now() + ttl / 2)
                }
                (Flaw::KeepsLifetimes, Expiry::Never) => {
                    let found = self.inner.get(bucket, key, Consistency::Latest, deadline).await?;
                    let expires = found.entry().and_then(|entry| entry.expires);
                    expires.map_or(Expiry::Never, Expiry::At)
                }
                (_, expiry) => expiry,
            };
        }
        let bucket = if self.has(Flaw::MissesBuckets) { "one" } else { bucket };
        let written = self.inner.write(bucket, Write { key, change, condition }, deadline).await;
        if written.is_ok() {
            let mut written = self.written.lock().unwrap();
            written.insert((bucket.to_owned(), key.name().to_owned()));
        }
        written
    }
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
            Ok(if basic { Capabilities::basic(full.max_value_size) } else { full })
        })
    }

    fn whole_name<'a>(&self, bucket: &str, key: Key<'a>) -> Option<Cow<'a, str>> {
        self.inner.whole_name(bucket, key)
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Found>> {
        Box::pin(async move {
            let name = self.name_of(key);
            let key = Key::new(key.prefix(), &name);
            let mut found = self.inner.get(bucket, key, consistency, deadline).await?;
            match &mut found {
                Found::Value(entry) => {
                    if matches!(self.flaw, Flaw::ForgetsContentType | Flaw::Basic) {
                        entry.value.content_type = None;
                    }
                    if self.has(Flaw::ForgetsEmpty) && entry.value.bytes.is_empty() {
                        return Ok(Found::NEVER);
                    }
                }
                Found::Nothing { revision } if self.has(Flaw::ForgetsTraces) => *revision = 0,
                Found::Nothing { .. } => {}
            }
            Ok(found)
        })
    }

    fn get_many<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [Key<'a>],
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Result<Found>>> {
        Box::pin(async move {
            let mut found = self.inner.get_many(bucket, keys, consistency, deadline).await;
            if self.has(Flaw::MixesUpBatches) {
                found.reverse();
            }
            found
        })
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(self.write_flawed(bucket, write, deadline))
    }

    fn transaction<'a>(
        &'a self,
        bucket: &'a str,
        writes: Vec<Write<'a>>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>> {
        Box::pin(async move {
            self.basic_refuses(true)?;
            if !self.has(Flaw::TearsTransactions) {
                return self.inner.transaction(bucket, writes, deadline).await;
            }
            let mut revisions = Vec::new();
            for write in writes {
                revisions.push(self.inner.write(bucket, write, deadline).await?);
            }
            Ok(revisions)
        })
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        Box::pin(async move {
            let names = self.inner.list(bucket, filter, deadline).await?;
            let prefix = filter.prefix.to_owned();
            Ok(match self.flaw {
                Flaw::ListsPrefixes if !prefix.is_empty() => {
                    names.map(move |name| Ok(format!("{prefix}.{}", name?))).boxed()
                }
                Flaw::ListsDeleted if prefix.is_empty() => {
                    let written = self.written.lock().unwrap().clone();
                    let bucket = bucket.to_owned();
                    let here = written.into_iter().filter(move |(other, _)| *other == bucket);
                    let mut there: HashSet<String> =
                        names.map(Result::unwrap).collect::<HashSet<_>>().await;
                    there.extend(here.map(|(_, name)| name));
                    stream::iter(there).map(Ok).boxed()
                }
                Flaw::ListsTwice => {
                    let names: Vec<String> = names.map(Result::unwrap).collect().await;
                    stream::iter([names.clone(), names].concat()).map(Ok).boxed()
                }
                _ => names,
            })
        })
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        Box::pin(async move {
            self.basic_refuses(true)?;
            let signals = self.inner.watch(bucket, filter, deadline).await?;
            let flaw = self.flaw;
            Ok(match flaw {
                Flaw::LosesUpdates => {
                    let told = signals.enumerate();
                    let kept = told.filter(|(n, signal)| {
                        let is_update = matches!(signal, Ok(Signal::Update(_)));
                        future::ready(!is_update || n % 50 != 49)
                    });
                    kept.map(|(_, signal)| signal).boxed()
                }
                Flaw::TellsUpdatesTwice => {
                    let twice = signals.enumerate().flat_map(|(n, signal)| match signal {
                        Ok(signal @ Signal::Update(_)) if n % 50 == 49 => {
                            stream::iter(vec![Ok(signal.clone()), Ok(signal)])
                        }
                        signal => stream::iter(vec![signal]),
                    });
                    twice.boxed()
                }
                Flaw::NeverCurrent => {
                    let is_current = |signal: &Result<_>| matches!(signal, Ok(Signal::Current));
                    signals.filter(move |signal| future::ready(!is_current(signal))).boxed()
                }
                Flaw::ForgetsDeletesInWatch => {
                    let is_delete = |signal: &Result<Signal>| match signal {
                        Ok(Signal::Update(update)) => update.what == What::Deleted,
                        _ => false,
                    };
                    signals.filter(move |signal| future::ready(!is_delete(signal))).boxed()
                }
                _ => signals,
            })
        })
    }

    fn history<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        Box::pin(async move {
            self.basic_refuses(true)?;
            let mut history = self.inner.history(bucket, key, deadline).await?;
            if self.has(Flaw::ForgetsHistory) && history.len() > 1 {
                history.remove(0);
            }
            Ok(history)
        })
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
            if let Some(status) = &mut status
                && self.has(Flaw::TellsOldFigures)
            {
                status.revision = 1;
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
            self.basic_refuses(asks_for_much(config))?;
            let made = self.inner.make_bucket(config, deadline).await?;
            Ok(made || self.has(Flaw::MakesBucketsTwice))
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

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.basic_refuses(asks_for_much(config))?;
            self.inner.create_bucket(config, deadline).await
        })
    }
}

/// Whether a bucket is to have what [`Flaw::Basic`] does not claim.
fn asks_for_much(config: &BucketConfig) -> bool {
    let with: [fn(BucketConfig) -> BucketConfig; 5] = [
        |config| config.compression(true),
        |config| config.history(2),
        |config| config.history(3),
        |config| config.per_key_ttl(true),
        |config| config.transactions(true),
    ];
    with.into_iter().any(|with| with(config.clone()) == *config)
        || config.clone().history(65) == *config
}

fn flawed(flaw: Flaw) -> Kv {
    Kv::new(Flawed { inner: MemoryDriver::new(), flaw, written: Mutex::default() })
}

#[tokio::test]
async fn a_driver_that_claims_little_passes() {
    let kv = flawed(Flaw::Basic);
    conformance::kv::run(|| kv.clone()).await;
}

#[tokio::test]
async fn flaws_are_found() {
    // One without is not found, so the others are not found for the load that they make together.
    let missed = [&[Flaw::None], &FLAWS[..]].concat().into_iter().map(|flaw| async move {
        // Calls of a contended driver go on until their limit.
        let limit = if flaw == Flaw::Contended { 50 } else { 5000 };
        let kv = flawed(flaw).with_timeout(Duration::from_millis(limit));
        let run = AssertUnwindSafe(conformance::kv::run(|| kv.clone())).catch_unwind().await;
        run.is_ok().then_some(flaw)
    });
    let missed: Vec<Flaw> = future::join_all(missed).await.into_iter().flatten().collect();
    assert_eq!(missed, [Flaw::None], "these were not found");
}

#[tokio::test]
async fn a_replace_that_others_always_beat_ends_in_conflict() {
    let kv = flawed(Flaw::Contended);
    kv.set("key", &1).await.unwrap();
    let begun = Instant::now();
    let error = kv.replace("key", &2).timeout(Duration::from_millis(200)).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(error.context("key"), Some("key"));
    assert_eq!(kv.get_raw("key").await.unwrap(), Some(Bytes::from("1")));
}
