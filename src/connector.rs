//! One NATS connection and all that stands on it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::counters::{self, Counters, CountersConfig};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{self, KeyCodec, Kv};
use crate::metrics;
use crate::objects::{self, Objects};
use crate::pubsub::{PubSub, memory, nats};
use crate::rpc::Rpc;
use crate::settings::Settings;
use crate::streams::Streams;

mod auth;
pub(crate) mod capabilities;
mod dial;
mod global;
mod health;
pub(crate) mod leave;
pub(crate) mod life;
pub(crate) mod link;
mod reconnect;
pub(crate) mod requests;
pub(crate) mod status;
mod tls;

pub use capabilities::{Capabilities, Feature};
pub use global::{Register, global, register, register_with};
pub use health::Health;
pub use life::DrainReport;
pub use status::State;

use life::BackEnd;

pub(crate) use life::Life;
pub(crate) use link::Link;

/// One NATS connection and all that stands on it. Cheap to clone; the connection ends with
/// [`drain`](Self::drain), or unordered when the last clone and the last subscription are dropped.
/// Keep a clone as long as its subscriptions: a shutdown drains the connectors that live.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    settings: Settings,
    life: Arc<Life>,
    pubsub: PubSub,
    kv: Kv,
    objects: Objects,
    /// The buckets of services, made when first needed.
    kept: OnceLock<Kv>,
    counters: counters::Stores,
}

impl Connector {
    /// Connects as the settings say. Files that they name are read and checked first.
    ///
    /// Ends within `NATS.CONNECT_TIMEOUT` for each server listed. With
    /// `NATS.RETRY_ON_INITIAL_CONNECT` it returns at once and connects in the background.
    /// `NATS.SERVER=memory:` gives [`Connector::memory`].
    ///
    /// # Errors
    /// `InvalidSettings` for a bad file; `Unauthorized` or `Unavailable` telling for each server
    /// tried whether it refused, timed out, did not accept the credentials, failed in TLS or was
    /// not found by name; `Closed` while the process shuts down. What connects after the
    /// [shutdown's](crate::shutdown) report is drained by nobody but its owner.
    ///
    /// # Cancel safety
    /// Dropped before it is done, there is no connection.
    pub async fn connect(settings: &Settings) -> Result<Connector> {
        if crate::shutdown::is_under_way() {
            return Err(
                Error::new(ErrorKind::Closed, "the process is shutting down").operation("connect")
            );
        }
        if settings.is_memory() {
            return Ok(Connector::in_process(settings.clone()));
        }
        let link = Link::connect(settings).await.map_err(|error| error.operation("connect"))?;
        let driver = nats::NatsDriver::new(link.clone());
        let kv = Kv::configured(kv::nats::NatsDriver::new(link.clone()), settings);
        let objects = objects::nats::NatsDriver::new(link.clone());
        let stores = (kv, Objects::configured(objects, settings));
        let counters = counters::Stores::nats(link.clone());
        let metrics = link.status().metrics().clone();
        let back_end = BackEnd::Nats(link);
        Ok(Connector::build(settings.clone(), back_end, driver, stores, counters, metrics))
    }

    /// Connects as file, environment and arguments say: [`Settings::load`].
    ///
    /// # Errors
    /// `InvalidSettings` for what is loaded; else as [`connect`](Self::connect).
    pub async fn from_settings() -> Result<Connector> {
        Connector::connect(&Settings::load()?).await
    }

    /// The same API inside this process, without a network: for tests and first steps. Each call
    /// makes a broker and buckets of its own.
    ///
    /// # Panics
    /// Never: the settings it is made with are the defaults.
    #[must_use]
    pub fn memory() -> Connector {
        let settings = Settings::builder().set("NATS.SERVER", "memory:").build();
        Connector::in_process(settings.expect("the default settings are valid"))
    }

    fn in_process(settings: Settings) -> Connector {
        let metrics = metrics::Connection::new("memory", settings.domain_name());
        let capacity = settings.subscription_capacity();
        let driver = memory::MemoryDriver::counted(capacity, metrics.clone());
        let buckets = kv::MemoryDriver::with_key_codec(settings.key_codec());
        let kv = Kv::configured(buckets.clone(), &settings);
        let objects = objects::MemoryDriver::new();
        let stores = (kv, Objects::configured(objects.clone(), &settings));
        let counts = counters::Counts::default();
        let counters = counters::Stores::Memory(counts.clone());
        let back_end = BackEnd::Memory(driver.clone(), buckets, objects, counts);
        metrics.state(State::Connected);
        Connector::build(settings, back_end, driver, stores, counters, metrics)
    }

    fn build(
        settings: Settings,
        back_end: BackEnd,
        driver: impl crate::pubsub::Driver,
        (kv, objects): (Kv, Objects),
        counters: counters::Stores,
        metrics: metrics::Connection,
    ) -> Connector {
        let life = Life::begin(back_end, settings.drain_timeout(), kv.locks(), metrics);
        let pubsub = PubSub::configured(driver, life.clone(), &settings);
        let kept = OnceLock::new();
        Connector(Arc::new(Inner { settings, life, pubsub, kv, objects, kept, counters }))
    }

    /// The settings that it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Pub/sub on this connection, with the prefix and serializer of the settings.
    #[must_use]
    pub fn pubsub(&self) -> PubSub {
        self.0.pubsub.clone()
    }

    /// The streams on this connection, with the topic prefix of the settings.
    #[must_use]
    pub fn streams(&self) -> Streams {
        self.0.pubsub.streams()
    }

    /// Key-value on this connection, with the default bucket, prefixes, key codec and serializer of
    /// the settings.
    #[must_use]
    pub fn kv(&self) -> Kv {
        self.0.kv.clone()
    }

    /// Objects on this connection, with the default bucket, bucket prefix and serializer of the
    /// settings.
    #[must_use]
    pub fn objects(&self) -> Objects {
        self.0.objects.clone()
    }

    /// The store of counters `name` (letters, digits, `_` and `-`) on this connection, or as a
    /// [`CountersConfig`] says. Nothing is sent: it is made by the first add.
    #[must_use]
    pub fn counters(&self, store: impl Into<CountersConfig>) -> Counters {
        let timeout = self.0.settings.request_timeout();
        Counters::new(&self.0.counters, store.into(), timeout)
    }

    /// Services and their clients on this connection, with the topic prefix of the settings, and its
    /// stores for what is kept of responses.
    #[must_use]
    pub fn rpc(&self) -> Rpc {
        Rpc::new(self.pubsub()).with_kv(self.kept()).with_objects(self.objects())
    }

    /// Key-value for the responses of services, whose buckets have keys as they are unless they say
    /// otherwise: clients in other languages write and read them too.
    fn kept(&self) -> Kv {
        let BackEnd::Nats(link) = &self.0.life.back_end else { return self.kv() };
        let kept = self.0.kept.get_or_init(|| {
            let driver = kv::nats::NatsDriver::with_key_codec(link.clone(), KeyCodec::Raw);
            Kv::configured(driver, &self.0.settings)
        });
        kept.clone()
    }

    /// The raw client, for what this library does not cover.
    ///
    /// # Errors
    /// `Unsupported` in process.
    pub fn client(&self) -> Result<async_nats::Client> {
        Ok(self.link()?.client().clone())
    }

    /// The raw JetStream context, with the domain or API prefix of the settings.
    ///
    /// # Errors
    /// `Unsupported` in process.
    pub fn jetstream(&self) -> Result<async_nats::jetstream::Context> {
        Ok(self.link()?.jetstream().clone())
    }

    /// What the connected server can do; asked once per connection, so again after a reconnect.
    /// Limited by `NATS.REQUEST_TIMEOUT`.
    ///
    /// # Errors
    /// `Unavailable` while disconnected, `Timeout`, `Closed`.
    pub async fn capabilities(&self) -> Result<Arc<Capabilities>> {
        match &self.0.life.back_end {
            BackEnd::Nats(link) => link.capabilities(self.deadline()).await,
            _ => Ok(Arc::new(Capabilities::memory())),
        }
    }

    /// The connection's state, as it is known now, without asking the server.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.0.life.back_end {
            BackEnd::Nats(link) => link.state(),
            _ if self.0.life.is_over() => State::Closed,
            _ => State::Connected,
        }
    }

    /// How the connection is doing, with a round trip for the answer, limited to 2 s or
    /// `NATS.REQUEST_TIMEOUT`, whichever is less.
    pub async fn health(&self) -> Health {
        match &self.0.life.back_end {
            BackEnd::Nats(link) => {
                let limit = self.0.settings.request_timeout().min(Duration::from_secs(2));
                link.health(after(limit)).await
            }
            other => {
                self.0.life.metrics().tell_state();
                Health {
                    state: self.state(),
                    server: Some("memory:".to_owned()),
                    round_trip: (self.state() == State::Connected).then_some(Duration::ZERO),
                    reconnects: 0,
                    last_error: None,
                    dropped_messages: match other {
                        BackEnd::Memory(driver, ..) => driver.dropped(),
                        _ => 0,
                    },
                    jetstream: Some(false),
                }
            }
        }
    }

    /// Drains and closes: subscriptions take what is under way and no more, running handlers
    /// finish and what they publish and store still goes out, a round trip proves that the server
    /// has it, the connection closes. At `NATS.DRAIN_TIMEOUT` what still runs is given up.
    ///
    /// Called again it gives the same report. Afterwards every call fails with `Closed`.
    ///
    /// # Cancel safety
    /// Dropped midway, the drain stops; called again, it starts over with what is left.
    pub async fn drain(&self) -> DrainReport {
        self.0.life.drain().await
    }

    pub(crate) fn link(&self) -> Result<&Arc<Link>> {
        match &self.0.life.back_end {
            BackEnd::Nats(link) => Ok(link),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                "a connector in process has no NATS client; set NATS.SERVER to a server",
            )),
        }
    }

    fn deadline(&self) -> Instant {
        after(self.0.settings.request_timeout())
    }

    /// For tests of the drain's fallback only.
    #[doc(hidden)]
    pub async fn estimate_leaving(&self) -> Result<()> {
        self.link()?.estimate_leaving().await;
        Ok(())
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("domain", &self.0.settings.domain_name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// The full name of a setting in its domain, for example `NATS.TLS_CA`.
pub(crate) fn key_name(settings: &Settings, name: &str) -> String {
    format!("{}.{name}", settings.domain_name())
}
