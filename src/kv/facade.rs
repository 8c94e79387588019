//! The functions over the default driver, and the drivers known by name.

use std::cell::RefCell;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::calls::{CreateBucket, Delete, Exists, Get, GetRaw, Replace, Set};
use super::{BucketConfig, Kv};
use crate::call::Call;
use crate::error::Result;
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

/// [`Kv::replace`] on the default driver.
pub fn replace<T: Serialize + ?Sized>(key: impl Into<String>, value: &T) -> Call<Replace> {
    Kv::unbound().replace(key, value)
}

/// [`Kv::get`] on the default driver.
pub fn get<T: DeserializeOwned + 'static>(key: impl Into<String>) -> Call<Get<T>> {
    Kv::unbound().get(key)
}

/// [`Kv::get_raw`] on the default driver.
pub fn get_raw(key: impl Into<String>) -> Call<GetRaw> {
    Kv::unbound().get_raw(key)
}

/// [`Kv::exists`] on the default driver.
pub fn exists(key: impl Into<String>) -> Call<Exists> {
    Kv::unbound().exists(key)
}

/// [`Kv::delete`] on the default driver.
pub fn delete(key: impl Into<String>) -> Call<Delete> {
    Kv::unbound().delete(key)
}

/// [`Kv::create_bucket`] on the default driver.
pub fn create_bucket(config: BucketConfig) -> Call<CreateBucket> {
    Kv::unbound().create_bucket(config)
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
