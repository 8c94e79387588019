//! The driver of stores: the real one, opened when first needed, with the buckets as they are
//! described.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::time::Instant;

use super::connection::{BackEnd, Connection, closed};
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{
    Capabilities, Change, Condition, Consistency, Driver, Filter, Found, Signal, Update, Write,
};
use crate::kv::nats::NatsDriver;
use crate::kv::{BucketConfig, BucketStatus, Key, KeyCodec};

/// One for all stores that agree on a connection and on how keys are written.
pub(super) struct LazyDriver {
    driver: String,
    /// The stores behind it, for errors.
    stores: String,
    /// How keys are written in NATS buckets that do not say so.
    codec: KeyCodec,
    connection: Arc<Connection>,
    opened: Mutex<Option<Opened>>,
    /// What the settings say of buckets, by full name.
    buckets: HashMap<String, Described>,
}

#[derive(Clone)]
struct Opened {
    back_end: BackEnd,
    driver: Arc<dyn Driver>,
    /// Counts what was opened one after another.
    number: u64,
}

/// A bucket with options of its own.
struct Described {
    config: BucketConfig,
    /// The number of the opened driver that has it.
    made_by: AtomicU64,
    making: tokio::sync::Mutex<()>,
    warned: AtomicBool,
}

impl LazyDriver {
    /// `buckets` are those with options of their own.
    pub(super) fn new(
        driver: String,
        stores: String,
        codec: KeyCodec,
        connection: Arc<Connection>,
        buckets: Vec<BucketConfig>,
    ) -> Self {
        let described = buckets.into_iter().map(|config| {
            let described = Described {
                config,
                made_by: AtomicU64::new(0),
                making: tokio::sync::Mutex::new(()),
                warned: AtomicBool::new(false),
            };
            (described.config.name().to_owned(), described)
        });
        let buckets = described.collect();
        LazyDriver { driver, stores, codec, connection, opened: Mutex::new(None), buckets }
    }

    async fn open(&self, deadline: Instant) -> Result<Opened> {
        if self.connection.is_closed() {
            return Err(self.explain(closed()));
        }
        if let Some(opened) = &*self.lock()
            && !opened.back_end.is_over()
        {
            return Ok(opened.clone());
        }
        let back_end = self.connection.get(deadline).await.map_err(|error| self.explain(error))?;
        let (opened, _old) = {
            let mut slot = self.lock();
            match &*slot {
                // Another call was faster.
                Some(opened) if !opened.back_end.is_over() => (opened.clone(), None),
                before => {
                    let number = before.as_ref().map_or(0, |opened| opened.number) + 1;
                    let driver = self.driver_on(&back_end)?;
                    let opened = Opened { back_end, driver, number };
                    (opened.clone(), slot.replace(opened))
                }
            }
        };
        Ok(opened)
    }

    fn driver_on(&self, back_end: &BackEnd) -> Result<Arc<dyn Driver>> {
        match back_end {
            BackEnd::Driver(driver) => Ok(driver.clone()),
            #[cfg(feature = "redis")]
            BackEnd::Redis(driver) => Ok(Arc::new(driver.clone())),
            BackEnd::Nats { connector, .. } => match connector.link() {
                Ok(link) => Ok(Arc::new(NatsDriver::with_key_codec(link.clone(), self.codec))),
                Err(_) => connector.kv().driver(),
            },
        }
    }

    /// The driver for a call that may make the bucket: it is made here, as it is described.
    async fn open_for_write(&self, bucket: &str, deadline: Instant) -> Result<Arc<dyn Driver>> {
        let opened = self.open(deadline).await?;
        if let Some(described) = self.buckets.get(bucket)
            && described.made_by.load(Ordering::Acquire) != opened.number
        {
            self.make(described, &opened, deadline).await?;
        }
        Ok(opened.driver)
    }

    async fn make(&self, described: &Described, opened: &Opened, deadline: Instant) -> Result<()> {
        let one = within(deadline, described.making.lock()).await;
        let _one = one.map_err(|_| {
            Error::new(ErrorKind::Timeout, "the bucket was still being made at the deadline")
        })?;
        if described.made_by.load(Ordering::Acquire) == opened.number {
            return Ok(());
        }
        let config = &described.config;
        match opened.driver.make_bucket(config, deadline).await {
            Ok(true) => {}
            Ok(false) => {
                let found = opened.driver.bucket_status(config.name(), deadline).await;
                described.compare(&self.stores, found);
            }
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                described.compare(&self.stores, Err(error));
            }
            Err(error) => return Err(error),
        }
        described.made_by.store(opened.number, Ordering::Release);
        Ok(())
    }

    fn explain(&self, error: Error) -> Error {
        error.with("store", &*self.stores)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Described {
    /// Tells once how a bucket that was there is otherwise than described, or why that cannot be
    /// said. It is used as it is.
    fn compare(&self, store: &str, found: Result<Option<BucketStatus>>) {
        let bucket = self.config.name();
        let differences = match found {
            Ok(None) => return,
            Ok(Some(status)) => {
                let differences = self.config.differences(&status.config);
                differences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            Err(error) => format!("not known: {error}"),
        };
        if !differences.is_empty() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                store,
                bucket,
                differences,
                "the bucket is not as its store describes it; it stays as it is"
            );
        }
    }
}

/// Whether a write may make a missing bucket.
fn makes(write: &Write<'_>) -> bool {
    matches!(write.change, Change::Put(..))
        && matches!(write.condition, Condition::Always | Condition::Revision(0))
}

impl fmt::Debug for LazyDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyDriver")
            .field("driver", &self.driver)
            .field("stores", &self.stores)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Driver for LazyDriver {
    fn name(&self) -> &str {
        &self.driver
    }

    fn capabilities<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>> {
        Box::pin(
            async move { self.open(deadline).await?.driver.capabilities(bucket, deadline).await },
        )
    }

    fn whole_name<'a>(&self, bucket: &str, key: Key<'a>) -> Option<Cow<'a, str>> {
        let driver = self.lock().as_ref()?.driver.clone();
        driver.whole_name(bucket, key)
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Found>> {
        Box::pin(async move {
            self.open(deadline).await?.driver.get(bucket, key, consistency, deadline).await
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
            let error = match self.open(deadline).await {
                Ok(opened) => {
                    return opened.driver.get_many(bucket, keys, consistency, deadline).await;
                }
                Err(error) => Arc::new(error),
            };
            let each =
                |_| Err(Error::new(error.kind(), "no key was read").with_source(error.clone()));
            keys.iter().map(each).collect()
        })
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let driver = if makes(&write) {
                self.open_for_write(bucket, deadline).await?
            } else {
                self.open(deadline).await?.driver
            };
            driver.write(bucket, write, deadline).await
        })
    }

    fn transaction<'a>(
        &'a self,
        bucket: &'a str,
        writes: Vec<Write<'a>>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>> {
        Box::pin(async move {
            let driver = if writes.iter().any(makes) {
                self.open_for_write(bucket, deadline).await?
            } else {
                self.open(deadline).await?.driver
            };
            driver.transaction(bucket, writes, deadline).await
        })
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        Box::pin(
            async move { self.open(deadline).await?.driver.list(bucket, filter, deadline).await },
        )
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        Box::pin(async move {
            let driver = self.open_for_write(bucket, deadline).await?;
            driver.watch(bucket, filter, deadline).await
        })
    }

    fn history<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        Box::pin(
            async move { self.open(deadline).await?.driver.history(bucket, key, deadline).await },
        )
    }

    fn buckets<'a>(&'a self, deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move { self.open(deadline).await?.driver.buckets(deadline).await })
    }

    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        Box::pin(
            async move { self.open(deadline).await?.driver.bucket_status(bucket, deadline).await },
        )
    }

    fn make_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(
            async move { self.open(deadline).await?.driver.make_bucket(config, deadline).await },
        )
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(
            async move { self.open(deadline).await?.driver.create_bucket(config, deadline).await },
        )
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let deleted = self.open(deadline).await?.driver.delete_bucket(bucket, deadline).await?;
            // The next write makes it as it is described.
            if let Some(described) = self.buckets.get(bucket) {
                described.made_by.store(0, Ordering::Release);
            }
            Ok(deleted)
        })
    }
}
