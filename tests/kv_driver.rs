//! Drivers of a user's own, and what the conformance suite makes of them.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use nats_connector::kv::driver::{
    Change, Condition, Consistency, Filter, Found, Signal, Update, Write,
};
use nats_connector::kv::{BucketConfig, BucketStatus, Capabilities, Driver, Key, Kv, MemoryDriver};
use nats_connector::{Error, ErrorKind, Result, conformance};
use tokio::time::Instant;

/// What is wrong with a driver, or what it does not claim.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    /// Right, without compare-and-set: no conditional writes, no compression.
    Basic,
    /// Every conditional write meets another one.
    Contended,
    /// Says nothing of what it cannot do.
    ClaimsTooLittle,
    FoldsCase,
    IgnoresConditions,
    KeepsDeleted,
    ForgetsEmpty,
    ForgetsContentType,
    MissesBuckets,
}

/// The memory driver with a flaw.
#[derive(Debug)]
struct Flawed(MemoryDriver, Flaw);

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
            let full = self.0.capabilities(bucket, deadline).await?;
            let basic = matches!(self.1, Flaw::Basic | Flaw::ClaimsTooLittle);
            Ok(if basic { Capabilities::basic(full.max_value_size) } else { full })
        })
    }

    fn whole_name<'a>(&self, bucket: &str, key: Key<'a>) -> Option<Cow<'a, str>> {
        self.0.whole_name(bucket, key)
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
            let mut found = self.0.get(bucket, key, consistency, deadline).await?;
            if let Found::Value(entry) = &mut found {
                if self.1 == Flaw::ForgetsContentType {
                    entry.value.content_type = None;
                }
                if self.1 == Flaw::ForgetsEmpty && entry.value.bytes.is_empty() {
                    return Ok(Found::NEVER);
                }
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
        self.0.get_many(bucket, keys, consistency, deadline)
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let name = self.name_of(write.key);
            let key = Key::new(write.key.prefix(), &name);
            if self.1 == Flaw::KeepsDeleted && write.change == Change::Delete {
                return Ok(0);
            }
            let condition = match (self.1, write.condition) {
                (Flaw::Basic, Condition::Revision(_)) => {
                    return Err(Error::new(ErrorKind::Unsupported, "no compare-and-set"));
                }
                (Flaw::Contended, Condition::Revision(_)) => {
                    return Err(Error::new(ErrorKind::Conflict, "somebody was first"));
                }
                (Flaw::IgnoresConditions, _) => Condition::Always,
                (_, condition) => condition,
            };
            let bucket = if self.1 == Flaw::MissesBuckets { "one" } else { bucket };
            self.0.write(bucket, Write { key, condition, ..write }, deadline).await
        })
    }

    fn transaction<'a>(
        &'a self,
        bucket: &'a str,
        writes: Vec<Write<'a>>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>> {
        self.0.transaction(bucket, writes, deadline)
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        self.0.list(bucket, filter, deadline)
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        self.0.watch(bucket, filter, deadline)
    }

    fn history<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        self.0.history(bucket, key, deadline)
    }

    fn buckets<'a>(&'a self, deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        self.0.buckets(deadline)
    }

    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        self.0.bucket_status(bucket, deadline)
    }

    fn make_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.0.make_bucket(config, deadline)
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.0.delete_bucket(bucket, deadline)
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let compresses = config.clone().compression(true) == *config;
            if self.1 == Flaw::Basic && compresses {
                return Err(Error::new(ErrorKind::Unsupported, "no compression"));
            }
            self.0.create_bucket(config, deadline).await
        })
    }
}

impl Flawed {
    fn name_of(&self, key: Key<'_>) -> String {
        let folds = self.1 == Flaw::FoldsCase;
        if folds { key.name().to_lowercase() } else { key.name().to_owned() }
    }
}

fn flawed(flaw: Flaw) -> Kv {
    Kv::new(Flawed(MemoryDriver::new(), flaw))
}

#[tokio::test]
async fn a_driver_that_claims_little_passes() {
    let kv = flawed(Flaw::Basic);
    conformance::kv::run(|| kv.clone()).await;
}

#[tokio::test]
async fn flaws_are_found() {
    for flaw in [
        Flaw::Contended,
        Flaw::ClaimsTooLittle,
        Flaw::FoldsCase,
        Flaw::IgnoresConditions,
        Flaw::KeepsDeleted,
        Flaw::ForgetsEmpty,
        Flaw::ForgetsContentType,
        Flaw::MissesBuckets,
    ] {
        // Calls of a contended driver go on until their limit.
        let kv = flawed(flaw).with_timeout(Duration::from_millis(50));
        let run = AssertUnwindSafe(conformance::kv::run(|| kv.clone())).catch_unwind().await;
        assert!(run.is_err(), "{flaw:?} was not found");
    }
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
