//! The calls of a handle, each what it does once awaited.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::config::check_bucket_name;
use super::driver::{Condition, Consistency, Driver, Entry, Value};
use super::retry::Retry;
use super::{BucketConfig, Capabilities, Key, Kv, Scope};
use crate::call::Operation;
use crate::deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::serializer::Serializer;

/// The bucket of a handle that names none.
const DEFAULT_BUCKET: &str = "default";
/// How long a call may take where neither it nor its handle says so.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a call goes: the driver and the full name of the bucket.
struct Target {
    operation: &'static str,
    driver: Arc<dyn Driver>,
    scope: Arc<Scope>,
    bucket: Arc<str>,
}

impl Target {
    fn new(operation: &'static str, kv: &Kv) -> Result<Self> {
        let (driver, scope) = kv.resolve().map_err(|error| error.operation(operation))?;
        let name = scope.bucket.clone().unwrap_or_else(|| DEFAULT_BUCKET.into());
        let bucket = match scope.bucket_prefix.as_deref() {
            None | Some("") => name,
            Some(prefix) => [prefix, &*name].concat().into(),
        };
        check_bucket_name(&bucket).map_err(|error| error.operation(operation))?;
        Ok(Target { operation, driver, scope, bucket })
    }

    fn serializer(&self) -> &Serializer {
        const JSON: &Serializer = &Serializer::json();
        self.scope.serializer.as_ref().unwrap_or(JSON)
    }

    fn deadline(&self, timeout: Option<Duration>) -> Instant {
        deadline::after(timeout.or(self.scope.timeout).unwrap_or(DEFAULT_TIMEOUT))
    }

    fn explain(&self, error: Error) -> Error {
        error.operation(self.operation).with("bucket", &*self.bucket)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("driver", &self.driver.name())
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// A key in a bucket.
#[derive(Debug)]
struct Slot {
    target: Target,
    key: String,
}

impl Slot {
    fn new(operation: &'static str, kv: &Kv, key: String) -> Result<Self> {
        let target = Target::new(operation, kv)?;
        let slot = Slot { target, key };
        if slot.key.is_empty() {
            return Err(slot.explain(Error::new(ErrorKind::InvalidInput, "the key is empty")));
        }
        Ok(slot)
    }

    fn key(&self) -> Key<'_> {
        Key::new(self.target.scope.key_prefix.as_deref().unwrap_or_default(), &self.key)
    }

    fn explain(&self, error: Error) -> Error {
        self.target.explain(error).with("key", &self.key)
    }

    async fn read(&self, consistency: Consistency, deadline: Instant) -> Result<Option<Entry>> {
        let Target { driver, bucket, .. } = &self.target;
        let read = driver.get(bucket, self.key(), consistency, deadline).await;
        read.map_err(|error| self.explain(error))
    }

    async fn write(&self, value: Value, condition: Condition, deadline: Instant) -> Result<u64> {
        let Target { driver, bucket, .. } = &self.target;
        let written = driver.put(bucket, self.key(), value, condition, deadline).await;
        written.map_err(|error| self.explain(error))
    }
}

/// Stores a value: [`Kv::set`], [`Kv::set_raw`].
#[derive(Debug)]
pub struct Set(Result<(Slot, Value)>);

impl Set {
    pub(super) fn encoded<T: Serialize + ?Sized>(kv: &Kv, key: String, value: &T) -> Self {
        Set(encode("kv set", kv, key, value))
    }

    pub(super) fn raw(kv: &Kv, key: String, value: Bytes) -> Self {
        Set(Slot::new("kv set", kv, key).map(|slot| (slot, Value::new(value))))
    }
}

fn encode<T: Serialize + ?Sized>(
    operation: &'static str,
    kv: &Kv,
    key: String,
    value: &T,
) -> Result<(Slot, Value)> {
    let slot = Slot::new(operation, kv, key)?;
    let serializer = slot.target.serializer();
    let bytes = serializer.encode(value).map_err(|error| slot.explain(error))?;
    let value = Value::new(bytes);
    let value = if serializer.is_default() {
        value
    } else {
        value.with_content_type(serializer.content_type())
    };
    Ok((slot, value))
}

impl Operation for Set {
    type Output = Result<u64>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<u64>> {
        Box::pin(async move {
            let (slot, value) = self.0?;
            slot.write(value, Condition::Always, slot.target.deadline(timeout)).await
        })
    }
}

/// Stores a value if the key exists: [`Kv::replace`].
#[derive(Debug)]
pub struct Replace(Result<(Slot, Value)>);

impl Replace {
    pub(super) fn new<T: Serialize + ?Sized>(kv: &Kv, key: String, value: &T) -> Self {
        Replace(encode("kv replace", kv, key, value))
    }
}

impl Operation for Replace {
    type Output = Result<Option<u64>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Option<u64>>> {
        Box::pin(async move {
            let (slot, value) = self.0?;
            let deadline = slot.target.deadline(timeout);
            let mut retry = Retry::until(deadline);
            loop {
                let Some(entry) = slot.read(Consistency::Latest, deadline).await? else {
                    return Ok(None);
                };
                let condition = Condition::Revision(entry.revision);
                match slot.write(value.clone(), condition, deadline).await {
                    Err(error) if error.is_conflict() && retry.pause().await => {}
                    written => return written.map(Some),
                }
            }
        })
    }
}

/// Reads and decodes a value: [`Kv::get`].
pub struct Get<T> {
    read: GetRaw,
    value: PhantomData<fn() -> T>,
}

impl<T> Get<T> {
    pub(super) fn new(kv: &Kv, key: String) -> Self {
        Get { read: GetRaw::new(kv, key), value: PhantomData }
    }
}

impl<T: DeserializeOwned + 'static> Operation for Get<T> {
    type Output = Result<Option<T>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Option<T>>> {
        Box::pin(async move {
            let slot = self.read.0?;
            let deadline = slot.target.deadline(timeout);
            let Some(entry) = slot.read(Consistency::Any, deadline).await? else {
                return Ok(None);
            };
            let Value { bytes, content_type } = entry.value;
            let serializer = slot.target.serializer().for_content_type(content_type.as_deref());
            let value = serializer.and_then(|serializer| serializer.decode(&bytes));
            value.map(Some).map_err(|error| slot.explain(error))
        })
    }
}

/// Reads a value's bytes: [`Kv::get_raw`].
#[derive(Debug)]
pub struct GetRaw(Result<Slot>);

impl GetRaw {
    pub(super) fn new(kv: &Kv, key: String) -> Self {
        GetRaw(Slot::new("kv get", kv, key))
    }
}

impl Operation for GetRaw {
    type Output = Result<Option<Bytes>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Option<Bytes>>> {
        Box::pin(async move {
            let slot = self.0?;
            let entry = slot.read(Consistency::Any, slot.target.deadline(timeout)).await?;
            Ok(entry.map(|entry| entry.value.bytes))
        })
    }
}

/// Asks whether a key has a value: [`Kv::exists`].
#[derive(Debug)]
pub struct Exists(Result<Slot>);

impl Exists {
    pub(super) fn new(kv: &Kv, key: String) -> Self {
        Exists(Slot::new("kv exists", kv, key))
    }
}

impl Operation for Exists {
    type Output = Result<bool>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<bool>> {
        Box::pin(async move {
            let slot = self.0?;
            let entry = slot.read(Consistency::Any, slot.target.deadline(timeout)).await?;
            Ok(entry.is_some())
        })
    }
}

/// Deletes a key: [`Kv::delete`].
#[derive(Debug)]
pub struct Delete(Result<Slot>);

impl Delete {
    pub(super) fn new(kv: &Kv, key: String) -> Self {
        Delete(Slot::new("kv delete", kv, key))
    }
}

impl Operation for Delete {
    type Output = Result<()>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let slot = self.0?;
            let Target { driver, bucket, .. } = &slot.target;
            let deadline = slot.target.deadline(timeout);
            let deleted = driver.delete(bucket, slot.key(), deadline).await;
            deleted.map_err(|error| slot.explain(error))
        })
    }
}

/// Makes or changes a bucket: [`Kv::create_bucket`].
#[derive(Debug)]
pub struct CreateBucket(Result<(Target, Kv, BucketConfig)>);

impl CreateBucket {
    pub(super) fn new(kv: &Kv, mut config: BucketConfig) -> Self {
        let handle = kv.bucket(&config.name);
        let target = Target::new("kv create bucket", &handle);
        CreateBucket(target.and_then(|target| {
            config.name = target.bucket.to_string();
            config.check().map_err(|error| target.explain(error))?;
            Ok((target, handle, config))
        }))
    }
}

impl Operation for CreateBucket {
    type Output = Result<Kv>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Kv>> {
        Box::pin(async move {
            let (target, handle, config) = self.0?;
            let created = target.driver.create_bucket(&config, target.deadline(timeout)).await;
            created.map(|()| handle).map_err(|error| target.explain(error))
        })
    }
}

/// Asks what can be done with a bucket: [`Kv::capabilities`].
#[derive(Debug)]
pub struct GetCapabilities(Result<Target>);

impl GetCapabilities {
    pub(super) fn new(kv: &Kv) -> Self {
        GetCapabilities(Target::new("kv capabilities", kv))
    }
}

impl Operation for GetCapabilities {
    type Output = Result<Capabilities>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Capabilities>> {
        Box::pin(async move {
            let target = self.0?;
            let deadline = target.deadline(timeout);
            let asked = target.driver.capabilities(&target.bucket, deadline).await;
            asked.map_err(|error| target.explain(error))
        })
    }
}

impl<T> fmt::Debug for Get<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Get").field(&self.read).finish()
    }
}
