//! Puts stores together: what the settings say of each, the connections they share, the handles.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::config::{StoreConfig, StoreSettings};
use super::groups::Groups;
use super::{Inner, Stores};
use crate::connector::Connector;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::Driver;
use crate::serializer::Serializer;
use crate::settings::stores::{self, BUILT_IN, StoreFields};
use crate::settings::{Settings, SettingsBuilder};

/// Makes an own driver.
pub(super) type Factory =
    Arc<dyn Fn(StoreSettings) -> BoxFuture<'static, Result<Arc<dyn Driver>>> + Send + Sync>;

/// Builds [`Stores`] from settings, code, or both.
#[derive(Clone)]
#[must_use = "stores are made by .build()"]
pub struct StoresBuilder {
    sources: SettingsBuilder,
    stores: Vec<(String, StoreConfig)>,
    drivers: Vec<(String, Factory)>,
    connectors: Vec<Connector>,
}

impl StoresBuilder {
    pub(super) fn new() -> Self {
        StoresBuilder {
            sources: Settings::builder(),
            stores: Vec::new(),
            drivers: Vec::new(),
            connectors: Vec::new(),
        }
    }

    /// The sources of `STORES.*`, and of the connections' own settings (`NATS.*`, or the domain
    /// that a store names). Without them only code counts, and connections have their defaults.
    pub fn settings(mut self, sources: SettingsBuilder) -> Self {
        self.sources = sources;
        self
    }

    /// A store in code. What `config` says wins over every other source, field by field.
    pub fn store(mut self, name: impl Into<String>, config: StoreConfig) -> Self {
        self.stores.push((name.into(), config));
        self
    }

    /// Makes a driver of your own known under `name`, which stores then give as their `DRIVER`.
    ///
    /// `factory` runs at the first call of each such store, once for all calls that wait; when it
    /// fails the next call runs it again. It gets the store with all its fields, also those that
    /// this library does not know, and has 60 s.
    pub fn register_driver<F, Fut, D>(mut self, name: impl Into<String>, factory: F) -> Self
    where
        F: Fn(StoreSettings) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<D>> + Send + 'static,
        D: Driver,
    {
        let factory: Factory = Arc::new(move |settings| {
            let made = factory(settings);
            Box::pin(async move {
                let driver: Arc<dyn Driver> = Arc::new(made.await?);
                Ok(driver)
            })
        });
        self.drivers.push((name.into(), factory));
        self
    }

    /// Puts the stores of the connector's domain ([`Settings::domain_name`]) on a connection that
    /// is there already. The stores do not close it.
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connectors.push(connector);
        self
    }

    /// Reads and checks everything; nothing is opened yet.
    ///
    /// # Errors
    ///
    /// `InvalidSettings` naming store, field, source and what is expected, for everything that is
    /// wrong in a store or in the settings of its connection; `InvalidInput` for two drivers of one
    /// name.
    pub fn build(self) -> Result<Stores> {
        let own = own_drivers(&self.drivers)?;
        let code: Vec<(&str, Vec<(String, String)>)> = self
            .stores
            .iter()
            .map(|(name, config)| (name.as_str(), config.fields.clone()))
            .collect();
        let found = stores::read(&self.sources, &code, &own)?;
        let domains = self.domains(&found.stores)?;
        let mut groups = Groups::new(&self.connectors, &self.drivers);
        for store in found.stores {
            let domain = (store.driver == "nats").then(|| domains[&store.domain].clone());
            groups.add(store, domain)?;
        }
        let handles = groups.handles(&self.serializers())?;
        for warning in &found.warnings {
            tracing::warn!("{warning}");
        }
        let connections = groups.connections();
        Ok(Stores(Arc::new(Inner { handles, connections, warnings: found.warnings })))
    }

    /// The settings of every domain that a store is on.
    fn domains(&self, stores: &[StoreFields]) -> Result<HashMap<String, Settings>> {
        let on_nats = stores.iter().filter(|store| store.driver == "nats");
        let names: Vec<&str> = on_nats.clone().map(|store| store.domain.as_str()).collect();
        let mut domains = HashMap::new();
        for store in on_nats {
            let domain = &store.domain;
            if domains.contains_key(domain) {
                continue;
            }
            let given = self.connectors.iter().find(|c| c.settings().domain_name() == domain);
            let settings = match given {
                Some(connector) => connector.settings().clone(),
                None => self
                    .sources
                    .of_domain(domain, &names)
                    .map_err(|error| error.with("store", &*store.name))?,
            };
            domains.insert(domain.clone(), settings);
        }
        Ok(domains)
    }

    fn serializers(&self) -> HashMap<String, Serializer> {
        let given = self.stores.iter().filter_map(|(name, config)| {
            Some((stores::store_name(name).ok()?.to_ascii_lowercase(), config.serializer.clone()?))
        });
        given.collect()
    }
}

/// The names of the application's drivers, each given once and not built in.
fn own_drivers(drivers: &[(String, Factory)]) -> Result<Vec<&str>> {
    let names: Vec<&str> = drivers.iter().map(|(name, _)| name.as_str()).collect();
    for (i, name) in names.iter().enumerate() {
        let taken = |other: &&str| other.eq_ignore_ascii_case(name);
        if name.is_empty() || BUILT_IN.iter().any(taken) || names[..i].iter().any(taken) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a driver's name is empty or taken; register it under another name",
            )
            .with("driver", *name));
        }
    }
    Ok(names)
}

impl fmt::Debug for StoresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drivers: Vec<&str> = self.drivers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("StoresBuilder")
            .field("stores", &self.stores)
            .field("drivers", &drivers)
            .finish_non_exhaustive()
    }
}
