//! Where a call goes: a driver's bucket, or a key in it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::config::check_bucket_name;
use super::driver::{Change, Condition, Consistency, Entry, Expiry, Found, Value, Write};
use super::store::Store;
use super::{Key, Kv, Scope};
use crate::deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::serializer::Serializer;

/// The bucket of a handle that names none.
const DEFAULT_BUCKET: &str = "default";
/// How long a call may take where neither it nor its handle says so.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest lifetime, a hundred years: clocks of stores, and of this machine, end not far beyond.
pub(super) const LONGEST: Duration = Duration::from_secs(36_525 * 24 * 3600);

/// A bucket: the driver and the bucket's full name, with what the handle says beside it.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) operation: &'static str,
    pub(super) store: Arc<Store>,
    pub(super) scope: Arc<Scope>,
    pub(super) bucket: Arc<str>,
}

impl Target {
    pub(super) fn new(operation: &'static str, kv: &Kv) -> Result<Self> {
        let (store, scope) = kv.resolve().map_err(|error| error.operation(operation))?;
        let name = scope.bucket.clone().unwrap_or_else(|| DEFAULT_BUCKET.into());
        let bucket = match scope.bucket_prefix.as_deref() {
            None | Some("") => name,
            Some(prefix) => [prefix, &*name].concat().into(),
        };
        check_bucket_name(&bucket).map_err(|error| error.operation(operation))?;
        Ok(Target { operation, store, scope, bucket })
    }

    pub(super) fn prefix(&self) -> &str {
        self.scope.key_prefix.as_deref().unwrap_or_default()
    }

    pub(super) fn key<'a>(&'a self, name: &'a str) -> Key<'a> {
        Key::new(self.prefix(), name)
    }

    pub(super) fn serializer(&self) -> &Serializer {
        const JSON: &Serializer = &Serializer::json();
        self.scope.serializer.as_ref().unwrap_or(JSON)
    }

    pub(super) fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Value> {
        let serializer = self.serializer();
        let value = Value::new(serializer.encode(value)?);
        Ok(if serializer.is_default() {
            value
        } else {
            value.with_content_type(serializer.content_type())
        })
    }

    pub(super) fn decode<T: DeserializeOwned>(&self, value: &Value) -> Result<T> {
        let serializer = self.serializer().for_content_type(value.content_type.as_deref())?;
        serializer.decode(&value.bytes)
    }

    pub(super) fn deadline(&self, timeout: Option<Duration>) -> Instant {
        deadline::after(timeout.or(self.scope.timeout).unwrap_or(DEFAULT_TIMEOUT))
    }

    pub(super) fn explain(&self, error: Error) -> Error {
        error.operation(self.operation).with("bucket", &*self.bucket)
    }

    /// The same with the key that the error is about.
    pub(super) fn explain_key(&self, error: Error, key: &str) -> Error {
        self.explain(error).with("key", key)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("driver", &self.store.driver.name())
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// A key's place in a store, to tell keys apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    bucket: Arc<str>,
    prefix: String,
    name: String,
}

impl Place {
    pub(super) fn new(bucket: Arc<str>, key: Key<'_>) -> Self {
        Place { bucket, prefix: key.prefix().to_owned(), name: key.name().to_owned() }
    }
}

/// A key in a bucket.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) target: Target,
    pub(super) key: String,
}

impl Slot {
    pub(super) fn new(operation: &'static str, kv: &Kv, key: String) -> Result<Self> {
        let target = Target::new(operation, kv)?;
        let slot = Slot { target, key };
        if slot.key.is_empty() {
            return Err(slot.explain(Error::new(ErrorKind::InvalidInput, "the key is empty")));
        }
        Ok(slot)
    }

    /// A slot and the value that is to go there.
    pub(super) fn with_value<T: Serialize + ?Sized>(
        operation: &'static str,
        kv: &Kv,
        key: String,
        value: &T,
    ) -> Result<(Self, Value)> {
        let slot = Slot::new(operation, kv, key)?;
        let value = slot.target.encode(value).map_err(|error| slot.explain(error))?;
        Ok((slot, value))
    }

    pub(super) fn key(&self) -> Key<'_> {
        self.target.key(&self.key)
    }

    pub(super) fn place(&self) -> Place {
        Place::new(self.target.bucket.clone(), self.key())
    }

    pub(super) fn explain(&self, error: Error) -> Error {
        self.target.explain_key(error, &self.key)
    }

    pub(super) fn decode<T: DeserializeOwned>(&self, entry: &Entry) -> Result<T> {
        self.target.decode(&entry.value).map_err(|error| self.explain(error))
    }

    pub(super) async fn read(&self, consistency: Consistency, deadline: Instant) -> Result<Found> {
        let Target { store, bucket, .. } = &self.target;
        let near = self.target.scope.near.as_deref();
        let read = store.read(near, bucket, self.key(), consistency, deadline).await;
        read.map_err(|error| self.explain(error))
    }

    pub(super) async fn put(
        &self,
        value: Value,
        expiry: Expiry,
        condition: Condition<'_>,
        deadline: Instant,
    ) -> Result<u64> {
        self.write(Change::Put(value, expiry), condition, deadline).await
    }

    pub(super) async fn write(
        &self,
        change: Change,
        condition: Condition<'_>,
        deadline: Instant,
    ) -> Result<u64> {
        let Target { store, bucket, .. } = &self.target;
        let write = Write { key: self.key(), change, condition };
        let written = store.write(bucket, write, deadline).await;
        written.map_err(|error| self.explain(error))
    }
}

/// The expiry that a lifetime asks for: none for zero, else whole seconds, rounded up, and at most
/// [`LONGEST`].
pub(super) fn expiry(ttl: Duration) -> Expiry {
    if ttl.is_zero() {
        return Expiry::Never;
    }
    let up = u64::from(ttl.subsec_nanos() > 0);
    Expiry::In(Duration::from_secs(ttl.as_secs().saturating_add(up)).min(LONGEST))
}

/// The expiry at a moment, which is at most [`LONGEST`] from now.
pub(super) fn expiry_at(at: SystemTime) -> Expiry {
    let latest = SystemTime::now().checked_add(LONGEST);
    Expiry::At(latest.map_or(at, |latest| at.min(latest)))
}

/// The expiry that keeps what an entry has.
pub(super) fn same_expiry(entry: &Entry) -> Expiry {
    entry.expires.map_or(Expiry::Never, Expiry::At)
}
