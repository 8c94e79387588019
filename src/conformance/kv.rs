//! What every key-value driver does, as [`Kv`] shows it.
//!
//! ```
//! use nats_connector::{conformance, kv::Kv};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(
//! conformance::kv::run(|| Kv::memory())
//! # );
//! ```
//!
//! For the author of a driver: `run` takes a function that gives handles on one store, with a key
//! codec that takes any key, no prefix and JSON; a read that may be answered by a copy that lags
//! behind is to be sent to the one that does not. Buckets have names of their own, so the store may
//! be in use and the suites may run again. What only some operations need is asked of the driver
//! itself. What [`Capabilities`] claim is tried; what they do not claim must be refused as
//! `Unsupported`. Outages, permissions and lost replies are the driver's own to test.

mod batches;
mod buckets;
mod changes;
mod conditions;
mod counters;
mod history;
mod lifetimes;
mod limits;
mod listing;
mod loads;
mod locks;
mod transactions;
mod values;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, future, stream};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

pub use batches::{batches, many};
pub use buckets::{apart, bucket_life, bucket_options, buckets};
pub use changes::{
    concurrent_replaces, concurrent_takes, concurrent_updates, delete, purge, replace, take, update,
};
pub use conditions::{conditions, create, fences, if_revision, revisions, traces};
pub use counters::counters;
pub use history::{history, past_events};
pub use lifetimes::{bucket_ttl, ttl, ttl_refused};
pub use limits::{limits, refusals};
pub use listing::{everything, listing};
pub use loads::loads;
pub use locks::locks;
pub use transactions::{transaction_calls, transactions};
pub use values::{entries, keys, missing, prefixes, serializers, values};
pub use watches::{events, watch, watch_expiry, watch_remade, watch_under_load};

use super::{ok, refused, same, supported, unique};
use crate::Serializer;
use crate::error::{ErrorKind, Result};
use crate::kv::driver::{
    Change, Condition, Consistency, Driver, Expiry, Filter, Found, Signal, Value, What, Write,
};
use crate::kv::{BucketConfig, Capabilities, Event, Glob, Key, Kv, MAX_KEY_LEN, Storage, Watcher};

/// How many suites run at a time: those that wait for lifetimes must not wait for each other.
const AT_ONCE: usize = 16;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs every suite of this module, several at a time.
///
/// # Panics
///
/// When the driver does not do what it must; the message names the step.
pub async fn run(make: impl Fn() -> Kv) {
    macro_rules! suites {
        ($($suite:ident),* $(,)?) => {
            [$({
                let kv = make();
                async move { $suite(&kv).await }.boxed()
            }),*]
        };
    }
    // Those that wait for lifetimes come first.
    let suites = suites![
        ttl,
        ttl_refused,
        bucket_ttl,
        watch_expiry,
        many,
        values,
        keys,
        entries,
        missing,
        prefixes,
        serializers,
        revisions,
        conditions,
        traces,
        fences,
        create,
        if_revision,
        delete,
        purge,
        replace,
        concurrent_replaces,
        take,
        concurrent_takes,
        update,
        concurrent_updates,
        counters,
        listing,
        everything,
        batches,
        history,
        past_events,
        transactions,
        transaction_calls,
        loads,
        locks,
        watch,
        events,
        watch_under_load,
        watch_remade,
        apart,
        buckets,
        bucket_life,
        bucket_options,
        limits,
        refusals,
    ];
    stream::iter(suites).buffer_unordered(AT_ONCE).collect::<()>().await;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
    tags: BTreeMap<String, Option<bool>>,
}

fn user(name: &str) -> User {
    let tags = BTreeMap::from([("admin".to_owned(), Some(true)), ("none".to_owned(), None)]);
    User { name: name.to_owned(), age: 36, tags }
}

async fn capabilities(kv: &Kv) -> Capabilities {
    ok("capabilities", kv.capabilities().await)
}

/// A bucket of the driver itself.
struct Raw {
    driver: Arc<dyn Driver>,
    bucket: String,
    kv: Kv,
}

impl Raw {
    fn new(kv: &Kv, what: &str) -> Self {
        Raw::of(kv, unique(what))
    }

    fn of(kv: &Kv, bucket: String) -> Self {
        Raw { driver: ok("driver", kv.driver()), kv: kv.bucket(&bucket), bucket }
    }

    async fn get(&self, key: &str) -> Result<Found> {
        let key = Key::new("", key);
        self.driver.get(&self.bucket, key, Consistency::Latest, soon()).await
    }

    async fn write(&self, key: &str, change: Change, condition: Condition<'_>) -> Result<u64> {
        let write = Write { key: Key::new("", key), change, condition };
        self.driver.write(&self.bucket, write, soon()).await
    }

    async fn watch(&self, prefix: &str, glob: Option<&Glob>) -> Result<Feed> {
        let signals = self.driver.watch(&self.bucket, Filter { prefix, glob }, soon()).await?;
        Ok(Feed { signals, glob: glob.cloned() })
    }
}

/// What a watch tells.
struct Feed {
    signals: BoxStream<'static, Result<Signal>>,
    glob: Option<Glob>,
}

impl Feed {
    /// The next signal that the filter lets through, before `deadline`.
    async fn next(&mut self, step: &str, deadline: Instant) -> Signal {
        loop {
            let signal = match timeout_at(deadline, self.signals.next()).await {
                Ok(Some(signal)) => ok(step, signal),
                Ok(None) => panic!("{step}: the watch ended"),
                Err(_) => panic!("{step}: the watch told nothing more"),
            };
            match (&signal, &self.glob) {
                (Signal::Update(update), Some(glob)) if !glob.matches(&update.key) => {}
                _ => return signal,
            }
        }
    }
}

fn soon() -> Instant {
    Instant::now() + LIMIT
}

fn put(bytes: impl Into<Bytes>) -> Change {
    Change::Put(Value::new(bytes.into()), Expiry::Never)
}

fn write<'a>(key: &'a str, change: Change, condition: Condition<'a>) -> Write<'a> {
    Write { key: Key::new("", key), change, condition }
}

/// Makes all calls, some of them at a time.
async fn all_done<T>(step: &str, calls: Vec<impl Future<Output = Result<T>>>) {
    let mut calls = stream::iter(calls).buffer_unordered(64);
    while let Some(done) = calls.next().await {
        ok(step, done);
    }
}
