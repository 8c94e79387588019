//! A bucket that responses are kept in, opened when it is first needed.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{Place, plan::Planned};
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Difference, Kv};
use crate::objects::Objects;

/// The stores of a handle on services, where it has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stores {
    pub(crate) kv: Option<Kv>,
    pub(crate) objects: Option<Objects>,
}

/// How a bucket of a service fares: [`Service::stores`](super::super::Service::stores).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStatus {
    /// `kv` or `objects`.
    pub store: &'static str,
    /// The bucket's name.
    pub bucket: String,
    /// The methods that use it.
    pub methods: Vec<String>,
    /// It is known to be there.
    pub ready: bool,
    /// Why it is not: as the last try to make it ended, or the permission that it takes to know.
    pub problem: Option<String>,
    /// The options of a bucket that was there, where they are not as asked for. It stays as it is.
    pub differences: Vec<Difference>,
}

impl StoreStatus {
    /// As statistics tell it.
    pub(crate) fn to_json(&self) -> Value {
        let differences: Vec<String> = self.differences.iter().map(ToString::to_string).collect();
        json!({
            "store": self.store,
            "bucket": self.bucket,
            "ready": self.ready,
            "problem": self.problem.as_deref().unwrap_or_default(),
            "differences": differences,
        })
    }
}

/// One bucket.
pub(crate) struct Shelf {
    planned: Planned,
    store: Result<Store>,
    opened: OnceCell<Opened>,
    /// Why the last try failed to open it.
    problem: Mutex<Option<String>>,
    /// The last write found no store that answers.
    is_down: AtomicBool,
}

/// A bucket that can be used, as far as can be known.
struct Opened {
    differences: Vec<Difference>,
    /// Why it cannot be known.
    unknown: Option<String>,
}

/// A handle on the bucket.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    Kv(Kv),
    Objects(Objects),
}

impl Shelf {
    pub(crate) fn new(planned: Planned, stores: &Stores) -> Self {
        let bucket = planned.place.bucket();
        let missing =
            |what: &'static str| Error::new(ErrorKind::Unsupported, what).with("bucket", bucket);
        let store = match &planned.place {
            Place::Kv(_) => {
                stores.kv.as_ref().map(|kv| Store::Kv(kv.bucket(bucket))).ok_or_else(|| {
                    missing("this handle on services has no key-value store; give it one: with_kv")
                })
            }
            Place::Objects(config) => stores
                .objects
                .as_ref()
                .map(|objects| {
                    let objects = objects.bucket(bucket);
                    Store::Objects(match config.max_chunk_size {
                        Some(bytes) => objects.with_max_chunk_size(bytes),
                        None => objects,
                    })
                })
                .ok_or_else(|| {
                    missing(
                        "this handle on services has no object store; give it one: with_objects",
                    )
                }),
        };
        Shelf {
            planned,
            store,
            opened: OnceCell::new(),
            problem: Mutex::new(None),
            is_down: AtomicBool::new(false),
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.planned.place
    }

    /// The bucket, which need not be there.
    pub(crate) fn store(&self) -> Result<&Store> {
        self.store.as_ref().map_err(Error::again)
    }

    /// The bucket, made if it was not there, and never changed. What is known is not asked again.
    pub(crate) async fn open(&self, deadline: Instant) -> Result<&Store> {
        if self.opened.initialized() {
            return self.store();
        }
        let opening = self.opened.get_or_try_init(|| self.make(deadline));
        let opened = within(deadline, opening).await.unwrap_or_else(|_| {
            Err(self
                .explain(Error::new(ErrorKind::Timeout, "the bucket could not be made in time")))
        });
        let problem = opened.as_ref().err().map(Error::to_string);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        opened?;
        self.store()
    }

    async fn make(&self, deadline: Instant) -> Result<Opened> {
        match self.find_or_make(deadline).await {
            Ok(differences) => Ok(Opened { differences, unknown: None }),
            // Whoever may not ask for buckets or make them can still write to one that others made.
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                let bucket = self.place().bucket();
                tracing::warn!(bucket, %error, "taken to be there, since nobody here may ask");
                Ok(Opened { differences: Vec::new(), unknown: Some(error.to_string()) })
            }
            Err(error) => Err(error),
        }
    }

    async fn find_or_make(&self, deadline: Instant) -> Result<Vec<Difference>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match (self.store()?, &self.planned.place) {
            (Store::Kv(kv), Place::Kv(config)) => {
                let made = kv.get_or_create_bucket(config.clone()).timeout(left).await?;
                Ok(made.differences)
            }
            (Store::Objects(objects), Place::Objects(config)) => {
                let made = objects.get_or_create_bucket(config.clone()).timeout(left).await?;
                Ok(made.differences)
            }
            (Store::Kv(_), Place::Objects(_)) | (Store::Objects(_), Place::Kv(_)) => Ok(Vec::new()),
        }
    }

    /// Stores a value; its revision.
    pub(crate) async fn put(&self, key: &str, value: Bytes, deadline: Instant) -> Result<u64> {
        let put = within(deadline, self.put_within(key, value, deadline)).await;
        let put = put.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the store did not answer in time"))
        });
        let is_down = |error: &Error| {
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Closed)
        };
        self.is_down.store(put.as_ref().is_err_and(is_down), Ordering::Relaxed);
        put.map_err(|error| self.explain(error).with("key", key))
    }

    async fn put_within(&self, key: &str, value: Bytes, deadline: Instant) -> Result<u64> {
        let store = self.open(deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        match store {
            Store::Kv(kv) => kv.set_raw(key, value).timeout(left).await,
            Store::Objects(objects) => {
                objects.put_bytes(key, value).timeout(left).await.map(|info| info.revision)
            }
        }
    }

    /// The last write found no store that answers.
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    pub(crate) fn status(&self) -> StoreStatus {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let opened = self.opened.get();
        let unknown = opened.and_then(|opened| opened.unknown.clone());
        StoreStatus {
            store: self.place().kind(),
            bucket: self.place().bucket().to_owned(),
            methods: self.planned.methods.clone(),
            ready: opened.is_some_and(|opened| opened.unknown.is_none()),
            problem: unknown.or(problem),
            differences: opened.map(|opened| opened.differences.clone()).unwrap_or_default(),
        }
    }

    /// Says which bucket an error is about.
    pub(crate) fn explain(&self, error: Error) -> Error {
        error.with("bucket", self.place().bucket())
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("status", &self.status()).finish_non_exhaustive()
    }
}
