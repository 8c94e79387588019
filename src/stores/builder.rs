//! Puts stores together: what the settings say of each, the connections they share, the handles.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::config::{StoreConfig, StoreSettings};
use super::connection::{BackEnd, Connection};
use super::lazy::LazyDriver;
use super::{Inner, Stores};
use crate::connector::{Connector, State, global};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{BucketConfig, Driver, KeyCodec, Kv, MemoryDriver};
use crate::serializer::Serializer;
use crate::settings::stores::{self, BUILT_IN, StoreFields};
use crate::settings::{Settings, SettingsBuilder};
use crate::shutdown;

type Factory =
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
        let mut groups = Groups { builder: &self, connections: Vec::new() };
        let mut placed = Vec::new();
        for store in found.stores {
            let domain = (store.driver == "nats").then(|| domains[&store.domain].clone());
            placed.push(groups.place(store, domain)?);
        }
        let serializers = self.serializers();
        let connections = groups.connections.iter().map(|group| group.connection.clone()).collect();
        let handles = handles(placed, &groups.connections, &serializers)?;
        for warning in &found.warnings {
            tracing::warn!("{warning}");
        }
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

/// A connection and what is on it.
struct Group {
    key: GroupKey,
    connection: Arc<Connection>,
    buckets: BTreeMap<String, (String, BucketConfig)>,
}

/// What stores agree on when they share a connection.
#[derive(PartialEq)]
enum GroupKey {
    Nats(Box<Settings>),
    Memory,
    /// Each store of an own driver has one of its own.
    Own(String),
}

struct Groups<'a> {
    builder: &'a StoresBuilder,
    connections: Vec<Group>,
}

/// A store with its connection, by index.
struct Placed {
    store: StoreFields,
    domain: Option<Settings>,
    group: usize,
    /// The bucket's full name.
    bucket: String,
}

impl Groups<'_> {
    fn place(&mut self, store: StoreFields, domain: Option<Settings>) -> Result<Placed> {
        let key = match (&domain, store.driver.as_str()) {
            (Some(settings), _) => GroupKey::Nats(Box::new(settings.clone())),
            (None, "memory") => GroupKey::Memory,
            (None, _) => GroupKey::Own(store.name.clone()),
        };
        let known = self.connections.iter().position(|group| group.key == key);
        let group = known.unwrap_or_else(|| {
            let connection = self.connection(&key, &store);
            self.connections.push(Group { key, connection, buckets: BTreeMap::new() });
            self.connections.len() - 1
        });
        let prefix = domain.as_ref().map_or("", Settings::bucket_prefix);
        let bucket = format!("{prefix}{}", store.bucket.name());
        let mut config = store.bucket.clone();
        config.name.clone_from(&bucket);
        config.check().map_err(|error| invalid(&store.name, &error))?;
        self.connections[group].describe(&store.name, &bucket, &config)?;
        Ok(Placed { store, domain, group, bucket })
    }

    fn connection(&self, key: &GroupKey, store: &StoreFields) -> Arc<Connection> {
        match key {
            GroupKey::Nats(settings) => {
                let given = |connector: &&Connector| connector.settings() == &**settings;
                let given = self.builder.connectors.iter().find(given).cloned();
                let settings = (**settings).clone();
                Connection::new(format!("nats {}", settings.servers().join(",")), move || {
                    nats(given.clone(), settings.clone())
                })
            }
            GroupKey::Memory => {
                let driver: Arc<dyn Driver> = Arc::new(MemoryDriver::new());
                Connection::new("memory".to_owned(), move || {
                    std::future::ready(Ok(BackEnd::Driver(driver.clone())))
                })
            }
            GroupKey::Own(_) => {
                let mut own = self.builder.drivers.iter();
                let factory = own.find(|(name, _)| *name == store.driver).map(|(_, f)| f.clone());
                let settings = StoreSettings(store.clone());
                Connection::new(store.driver.clone(), move || {
                    let made = factory.as_ref().map(|factory| factory(settings.clone()));
                    async move {
                        match made {
                            Some(made) => made.await.map(BackEnd::Driver),
                            None => Err(Error::new(ErrorKind::NotFound, "no such driver")),
                        }
                    }
                })
            }
        }
    }
}

/// The connection of NATS stores: the one that was given, or the process' own when it has the same
/// settings, or a new one.
async fn nats(given: Option<Connector>, settings: Settings) -> Result<BackEnd> {
    let global = || global().filter(|connector| *connector.settings() == settings);
    match given.or_else(global).filter(|connector| connector.state() != State::Closed) {
        Some(connector) => Ok(BackEnd::Nats { connector, owned: false }),
        // Also after the shutdown's report: nobody would drain it.
        None if shutdown::is_requested() => {
            Err(Error::new(ErrorKind::Closed, "the process is shutting down"))
        }
        None => {
            let connector = Connector::connect(&settings).await?;
            Ok(BackEnd::Nats { connector, owned: true })
        }
    }
}

impl Group {
    /// Adds what a store says of its bucket. Two that say otherwise of one bucket are an error.
    fn describe(&mut self, store: &str, bucket: &str, config: &BucketConfig) -> Result<()> {
        let Some((other, described)) = self.buckets.get_mut(bucket) else {
            self.buckets.insert(bucket.to_owned(), (store.to_owned(), config.clone()));
            return Ok(());
        };
        let merged = described.merged(config);
        if let Some(difference) = described.differences(&merged).first() {
            let (option, wanted, found) =
                (difference.option, &difference.wanted, &difference.found);
            return Err(Error::new(
                ErrorKind::InvalidSettings,
                format!(
                    "the stores {other} and {store} have one bucket and describe it differently: \
                     {option} is {wanted} and {found}; say it once"
                ),
            )
            .with("bucket", bucket));
        }
        *described = merged;
        Ok(())
    }
}

/// The handle of every store. Stores that agree on a connection and on how keys are written have
/// one driver between them, and so one near cache for a bucket.
fn handles(
    placed: Vec<Placed>,
    groups: &[Group],
    serializers: &HashMap<String, Serializer>,
) -> Result<BTreeMap<String, Kv>> {
    let codec = |placed: &Placed| {
        let default = placed.domain.as_ref().map(Settings::key_codec).unwrap_or_default();
        let described = &groups[placed.group].buckets[&placed.bucket].1;
        described.key_codec.unwrap_or(default)
    };
    let mut drivers: Vec<(usize, KeyCodec, Kv)> = Vec::new();
    for (group, Group { connection, buckets, .. }) in groups.iter().enumerate() {
        for wanted in [KeyCodec::Escape, KeyCodec::Path, KeyCodec::Raw] {
            let on = || placed.iter().filter(|p| p.group == group && codec(p) == wanted);
            let Some(first) = on().next() else { continue };
            let names: Vec<&str> = on().map(|placed| placed.store.name.as_str()).collect();
            let described = on().map(|placed| &placed.bucket).collect::<BTreeSet<_>>();
            let described = described.into_iter().map(|bucket| buckets[bucket].1.clone());
            let described = described.filter(|config| *config != BucketConfig::new(&config.name));
            let driver = LazyDriver::new(
                first.store.driver.clone(),
                names.join(","),
                wanted,
                connection.clone(),
                described.collect(),
            );
            drivers.push((group, wanted, Kv::new(driver)));
        }
    }
    let mut handles = BTreeMap::new();
    for placed in placed {
        let wanted = (placed.group, codec(&placed));
        let kv = drivers.iter().find(|(group, codec, _)| (*group, *codec) == wanted);
        let Some((.., kv)) = kv else { continue };
        let Placed { store, domain, .. } = placed;
        let mut kv = kv.bucket(store.bucket.name());
        if let Some(settings) = &domain {
            kv = kv
                .with_bucket_prefix(settings.bucket_prefix())
                .with_prefix(settings.key_prefix())
                .with_serializer(Serializer::by_name(settings.serializer())?)
                .with_timeout(settings.request_timeout());
        }
        if let Some(prefix) = &store.prefix {
            kv = kv.with_prefix(prefix);
        }
        if let Some(serializer) = store.serializer {
            kv = kv.with_serializer(Serializer::by_name(serializer)?);
        }
        if let Some(serializer) = serializers.get(&store.name) {
            kv = kv.with_serializer(serializer.clone());
        }
        handles.insert(store.name, kv);
    }
    Ok(handles)
}

/// A mistake in a store's settings.
fn invalid(store: &str, error: &Error) -> Error {
    Error::new(ErrorKind::InvalidSettings, error.message().to_owned()).with("store", store)
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
