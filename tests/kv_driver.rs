//! Drivers of a user's own, and what the conformance suite makes of them.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use nats_connector::kv::driver::{Condition, Consistency, Entry, Value};
use nats_connector::kv::{BucketConfig, Capabilities, Driver, Key, Kv, MemoryDriver};
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

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Entry>>> {
        Box::pin(async move {
            let name = self.name_of(key);
            let key = Key::new(key.prefix(), &name);
            let mut found = self.0.get(bucket, key, consistency, deadline).await?;
            if self.1 == Flaw::ForgetsContentType
                && let Some(entry) = &mut found
            {
                entry.value.content_type = None;
            }
            let forgets = self.1 == Flaw::ForgetsEmpty;
            Ok(found.filter(|entry| !(forgets && entry.value.bytes.is_empty())))
        })
    }

    fn put<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        value: Value,
        condition: Condition,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let name = self.name_of(key);
            let key = Key::new(key.prefix(), &name);
            let condition = match (self.1, condition) {
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
            self.0.put(bucket, key, value, condition, deadline).await
        })
    }

    fn delete<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.1 == Flaw::KeepsDeleted {
                return Ok(());
            }
            self.0.delete(bucket, key, deadline).await
        })
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
