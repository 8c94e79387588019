//! A store in code, and a store as the settings have it.

use std::fmt;
use std::time::Duration;

use crate::kv::{BucketConfig, KeyCodec, Storage};
use crate::serializer::Serializer;
use crate::settings::source::normal;
use crate::settings::stores::StoreFields;

/// What code says of a store, field by field, on top of what the settings say of it.
///
/// The methods are the fields of `STORES.<NAME>.*`, which [`Stores::keys`](super::Stores::keys)
/// explains.
///
/// ```
/// use std::time::Duration;
/// use nats_connector::stores::{StoreConfig, Stores};
///
/// let hour = Duration::from_secs(3600);
/// let stores = Stores::builder()
///     .store("user_cache", StoreConfig::new().driver("memory").ttl(hour))
///     .build()?;
/// assert_eq!(stores.names(), ["user_cache"]);
/// # Ok::<(), nats_connector::Error>(())
/// ```
#[derive(Clone, Default)]
#[must_use = "a store is made by StoresBuilder::store"]
pub struct StoreConfig {
    pub(super) fields: Vec<(String, String)>,
    pub(super) serializer: Option<Serializer>,
}

impl StoreConfig {
    /// Says nothing yet: a NATS bucket of the store's own name.
    pub fn new() -> Self {
        StoreConfig::default()
    }

    /// Any field by its name, for those of an own driver too: `set("ENDPOINT", "https://..")`.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and literals read best by value")]
    pub fn set(mut self, field: impl Into<String>, value: impl ToString) -> Self {
        self.fields.push((field.into(), value.to_string()));
        self
    }

    /// `nats`, `memory`, `redis`, or the name of an own driver. Default `nats`.
    pub fn driver(self, name: impl Into<String>) -> Self {
        self.set("DRIVER", name.into())
    }

    /// The bucket's name. Default: the store's name in lower case; on Redis `default`.
    pub fn bucket(self, name: impl Into<String>) -> Self {
        self.set("BUCKET", name.into())
    }

    /// The namespace of every key. Default: that of the NATS connection's settings, else none.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.set("PREFIX", prefix.into())
    }

    /// How values become bytes, also by a serializer of your own. Default: that of the NATS
    /// connection's settings, else JSON.
    pub fn serializer(mut self, serializer: Serializer) -> Self {
        self.serializer = Some(serializer);
        self
    }

    /// How keys are written in the bucket, unless it says so itself. Default: as the NATS
    /// connection's settings say.
    pub fn key_codec(self, codec: KeyCodec) -> Self {
        self.set("KEY_CODEC", codec)
    }

    /// How long the bucket keeps each value; at least 100 ms, zero for ever, which is the default.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.set("TTL", humantime::format_duration(ttl))
    }

    /// How many values of each key the bucket keeps: 1 to 64. Default 1.
    pub fn history(self, values: u8) -> Self {
        self.set("HISTORY", values)
    }

    /// How many servers of a cluster keep a copy: 1 to 5. Default 1.
    pub fn replicas(self, copies: usize) -> Self {
        self.set("REPLICAS", copies)
    }

    /// Where the bucket's values are kept. Default [`Storage::File`].
    pub fn storage(self, storage: Storage) -> Self {
        self.set("STORAGE", storage)
    }

    /// How much the bucket may hold, in bytes; zero without limit, which is the default.
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.set("MAX_BYTES", bytes)
    }

    /// The domain of settings that describe the NATS connection. Default `NATS`.
    pub fn domain(self, domain: impl Into<String>) -> Self {
        self.set("DOMAIN", domain.into())
    }
}

impl fmt::Debug for StoreConfig {
    /// The names of the fields alone: their values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<&str> = self.fields.iter().map(|(field, _)| field.as_str()).collect();
        f.debug_struct("StoreConfig").field("fields", &fields).finish_non_exhaustive()
    }
}

/// A store as all sources together have it: what the factory of an own driver gets.
#[derive(Clone)]
pub struct StoreSettings(pub(super) StoreFields);

impl StoreSettings {
    /// The store's name, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The driver's name.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.0.driver
    }

    /// The bucket's name with the options that are set.
    pub fn bucket(&self) -> &BucketConfig {
        &self.0.bucket
    }

    /// Any field that is set, by its name, placeholders replaced; also those that no list has. It
    /// may be a secret: do not print it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.texts.get(&normal(name)).map(|text| text.expose())
    }

    /// The names of all fields that are set, sorted.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.texts.keys().map(String::as_str)
    }
}

impl fmt::Debug for StoreSettings {
    /// Fields by name alone: their values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings")
            .field("name", &self.0.name)
            .field("driver", &self.0.driver)
            .field("fields", &self.fields().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
