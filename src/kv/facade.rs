//! The functions over the default driver, and the drivers known by name.

use std::cell::RefCell;
use std::future::Future;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::calls::WithEnd;
use super::{
    BucketConfig, Entry, Event, GetAll, GetOrLoad, Increment, Keys, Kv, Lock, Many, Provisioned,
    Read, ReadMany, Replace, Set, SetMany, Transaction, Watch,
};
use crate::call::{Call, Task};
use crate::error::{BoxError, Result};
use crate::registry::{Local, Registry};

thread_local! {
    static LOCAL: Local<Kv> = const { RefCell::new((0, None)) };
}

/// The key-value drivers of this process.
static REGISTRY: Registry<Kv> = Registry::new(&LOCAL);

/// [`Kv::bucket`] of the default driver.
///
/// Can be called before there is a default: the handle's calls go to the default of their moment,
/// also after it has changed.
#[must_use]
pub fn bucket(name: impl AsRef<str>) -> Kv {
    Kv::unbound().bucket(name)
}

/// [`Kv::set`] on the default driver.
pub fn set<T: Serialize + ?Sized>(key: impl Into<String>, value: &T) -> Call<Set> {
    Kv::unbound().set(key, value)
}

/// [`Kv::set_raw`] on the default driver.
pub fn set_raw(key: impl Into<String>, value: impl Into<Bytes>) -> Call<Set> {
    Kv::unbound().set_raw(key, value)
}

/// [`Kv::create`] on the default driver.
pub fn create<T: Serialize + ?Sized>(key: impl Into<String>, value: &T) -> Call<Set> {
    Kv::unbound().create(key, value)
}

/// [`Kv::replace`] on the default driver.
pub fn replace<T: Serialize + ?Sized>(key: impl Into<String>, value: &T) -> Call<Replace> {
    Kv::unbound().replace(key, value)
}

/// [`Kv::get`] on the default driver.
pub fn get<T: DeserializeOwned + 'static>(key: impl Into<String>) -> Call<Read<Option<T>>> {
    Kv::unbound().get(key)
}

/// [`Kv::get_raw`] on the default driver.
pub fn get_raw(key: impl Into<String>) -> Call<Read<Option<Bytes>>> {
    Kv::unbound().get_raw(key)
}

/// [`Kv::get_or`] on the default driver.
pub fn get_or<T: DeserializeOwned + Send + 'static>(
    key: impl Into<String>,
    default: T,
) -> Call<Read<T>> {
    Kv::unbound().get_or(key, default)
}

/// [`Kv::entry`] on the default driver.
pub fn entry<T: DeserializeOwned + 'static>(
    key: impl Into<String>,
) -> Call<Read<Option<Entry<T>>>> {
    Kv::unbound().entry(key)
}

/// [`Kv::entry_raw`] on the default driver.
pub fn entry_raw(key: impl Into<String>) -> Call<Read<Option<Entry<Bytes>>>> {
    Kv::unbound().entry_raw(key)
}

/// [`Kv::get_with_expiration`] on the default driver.
pub fn get_with_expiration<T: DeserializeOwned + 'static>(
    key: impl Into<String>,
) -> Call<Read<WithEnd<T>>> {
    Kv::unbound().get_with_expiration(key)
}

/// [`Kv::get_raw_with_expiration`] on the default driver.
pub fn get_raw_with_expiration(key: impl Into<String>) -> Call<Read<WithEnd<Bytes>>> {
    Kv::unbound().get_raw_with_expiration(key)
}

/// [`Kv::exists`] on the default driver.
pub fn exists(key: impl Into<String>) -> Call<Read<bool>> {
    Kv::unbound().exists(key)
}

/// [`Kv::delete`] on the default driver.
pub fn delete(key: impl Into<String>) -> Call<Task<Result<()>>> {
    Kv::unbound().delete(key)
}

/// [`Kv::delete_if_revision`] on the default driver.
pub fn delete_if_revision(key: impl Into<String>, revision: u64) -> Call<Task<Result<()>>> {
    Kv::unbound().delete_if_revision(key, revision)
}

/// [`Kv::purge`] on the default driver.
pub fn purge(key: impl Into<String>) -> Call<Task<Result<()>>> {
    Kv::unbound().purge(key)
}

/// [`Kv::take`] on the default driver.
pub fn take<T: DeserializeOwned + Send + 'static>(
    key: impl Into<String>,
) -> Call<Task<Result<Option<T>>>> {
    Kv::unbound().take(key)
}

/// [`Kv::update`] on the default driver.
pub fn update<T: Serialize + DeserializeOwned + Send + 'static>(
    key: impl Into<String>,
    change: impl FnMut(Option<T>) -> Option<T> + Send + 'static,
) -> Call<Task<Result<Option<T>>>> {
    Kv::unbound().update(key, change)
}

/// [`Kv::get_many`] on the default driver.
pub fn get_many<T: DeserializeOwned + Send + 'static>(
    keys: impl IntoIterator<Item = impl Into<String>>,
) -> Call<ReadMany<T>> {
    Kv::unbound().get_many(keys)
}

/// [`Kv::get_many_raw`] on the default driver.
pub fn get_many_raw(keys: impl IntoIterator<Item = impl Into<String>>) -> Call<ReadMany<Bytes>> {
    Kv::unbound().get_many_raw(keys)
}

/// [`Kv::set_many`] on the default driver.
pub fn set_many<'v, K: Into<String>, T: Serialize + ?Sized + 'v>(
    values: impl IntoIterator<Item = (K, &'v T)>,
) -> Call<SetMany> {
    Kv::unbound().set_many(values)
}

/// [`Kv::delete_many`] on the default driver.
pub fn delete_many(
    keys: impl IntoIterator<Item = impl Into<String>>,
) -> Call<Task<Result<Many<()>>>> {
    Kv::unbound().delete_many(keys)
}

/// [`Kv::get_all`] on the default driver.
pub fn get_all<T: DeserializeOwned + Send + 'static>() -> Call<GetAll<T>> {
    Kv::unbound().get_all()
}

/// [`Kv::get_all_matching`] on the default driver.
pub fn get_all_matching<T: DeserializeOwned + Send + 'static>(
    glob: impl Into<String>,
) -> Call<GetAll<T>> {
    Kv::unbound().get_all_matching(glob)
}

/// [`Kv::delete_matching`] on the default driver.
pub fn delete_matching(glob: impl Into<String>) -> Call<Task<Result<u64>>> {
    Kv::unbound().delete_matching(glob)
}

/// [`Kv::flush`] on the default driver.
pub fn flush() -> Call<Task<Result<u64>>> {
    Kv::unbound().flush()
}

/// [`Kv::get_or_load`] on the default driver.
pub fn get_or_load<T, F, Fut, E>(key: impl Into<String>, load: F) -> Call<GetOrLoad<T>>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    Kv::unbound().get_or_load(key, load)
}

/// [`Kv::transaction`] on the default driver.
pub fn transaction() -> Call<Transaction> {
    Kv::unbound().transaction()
}

/// [`Kv::increment`] on the default driver.
pub fn increment(key: impl Into<String>, by: i64) -> Call<Increment> {
    Kv::unbound().increment(key, by)
}

/// [`Kv::decrement`] on the default driver.
pub fn decrement(key: impl Into<String>, by: i64) -> Call<Increment> {
    Kv::unbound().decrement(key, by)
}

/// [`Kv::expire`] on the default driver.
pub fn expire(key: impl Into<String>, at: SystemTime) -> Call<Task<Result<bool>>> {
    Kv::unbound().expire(key, at)
}

/// [`Kv::touch`] on the default driver.
pub fn touch(key: impl Into<String>, ttl: Duration) -> Call<Task<Result<bool>>> {
    Kv::unbound().touch(key, ttl)
}

/// [`Kv::persist`] on the default driver.
pub fn persist(key: impl Into<String>) -> Call<Task<Result<bool>>> {
    Kv::unbound().persist(key)
}

/// [`Kv::keys`] on the default driver.
pub fn keys() -> Call<Keys> {
    Kv::unbound().keys()
}

/// [`Kv::keys_matching`] on the default driver.
pub fn keys_matching(glob: impl Into<String>) -> Call<Keys> {
    Kv::unbound().keys_matching(glob)
}

/// [`Kv::item_count`] on the default driver.
pub fn item_count() -> Call<Task<Result<u64>>> {
    Kv::unbound().item_count()
}

/// [`Kv::watch`] on the default driver.
pub fn watch(glob: impl Into<String>) -> Call<Watch> {
    Kv::unbound().watch(glob)
}

/// [`Kv::watch_all`] on the default driver.
pub fn watch_all() -> Call<Watch> {
    Kv::unbound().watch_all()
}

/// [`Kv::history`] on the default driver.
pub fn history(key: impl Into<String>) -> Call<Task<Result<Vec<Event>>>> {
    Kv::unbound().history(key)
}

/// [`Kv::lock`] on the default driver.
pub fn lock(name: impl Into<String>) -> Call<Lock> {
    Kv::unbound().lock(name)
}

/// [`Kv::bind_bucket`] on the default driver.
pub fn bind_bucket(name: impl AsRef<str>) -> Call<Task<Result<Kv>>> {
    Kv::unbound().bind_bucket(name)
}

/// [`Kv::get_or_create_bucket`] on the default driver.
pub fn get_or_create_bucket(config: BucketConfig) -> Call<Task<Result<Provisioned>>> {
    Kv::unbound().get_or_create_bucket(config)
}

/// [`Kv::create_bucket`] on the default driver.
pub fn create_bucket(config: BucketConfig) -> Call<Task<Result<Kv>>> {
    Kv::unbound().create_bucket(config)
}

/// [`Kv::delete_bucket`] on the default driver.
pub fn delete_bucket(name: impl AsRef<str>) -> Call<Task<Result<bool>>> {
    Kv::unbound().delete_bucket(name)
}

/// [`Kv::buckets`] on the default driver.
pub fn buckets() -> Call<Task<Result<Vec<String>>>> {
    Kv::unbound().buckets()
}

/// Makes `driver` the default, also in place of the one of `nats_connector::register()`, which
/// never replaces it.
///
/// Takes a driver, or a [`Kv`] on one with its bucket, prefixes and serializer.
pub fn set_default_driver(driver: impl Into<Kv>) {
    REGISTRY.set_default(driver.into());
}

/// Makes `driver` known as `name`, for [`driver()`]. The first one added is the default as long as
/// there is no other.
///
/// # Errors
///
/// `AlreadyExists` when a driver has this name; `InvalidInput` when it is empty.
pub fn add_driver(name: impl Into<String>, driver: impl Into<Kv>) -> Result<()> {
    REGISTRY.add(name.into(), driver.into())
}

/// The default driver's handle of now: what [`set_default_driver`] was given, else the
/// connector's, else the first one added.
///
/// # Errors
///
/// `NotRegistered` before there is one.
pub fn default_driver() -> Result<Kv> {
    REGISTRY.default()
}

/// The handle of the driver known as `name`.
#[must_use]
pub fn driver(name: &str) -> Option<Kv> {
    REGISTRY.get(name)
}

/// The names of all drivers known by name, in the order they were added.
#[must_use]
pub fn drivers() -> Vec<String> {
    REGISTRY.names()
}

/// Makes the connector's handle the default, unless the application chose one.
pub(crate) fn register(kv: Kv) {
    REGISTRY.register("nats", kv);
}
