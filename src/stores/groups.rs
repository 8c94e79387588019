//! Which stores share a connection and a driver, and what they say of their buckets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::builder::Factory;
use super::config::StoreSettings;
use super::connection::{BackEnd, Connection};
use super::lazy::LazyDriver;
use crate::connector::{Connector, State, global};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{BucketConfig, Driver, KeyCodec, Kv, MemoryDriver};
#[cfg(feature = "redis")]
use crate::kv::{RedisConfig, RedisDriver};
use crate::serializer::Serializer;
use crate::settings::Settings;
use crate::settings::stores::StoreFields;
use crate::shutdown;

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
    #[cfg(feature = "redis")]
    Redis(Box<RedisConfig>),
    /// Each store of an own driver has one of its own.
    Own(String),
}

impl GroupKey {
    fn of(store: &StoreFields, domain: Option<&Settings>) -> Self {
        if let Some(settings) = domain {
            return GroupKey::Nats(Box::new(settings.clone()));
        }
        #[cfg(feature = "redis")]
        if let Some(config) = &store.redis {
            return GroupKey::Redis(Box::new(config.clone()));
        }
        match store.driver.as_str() {
            "memory" => GroupKey::Memory,
            _ => GroupKey::Own(store.name.clone()),
        }
    }
}

/// The stores by the connections that they share.
pub(super) struct Groups<'a> {
    given: &'a [Connector],
    drivers: &'a [(String, Factory)],
    groups: Vec<Group>,
    placed: Vec<Placed>,
}

/// A store with its connection, by index.
struct Placed {
    fields: StoreFields,
    domain: Option<Settings>,
    group: usize,
    /// The bucket's full name.
    bucket: String,
}

impl<'a> Groups<'a> {
    /// None yet; `given` are connections that the application has, `drivers` its own.
    pub(super) fn new(given: &'a [Connector], drivers: &'a [(String, Factory)]) -> Self {
        Groups { given, drivers, groups: Vec::new(), placed: Vec::new() }
    }

    /// Adds a store; `domain` are the settings of its NATS connection, if it is on one.
    ///
    /// # Errors
    ///
    /// `InvalidSettings` when it describes its bucket as no store can, or as no other there does.
    pub(super) fn add(&mut self, store: StoreFields, domain: Option<Settings>) -> Result<()> {
        let key = GroupKey::of(&store, domain.as_ref());
        let known = self.groups.iter().position(|group| group.key == key);
        let group = known.unwrap_or_else(|| {
            let connection = self.connection(&key, &store);
            self.groups.push(Group { key, connection, buckets: BTreeMap::new() });
            self.groups.len() - 1
        });
        let prefix = domain.as_ref().map_or("", Settings::bucket_prefix);
        let bucket = format!("{prefix}{}", store.bucket.name());
        let mut config = store.bucket.clone();
        config.name.clone_from(&bucket);
        config.check().map_err(|error| invalid(&store.name, &error))?;
        self.groups[group].describe(&store.name, &bucket, &config)?;
        self.placed.push(Placed { fields: store, domain, group, bucket });
        Ok(())
    }

    fn connection(&self, key: &GroupKey, store: &StoreFields) -> Arc<Connection> {
        match key {
            GroupKey::Nats(settings) => {
                let given = |connector: &&Connector| connector.settings() == &**settings;
                let given = self.given.iter().find(given).cloned();
                let settings = (**settings).clone();
                Connection::new(format!("nats {}", settings.servers().join(",")), move || {
                    nats(given.clone(), settings.clone())
                })
            }
            #[cfg(feature = "redis")]
            GroupKey::Redis(config) => {
                let config = (**config).clone();
                Connection::new("redis".to_owned(), move || {
                    let config = config.clone();
                    async move { RedisDriver::connect(config).await.map(BackEnd::Redis) }
                })
            }
            GroupKey::Memory => {
                let driver: Arc<dyn Driver> = Arc::new(MemoryDriver::new());
                Connection::new("memory".to_owned(), move || {
                    std::future::ready(Ok(BackEnd::Driver(driver.clone())))
                })
            }
            GroupKey::Own(_) => {
                let mut own = self.drivers.iter();
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

    /// Every connection, to close them.
    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        self.groups.iter().map(|group| group.connection.clone()).collect()
    }

    /// The handle of every store. Stores that agree on a connection and on how keys are written
    /// have one driver between them, and so one near cache for a bucket.
    pub(super) fn handles(
        &self,
        serializers: &HashMap<String, Serializer>,
    ) -> Result<BTreeMap<String, Kv>> {
        let Groups { groups, placed, .. } = self;
        let mut drivers: HashMap<(usize, KeyCodec), Kv> = HashMap::new();
        let mut handles = BTreeMap::new();
        for store in placed {
            let of = (store.group, store.codec(groups));
            let kv = drivers.entry(of).or_insert_with(|| {
                let same = placed.iter().filter(|other| (other.group, other.codec(groups)) == of);
                Kv::new(driver(&groups[store.group], of.1, &same.collect::<Vec<_>>()))
            });
            handles.insert(store.fields.name.clone(), store.handle(kv, serializers)?);
        }
        Ok(handles)
    }
}

/// The driver of stores with one connection and codec.
fn driver(group: &Group, codec: KeyCodec, stores: &[&Placed]) -> LazyDriver {
    let names: Vec<&str> = stores.iter().map(|store| store.fields.name.as_str()).collect();
    let buckets: BTreeSet<&str> = stores.iter().map(|store| store.bucket.as_str()).collect();
    let described = buckets.into_iter().map(|bucket| group.buckets[bucket].1.clone());
    let described = described.filter(|config| *config != BucketConfig::new(config.name()));
    LazyDriver::new(
        stores[0].fields.driver.clone(),
        names.join(","),
        codec,
        group.connection.clone(),
        described.collect(),
    )
}

impl Placed {
    /// How keys are written in its bucket, unless the bucket says so.
    fn codec(&self, groups: &[Group]) -> KeyCodec {
        let default = self.domain.as_ref().map(Settings::key_codec).unwrap_or_default();
        groups[self.group].buckets[&self.bucket].1.key_codec.unwrap_or(default)
    }

    fn handle(&self, kv: &Kv, serializers: &HashMap<String, Serializer>) -> Result<Kv> {
        let mut kv = kv.bucket(self.fields.bucket.name());
        if let Some(settings) = &self.domain {
            kv = kv
                .with_bucket_prefix(settings.bucket_prefix())
                .with_prefix(settings.key_prefix())
                .with_serializer(Serializer::by_name(settings.serializer())?)
                .with_timeout(settings.request_timeout());
        }
        if let Some(prefix) = &self.fields.prefix {
            kv = kv.with_prefix(prefix);
        }
        if let Some(serializer) = self.fields.serializer {
            kv = kv.with_serializer(Serializer::by_name(serializer)?);
        }
        if let Some(serializer) = serializers.get(&self.fields.name) {
            kv = kv.with_serializer(serializer.clone());
        }
        Ok(kv)
    }
}

/// The connection of NATS stores: the one that was given, or the process' own when it has the same
/// settings, or a new one.
async fn nats(given: Option<Connector>, settings: Settings) -> Result<BackEnd> {
    let global = global().filter(|connector| *connector.settings() == settings);
    let mut there = [given, global].into_iter().flatten();
    match there.find(|connector| connector.state() != State::Closed) {
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

/// A mistake in a store's settings.
fn invalid(store: &str, error: &Error) -> Error {
    Error::new(ErrorKind::InvalidSettings, error.message().to_owned()).with("store", store)
}
