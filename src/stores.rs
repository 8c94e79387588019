//! Named stores: key-value handles by name, described in settings, opened when first used.
//!
//! ```yaml
//! nats:
//!   server: nats://localhost:4222
//! stores:
//!   user_cache:
//!     ttl: 1h
//!     prefix: users
//!   sessions:
//!     driver: redis
//!     addr: ${REDIS:localhost:6379}
//!     password: ${REDIS_PASSWORD:}
//!     prefix: kv
//! ```
//!
//! ```no_run
//! # async fn example() -> nats_connector::Result<()> {
//! use nats_connector::Stores;
//!
//! let stores = Stores::load()?; // what is wrong is told here
//! let users = stores.get("user_cache")?;
//! users.set("user:1", &"Ada").await?; // the first call connects
//! # Ok(())
//! # }
//! ```
//!
//! # Names
//!
//! A name is made of letters, digits, `_` and `-`, and compares without case, `-` and `_` alike, as
//! all keys do; it is told in lower case (`user_cache`). A setting is `STORES.USER_CACHE.TTL`, the
//! variable `STORES_USER_CACHE_TTL`: there the field is known by its name at the end. Variables
//! change stores that something else names; one that only the environment names needs its
//! `STORES_<NAME>_DRIVER`, since others' variables may begin alike.
//!
//! # Buckets
//!
//! Each store has a bucket of its own unless `BUCKET` says otherwise, because lifetime, history,
//! copies and size belong to buckets. The first write makes it as the store describes it. One that
//! is there is used as it is: what differs is told by one warning and never changed
//! ([`Kv::create_bucket`] does that). On Redis the bucket is `default`, which adds nothing to keys.
//!
//! # Connections
//!
//! A connection is made by the first call that needs it, within that call's deadline, once for all
//! calls that wait. A failure is an error of those calls; the next one tries again. Stores with the
//! same NATS settings share a connection, with the [registered](crate::register) connector too when
//! that was made with the same settings before; stores with the same Redis fields share a pool. It ends with [`close`](Stores::close), or when the [`Stores`] and all
//! handles from it are dropped; a registered connector is never closed from here. A shutdown drains
//! NATS connections as it does all.

mod builder;
mod config;
mod connection;
mod groups;
mod lazy;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::join_all;

pub use builder::StoresBuilder;
pub use config::{StoreConfig, StoreSettings};
use connection::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Kv;
use crate::settings::{self, Key, Settings, SettingsBuilder};

/// The stores of an application, by name. Cheap to clone.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    handles: BTreeMap<String, Kv>,
    connections: Vec<Arc<Connection>>,
    warnings: Vec<String>,
}

impl Stores {
    /// The stores that file, environment and arguments name: the sources of [`Settings::load`].
    ///
    /// # Errors
    ///
    /// As [`StoresBuilder::build`].
    pub fn load() -> Result<Stores> {
        Stores::from_settings(Settings::builder().find_file("").env().args())
    }

    /// The stores that these sources name.
    ///
    /// ```
    /// use nats_connector::{Format, Settings, Stores};
    ///
    /// let text = "STORES.USER_CACHE.TTL=1h\nSTORES.USER_CACHE.DRIVER=memory";
    /// let sources = Settings::builder().text("settings.conf", Format::Lines, text);
    /// let stores = Stores::from_settings(sources)?;
    /// assert_eq!(stores.names(), ["user_cache"]);
    /// # Ok::<(), nats_connector::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`StoresBuilder::build`].
    pub fn from_settings(sources: SettingsBuilder) -> Result<Stores> {
        Stores::builder().settings(sources).build()
    }

    /// Stores from settings, code and drivers of your own.
    pub fn builder() -> StoresBuilder {
        StoresBuilder::new()
    }

    /// Every field of a store, as `STORES.<NAME>.TTL` and so on.
    #[must_use]
    pub fn keys() -> &'static [Key] {
        settings::stores::keys()
    }

    /// [`keys`](Self::keys) as a table in Markdown.
    #[must_use]
    pub fn keys_markdown() -> String {
        settings::stores_markdown()
    }

    /// The handle on a store. It stays usable as long as it is kept. Its
    /// [`driver`](Kv::driver) is the one that opens, not the one that is opened.
    ///
    /// # Errors
    ///
    /// `NotFound` naming the stores there are.
    pub fn get(&self, name: impl AsRef<str>) -> Result<Kv> {
        let name = name.as_ref();
        let normal = settings::stores::store_name(name).map(|name| name.to_ascii_lowercase());
        match normal.ok().and_then(|name| self.0.handles.get(&name)) {
            Some(kv) => Ok(kv.clone()),
            None => {
                let names = self.names().join(", ");
                let message = match names.as_str() {
                    "" => {
                        "no stores are configured; they are under `stores` at the top level of the \
                         settings, as STORES.<NAME>.<FIELD>, for example STORES.CACHE.DRIVER=nats"
                            .to_owned()
                    }
                    names => format!("no such store; there are {names}"),
                };
                Err(Error::new(ErrorKind::NotFound, message)
                    .operation("get store")
                    .with("store", name))
            }
        }
    }

    /// The names of all stores, in lower case, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.handles.keys().map(String::as_str).collect()
    }

    /// What deserves a look but is no error: variables of no store. They were logged when the stores
    /// were loaded.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Ends all connections that were made for these stores. Afterwards every call on them fails
    /// with [`Closed`](ErrorKind::Closed). A connector that was registered or given stays open.
    ///
    /// NATS connections are drained, each within its `NATS.DRAIN_TIMEOUT`.
    pub async fn close(&self) {
        join_all(self.0.connections.iter().map(|connection| connection.close())).await;
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores")
            .field("names", &self.names())
            .field("connections", &self.0.connections)
            .finish_non_exhaustive()
    }
}
